//! Delegated roles: taking their metadata over, and which targets devices come to through them.

use super::{
    Fault, Fleet,
    signing::{file, refused},
};
use crate::store::{
    metadata::{MetadataFile, RoleFile},
    operators::Operator,
};
use std::collections::{BTreeMap, BTreeSet};
use whimbrel_updater::{
    repo::{self, Delegation, NamedRole, RepoError},
    tuf::{Role as _, Scope, Signed, Target, Targets},
};

/// Most delegated roles that are followed: more than devices search.
const ROLES_MAX: usize = 10_000;

/// A delegated role on the way from the top, with every scope that a target of it has to be in.
struct Step {
    delegation: Delegation,
    scopes: Vec<Scope>,
}

impl Fleet {
    /// Takes over the metadata of a delegated role, and signs a snapshot and a timestamp that name it.
    ///
    /// # Errors
    /// 400 when it is no targets metadata, 403 for its signatures, 409 when nobody delegates to the role, for its version, or
    /// for what is missing.
    pub(crate) async fn put_delegated(&self, role: &str, bytes: &[u8], by: &Operator) -> Result<(), Fault> {
        let _guard = self.publishing.lock().await;
        self.current_root().await?;
        let Some(top) = self.store().newest_metadata(RoleFile::Targets).await? else {
            return Err(Fault::conflict(format!(
                "publish {role}: there are no targets yet that delegate to it"
            )));
        };
        let delegator = self.delegator_of(role, top.bytes.clone()).await?;
        let name = RoleFile::Delegated(role.to_owned());
        let old = self.store().newest_metadata(name.clone()).await?;
        let targets = repo::check_delegated(&delegator, role, old.as_ref().map(|f| &f.bytes[..]), bytes)
            .map_err(not_taken)?;
        targets.check_expiry(self.now()).map_err(|e| refused(&e))?;
        let reachable = self.reachable(&top.bytes, Some((role, bytes))).await?;
        let models = self.check_published(&reachable).await?;
        let mut files: Vec<MetadataFile> = vec![file::<Targets>(name, bytes.to_vec())?];
        files.extend(self.sign_for(&[NamedRole { role, metadata: bytes }]).await?);
        self.store().publish(&files, Some(&models), &by.actor(), self.now_ms()).await?;
        tracing::info!(
            role,
            version = files[0].version,
            models = models.len(),
            "delegated targets published"
        );
        Ok(())
    }

    /// The targets file that delegates to a role, the first in the order of search.
    async fn delegator_of(&self, role: &str, top: Vec<u8>) -> Result<Vec<u8>, Fault> {
        let mut seen = BTreeSet::new();
        let mut ahead = vec![top];
        while let Some(bytes) = ahead.pop() {
            let below = Delegation::read_all(&bytes).map_err(not_taken)?;
            if below.iter().any(|d| d.name == role) {
                return Ok(bytes);
            }
            for delegation in below.into_iter().rev() {
                if seen.insert(delegation.name.clone()) && seen.len() <= ROLES_MAX {
                    ahead.extend(self.newest_of(&delegation).await?);
                }
            }
        }
        Err(Fault::conflict(format!("publish {role}: no role delegates to it; upload the delegator first")))
    }

    /// Every target that a device may come to from `top`: the first of its path in the order of search, from roles that are
    /// signed as their delegators demand, within what these let them name. `replaced` is a role's file that is about to be
    /// published.
    pub(super) async fn reachable(
        &self,
        top: &[u8],
        replaced: Option<(&str, &[u8])>,
    ) -> Result<Vec<Target>, Fault> {
        let mut found = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut ahead = take(&mut found, top, &[])?;
        while let Some(Step { delegation, scopes }) = ahead.pop() {
            if !seen.insert(delegation.name.clone()) || seen.len() > ROLES_MAX {
                continue;
            }
            let bytes = match replaced {
                Some((role, bytes)) if role == delegation.name => Some(bytes.to_vec()),
                _ => self.newest_of(&delegation).await?,
            };
            if let Some(bytes) = bytes {
                ahead.extend(take(&mut found, &bytes, &scopes)?);
            }
        }
        Ok(found.into_values().collect())
    }

    /// The newest file of a role, if it is signed as the delegation demands.
    async fn newest_of(&self, delegation: &Delegation) -> Result<Option<Vec<u8>>, Fault> {
        let newest = self.store().newest_metadata(RoleFile::Delegated(delegation.name.clone())).await?;
        let Some(newest) = newest else { return Ok(None) };
        let standing = delegation.signers.standing::<Targets>(&newest.bytes).map_err(not_taken)?;
        Ok(standing.is_met().then_some(newest.bytes))
    }
}

/// Adds the targets of one file that are in all the scopes and not known yet; gives what it delegates, to be looked at from
/// the end.
fn take(found: &mut BTreeMap<String, Target>, file: &[u8], scopes: &[Scope]) -> Result<Vec<Step>, Fault> {
    let targets = Signed::<Targets>::parse(file).map_err(|e| refused(&e))?;
    for (path, target) in &targets.body().targets {
        if scopes.iter().all(|scope| scope.holds(path)) {
            found.entry(path.clone()).or_insert_with(|| target.clone());
        }
    }
    let below = Delegation::read_all(file).map_err(not_taken)?;
    let step = |delegation: Delegation| {
        let scopes = scopes.iter().chain([&delegation.scope]).cloned().collect();
        Step { delegation, scopes }
    };
    Ok(below.into_iter().rev().map(step).collect())
}

/// Delegated metadata that was not accepted.
fn not_taken(error: RepoError) -> Fault {
    match error {
        RepoError::Tuf(error) => refused(&error),
        other => Fault::invalid(other.to_string()),
    }
}
