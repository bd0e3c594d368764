//! Metadata that waits for signatures, and its way to its place once it has them all.

use super::{
    Key, Repository, STAGED,
    authority::{Signatures, View, expiry},
    key::repo_failure,
};
use crate::{error::Failure, files};
use serde::Serialize;
use time::format_description::well_known::Rfc3339;
use whimbrel_updater::{
    hash::sha256,
    repo::{self, file_name},
};
use whimbrel_wire::Digest;

/// How far a file is signed.
#[derive(Debug, Serialize)]
pub(crate) struct RoleView {
    /// The role.
    pub(crate) role: String,
    /// Its version.
    pub(crate) version: u64,
    /// Its file in the folder.
    pub(crate) file: String,
    /// Whether it has all its signatures; until then it lies in `staged/`.
    pub(crate) complete: bool,
    /// Who has signed, by whoever lists the keys.
    pub(crate) signatures: Vec<Signatures>,
    /// When it ends, RFC 3339.
    pub(crate) expires: String,
    /// SHA-256 of the file; of a first root it is what enrolment tokens carry.
    pub(crate) sha256: Digest,
}

impl Repository {
    /// Adds a key's signature to the file of a role that waits for it.
    ///
    /// # Errors
    /// Bad input when nothing waits; refused when the key is none of the role's.
    pub(crate) fn sign(&self, role: &str, key: &Key) -> Result<RoleView, Failure> {
        let attempted = format!("signing {role}");
        let Some(staged) = self.staged(role)? else {
            return Err(Failure::usage(attempted, "nothing of this role waits for signatures").hint(
                "`whimbrel repo renew ROLE` makes its next version with a new date; `repo snapshot` and `repo timestamp` sign theirs",
            ));
        };
        self.stage(&attempted, role, staged.version, staged.bytes, &[key])
    }

    /// Keeps a file of a role with the keys' signatures added: in its place when it has all, in `staged/` until then.
    ///
    /// # Errors
    /// Refused when a key is none of the role's; nothing is written then.
    pub(super) fn stage(
        &self,
        attempted: &str,
        role: &str,
        version: u64,
        mut bytes: Vec<u8>,
        keys: &[&Key],
    ) -> Result<RoleView, Failure> {
        let file = format!("{STAGED}/{}", file_name(role, Some(version)));
        for key in keys {
            self.check_may_sign(attempted, role, &bytes, key)?;
            bytes = repo::sign(&bytes, key.signing()).map_err(|e| repo_failure(attempted, &e))?;
        }
        self.write_staged(&file, &bytes)?;
        self.place(role)
    }

    /// Moves what waits to its place if it has all its signatures, and tells how far it is.
    fn place(&self, role: &str) -> Result<RoleView, Failure> {
        let Some(staged) = self.staged(role)? else {
            let why = "its file vanished while it was written";
            return Err(Failure::failed(format!("keeping the metadata of {role}"), why));
        };
        let signatures = self.standings(role, &staged.bytes, View::Newest)?;
        let complete = signatures.iter().all(Signatures::is_met);
        let name = file_name(role, Some(staged.version));
        let waiting = format!("{STAGED}/{name}");
        if complete {
            self.check_not_overtaken(role, staged.version)?;
            self.publish_file(role, staged.version, &staged.bytes)?;
            self.unstage(role, staged.version)?;
        }
        let file = if complete { name } else { waiting };
        self.view(role, staged.version, file, &staged.bytes, signatures)
    }

    /// Puts a file into its place. Web servers decode the addresses that they are asked for, so that a role with odd characters
    /// in its name is asked for under another name than the folder gives it; it lies there too.
    pub(super) fn publish_file(&self, role: &str, version: u64, bytes: &[u8]) -> Result<(), Failure> {
        let (name, decoded) = (file_name(role, Some(version)), format!("{version}.{role}.json"));
        if decoded != name && is_served(role) {
            let place = self.path(&decoded);
            let folder = place.parent().unwrap_or(&self.dir);
            std::fs::create_dir_all(folder)
                .map_err(|e| Failure::failed(format!("making {}", folder.display()), e))?;
            files::write(&place, bytes)?;
        }
        self.write(&name, bytes)
    }

    /// Throws away the file of a role that waits for signatures; gives its version.
    ///
    /// # Errors
    /// Bad input when nothing waits.
    pub(crate) fn discard(&self, role: &str) -> Result<u64, Failure> {
        let Some(staged) = self.staged(role)? else {
            let why = "nothing of this role waits for signatures";
            return Err(Failure::usage(format!("discarding the draft of {role}"), why));
        };
        self.unstage(role, staged.version)?;
        Ok(staged.version)
    }

    /// Checks that nobody else published this version or a later one meanwhile: what clients may have seen never changes.
    pub(super) fn check_not_overtaken(&self, role: &str, version: u64) -> Result<(), Failure> {
        match self.version(role)? {
            Some(newest) if newest >= version => {
                let why = format!("version {newest} is there already: someone else published meanwhile");
                Err(Failure::refused(format!("completing version {version} of {role}"), why)
                    .hint("`whimbrel repo discard ROLE` throws the draft away; then make the change again"))
            }
            _ => Ok(()),
        }
    }

    fn unstage(&self, role: &str, version: u64) -> Result<(), Failure> {
        let path = self.path(STAGED).join(file_name(role, Some(version)));
        std::fs::remove_file(&path).map_err(|e| Failure::failed(format!("removing {}", path.display()), e))
    }

    /// How far the newest file of a role is signed.
    ///
    /// # Errors
    /// Bad input when there is none.
    pub(crate) fn role_view(&self, role: &str) -> Result<RoleView, Failure> {
        let staged = self.staged(role)?;
        let prefix = if staged.is_some() { format!("{STAGED}/") } else { String::new() };
        let newest = match staged {
            Some(file) => Some(file),
            None => self.signed(role)?,
        };
        let newest = newest
            .ok_or_else(|| Failure::usage(format!("reading the metadata of {role}"), "there is none yet"))?;
        let signatures = self.standings(role, &newest.bytes, View::Newest)?;
        let file = format!("{prefix}{}", file_name(role, Some(newest.version)));
        self.view(role, newest.version, file, &newest.bytes, signatures)
    }

    fn view(
        &self,
        role: &str,
        version: u64,
        file: String,
        bytes: &[u8],
        signatures: Vec<Signatures>,
    ) -> Result<RoleView, Failure> {
        Ok(RoleView {
            role: role.to_owned(),
            version,
            complete: signatures.iter().all(Signatures::is_met),
            signatures,
            expires: expiry(role, bytes)?.format(&Rfc3339).unwrap_or_default(),
            sha256: sha256(bytes),
            file,
        })
    }

    /// Checks that the key is one of the role's. The file itself is asked too where it is a root that is being made.
    fn check_may_sign(&self, attempted: &str, role: &str, file: &[u8], key: &Key) -> Result<(), Failure> {
        let public = key.public();
        let own = (role == super::ROOT).then(|| repo::RootSpec::read(file)).transpose();
        let own = own.map_err(|e| repo_failure(attempted, &e))?;
        let listed_by_itself = own.is_some_and(|spec| spec.root.keys.iter().any(|k| k.is_same(&public)));
        let listed =
            || Ok::<_, Failure>(self.authorities(role, View::Newest)?.iter().any(|a| a.lists(&public)));
        if listed_by_itself || listed()? {
            return Ok(());
        }
        let why = format!("key {} is none of the keys that sign {role}", key.id()?);
        Err(Failure::refused(attempted, why).hint("`whimbrel repo status` shows which keys are missing"))
    }

    fn write_staged(&self, file: &str, bytes: &[u8]) -> Result<(), Failure> {
        let folder = self.path(STAGED);
        std::fs::create_dir_all(&folder)
            .map_err(|e| Failure::failed(format!("making {}", folder.display()), e))?;
        files::write(&self.path(file), bytes)
    }
}

/// Whether a web server can have a file for the role: a path that stays below the folder.
pub(super) fn is_served(role: &str) -> bool {
    let plain = |segment: &str| !segment.is_empty() && segment != "." && segment != "..";
    !role.contains('\0') && (!role.contains('/') || role.split('/').all(plain))
}
