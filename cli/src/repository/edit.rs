//! Changes to targets roles, the top-level one and delegated ones. Each change makes one more version, or goes into the version
//! that still waits for signatures.

use super::{
    File, Key, Repository, RoleView, TARGETS,
    authority::{View, top_level},
    key::{repo_failure, tuf_failure},
    stage::is_served,
};
use crate::error::Failure;
use semver::Version;
use time::{Duration, OffsetDateTime};
use whimbrel_updater::{
    bundle::Packed,
    repo::{self, Delegation, NewTarget, TargetsEdit},
    tuf::{Downgrade, Signed, Targets},
};
use whimbrel_wire::ModelName;

/// How long a list of releases is good for. Every publication renews it.
const TARGETS_LIFE: Duration = Duration::days(365);

/// The keys that sign a change now, and when it is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given<'a> {
    /// May be none: the change then waits for signatures.
    pub(crate) keys: &'a [&'a Key],
    /// The time of signing.
    pub(crate) now: OffsetDateTime,
    /// How long the file is good for; `None` for what is usual for its role.
    pub(crate) life: Option<Duration>,
}

impl<'a> Given<'a> {
    /// With the usual life.
    pub(crate) const fn new(keys: &'a [&'a Key], now: OffsetDateTime) -> Self {
        Self { keys, now, life: None }
    }

    pub(super) fn expires(&self, usual: Duration) -> OffsetDateTime {
        self.now + self.life.unwrap_or(usual)
    }
}

impl Repository {
    /// Signs that a bundle may be installed, where that is not signed yet.
    ///
    /// # Errors
    /// Refused when a key is none of the role's, the version was signed with other content, or it is below the floor.
    pub(crate) fn sign_bundle(
        &self,
        role: &str,
        bundle: &Packed,
        given: Given<'_>,
    ) -> Result<RoleView, Failure> {
        let path = bundle.target_path();
        let attempted = format!("signing {path}");
        let known = self.newest(role)?.map(|file| body(&attempted, &file)).transpose()?;
        if let Some(known) = known.and_then(|targets| targets.targets.get(&path).cloned()) {
            if known.check(bundle.index_bytes()).is_err() {
                return Err(Failure::refused(attempted, "this version was signed before with other content")
                    .hint("a version never changes; raise it in bundle.toml and pack again"));
            }
            return self.add_signatures(&attempted, role, given);
        }
        let manifest = &bundle.index().manifest;
        let top = self.newest(TARGETS)?.map(|file| body(&attempted, &file)).transpose()?;
        let floor = top.and_then(|targets| targets.floors.get(&manifest.name).cloned());
        if let Some(floor) = floor.filter(|floor| manifest.version < *floor) {
            return Err(Failure::refused(
                attempted,
                format!("no device may install a version below {floor}"),
            ));
        }
        let size = bundle.index_bytes().len() as u64;
        let target = NewTarget::bundle(manifest, size, bundle.digest());
        self.add_target(&attempted, role, target, given)
    }

    /// Signs that a file may be fetched as the target of its name.
    ///
    /// # Errors
    /// Refused when a key is none of the role's, or the role may not name it.
    pub(crate) fn sign_file(
        &self,
        role: &str,
        target: NewTarget,
        given: Given<'_>,
    ) -> Result<RoleView, Failure> {
        self.add_target(&format!("signing {}", target.path), role, target, given)
    }

    fn add_target(
        &self,
        attempted: &str,
        role: &str,
        target: NewTarget,
        given: Given<'_>,
    ) -> Result<RoleView, Failure> {
        self.check_in_scope(attempted, role, &target.path)?;
        let edit = TargetsEdit { add: vec![target], ..TargetsEdit::default() };
        self.edit(attempted, role, &edit, given)
    }

    /// Signs that a target is none any more. Its bytes stay: older metadata may still lead to them.
    ///
    /// # Errors
    /// Bad input when the role does not name it; refused when a key is none of the role's.
    pub(crate) fn remove_target(
        &self,
        role: &str,
        path: &str,
        given: Given<'_>,
    ) -> Result<RoleView, Failure> {
        let edit = TargetsEdit { remove: vec![path.to_owned()], ..TargetsEdit::default() };
        self.edit(&format!("removing {path}"), role, &edit, given)
    }

    /// Signs that no device may install a lower version of the model.
    ///
    /// # Errors
    /// Refused when a key is none of the role's, or the floor is lower than the signed one.
    pub(crate) fn set_floor(
        &self,
        model: &ModelName,
        floor: &Version,
        given: Given<'_>,
    ) -> Result<RoleView, Failure> {
        let attempted = format!("signing {floor} as the lowest version of {model}");
        match self.floor(&attempted, model)? {
            Some(signed) if signed == *floor => return self.add_signatures(&attempted, TARGETS, given),
            Some(signed) if signed > *floor => {
                let why = format!("it is {signed} already, and devices never go back below it");
                return Err(Failure::refused(attempted, why)
                    .hint("`whimbrel repo downgrade` signs that they may, once"));
            }
            _ => {}
        }
        let mut edit = TargetsEdit::default();
        edit.floors.insert(model.clone(), floor.clone());
        self.edit(&attempted, TARGETS, &edit, given)
    }

    /// Signs that devices may go back below the floor, to this one; gives the number of the statement.
    ///
    /// # Errors
    /// Bad input when the floor is not above it already; refused when a key is none of the role's.
    pub(crate) fn lower_floor(
        &self,
        model: &ModelName,
        floor: &Version,
        given: Given<'_>,
    ) -> Result<(u64, RoleView), Failure> {
        let attempted = format!("signing that {model} may go down to {floor}");
        match self.floor(&attempted, model)? {
            Some(signed) if signed > *floor => {}
            Some(signed) => {
                return Err(Failure::usage(attempted, format!("devices may already: the floor is {signed}")));
            }
            None => return Err(Failure::usage(attempted, "devices may already: no floor was ever signed")),
        }
        let top = self.newest(TARGETS)?.map(|file| body(&attempted, &file)).transpose()?;
        let last = top.and_then(|targets| targets.downgrades.get(model).map(|d| d.number)).unwrap_or(0);
        let number = last.saturating_add(1);
        let downgrades = [(model.clone(), Downgrade { number, floor: floor.clone() })].into();
        let edit = TargetsEdit { downgrades, ..TargetsEdit::default() };
        Ok((number, self.edit(&attempted, TARGETS, &edit, given)?))
    }

    fn floor(&self, attempted: &str, model: &ModelName) -> Result<Option<Version>, Failure> {
        let top = self.newest(TARGETS)?.map(|file| body(attempted, &file)).transpose()?;
        Ok(top.and_then(|targets| targets.floors.get(model).cloned()))
    }

    /// Delegates to a role, or changes the delegation; makes the role's first metadata where it has none.
    ///
    /// # Errors
    /// Bad input when another role delegates to it already, or the delegation breaks a rule; refused when a key is none of the
    /// delegator's.
    pub(crate) fn delegate(
        &self,
        from: &str,
        delegation: Delegation,
        given: Given<'_>,
    ) -> Result<Vec<RoleView>, Failure> {
        let role = delegation.name.clone();
        let attempted = format!("delegating from {from} to {role}");
        if !is_served(&role) {
            let why = "no web server could serve its metadata: a part of the name is empty, `.` or `..`";
            return Err(Failure::usage(attempted, why));
        }
        let known = self.delegated(View::Newest)?;
        if let Some(other) = known.iter().find(|d| d.delegation.name == role && d.delegator != from) {
            let why = format!("{} delegates to it already", other.delegator);
            return Err(Failure::usage(attempted, why));
        }
        let edit = TargetsEdit { delegate: vec![delegation], ..TargetsEdit::default() };
        let mut views = vec![self.edit(&attempted, from, &edit, given)?];
        if self.newest(&role)?.is_none() {
            let usual = Given { keys: &[], ..given };
            let first = repo::new_targets(usual.expires(TARGETS_LIFE));
            let first = first.map_err(|e| repo_failure(&attempted, &e))?;
            views.push(self.stage(&attempted, &role, 1, first, &[])?);
        }
        Ok(views)
    }

    /// Ends a delegation. The role's metadata stays: a snapshot never forgets a role.
    ///
    /// # Errors
    /// Bad input when there is no such delegation; refused when a key is none of the delegator's.
    pub(crate) fn undelegate(&self, from: &str, role: &str, given: Given<'_>) -> Result<RoleView, Failure> {
        let edit = TargetsEdit { undelegate: vec![role.to_owned()], ..TargetsEdit::default() };
        self.edit(&format!("ending the delegation from {from} to {role}"), from, &edit, given)
    }

    /// Makes the next version of a targets role with nothing changed but its date.
    ///
    /// # Errors
    /// Refused when a key is none of the role's.
    pub(crate) fn renew_targets(&self, role: &str, given: Given<'_>) -> Result<RoleView, Failure> {
        self.edit(&format!("renewing {role}"), role, &TargetsEdit::default(), given)
    }

    fn edit(
        &self,
        attempted: &str,
        role: &str,
        edit: &TargetsEdit,
        given: Given<'_>,
    ) -> Result<RoleView, Failure> {
        if top_level(role).is_some() && role != TARGETS {
            return Err(Failure::usage(attempted, format!("{role} is not a targets role")));
        }
        // Whether there is such a role at all.
        self.authorities(role, View::Newest)?;
        let expires = given.expires(TARGETS_LIFE);
        let failure = |e: repo::RepoError| repo_failure(attempted, &e);
        let (version, bytes) = match (self.staged(role)?, self.signed(role)?) {
            (Some(draft), _) => {
                self.check_not_overtaken(role, draft.version)?;
                (draft.version, repo::amend_targets(&draft.bytes, edit, expires).map_err(failure)?)
            }
            (None, Some(old)) => {
                (old.version + 1, repo::next_targets(&old.bytes, edit, expires).map_err(failure)?)
            }
            (None, None) => {
                let empty = repo::new_targets(expires).map_err(failure)?;
                (1, repo::amend_targets(&empty, edit, expires).map_err(failure)?)
            }
        };
        self.stage(attempted, role, version, bytes, given.keys)
    }

    /// Another operator's signatures, where the newest file of the role lacks some.
    fn add_signatures(&self, attempted: &str, role: &str, given: Given<'_>) -> Result<RoleView, Failure> {
        match self.staged(role)? {
            Some(draft) if !given.keys.is_empty() => {
                self.stage(attempted, role, draft.version, draft.bytes, given.keys)
            }
            _ => self.role_view(role),
        }
    }

    /// Checks that the chain of delegations lets the role name a target: clients would never find it otherwise.
    fn check_in_scope(&self, attempted: &str, role: &str, path: &str) -> Result<(), Failure> {
        let known = self.delegated(View::Newest)?;
        let mut role = role;
        // Each step goes to another role, so the number of roles bounds it.
        for _ in 0..=known.len() {
            let Some(found) = known.iter().find(|d| d.delegation.name == role) else { return Ok(()) };
            if !found.delegation.scope.holds(path) {
                let why = format!("{} does not let {role} name it", found.delegator);
                return Err(Failure::refused(attempted, why)
                    .hint("`whimbrel repo status` shows which role may name what"));
            }
            role = &found.delegator;
        }
        Ok(())
    }
}

fn body(attempted: &str, file: &File) -> Result<Targets, Failure> {
    let targets = Signed::<Targets>::parse(&file.bytes).map_err(|e| tuf_failure(attempted, &e))?;
    Ok(targets.body().clone())
}
