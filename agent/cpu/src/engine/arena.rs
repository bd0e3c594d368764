//! The memory of a run.

use super::{Answer, with_slack};
use crate::packed::{Aligned, Packed};
use std::{ops::Range, sync::Arc};
use whimbrel_infer::{
    RunError, Tensor,
    plan::{Buffer, Place},
};

/// Where a buffer is.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// In the arena.
    Arena(Range<usize>),
    /// In the model, with slack after it.
    Constant { tensor: Arc<Tensor>, bytes: Packed, len: usize },
    /// In a slot outside.
    Outside(usize),
}

impl Source {
    pub(super) fn of(buffer: &Buffer) -> Self {
        match &buffer.place {
            Place::Arena(offset) => Self::Arena(*offset..*offset + buffer.size_bytes()),
            Place::Outside(slot) => Self::Outside(*slot),
            Place::Constant(tensor) => {
                let plain = tensor.as_le_bytes().unwrap_or_default();
                let mut bytes = plain.to_vec();
                bytes.resize(plain.len() + whimbrel_infer::plan::SLACK_BYTES, 0);
                Self::Constant { tensor: Arc::clone(tensor), bytes: Packed::of(&bytes), len: plain.len() }
            }
            // Offsets are assigned before a plan is made ready, which leaves no views.
            Place::View(_) | Place::Part(..) => Self::Arena(0..0),
        }
    }
}

/// Working memory of one run at a time.
pub struct State {
    arena: Aligned,
    /// One for each thread.
    scratch: Vec<Aligned>,
    outside: Vec<Option<Tensor>>,
}

/// What a step sees of the memory besides what it writes.
pub(super) struct Rest<'a> {
    before: &'a [u8],
    after: &'a [u8],
    /// Where `after` begins in the arena.
    after_start: usize,
}

impl<'a> Rest<'a> {
    /// The bytes of a source; with `slack`, as many more as kernels may read.
    pub(super) fn bytes(&self, source: &'a Source, slack: bool) -> &'a [u8] {
        match source {
            Source::Arena(range) if range.start >= self.after_start => {
                let range = range.start - self.after_start..range.end - self.after_start;
                let range = if slack { with_slack(&range, self.after.len()) } else { range };
                &self.after[range]
            }
            Source::Arena(range) => {
                let range = if slack { with_slack(range, self.before.len()) } else { range.clone() };
                &self.before[range]
            }
            Source::Constant { bytes, len, .. } => {
                if slack {
                    bytes.as_bytes()
                } else {
                    &bytes.as_bytes()[..*len]
                }
            }
            Source::Outside(_) => &[],
        }
    }
}

impl State {
    pub(super) fn new(arena_bytes: usize, scratch_bytes: usize, threads: usize, outside: usize) -> Self {
        Self {
            arena: Aligned::zeroed(arena_bytes),
            scratch: (0..threads).map(|_| Aligned::zeroed(scratch_bytes)).collect(),
            outside: (0..outside).map(|_| None).collect(),
        }
    }

    /// What a step writes, the rest of the memory, and the scratch of each thread.
    pub(super) fn split<'a>(&'a mut self, output: &Source) -> (&'a mut [u8], Rest<'a>, &'a mut [Aligned]) {
        let range = match output {
            Source::Arena(range) => range.clone(),
            _ => 0..0,
        };
        let (before, rest) = self.arena.as_bytes_mut().split_at_mut(range.start);
        let (output, after) = rest.split_at_mut(range.len());
        (output, Rest { before, after, after_start: range.end }, &mut self.scratch)
    }

    /// Puts a tensor where a plan wants it.
    pub(super) fn store(&mut self, to: &Source, tensor: &Tensor) -> Result<(), RunError> {
        match (to, tensor.as_le_bytes()) {
            (Source::Arena(range), Some(bytes)) if bytes.len() == range.len() => {
                self.arena.as_bytes_mut()[range.clone()].copy_from_slice(bytes);
                Ok(())
            }
            (Source::Outside(slot), None) => {
                self.outside[*slot] = Some(tensor.clone());
                Ok(())
            }
            _ => Err(failed("a tensor does not fit its buffer")),
        }
    }

    /// A buffer as a tensor.
    pub(super) fn load(&self, answer: &Answer) -> Result<Tensor, RunError> {
        self.tensor(&answer.from, answer.datatype, &answer.shape)
    }

    pub(super) fn tensor(
        &self,
        from: &Source,
        datatype: whimbrel_infer::Datatype,
        shape: &[usize],
    ) -> Result<Tensor, RunError> {
        let bytes = match from {
            Source::Arena(range) => self.arena.as_bytes()[range.clone()].to_vec(),
            Source::Constant { tensor, bytes, len } => match tensor.as_le_bytes() {
                Some(_) => bytes.as_bytes()[..*len].to_vec(),
                None => return Ok(tensor.as_ref().clone()),
            },
            Source::Outside(slot) => {
                return self.outside[*slot].clone().ok_or_else(|| failed("a tensor was not made"));
            }
        };
        Tensor::from_le_bytes(datatype, shape.to_vec(), bytes).map_err(|e| failed(&e.to_string()))
    }
}

pub(super) fn failed(why: &str) -> RunError {
    RunError::Failed { why: why.to_owned() }
}
