//! `config check` and `config show`.

use crate::{
    cli::{ConfigCommand, ConfigShowArgs},
    config::{Origin, Shown},
    failure::Failure,
};

/// Runs the command.
///
/// # Errors
/// The configuration is not valid.
pub(crate) fn run(command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check(args) => {
            args.load()?;
            println!("ok");
        }
        ConfigCommand::Show(ConfigShowArgs { origin, config }) => {
            print!("{}", toml_text(&config.load()?.shown, *origin));
        }
    }
    Ok(())
}

/// The configuration as a TOML file that would give the same.
fn toml_text(shown: &[Shown], origins: bool) -> String {
    let mut text = String::new();
    let mut section = "";
    for Shown { key, value, origin } in shown {
        // A model's name may have dots, a key has none.
        let (in_section, key) = key.rsplit_once('.').unwrap_or(("", key));
        if in_section != section {
            let gap = if section.is_empty() { "" } else { "\n" };
            text.push_str(&match in_section.split_once('.') {
                Some((section, model)) => format!("{gap}[{section}.\"{model}\"]\n"),
                None => format!("{gap}[{in_section}]\n"),
            });
            section = in_section;
        }
        let line = match value {
            Some(value) => format!("{key} = {value}"),
            None => format!("# {key} is not set"),
        };
        text.push_str(&line);
        if origins && (value.is_some() || *origin != Origin::Default) {
            text.push_str(&format!("  # {origin}"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};
    use std::path::Path;

    #[test]
    fn what_is_shown_is_a_file_that_gives_the_same() {
        let env = [("MODEL__A.B__CORES", "0"), ("MODEL__C__THREADS", "1")];
        let env = env.map(|(name, value)| (format!("WHIMBREL__{name}").into(), value.into()));
        let sources = Sources::new(Path::new("/nowhere/agent.toml"), None, env).flag(
            "--http",
            ("serve", "http"),
            Some("127.0.0.1:0"),
        );
        let shown = load(&sources).expect("valid").shown;
        let with_origins = toml_text(&shown, true);
        assert!(with_origins.contains("http = \"127.0.0.1:0\"  # --http\n"), "{with_origins}");
        assert!(with_origins.contains("# url is not set\n"), "{with_origins}");
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, with_origins).expect("writes");
        let again = load(&Sources::new(&path, None, [])).expect("valid").shown;
        assert_eq!(toml_text(&again, false), toml_text(&shown, false));
    }
}
