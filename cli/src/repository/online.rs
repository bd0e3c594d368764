//! What the online key of a static repository signs: snapshot and timestamp. On a fleet the server does this.

use super::{
    Given, Key, Repository, SNAPSHOT, TARGETS, TIMESTAMP,
    authority::{Signatures, View, expiry, top_level},
    key::repo_failure,
};
use crate::error::Failure;
use time::Duration;
use whimbrel_updater::{
    repo::{self, NamedRole, file_name},
    tuf::{Signed, Timestamp},
};

/// How long a snapshot is good for.
const SNAPSHOT_LIFE: Duration = Duration::days(30);
/// How long a timestamp is good for: as long as a server can hide newer metadata from a device.
const TIMESTAMP_LIFE: Duration = Duration::days(2);

impl Repository {
    /// Signs a snapshot of the newest file of every targets role; gives its version. Clients see it with the next timestamp.
    ///
    /// # Errors
    /// Refused when a role lacks its metadata or its signatures, has expired, or the keys are not enough.
    pub(crate) fn sign_snapshot(&self, given: Given<'_>) -> Result<u64, Failure> {
        const ATTEMPTED: &str = "signing a snapshot";
        let roles = self.published_roles(ATTEMPTED, given.now)?;
        let named: Vec<NamedRole<'_>> =
            roles.iter().map(|(role, file)| NamedRole { role, metadata: &file.bytes }).collect();
        let old = self.signed(SNAPSHOT)?;
        let expires = given.expires(SNAPSHOT_LIFE);
        let next = repo::next_snapshot(old.as_ref().map(|f| &f.bytes[..]), &named, expires);
        let next = next.map_err(|e| repo_failure(ATTEMPTED, &e))?;
        let bytes = self.sign_online(ATTEMPTED, SNAPSHOT, next, given.keys)?;
        let version = old.map_or(1, |f| f.version + 1);
        self.write(&file_name(SNAPSHOT, Some(version)), &bytes)?;
        Ok(version)
    }

    /// Signs a timestamp of the newest snapshot; gives its version.
    ///
    /// # Errors
    /// Refused when there is no snapshot, it has expired or is not signed as the root demands, or the keys are not enough.
    pub(crate) fn sign_timestamp(&self, given: Given<'_>) -> Result<u64, Failure> {
        const ATTEMPTED: &str = "signing a timestamp";
        let Some(snapshot) = self.signed(SNAPSHOT)? else {
            return Err(
                Failure::refused(ATTEMPTED, "there is no snapshot yet").hint("run `whimbrel repo snapshot`")
            );
        };
        self.check_good(ATTEMPTED, SNAPSHOT, &snapshot.bytes, given.now)?;
        let file = file_name(TIMESTAMP, None);
        let old = if self.path(&file).is_file() { Some(self.read(&file)?) } else { None };
        let next =
            repo::next_timestamp(old.as_deref(), &snapshot.bytes, given.now, given.expires(TIMESTAMP_LIFE));
        let next = next.map_err(|e| repo_failure(ATTEMPTED, &e))?;
        let bytes = self.sign_online(ATTEMPTED, TIMESTAMP, next, given.keys)?;
        let version =
            Signed::<Timestamp>::parse(&bytes).map_err(|e| super::tuf_failure(ATTEMPTED, &e))?.body().version;
        self.write(&file, &bytes)?;
        Ok(version)
    }

    /// The newest file of every targets role that clients can come to, each signed as its signed delegator demands.
    fn published_roles(
        &self,
        attempted: &str,
        now: time::OffsetDateTime,
    ) -> Result<Vec<(String, super::File)>, Failure> {
        let mut names = vec![TARGETS.to_owned()];
        names.extend(self.delegated(View::Signed)?.into_iter().map(|d| d.delegation.name));
        let mut roles = Vec::with_capacity(names.len());
        for role in names {
            let Some(file) = self.signed(&role)? else {
                let why = format!("{role} has no metadata with all its signatures yet");
                return Err(
                    Failure::refused(attempted, why).hint(format!("run `whimbrel repo sign {role:?}`"))
                );
            };
            self.check_good(attempted, &role, &file.bytes, now)?;
            roles.push((role, file));
        }
        Ok(roles)
    }

    /// Checks that clients would take a file of a role: its signatures and its date.
    fn check_good(
        &self,
        attempted: &str,
        role: &str,
        file: &[u8],
        now: time::OffsetDateTime,
    ) -> Result<(), Failure> {
        let online = top_level(role).is_some() && role != TARGETS;
        let hint = if online {
            format!("run `whimbrel repo {role}`")
        } else {
            format!("run `whimbrel repo renew {role:?}`, then sign it")
        };
        for signatures in self.standings(role, file, View::Signed)? {
            if !signatures.is_met() {
                let Signatures { by, valid, threshold, .. } = signatures;
                let why = format!(
                    "{role} is signed by {valid} of the keys that {by} lists now, {threshold} are needed"
                );
                return Err(Failure::refused(attempted, why).hint(hint));
            }
        }
        let expires = expiry(role, file)?;
        if expires <= now {
            return Err(Failure::refused(attempted, format!("{role} expired at {expires}")).hint(hint));
        }
        Ok(())
    }

    fn sign_online(
        &self,
        attempted: &str,
        role: &str,
        mut bytes: Vec<u8>,
        keys: &[&Key],
    ) -> Result<Vec<u8>, Failure> {
        if self.signed(super::ROOT)?.is_none() {
            return Err(Failure::refused(attempted, "the root has not all its signatures yet")
                .hint("run `whimbrel repo sign root`"));
        }
        for key in keys {
            bytes = repo::sign(&bytes, key.signing()).map_err(|e| repo_failure(attempted, &e))?;
        }
        for Signatures { by, valid, threshold, .. } in self.standings(role, &bytes, View::Signed)? {
            if valid < threshold {
                let why =
                    format!("{valid} of the keys given may sign {role} by {by}, {threshold} are needed");
                return Err(Failure::refused(attempted, why));
            }
        }
        Ok(bytes)
    }
}
