//! A window that is over: its batches, and the journal that goes once they are stored.

use super::{RecorderError, RecorderStat};
use crate::{
    spool::{Appended, BatchId, Spool},
    window::OpenWindow,
};
use std::{fs, io, path::PathBuf};
use whimbrel_wire::{encode, telemetry::Batch};

pub(super) struct Sealed {
    pub(super) path: PathBuf,
    pub(super) batches: Vec<(BatchId, Vec<u8>)>,
}

impl Sealed {
    /// Puts the batches into the spool and removes the journal. May be repeated after a failure. Returns how many
    /// batches the spool did not have before.
    pub(super) fn store(&self, spool: &dyn Spool) -> Result<usize, RecorderError> {
        let mut stored = 0;
        for (id, bytes) in &self.batches {
            stored += usize::from(spool.append(*id, bytes)? == Appended::Stored);
        }
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(RecorderError::Io {
                attempted: "removing the finished journal",
                path: self.path.clone(),
                source: e,
            }),
            _ => Ok(stored),
        }
    }
}

/// Packs windows into as few batches as their size allows, numbered from `first`. The same windows give the same batches.
pub(super) fn batches(
    first: BatchId,
    windows: &[OpenWindow],
    stat: &mut RecorderStat,
) -> Vec<(BatchId, Vec<u8>)> {
    let mut done: Vec<(BatchId, Vec<u8>)> = Vec::new();
    let mut packed: Option<(Batch, Vec<u8>)> = None;
    for window in windows.iter().filter_map(OpenWindow::window) {
        if let Some((batch, _)) = &mut packed {
            batch.windows.push(window.clone());
            match encode(batch) {
                Ok(bytes) => {
                    packed = packed.map(|(batch, _)| (batch, bytes));
                    continue;
                }
                Err(_) => finish(&mut packed, &mut done),
            }
        }
        let sequence = first.sequence.saturating_add(done.len() as u64);
        let batch = Batch { boot: first.boot, sequence, windows: vec![window.clone()] };
        match encode(&batch) {
            Ok(bytes) => packed = Some((batch, bytes)),
            Err(error) => {
                tracing::error!(model = %window.model, version = %window.version, %error, "a window cannot be sent");
                stat.unsendable += 1;
            }
        }
    }
    finish(&mut packed, &mut done);
    done
}

fn finish(packed: &mut Option<(Batch, Vec<u8>)>, done: &mut Vec<(BatchId, Vec<u8>)>) {
    if let Some((batch, bytes)) = packed.take() {
        done.push((BatchId { boot: batch.boot, sequence: batch.sequence }, bytes));
    }
}
