//! File names of metadata. A role's name is percent-encoded whole, as one segment of a path: it may hold anything.

use super::{RepoError, draft::invalid};
use crate::tuf::file_stem;

/// Longest accepted name of a role, after encoding: with a version and `.json` it must fit into a file name of 255 bytes.
const ENCODED_BYTES_MAX: usize = 200;

/// The file of a role: `N.ROLE.json`, or `ROLE.json` without a version.
#[must_use]
pub fn file_name(role: &str, version: Option<u64>) -> String {
    let role = file_stem(role);
    version.map_or_else(|| format!("{role}.json"), |version| format!("{version}.{role}.json"))
}

/// The version and role that a name `N.ROLE.json` stands for; `None` for every other name. Each has one way to be written.
#[must_use]
pub fn parse_file_name(file: &str) -> Option<(u64, String)> {
    let (number, encoded) = file.strip_suffix(".json")?.split_once('.')?;
    let version: u64 = number.parse().ok()?;
    let role = decode(encoded)?;
    (version > 0 && file_name(&role, Some(version)) == file).then_some((version, role))
}

/// Checks that a delegated role may have this name.
pub(super) fn check_role_name(what: &'static str, name: &str) -> Result<(), RepoError> {
    if name.is_empty() || file_stem(name).len() > ENCODED_BYTES_MAX {
        let reason =
            format!("a role's name has 1 to {ENCODED_BYTES_MAX} bytes when percent-encoded: {name:?}");
        return Err(invalid(what, reason));
    }
    if ["root", "timestamp", "snapshot", "targets"].contains(&name) {
        return Err(invalid(what, format!("{name} is a top-level role")));
    }
    Ok(())
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let decoded = if byte == b'%' {
            let pair = [rest.next()?, rest.next()?];
            u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?
        } else {
            byte
        };
        bytes.push(decoded);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_are_one_segment_and_come_back() {
        for (role, file) in [
            ("targets", "7.targets.json"),
            ("vision/eu", "7.vision%2Feu.json"),
            ("?", "7.%3F.json"),
            ("#1", "7.%231.json"),
            ("..", "7....json"),
            ("2.targets", "7.2.targets.json"),
            ("é", "7.%C3%A9.json"),
            ("100%", "7.100%25.json"),
        ] {
            assert_eq!(file_name(role, Some(7)), file);
            assert_eq!(parse_file_name(file), Some((7, role.to_owned())), "{file}");
        }
        assert_eq!(file_name("a/b", None), "a%2Fb.json");
    }

    #[test]
    fn names_with_a_second_spelling_are_none() {
        for bad in [
            "timestamp.json",
            "0.root.json",
            "01.root.json",
            "+1.root.json",
            "1.a%2fb.json",
            "1.%61.json",
            "1.a b.json",
            "1.%zz.json",
            "1.%F.json",
            "1.%FF.json",
            "1.root.json.x",
        ] {
            assert_eq!(parse_file_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn reserved_empty_and_overlong_names_are_refused() {
        let long = "x".repeat(ENCODED_BYTES_MAX + 1);
        for bad in ["", "root", "targets", "snapshot", "timestamp", &long] {
            assert!(check_role_name("a role", bad).is_err(), "{bad:?}");
        }
        assert!(check_role_name("a role", "..").is_ok());
    }
}
