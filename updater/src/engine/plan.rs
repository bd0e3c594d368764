//! What a bundle lacks on this device, after all that is on it already was put in place.
//!
//! The device keeps no chunks beside its bundles: the bundles of every model, whole or in the making, are the store. A chunk is looked
//! up by the hash of its content, and whatever is found is hashed before it is used, so that a damaged bundle is as good
//! a source as any for what is whole in it.

use super::work::missing;
use crate::{
    bundle::chunk::is_content,
    disk::{Disk, DiskError},
    machine::Failure,
    slots::{ContentFile, Partial, Slots},
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Tells work on another thread that nobody waits for it any more. Set when dropped.
#[derive(Debug, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// What the work looks at.
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What is left to be fetched of a bundle.
#[derive(Debug)]
pub(super) struct Plan {
    /// The bundle, with everything in place that was on the device.
    pub(super) partial: Partial,
    /// Numbers of the chunks to be fetched, in order, each content once.
    pub(super) lack: Vec<u32>,
    /// Stored size of what was in place already.
    pub(super) done_bytes: u64,
    /// Stored size of that, and of what is to be fetched.
    pub(super) total_bytes: u64,
}

/// Makes the files, looks at every region of those that were there before, and copies what other bundles on the device have. Reads
/// all that counts as done, so that it is.
///
/// # Errors
/// When the disk refuses, or the work was given up.
pub(super) fn plan(
    slots: &Slots,
    disk: &dyn Disk,
    partial: Partial,
    stop: &AtomicBool,
) -> Result<Plan, Failure> {
    let existed = partial.prepare()?;
    let mut survey = Survey { done: vec![false; partial.layout().len()], partial: &partial, disk, stop };
    for (file, existed) in existed.into_iter().enumerate() {
        if existed {
            survey.look_at(file)?;
        }
    }
    survey.repeat()?;
    let done_bytes = survey.stored_bytes(|done| done);
    for folder in slots.folders()? {
        if folder != partial.dir() {
            survey.copy_from(slots, &folder)?;
        }
    }
    let lack = survey.lack();
    let lack_bytes: u64 = lack.iter().map(|n| u64::from(partial.layout().chunk(*n).stored_bytes)).sum();
    Ok(Plan { lack, done_bytes, total_bytes: done_bytes.saturating_add(lack_bytes), partial })
}

/// Which chunks are in place.
struct Survey<'a> {
    done: Vec<bool>,
    partial: &'a Partial,
    disk: &'a dyn Disk,
    stop: &'a AtomicBool,
}

impl Survey<'_> {
    /// Looks at every region of a file.
    fn look_at(&mut self, file: usize) -> Result<(), Failure> {
        for number in self.partial.layout().numbers_of(file) {
            self.go_on()?;
            self.done[number as usize] = self.partial.read(number).is_some();
        }
        Ok(())
    }

    /// Copies what is in place once to wherever else the bundle has it.
    fn repeat(&mut self) -> Result<(), Failure> {
        for same in self.partial.layout().contents().filter(|same| same.len() > 1) {
            let Some(source) = same.iter().find(|number| self.is_done(**number)) else { continue };
            if same.iter().all(|number| self.is_done(*number)) {
                continue;
            }
            self.go_on()?;
            if let Some(raw) = self.partial.read(*source) {
                self.put(same, &raw)?;
            }
        }
        Ok(())
    }

    /// Copies what another bundle has. One that cannot be read has nothing: everything can be fetched.
    fn copy_from(&mut self, slots: &Slots, folder: &Path) -> Result<(), Failure> {
        if self.done.iter().all(|done| *done) {
            return Ok(());
        }
        let Ok(contents) = slots.contents_of(folder) else { return Ok(()) };
        contents.files.iter().try_for_each(|file| self.copy_file(&folder.join(&file.path), file))
    }

    fn copy_file(&mut self, path: &Path, file: &ContentFile) -> Result<(), Failure> {
        let mut offset = 0;
        for part in &file.chunks {
            let at = offset;
            offset += u64::from(part.raw_bytes);
            let same = self.partial.layout().with_content(part.raw);
            if same.iter().all(|number| self.is_done(*number)) {
                continue;
            }
            self.go_on()?;
            if let Ok(raw) = self.disk.read_at(path, at, part.raw_bytes as usize)
                && same.iter().all(|number| is_content(self.partial.layout().chunk(*number), &raw))
            {
                self.put(same, &raw)?;
            }
        }
        Ok(())
    }

    /// Puts content in every place it has in the bundle.
    fn put(&mut self, same: &[u32], raw: &[u8]) -> Result<(), DiskError> {
        for number in same {
            if !self.is_done(*number) {
                self.partial.write(*number, raw)?;
                self.done[*number as usize] = true;
            }
        }
        Ok(())
    }

    /// What is in no place yet, each content once, in order.
    fn lack(&self) -> Vec<u32> {
        let firsts = self.partial.layout().contents().filter_map(|same| same.first().copied());
        let mut lack: Vec<u32> = firsts.filter(|number| !self.is_done(*number)).collect();
        lack.sort_unstable();
        lack
    }

    /// Stored size of the contents that are done, or are not.
    fn stored_bytes(&self, counts: impl Fn(bool) -> bool) -> u64 {
        let firsts = self.partial.layout().contents().filter_map(|same| same.first());
        let counted = firsts.filter(|number| counts(self.is_done(**number)));
        counted.map(|number| u64::from(self.partial.layout().chunk(*number).stored_bytes)).sum()
    }

    fn is_done(&self, number: u32) -> bool {
        self.done[number as usize]
    }

    fn go_on(&self) -> Result<(), Failure> {
        if self.stop.load(Ordering::Relaxed) { Err(missing("whoever waited for the work")) } else { Ok(()) }
    }
}
