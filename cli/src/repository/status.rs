//! How a repository stands, and what to do next.

use super::{
    ROOT, Repository, SNAPSHOT, TARGETS, TIMESTAMP,
    authority::{Signatures, View, expiry},
    key::tuf_failure,
};
use crate::error::Failure;
use serde::Serialize;
use std::collections::BTreeMap;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use whimbrel_updater::{
    repo::file_name,
    tuf::{Scope, Signed, Snapshot, Timestamp},
};

/// Days before its end from which on a file that people must sign is worth a word.
const WARN_DAYS: i64 = 30;

/// The state of a repository.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    /// Every role: the top-level ones, then delegated ones in the order of search.
    pub(crate) roles: Vec<RoleStatus>,
    /// What to do, most urgent first.
    pub(crate) next: Vec<String>,
}

/// The state of one role.
#[derive(Debug, Serialize)]
pub(crate) struct RoleStatus {
    /// Its name.
    pub(crate) role: String,
    /// Version of the newest file with all its signatures.
    pub(crate) version: Option<u64>,
    /// When that ends, RFC 3339.
    pub(crate) expires: Option<String>,
    /// Whole days until then; negative when it has ended.
    pub(crate) expires_in_days: Option<i64>,
    /// Whether the keys that are listed now signed it.
    pub(crate) valid: bool,
    /// Version of the file that waits for signatures.
    pub(crate) staged_version: Option<u64>,
    /// Signatures on the file that waits, or on the newest one.
    pub(crate) signatures: Vec<Signatures>,
    /// Who delegates to it.
    pub(crate) delegated_by: Option<String>,
    /// What it may name, where it is delegated.
    pub(crate) scope: Vec<String>,
}

impl Repository {
    /// Every targets role: the top-level one, then delegated ones in the order of search.
    pub(crate) fn targets_roles(&self) -> Result<Vec<String>, Failure> {
        let mut names = vec![TARGETS.to_owned()];
        names.extend(self.delegated(View::Newest)?.into_iter().map(|d| d.delegation.name));
        Ok(names)
    }

    /// How the repository stands at `now`.
    ///
    /// # Errors
    /// When a file in it is no metadata.
    pub(crate) fn status(&self, now: OffsetDateTime) -> Result<Status, Failure> {
        let delegated = self.delegated(View::Newest)?;
        let mut roles = Vec::new();
        for role in [ROOT, TARGETS, SNAPSHOT, TIMESTAMP] {
            roles.push(self.role_status(role, now)?);
        }
        for found in delegated {
            let mut status = self.role_status(&found.delegation.name, now)?;
            status.delegated_by = Some(found.delegator);
            status.scope = match found.delegation.scope {
                Scope::Paths(paths) => paths,
                Scope::HashPrefixes(prefixes) => {
                    prefixes.into_iter().map(|p| format!("sha256:{p}…")).collect()
                }
            };
            roles.push(status);
        }
        let next = self.next_steps(&roles)?;
        Ok(Status { roles, next })
    }

    fn role_status(&self, role: &str, now: OffsetDateTime) -> Result<RoleStatus, Failure> {
        let signed = if role == TIMESTAMP {
            self.timestamp()?
        } else {
            self.signed(role)?.map(|f| (f.version, f.bytes))
        };
        let staged = self.staged(role)?;
        let expires = signed.as_ref().map(|(_, bytes)| expiry(role, bytes)).transpose()?;
        let of_signed = match &signed {
            Some((_, bytes)) => self.standings(role, bytes, View::Newest)?,
            None => Vec::new(),
        };
        // A root was complete when it was placed; a draft of the next one says nothing about it.
        let valid = signed.is_some() && (role == ROOT || of_signed.iter().all(Signatures::is_met));
        let signatures = match &staged {
            Some(file) => self.standings(role, &file.bytes, View::Newest)?,
            None => of_signed,
        };
        Ok(RoleStatus {
            role: role.to_owned(),
            version: signed.map(|(version, _)| version),
            expires: expires.map(|at| at.format(&Rfc3339).unwrap_or_default()),
            expires_in_days: expires.map(|at| (at - now).whole_seconds().div_euclid(86_400)),
            valid,
            staged_version: staged.map(|f| f.version),
            signatures,
            delegated_by: None,
            scope: Vec::new(),
        })
    }

    fn timestamp(&self) -> Result<Option<(u64, Vec<u8>)>, Failure> {
        let file = file_name(TIMESTAMP, None);
        if !self.path(&file).is_file() {
            return Ok(None);
        }
        let bytes = self.read(&file)?;
        let parsed =
            Signed::<Timestamp>::parse(&bytes).map_err(|e| tuf_failure("reading timestamp.json", &e))?;
        Ok(Some((parsed.body().version, bytes)))
    }

    fn next_steps(&self, roles: &[RoleStatus]) -> Result<Vec<String>, Failure> {
        let mut next: Vec<String> = roles.iter().filter_map(offline_step).collect();
        let by_name: BTreeMap<&str, &RoleStatus> = roles.iter().map(|r| (r.role.as_str(), r)).collect();
        let (snapshot, timestamp) = (by_name.get(SNAPSHOT), by_name.get(TIMESTAMP));
        if snapshot.is_some_and(|s| is_bad(s)) || !self.snapshot_is_current(roles)? {
            next.push(
                "sign a snapshot of the newest metadata: `whimbrel repo snapshot` (a fleet server does it)"
                    .into(),
            );
            next.push("and then a timestamp: `whimbrel repo timestamp`".into());
        } else if timestamp.is_some_and(|t| is_bad(t)) || !self.timestamp_is_current()? {
            next.push("sign a timestamp: `whimbrel repo timestamp` (a fleet server does it)".into());
        }
        Ok(next)
    }

    fn snapshot_is_current(&self, roles: &[RoleStatus]) -> Result<bool, Failure> {
        let Some(file) = self.signed(SNAPSHOT)? else { return Ok(false) };
        let parsed =
            Signed::<Snapshot>::parse(&file.bytes).map_err(|e| tuf_failure("reading the snapshot", &e))?;
        let named = |role: &RoleStatus| {
            let key = format!("{}.json", role.role);
            role.version == parsed.body().files.get(&key).map(|f| f.version)
        };
        let is_targets = |r: &&RoleStatus| r.role == TARGETS || r.delegated_by.is_some();
        Ok(roles.iter().filter(is_targets).all(named))
    }

    fn timestamp_is_current(&self) -> Result<bool, Failure> {
        let Some((_, bytes)) = self.timestamp()? else { return Ok(false) };
        let parsed =
            Signed::<Timestamp>::parse(&bytes).map_err(|e| tuf_failure("reading timestamp.json", &e))?;
        Ok(self.version(SNAPSHOT)? == Some(parsed.body().snapshot.version))
    }
}

fn is_bad(role: &RoleStatus) -> bool {
    !role.valid || role.expires_in_days.is_none_or(|days| days < 0)
}

/// What people with offline keys have to do about a role.
fn offline_step(role: &RoleStatus) -> Option<String> {
    let name = &role.role;
    if [SNAPSHOT, TIMESTAMP].contains(&name.as_str()) {
        return None;
    }
    if let Some(version) = role.staged_version {
        let standing: Vec<String> =
            role.signatures.iter().map(|s| format!("{} of {} by {}", s.valid, s.threshold, s.by)).collect();
        let standing = standing.join(", ");
        return Some(format!("sign version {version} of {name} ({standing}): `whimbrel repo sign {name:?}`"));
    }
    if role.version.is_none() {
        return Some(format!("make the first metadata of {name}: `whimbrel repo renew {name:?}`"));
    }
    if !role.valid {
        return Some(format!("sign {name} with the keys listed now: `whimbrel repo renew {name:?}`"));
    }
    let days = role.expires_in_days?;
    let when = if days < 0 { "has expired".to_owned() } else { format!("expires in {days} days") };
    (days < WARN_DAYS).then(|| format!("{name} {when}: `whimbrel repo renew {name:?}`"))
}
