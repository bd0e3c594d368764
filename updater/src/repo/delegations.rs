//! Delegations: which further role may name which targets, and whose keys sign it.

use super::{
    RepoError, RoleSpec,
    draft::{Draft, inner, invalid},
    names::check_role_name,
};
use crate::{
    hash::sha256,
    tuf::{Key, Signed, Targets},
};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const WHAT: &str = "delegations";
/// Most patterns or prefixes of one delegation.
const SCOPE_ITEMS_MAX: usize = 4096;
/// Longest pattern.
const PATTERN_BYTES_MAX: usize = 1024;
/// Hexadecimal digits of a SHA-256.
const PREFIX_DIGITS_MAX: usize = 64;

/// Which targets a delegated role may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Those whose path matches one of these patterns: `*` and `?` stand for anything but `/`.
    Paths(Vec<String>),
    /// Those whose path has a SHA-256 that begins so, in lower-case hexadecimal digits.
    HashPrefixes(Vec<String>),
}

impl Scope {
    /// Whether a target of this path may be named by the role.
    #[must_use]
    pub fn covers(&self, path: &str) -> bool {
        match self {
            Self::Paths(patterns) => patterns.iter().any(|pattern| matches(pattern, path)),
            Self::HashPrefixes(prefixes) => {
                let hash = sha256(path.as_bytes()).to_string();
                prefixes.iter().any(|prefix| hash.starts_with(prefix.as_str()))
            }
        }
    }
}

/// A role that another one delegates to.
#[derive(Debug, Clone, PartialEq)]
pub struct Delegation {
    /// Its name.
    pub name: String,
    /// Its keys, and how many of them must sign.
    pub signers: RoleSpec,
    /// Whether the search for a target in its scope ends with it.
    pub terminating: bool,
    /// What it may name.
    pub scope: Scope,
}

impl Delegation {
    /// Everything that a `targets` role delegates, in the order of search.
    ///
    /// # Errors
    /// When the file is no targets metadata, or a delegation in it cannot be used.
    pub fn read_all(targets: &[u8]) -> Result<Vec<Self>, RepoError> {
        Signed::<Targets>::parse(targets)?;
        let file: Value = serde_json::from_slice(targets).map_err(|e| invalid(WHAT, e))?;
        let Some(delegations) = file.pointer("/signed/delegations") else { return Ok(Vec::new()) };
        let roles = delegations["roles"].as_array().map_or(&[][..], Vec::as_slice);
        roles.iter().map(|role| Self::read(role, &delegations["keys"])).collect()
    }

    fn read(role: &Value, keys: &Value) -> Result<Self, RepoError> {
        let name = role["name"].as_str().ok_or_else(|| invalid(WHAT, "a role without a name"))?.to_owned();
        let bad = |reason: &str| invalid(WHAT, format!("role {name:?}: {reason}"));
        let ids = texts(&role["keyids"]).ok_or_else(|| bad("no list of keyids"))?;
        let key = |id: &String| match keys.get(id) {
            Some(value) => Ok(Key::from_value(value)?),
            None => Err(bad(&format!("no key {id}"))),
        };
        let listed = ids.iter().map(key).collect::<Result<Vec<_>, RepoError>>()?;
        let threshold = role["threshold"].as_u64().ok_or_else(|| bad("no threshold"))?;
        let scope = match (role.get("paths"), role.get("path_hash_prefixes")) {
            (Some(paths), None) => texts(paths).map(Scope::Paths),
            (None, Some(prefixes)) => texts(prefixes).map(Scope::HashPrefixes),
            _ => None,
        };
        let scope = scope.ok_or_else(|| bad("neither a list of paths nor of path_hash_prefixes"))?;
        let terminating = role["terminating"].as_bool().unwrap_or(false);
        Ok(Self { signers: RoleSpec { keys: listed, threshold }, terminating, scope, name })
    }

    fn check(&self) -> Result<(), RepoError> {
        check_role_name(WHAT, &self.name)?;
        let bad = |reason: &str| Err(invalid(WHAT, format!("role {:?}: {reason}", self.name)));
        let (items, is_good): (_, fn(&String) -> bool) = match &self.scope {
            // Clients do not agree on what brackets mean.
            Scope::Paths(items) => {
                (items, |p| (1..=PATTERN_BYTES_MAX).contains(&p.len()) && !p.contains(['[', ']']))
            }
            Scope::HashPrefixes(items) => (items, |p| {
                let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
                (1..=PREFIX_DIGITS_MAX).contains(&p.len()) && p.bytes().all(digit)
            }),
        };
        if items.is_empty() || items.len() > SCOPE_ITEMS_MAX {
            return bad(&format!("{} paths or prefixes, expected 1 to {SCOPE_ITEMS_MAX}", items.len()));
        }
        match items.iter().find(|item| !is_good(item)) {
            Some(item) => bad(&format!(
                "{item:?} is no pattern of 1 to {PATTERN_BYTES_MAX} bytes without brackets, or no lower-case hexadecimal prefix"
            )),
            None => Ok(()),
        }
    }

    fn to_value(&self, ids: &[String]) -> Value {
        let (field, items) = match &self.scope {
            Scope::Paths(paths) => ("paths", paths),
            Scope::HashPrefixes(prefixes) => ("path_hash_prefixes", prefixes),
        };
        json!({
            "name": self.name, "keyids": ids, "threshold": self.signers.threshold,
            "terminating": self.terminating, field: items,
        })
    }
}

/// Sets and removes delegations. One of a known name is replaced in its place, another is searched last.
pub(super) fn edit(draft: &mut Draft, set: &[Delegation], remove: &[String]) -> Result<(), RepoError> {
    if set.is_empty() && remove.is_empty() {
        return Ok(());
    }
    let delegations = draft.object("delegations")?;
    if delegations.contains_key("succinct_roles") {
        return Err(invalid(WHAT, "succinct roles are not edited by this build"));
    }
    let no_list = || invalid(WHAT, "no list of roles");
    for name in remove {
        let roles = roles(delegations).ok_or_else(no_list)?;
        let before = roles.len();
        roles.retain(|role| role["name"] != name.as_str());
        if roles.len() == before {
            return Err(invalid(WHAT, format!("{name:?} is not delegated here")));
        }
    }
    for delegation in set {
        delegation.check()?;
        let ids = delegation.signers.ids(WHAT, &delegation.name)?;
        let keys = inner(delegations, "keys").ok_or_else(|| invalid(WHAT, "keys is no object"))?;
        keys.extend(ids.iter().cloned().zip(delegation.signers.keys.iter().map(Key::to_value)));
        let roles = roles(delegations).ok_or_else(no_list)?;
        let entry = delegation.to_value(&ids);
        match roles.iter_mut().find(|role| role["name"] == delegation.name.as_str()) {
            Some(old) => *old = entry,
            None => roles.push(entry),
        }
    }
    if drop_unused_keys(delegations) == 0 {
        draft.remove("delegations");
    }
    Ok(())
}

fn roles(delegations: &mut Map<String, Value>) -> Option<&mut Vec<Value>> {
    delegations.entry("roles").or_insert_with(|| json!([])).as_array_mut()
}

/// Takes away the keys that no delegation lists any more; gives the number of delegations.
fn drop_unused_keys(delegations: &mut Map<String, Value>) -> usize {
    let Some(roles) = roles(delegations) else { return 0 };
    let count = roles.len();
    let used: BTreeSet<String> = roles.iter().filter_map(|role| texts(&role["keyids"])).flatten().collect();
    if let Some(keys) = inner(delegations, "keys") {
        keys.retain(|id, _| used.contains(id));
    }
    count
}

fn texts(list: &Value) -> Option<Vec<String>> {
    list.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

/// Whether a pattern matches a path, segment by segment.
fn matches(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut segments) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), segments.next()) {
            (None, None) => return true,
            (Some(pattern), Some(segment)) if matches_segment(pattern, segment) => {}
            _ => return false,
        }
    }
}

/// `*` and `?` within a segment, in time proportional to the product of the lengths: only the last `*` is ever tried again.
fn matches_segment(pattern: &str, segment: &str) -> bool {
    let (pattern, segment): (Vec<char>, Vec<char>) = (pattern.chars().collect(), segment.chars().collect());
    let (mut p, mut s) = (0, 0);
    let mut retry = None;
    while s < segment.len() {
        match (pattern.get(p), retry) {
            (Some('*'), _) => {
                retry = Some((p, s));
                p += 1;
            }
            (Some(c), _) if *c == '?' || segment.get(s) == Some(c) => {
                p += 1;
                s += 1;
            }
            (_, Some((star, from))) => {
                retry = Some((star, from + 1));
                p = star + 1;
                s = from + 1;
            }
            (_, None) => return false,
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_segment_by_segment() {
        for (pattern, path, expected) in [
            ("*", "a", true),
            ("*", "a/b", false),
            ("a/*", "a/b.wbi", true),
            ("a/*", "a/b/c", false),
            ("*/b", "a/b", true),
            ("a/?.wbi", "a/1.wbi", true),
            ("a/?.wbi", "a/12.wbi", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("**", "", true),
            ("a", "A", false),
            ("?", "é", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn prefixes_are_of_the_hash_of_the_path() {
        let hash = sha256(b"a/b.wbi").to_string();
        assert!(Scope::HashPrefixes(vec!["zz".into(), hash[..2].to_owned()]).covers("a/b.wbi"));
        assert!(!Scope::HashPrefixes(vec![hash[..2].to_owned()]).covers("a/c.wbi"));
    }
}
