//! Removing what nothing needs any more.

use super::{INDEX_FILE, Slots, outline::Peek, partial::partial_digest, read_index};
use crate::disk::DiskError;
use semver::Version;
use std::path::{Path, PathBuf};
use whimbrel_wire::{Digest, ModelName};

/// What a name in a model's folder stands for.
enum Entry {
    Installed(Digest),
    Partial(Digest),
    /// What an interrupted step left.
    Junk,
}

impl Slots {
    /// The models that have a folder.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn models(&self) -> Result<Vec<ModelName>, DiskError> {
        Ok(self.disk.list(&self.dir)?.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
    }

    /// Removes every bundle of a model save those in `keep`, and all that is half made save one: of the bundles being put together the
    /// one of the highest version, if that is above every version kept. What was fetched for it is needed when it is
    /// asked for again, and an older one would not be asked for before it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn retain(&self, model: &ModelName, keep: &[Digest]) -> Result<(), DiskError> {
        let spare = self.newest_partial(model, keep)?;
        for (path, entry) in self.entries(model)? {
            let stays = match entry {
                Entry::Partial(digest) => Some(digest) == spare,
                Entry::Installed(digest) => keep.contains(&digest),
                Entry::Junk => false,
            };
            if !stays {
                tracing::debug!(path = %path.display(), "removed: nothing needs it");
                self.disk.remove_dir_all(&path)?;
            }
        }
        Ok(())
    }

    /// Removes what is half made for other bundles of the model than this one; whether there was any.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn drop_partials(&self, model: &ModelName, but: Digest) -> Result<bool, DiskError> {
        let mut dropped = false;
        for (path, entry) in self.entries(model)? {
            if matches!(entry, Entry::Partial(digest) if digest != but) {
                self.disk.remove_dir_all(&path)?;
                dropped = true;
            }
        }
        Ok(dropped)
    }

    /// An installed bundle that is not among `named` and newer than all of them: the process ended before it was written down.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn unnamed(
        &self,
        model: &ModelName,
        named: &[Digest],
    ) -> Result<Option<(Digest, Version)>, DiskError> {
        let mut others = self.entries(model)?;
        others.retain(|(_, entry)| matches!(entry, Entry::Installed(digest) if !named.contains(digest)));
        let floor = if others.is_empty() { None } else { self.newest(model, named) };
        let mut found: Option<(Digest, Version)> = None;
        for (path, entry) in others {
            let Entry::Installed(digest) = entry else { continue };
            let Some(version) = self.version_in(&path) else { continue };
            let highest = found.as_ref().map(|(_, version)| version).or(floor.as_ref());
            if highest.is_none_or(|highest| version > *highest) {
                found = Some((digest, version));
            }
        }
        Ok(found)
    }

    /// The folders that hold a bundle, whole or in the making, of any model.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn folders(&self) -> Result<Vec<PathBuf>, DiskError> {
        let mut folders = Vec::new();
        for model in self.models()? {
            let entries = self.entries(&model)?;
            folders.extend(entries.into_iter().filter(|(_, e)| !matches!(e, Entry::Junk)).map(|(p, _)| p));
        }
        Ok(folders)
    }

    fn newest_partial(&self, model: &ModelName, keep: &[Digest]) -> Result<Option<Digest>, DiskError> {
        let mut partials = self.entries(model)?;
        partials.retain(|(_, entry)| matches!(entry, Entry::Partial(_)));
        if partials.is_empty() {
            return Ok(None);
        }
        let mut highest = self.newest(model, keep);
        let mut newest = None;
        for (path, entry) in partials {
            let Entry::Partial(digest) = entry else { continue };
            let Some(version) = self.version_in(&path) else { continue };
            if highest.as_ref().is_none_or(|highest| version > *highest) {
                highest = Some(version);
                newest = Some(digest);
            }
        }
        Ok(newest)
    }

    /// The highest version among installed bundles.
    fn newest(&self, model: &ModelName, bundles: &[Digest]) -> Option<Version> {
        bundles.iter().filter_map(|digest| self.version_in(&self.path(model, *digest))).max()
    }

    /// The version that the index in a folder states; `None` when that cannot be read.
    fn version_in(&self, dir: &Path) -> Option<Version> {
        let (peek, _): (Peek, Digest) = read_index(&*self.disk, dir).ok()?;
        Some(peek.manifest.version)
    }

    fn entries(&self, model: &ModelName) -> Result<Vec<(PathBuf, Entry)>, DiskError> {
        let folder = self.dir.join(model.as_str());
        let names = self.disk.list(&folder)?;
        Ok(names.iter().map(|name| (folder.join(name), self.entry(&folder, name))).collect())
    }

    fn entry(&self, folder: &Path, name: &std::ffi::OsStr) -> Entry {
        let Some(name) = name.to_str() else { return Entry::Junk };
        let digest = |parsed: Option<Digest>| {
            // Without an index it is of no use, whatever else is in it.
            let path = folder.join(name).join(INDEX_FILE);
            parsed.filter(|_| self.disk.size_bytes(&path).is_ok_and(|size| size.is_some()))
        };
        match (digest(name.parse().ok()), digest(partial_digest(name))) {
            (Some(installed), _) => Entry::Installed(installed),
            (None, Some(partial)) => Entry::Partial(partial),
            (None, None) => Entry::Junk,
        }
    }
}
