//! Which files, variables and flags are read, in which order.

use super::{
    Config, check,
    check::Shown,
    file,
    literal::Literal,
    origin::{ConfigError, Origin},
    raw::RawConfig,
};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// The file that is read where none is named. It may be absent.
const DEFAULT_FILE: &str = "/etc/whimbrel/agent.toml";
const ENV_PREFIX: &str = "WHIMBREL__";
/// Most files in the folder beside the configuration file.
const DROP_INS_MAX: usize = 256;

/// What the configuration is made of.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    default_file: PathBuf,
    file: Option<PathBuf>,
    env: Vec<(OsString, OsString)>,
    flags: Vec<Flag>,
}

#[derive(Debug)]
struct Flag {
    name: &'static str,
    section: &'static str,
    key: &'static str,
    text: String,
}

/// The configuration, and where each value came from.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The configuration.
    pub(crate) config: Config,
    /// Every key with its value and origin, in the order of the sections.
    pub(crate) shown: Vec<Shown>,
    /// The files that were read, in order.
    pub(crate) files: Vec<PathBuf>,
}

impl Sources {
    /// The default file or the one named, with the variables of this process.
    pub(crate) fn of_process(file: Option<&Path>) -> Self {
        Self::new(Path::new(DEFAULT_FILE), file, std::env::vars_os())
    }

    /// Sources of the caller's choice.
    pub(crate) fn new(
        default_file: &Path,
        file: Option<&Path>,
        env: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        Self {
            default_file: default_file.to_owned(),
            file: file.map(Path::to_owned),
            env: env.into_iter().collect(),
            flags: Vec::new(),
        }
    }

    /// Adds a flag, where it was given.
    #[must_use]
    pub(crate) fn flag(
        mut self,
        name: &'static str,
        (section, key): (&'static str, &'static str),
        text: Option<impl Into<String>>,
    ) -> Self {
        self.flags.extend(text.map(|text| Flag { name, section, key, text: text.into() }));
        self
    }

    /// [`Self::flag`], for a path.
    #[must_use]
    pub(crate) fn path_flag(
        self,
        name: &'static str,
        key: (&'static str, &'static str),
        path: Option<&Path>,
    ) -> Self {
        self.flag(name, key, path.map(|path| path.to_string_lossy()))
    }
}

/// Reads and checks the configuration: the file, those of the folder beside it (`agent.toml`: `agent.d/*.toml`, sorted by
/// name), the environment (`WHIMBREL__SECTION__KEY`, `WHIMBREL__MODEL__NAME__KEY`), flags; what comes later wins.
///
/// # Errors
/// The first thing that is wrong: where it is, which key, and what was expected.
pub(crate) fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut raw = RawConfig::default();
    let files = read_files(&mut raw, sources)?;
    read_env(&mut raw, &sources.env)?;
    for Flag { name, section, key, text } in &sources.flags {
        raw.set(section, key, &Literal::untyped(text), Origin::Flag(name))?;
    }
    let (config, shown) = check::check(raw)?;
    Ok(Loaded { config, shown, files })
}

fn read_files(raw: &mut RawConfig, sources: &Sources) -> Result<Vec<PathBuf>, ConfigError> {
    let main = sources.file.as_ref().unwrap_or(&sources.default_file);
    let mut files = Vec::new();
    if file::read_into(raw, main)? {
        files.push(main.clone());
    } else if sources.file.is_some() {
        return Err(ConfigError::new(main.display(), "there is no such file"));
    }
    for path in drop_ins(&main.with_extension("d"))? {
        // One that vanished since the folder was listed is as good as absent.
        if file::read_into(raw, &path)? {
            files.push(path);
        }
    }
    Ok(files)
}

fn drop_ins(dir: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let fail = |e: std::io::Error| ConfigError::new(dir.display(), e);
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(e) => return Err(fail(e)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            paths.push(path);
        }
        if paths.len() > DROP_INS_MAX {
            return Err(ConfigError::new(dir.display(), format!("more than {DROP_INS_MAX} files")));
        }
    }
    paths.sort();
    Ok(paths)
}

fn read_env(raw: &mut RawConfig, env: &[(OsString, OsString)]) -> Result<(), ConfigError> {
    let mut ours: Vec<(&str, &OsString)> = env
        .iter()
        .filter_map(|(name, value)| Some((name.to_str().filter(|n| n.starts_with(ENV_PREFIX))?, value)))
        .collect();
    ours.sort_unstable();
    for (name, value) in ours {
        let origin = Origin::Env(name.to_owned());
        let Some(text) = value.to_str() else {
            return Err(ConfigError::new(origin, "not UTF-8 text"));
        };
        let Some((section, key)) = name.strip_prefix(ENV_PREFIX).and_then(|rest| rest.split_once("__"))
        else {
            return Err(ConfigError::new(origin, "expected a name of the form WHIMBREL__SECTION__KEY"));
        };
        let (mut section, mut key) = (section.to_lowercase(), key.to_lowercase());
        if section == "model"
            && let Some((model, of_model)) = key.rsplit_once("__")
        {
            (section, key) = (format!("{}{model}", RawConfig::MODEL), of_model.to_owned());
        }
        raw.set(&section, &key, &Literal::untyped(text), origin)?;
    }
    Ok(())
}
