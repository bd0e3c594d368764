//! A bundle being put together: `models/NAME/.SHA256.partial/`, with the signed index and every file at its full size.
//!
//! There is no list of what is done. A region of a file either has the content that the index names for it or it has not: looking
//! again tells both apart after any end of the process or of the power, so nothing here needs to be durable
//! before [`Partial::finish`].

use super::{INDEX_FILE, InstalledBundle, Layout, SlotError, Slots, check_file, folders};
use crate::{
    bundle::{
        Packed,
        chunk::{is_content, unpack},
    },
    disk::{Disk, DiskError, create_dirs},
    hash::sha256,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use whimbrel_wire::{
    Digest, Message as _, ModelName, decode,
    index::{FileEntry, Index},
};

/// Ends the name of a bundle's folder while it is put together.
const PARTIAL: &str = ".partial";

/// A bundle's index, decoded once: it may have many megabytes.
#[derive(Debug, Clone)]
pub struct SignedIndex {
    digest: Digest,
    layout: Arc<Layout>,
}

impl SignedIndex {
    /// Decodes an index and checks that a bundle of it can be installed.
    ///
    /// # Errors
    /// When it is none, or holds a file of the index's own name.
    pub fn decode(bytes: &[u8]) -> Result<Self, SlotError> {
        let digest = sha256(bytes);
        let index: Index = decode(bytes).map_err(|source| SlotError::Index { digest, source })?;
        if index.file(INDEX_FILE).is_some() {
            return Err(SlotError::Unfit { digest, reason: format!("it holds a file named {INDEX_FILE}") });
        }
        Ok(Self { digest, layout: Arc::new(Layout::new(index)) })
    }

    /// SHA-256 of the bytes: the bundle's identity.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The index.
    #[must_use]
    pub fn index(&self) -> &Index {
        self.layout.index()
    }

    /// Stored size of all chunks, each content counted once.
    #[must_use]
    pub fn moved_bytes(&self) -> u64 {
        let firsts = self.layout.contents().filter_map(|same| same.first());
        firsts.map(|number| u64::from(self.layout.chunk(*number).stored_bytes)).sum()
    }
}

/// A bundle being put together.
#[derive(Debug)]
pub struct Partial {
    slots: Slots,
    digest: Digest,
    dir: PathBuf,
    layout: Arc<Layout>,
}

impl Slots {
    /// Where a bundle is put together.
    #[must_use]
    pub fn partial_path(&self, model: &ModelName, digest: Digest) -> PathBuf {
        self.dir.join(model.as_str()).join(format!(".{digest}{PARTIAL}"))
    }

    /// Keeps the signed index of a bundle that is to be put together; what is there of its files stays.
    ///
    /// # Errors
    /// When the bytes are not those of the index, or the disk refuses.
    pub fn begin(&self, index: &SignedIndex, bytes: &[u8]) -> Result<(), SlotError> {
        let digest = index.digest;
        let dir = self.partial_path(&index.index().manifest.name, digest);
        create_dirs(&*self.disk, &dir)?;
        if self.index_bytes_in(&dir, digest)?.is_some() {
            return Ok(());
        }
        if sha256(bytes) != digest {
            return Err(SlotError::Unfit { digest, reason: "the index has another hash".into() });
        }
        Ok(self.disk.write(&dir.join(INDEX_FILE), bytes)?)
    }

    /// A bundle that [`Slots::begin`] was called for, or one that is installed but damaged and can be put together anew; `None` when
    /// its index is nowhere. An index that is `known` is not decoded again.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn partial(
        &self,
        model: &ModelName,
        digest: Digest,
        known: Option<&SignedIndex>,
    ) -> Result<Option<Partial>, SlotError> {
        let dir = self.partial_path(model, digest);
        let known = known.filter(|known| known.digest == digest);
        let index = match known {
            Some(known) if self.disk.size_bytes(&dir.join(INDEX_FILE))?.is_some() => known.clone(),
            _ => {
                let Some(bytes) = self.index_bytes(model, digest)? else { return Ok(None) };
                let index = match known {
                    Some(known) => known.clone(),
                    None => SignedIndex::decode(&bytes)?,
                };
                self.begin(&index, &bytes)?;
                index
            }
        };
        Ok(Some(Partial { slots: self.clone(), digest, dir, layout: index.layout }))
    }

    /// The signed index of a bundle that is installed or being put together, if it is whole.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn index_bytes(&self, model: &ModelName, digest: Digest) -> Result<Option<Vec<u8>>, DiskError> {
        match self.index_bytes_in(&self.partial_path(model, digest), digest)? {
            Some(bytes) => Ok(Some(bytes)),
            None => self.index_bytes_in(&self.path(model, digest), digest),
        }
    }

    /// Installs a bundle that is in memory.
    ///
    /// # Errors
    /// When a chunk is missing or wrong, or the disk refuses; nothing is in place then.
    pub fn install(&self, packed: &Packed) -> Result<InstalledBundle, SlotError> {
        let index = SignedIndex::decode(packed.index_bytes())?;
        self.begin(&index, packed.index_bytes())?;
        let (model, digest) = (&packed.index().manifest.name, packed.digest());
        let partial = self.partial(model, digest, Some(&index))?;
        let partial = partial.ok_or_else(|| SlotError::Absent { dir: self.partial_path(model, digest) })?;
        partial.prepare()?;
        for (number, part) in (0..).zip(packed.index().chunks()) {
            let stored = packed.chunks().get(&part.stored);
            if let Some(raw) = stored.and_then(|stored| unpack(part, stored).ok()) {
                partial.write(number, &raw)?;
            }
        }
        partial.finish()
    }

    /// Bytes of disk that the files of a bundle being put together take already.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn partial_bytes(&self, digest: Digest, index: &Index) -> Result<u64, DiskError> {
        let dir = self.partial_path(&index.manifest.name, digest);
        let mut sum = 0;
        for file in &index.files {
            let found_bytes = self.disk.size_bytes(&dir.join(&file.path))?;
            sum += found_bytes.unwrap_or(0).min(file.size_bytes);
        }
        Ok(sum)
    }

    /// The bytes of the index in a folder, if they have the hash.
    fn index_bytes_in(&self, dir: &Path, digest: Digest) -> Result<Option<Vec<u8>>, DiskError> {
        let path = dir.join(INDEX_FILE);
        let size_bytes_max = Index::SIZE_BYTES_MAX as u64;
        match self.disk.size_bytes(&path)? {
            Some(size) if size <= size_bytes_max => {}
            _ => return Ok(None),
        }
        Ok(self.disk.read(&path, size_bytes_max)?.filter(|bytes| sha256(bytes) == digest))
    }
}

impl Partial {
    /// The bundle.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Its index, with its chunks numbered.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where it is put together.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes every file, at its full size. Says of each whether any of it was there before.
    ///
    /// # Errors
    /// When the disk refuses, or has not enough space.
    pub fn prepare(&self) -> Result<Vec<bool>, DiskError> {
        let index = self.layout.index();
        for dir in folders(index) {
            self.disk().create_dir(&self.dir.join(dir))?;
        }
        index.files.iter().map(|file| self.prepare_file(file)).collect()
    }

    fn prepare_file(&self, file: &FileEntry) -> Result<bool, DiskError> {
        let path = self.dir.join(&file.path);
        let found_bytes = self.disk().size_bytes(&path)?;
        if found_bytes != Some(file.size_bytes) {
            self.disk().set_len(&path, file.size_bytes)?;
        }
        Ok(found_bytes.is_some_and(|bytes| bytes > 0))
    }

    /// The content of a chunk, if it is in place.
    #[must_use]
    pub fn read(&self, number: u32) -> Option<Vec<u8>> {
        let (file, offset) = self.layout.place(number);
        let chunk = self.layout.chunk(number);
        let raw = self.disk().read_at(&self.dir.join(&file.path), offset, chunk.raw_bytes as usize).ok()?;
        is_content(chunk, &raw).then_some(raw)
    }

    /// Puts content that was checked in the place of a chunk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, number: u32, raw: &[u8]) -> Result<(), DiskError> {
        let (file, offset) = self.layout.place(number);
        self.disk().write_at(&self.dir.join(&file.path), offset, raw)
    }

    /// Writes a file through to the disk and checks that it is the signed one.
    ///
    /// # Errors
    /// [`SlotError::Incomplete`] when a chunk is not in place, [`SlotError::Unfit`] when all are and still do not give the file; or
    /// the disk refuses.
    pub fn seal_file(&self, number: usize) -> Result<(), SlotError> {
        let Some(file) = self.layout.index().files.get(number) else { return Ok(()) };
        let path = self.dir.join(&file.path);
        if check_file(&**self.disk(), &path, file.size_bytes, file.sha256)? {
            return Ok(self.disk().sync_file(&path)?);
        }
        let whole = self.disk().size_bytes(&path)? == Some(file.size_bytes);
        if whole && self.layout.numbers_of(number).all(|number| self.read(number).is_some()) {
            let reason = format!("the chunks of {:?} do not give the file that is signed", file.path);
            return Err(SlotError::Unfit { digest: self.digest, reason });
        }
        Err(SlotError::Incomplete { digest: self.digest, file: file.path.clone() })
    }

    /// Checks every file, makes all durable, and puts the folder in its place in one step. A damaged bundle that is there is
    /// replaced.
    ///
    /// # Errors
    /// As [`Partial::seal_file`]; nothing is in place then.
    pub fn finish(self) -> Result<InstalledBundle, SlotError> {
        let index = self.layout.index();
        for number in 0..index.files.len() {
            self.seal_file(number)?;
        }
        self.disk().sync_file(&self.dir.join(INDEX_FILE))?;
        for dir in folders(index) {
            self.disk().sync_dir(&self.dir.join(dir))?;
        }
        self.disk().sync_dir(&self.dir)?;
        let model = &index.manifest.name;
        let place = self.slots.path(model, self.digest);
        self.disk().remove_dir_all(&place)?;
        self.disk().rename(&self.dir, &place)?;
        self.disk().sync_dir(&self.slots.dir.join(model.as_str()))?;
        Ok(InstalledBundle { manifest: index.manifest.clone(), dir: place, digest: self.digest })
    }

    fn disk(&self) -> &Arc<dyn Disk> {
        &self.slots.disk
    }
}

/// The bundle that a folder of this name is for, while it is put together.
pub(super) fn partial_digest(name: &str) -> Option<Digest> {
    name.strip_prefix('.')?.strip_suffix(PARTIAL)?.parse().ok()
}
