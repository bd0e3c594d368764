//! Delegations: which other roles a targets role lets sign which targets (section 4.5).

use super::{Key, RoleKeys, RoleName, meta::role_keys};
use crate::hash::sha256;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Most roles that one role may delegate to.
pub const ROLES_MAX: usize = 20_000;
/// Most patterns or prefixes of one delegated role.
const SCOPE_MAX: usize = 10_000;
/// Longest role name as a file name, percent-encoded: file systems take 255 bytes, of which an ending and a version go.
const NAME_BYTES_MAX: usize = 200;
/// Longest hash prefix: all of a SHA-256.
const PREFIX_DIGITS_MAX: usize = 64;

/// Whom a targets role trusts with some of its targets.
#[derive(Debug, Clone, PartialEq)]
pub struct Delegations {
    /// The keys of the delegated roles, by their id.
    pub keys: BTreeMap<String, Key>,
    /// The delegated roles, the most trusted first.
    pub roles: Vec<DelegatedRole>,
}

/// A role that may sign some of the targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelegatedRole {
    /// Its name.
    pub name: String,
    /// Which keys may sign for it, and how many must.
    pub keys: RoleKeys,
    /// Whether roles after this one are not asked for what is in its scope.
    pub terminating: bool,
    /// What it may sign.
    pub scope: Scope,
}

/// The targets that a delegated role may sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Those whose path matches a pattern: `*`, `?` and `[…]` as in a shell, none of which matches a `/`.
    Paths(Vec<String>),
    /// Those whose path has a SHA-256 that begins with one of these hexadecimal digits.
    HashPrefixes(Vec<String>),
}

impl Delegations {
    pub(super) fn read(value: &Value) -> Result<Self, String> {
        let keys = value.get("keys").and_then(Value::as_object).ok_or("no object in \"keys\"")?;
        let keys = read_keys(keys)?;
        let list = value.get("roles").and_then(Value::as_array).ok_or("no list of \"roles\"")?;
        if list.len() > ROLES_MAX {
            return Err(format!("{} roles, at most {ROLES_MAX} are accepted", list.len()));
        }
        let roles: Vec<_> = list.iter().map(DelegatedRole::read).collect::<Result<_, String>>()?;
        let mut names = BTreeSet::new();
        match roles.iter().find(|role| !names.insert(role.name.as_str())) {
            Some(twice) => Err(format!("role {:?} is listed twice", twice.name)),
            None => Ok(Self { keys, roles }),
        }
    }

    /// The role of a name.
    #[must_use]
    pub fn role(&self, name: &str) -> Option<&DelegatedRole> {
        self.roles.iter().find(|role| role.name == name)
    }
}

impl DelegatedRole {
    fn read(value: &Value) -> Result<Self, String> {
        let name = value.get("name").and_then(Value::as_str).ok_or("a delegated role without name")?;
        let within = |e: String| format!("delegated role {name:?}: {e}");
        check_name(name).map_err(within)?;
        let terminating = value.get("terminating").and_then(Value::as_bool);
        Ok(Self {
            name: name.to_owned(),
            keys: role_keys(value).map_err(within)?,
            terminating: terminating.ok_or_else(|| within("no true or false in \"terminating\"".into()))?,
            scope: Scope::read(value).map_err(within)?,
        })
    }
}

impl Scope {
    fn read(value: &Value) -> Result<Self, String> {
        let texts = |value: &Value| {
            let list = value.as_array().filter(|list| list.len() <= SCOPE_MAX);
            let list = list.ok_or_else(|| format!("its scope is no list of at most {SCOPE_MAX}"))?;
            let text =
                |v: &Value| v.as_str().map(ToOwned::to_owned).ok_or("its scope holds no text".to_owned());
            list.iter().map(text).collect::<Result<Vec<_>, String>>()
        };
        match (value.get("paths"), value.get("path_hash_prefixes")) {
            (Some(paths), None) => Ok(Self::Paths(texts(paths)?)),
            (None, Some(prefixes)) => {
                let prefixes = texts(prefixes)?;
                let is_prefix =
                    |p: &String| p.len() <= PREFIX_DIGITS_MAX && p.bytes().all(|b| b.is_ascii_hexdigit());
                match prefixes.iter().find(|p| !is_prefix(p)) {
                    Some(bad) => Err(format!("{bad:?} is no prefix of a SHA-256 in hexadecimal")),
                    None => Ok(Self::HashPrefixes(prefixes)),
                }
            }
            _ => Err("expected either \"paths\" or \"path_hash_prefixes\"".into()),
        }
    }

    /// Whether the target of this path is in the scope.
    #[must_use]
    pub fn holds(&self, path: &str) -> bool {
        match self {
            Self::Paths(patterns) => patterns.iter().any(|pattern| matches_path(pattern, path)),
            Self::HashPrefixes(prefixes) => {
                let hash = sha256(path.as_bytes()).to_string();
                prefixes.iter().any(|prefix| hash.starts_with(&prefix.to_ascii_lowercase()))
            }
        }
    }
}

/// The name of a role's file without `.json`: the role's name as one segment of a URL, and safe as a file's.
#[must_use]
pub fn file_stem(role: &str) -> String {
    let mut out = String::with_capacity(role.len());
    for byte in role.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || file_stem(name).len() > NAME_BYTES_MAX {
        return Err(format!("its name is empty, or longer than {NAME_BYTES_MAX} bytes as a file name"));
    }
    match RoleName::ALL.iter().any(|role| role.as_str() == name) {
        true => Err("the name is that of a top-level role".into()),
        false => Ok(()),
    }
}

pub(super) fn read_keys(keys: &Map<String, Value>) -> Result<BTreeMap<String, Key>, String> {
    let read = |(id, value): (&String, &Value)| {
        Ok((id.clone(), Key::from_value(value).map_err(|e| format!("key {id:?}: {e}"))?))
    };
    keys.iter().map(read).collect()
}

/// Whether a path matches a pattern, segment by segment.
fn matches_path(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) => {
                let pattern: Vec<char> = pattern.chars().collect();
                let part: Vec<char> = part.chars().collect();
                if !matches_segment(&pattern, &part) {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

/// Shell matching within one segment. A star that fails further on takes one character more, and only the last star seen
/// ever needs to: time is at most pattern × text.
fn matches_segment(pattern: &[char], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => matches_set(&pattern[p..], text[t]),
            Some(c) => (*c == text[t]).then_some(1),
            None => None,
        };
        match (step, star) {
            (Some(length), _) => {
                p += length;
                t += 1;
            }
            (None, Some((at, taken))) => {
                star = Some((at, taken + 1));
                (p, t) = (at + 1, taken + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// The length of the set that `pattern` begins with, if it holds `c`; `[` alone stands for itself.
fn matches_set(pattern: &[char], c: char) -> Option<usize> {
    let negated = pattern.get(1) == Some(&'!');
    let begin = if negated { 2 } else { 1 };
    // A bracket right at the beginning of a set is a member of it.
    let close = pattern.iter().skip(begin + 1).position(|c| *c == ']').map(|at| at + begin + 1);
    let Some(close) = close else { return (c == '[').then_some(1) };
    let set = &pattern[begin..close];
    let mut found = false;
    let mut i = 0;
    while i < set.len() {
        if i + 2 < set.len() && set[i + 1] == '-' {
            found |= set[i] <= c && c <= set[i + 2];
            i += 3;
        } else {
            found |= set[i] == c;
            i += 1;
        }
    }
    (found != negated).then_some(close + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn patterns_match_within_segments_only() {
        for (pattern, path) in [
            ("*", "a"),
            ("*.py", "a.py"),
            ("a/*/c", "a/b/c"),
            ("releases/*/*", "releases/x/v1"),
            ("v?.[0-9]", "v1.7"),
            ("[!a]*", "bc"),
            ("[]x]", "]"),
            ("a*b*c", "aXbXbXc"),
            ("[", "["),
            ("*\u{e9}", "\u{fc}\u{e9}"),
            ("", ""),
        ] {
            assert!(matches_path(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("*", "a/b"),
            ("*.py", "a.pyc"),
            ("a/*", "a/b/c"),
            ("a?b", "a/b"),
            ("[!a]*", "ab"),
            ("[0-9]", "x"),
            ("a*b*c", "aXbX"),
            ("A", "a"),
            ("", "a"),
        ] {
            assert!(!matches_path(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        let pattern = "*a".repeat(2000);
        assert!(!matches_path(&pattern, &"a".repeat(4000).replace("aaaa", "aaab")));
    }

    #[test]
    fn hash_prefixes_select_by_the_path() {
        let hash = sha256(b"some/path").to_string();
        assert!(Scope::HashPrefixes(vec![hash[..3].to_uppercase()]).holds("some/path"));
        assert!(!Scope::HashPrefixes(vec![hash[..3].to_owned()]).holds("some/other"));
        assert!(Scope::HashPrefixes(vec![String::new()]).holds("anything"));
    }

    #[test]
    fn role_names_become_one_safe_segment() {
        assert_eq!(file_stem("../a?#"), "..%2Fa%3F%23");
        assert_eq!(file_stem("model.family-1_x~"), "model.family-1_x~");
    }

    #[test]
    fn delegations_that_break_a_rule_are_refused() {
        let role = |name: &str| json!({"name": name, "keyids": [], "threshold": 1, "terminating": false, "paths": ["*"]});
        let with = |roles: Value| Delegations::read(&json!({"keys": {}, "roles": roles}));
        assert_eq!(with(json!([role("a"), role("b")])).expect("good").roles.len(), 2);
        let edit = |field: &str, value: Value| {
            let mut role = role("a");
            role[field] = value;
            json!([role])
        };
        for bad in [
            json!([role("a"), role("a")]),
            json!([role("targets")]),
            json!([role("")]),
            json!([role(&"n".repeat(201))]),
            edit("threshold", json!(0)),
            edit("terminating", Value::Null),
            edit("path_hash_prefixes", json!(["00"])),
            edit("paths", json!("*")),
            edit("paths", json!([1])),
            json!({}),
        ] {
            assert!(with(bad.clone()).is_err(), "{bad}");
        }
        let mut prefixes = role("a");
        let map = prefixes.as_object_mut().expect("an object");
        map.remove("paths");
        map.insert("path_hash_prefixes".into(), json!(["xyz"]));
        assert!(with(json!([prefixes])).is_err());
    }
}
