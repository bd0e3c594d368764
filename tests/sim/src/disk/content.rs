//! The bytes of one file: as the process sees them, as they are certain to be after a power cut, and as they may be.

use crate::random::Random;
use std::ops::Range;

/// What the file systems in use write in one piece, at most and at least.
const SECTORS_BYTES: [usize; 2] = [512, 4096];

#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    pub(super) live: Vec<u8>,
    durable: Vec<u8>,
    /// What was written since the last sync.
    dirty: Vec<Range<usize>>,
    /// The shortest that the file was since then: beyond it nothing of the durable bytes is left for certain.
    shortest: usize,
}

impl Content {
    /// A file that is on disk as it is.
    pub(super) const fn durable(bytes: Vec<u8>, copy: Vec<u8>) -> Self {
        let shortest = bytes.len();
        Self { live: bytes, durable: copy, dirty: Vec::new(), shortest }
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.live.truncate(len);
        self.shortest = self.shortest.min(len);
    }

    /// Writes at a position; a gap before it is filled with zeros.
    pub(super) fn write_at(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let begin = offset.min(self.live.len());
        let end = offset + bytes.len();
        if self.live.len() < end {
            self.live.resize(end, 0);
        }
        self.live[offset..end].copy_from_slice(bytes);
        self.dirty.push(begin..end);
    }

    pub(super) fn is_synced(&self) -> bool {
        self.dirty.is_empty() && self.shortest == self.durable.len() && self.live.len() == self.durable.len()
    }

    pub(super) fn sync(&mut self) {
        self.durable.clone_from(&self.live);
        self.dirty.clear();
        self.shortest = self.live.len();
    }

    /// What is on disk if nothing reached it that was not synced.
    pub(super) fn certain(&self) -> Vec<u8> {
        self.durable.clone()
    }

    /// What may be on disk if what was not synced reached it in part.
    pub(super) fn torn(&self, random: &mut Random) -> Vec<u8> {
        match random.below(6) {
            0 => self.durable.clone(),
            1 => self.live.clone(),
            2 => self.prefix(random),
            // The length was updated, the bytes were not.
            3 => self.sectors(SECTORS_BYTES[0], |_| false),
            4 => self.sectors(SECTORS_BYTES[0], |_| random.percent(50)),
            _ => self.sectors(SECTORS_BYTES[1], |_| random.percent(50)),
        }
    }

    /// The new bytes up to some place, and no more.
    fn prefix(&self, random: &mut Random) -> Vec<u8> {
        let least = self.shortest.min(self.live.len());
        let len = least + random.index(self.live.len() - least + 1);
        self.live[..len].to_vec()
    }

    /// The new length; of every sector that was written to, the new bytes where `reached` says so, else what was there
    /// before, or zeros where nothing was.
    fn sectors(&self, size: usize, mut reached: impl FnMut(usize) -> bool) -> Vec<u8> {
        let mut bytes = self.live.clone();
        for begin in (0..bytes.len()).step_by(size) {
            let sector = begin..(begin + size).min(bytes.len());
            let written = self.dirty.iter().any(|d| d.start < sector.end && sector.start < d.end);
            if !written || reached(begin) {
                continue;
            }
            let old_end = self.shortest.clamp(sector.start, sector.end);
            if let Some(old) = self.durable.get(sector.start..old_end) {
                bytes[sector.start..old_end].copy_from_slice(old);
            }
            bytes[old_end..sector.end].fill(0);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_torn_form(content: &Content) -> Vec<Vec<u8>> {
        (0..200).map(|seed| content.torn(&mut Random::new(seed))).collect()
    }

    #[test]
    fn synced_bytes_stay_whatever_is_appended_after_them() {
        let mut content = Content::default();
        content.write_at(0, &[1; 700]);
        content.sync();
        content.write_at(700, &[2; 700]);
        for bytes in every_torn_form(&content) {
            assert!(bytes.len() >= 700 && bytes[..700] == [1; 700]);
            assert!(bytes[700..].iter().all(|b| *b == 2 || *b == 0));
        }
    }

    #[test]
    fn an_overwritten_file_may_hold_old_and_new_or_be_empty() {
        let mut content = Content::default();
        content.write_at(0, &[1; 2000]);
        content.sync();
        content.truncate(0);
        content.write_at(0, &[2; 2000]);
        let forms = every_torn_form(&content);
        for expected in [vec![1; 2000], vec![2; 2000], vec![0; 2000]] {
            assert!(forms.contains(&expected));
        }
        assert!(forms.iter().any(|f| f.len() < 2000));
        assert!(forms.iter().any(|f| f.contains(&2) && f.contains(&0)));
    }

    #[test]
    fn writing_in_place_tears_only_the_sectors_that_are_written() {
        let mut content = Content::default();
        content.write_at(0, &[1; 4096 * 2]);
        content.sync();
        content.write_at(4096, &[2; 600]);
        assert!(!content.is_synced());
        for bytes in every_torn_form(&content) {
            assert_eq!(bytes.len(), 4096 * 2);
            assert_eq!(bytes[..4096], [1; 4096]);
            assert_eq!(bytes[4096 + 600..], [1; 4096 - 600]);
            assert!(bytes[4096..4696].iter().all(|b| *b == 1 || *b == 2));
        }
    }
}
