//! Delegations: which further role may name which targets, and whose keys sign it.

use super::{
    RepoError, RoleSpec,
    draft::{Draft, inner, invalid},
    names::check_role_name,
};
use crate::tuf::{DelegatedRole, Key, Scope, Signed, Targets};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const WHAT: &str = "delegations";
/// Most patterns or prefixes of one delegation.
const SCOPE_ITEMS_MAX: usize = 4096;
/// Longest pattern.
const PATTERN_BYTES_MAX: usize = 1024;
/// Hexadecimal digits of a SHA-256.
const PREFIX_DIGITS_MAX: usize = 64;

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
    /// When the file is no targets metadata, or a delegation in it names a key that it does not hold.
    pub fn read_all(targets: &[u8]) -> Result<Vec<Self>, RepoError> {
        let targets = Signed::<Targets>::parse(targets)?;
        let Some(delegations) = &targets.body().delegations else { return Ok(Vec::new()) };
        let read = |role: &DelegatedRole| {
            let key = |id: &String| {
                let key = delegations.keys.get(id).cloned();
                key.ok_or_else(|| invalid(WHAT, format!("role {:?}: no key {id}", role.name)))
            };
            let keys = role.keys.keyids.iter().map(key).collect::<Result<_, RepoError>>()?;
            let signers = RoleSpec { keys, threshold: role.keys.threshold };
            let (terminating, scope) = (role.terminating, role.scope.clone());
            Ok(Self { name: role.name.clone(), signers, terminating, scope })
        };
        delegations.roles.iter().map(read).collect()
    }

    fn check(&self) -> Result<(), RepoError> {
        check_role_name(WHAT, &self.name)?;
        let bad = |reason: &str| Err(invalid(WHAT, format!("role {:?}: {reason}", self.name)));
        let (items, is_good): (_, fn(&String) -> bool) = match &self.scope {
            Scope::Paths(items) => (items, |p| (1..=PATTERN_BYTES_MAX).contains(&p.len())),
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
                "{item:?} is no pattern of 1 to {PATTERN_BYTES_MAX} bytes, or no lower-case hexadecimal prefix"
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
