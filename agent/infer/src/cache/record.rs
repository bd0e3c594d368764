//! What is kept of a model.

use super::{Blob, Part, Piece};
use crate::{backend::TensorInfo, datatype::Datatype, plan::Plan};
use serde::{Deserialize, Serialize};

/// What callers are told about a model, and its plans.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record<P, B> {
    /// What it reads.
    pub(crate) inputs: Vec<TensorInfo>,
    /// For each input, the name of each size that must be the same wherever the name stands.
    pub(crate) symbols: Vec<Vec<Option<String>>>,
    /// What it answers.
    pub(crate) outputs: Vec<TensorInfo>,
    /// Multiplications with accumulation, where they can be told.
    pub(crate) macs: Option<u64>,
    /// Plans of whole runs.
    pub(crate) segments: Vec<SegmentRecord<P, B>>,
}

/// Names, types and shapes.
pub(crate) type Names = Vec<(String, Datatype, Vec<usize>)>;

/// A plan that is a whole run, and what it was made for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SegmentRecord<P, B> {
    /// The inputs for which it was made.
    pub(crate) live: Names,
    /// Names of what the plan is given, in its order.
    pub(crate) inputs: Vec<String>,
    /// What it answers, in its order.
    pub(crate) outputs: Names,
    /// Multiplications with accumulation.
    pub(crate) macs: u64,
    /// The plan without what was packed of it.
    pub(crate) plan: P,
    /// What an engine packed for each of its steps.
    pub(crate) pieces: Vec<Vec<Piece<B>>>,
}

/// What is written: plans by their bytes, and what was packed of them.
pub(crate) type Written = Record<Vec<u8>, Part>;

/// What was read.
pub(crate) type Described = Record<Plan, Blob>;

impl<P, B> Record<P, B> {
    /// The same of other plans and parts; `None` where one has no counterpart.
    pub(super) fn map<'a, Q, C>(
        &'a self,
        plan: impl Fn(&'a P) -> Option<Q>,
        mut part: impl FnMut(&'a B) -> Option<C>,
    ) -> Option<Record<Q, C>> {
        let mut segments = Vec::with_capacity(self.segments.len());
        for segment in &self.segments {
            let mut pieces = Vec::with_capacity(segment.pieces.len());
            for step in &segment.pieces {
                let piece = |piece: &'a Piece<B>| {
                    let parts = piece.parts.iter().map(&mut part).collect::<Option<_>>()?;
                    Some(Piece { numbers: piece.numbers.clone(), parts })
                };
                pieces.push(step.iter().map(piece).collect::<Option<_>>()?);
            }
            segments.push(SegmentRecord {
                live: segment.live.clone(),
                inputs: segment.inputs.clone(),
                outputs: segment.outputs.clone(),
                macs: segment.macs,
                plan: plan(&segment.plan)?,
                pieces,
            });
        }
        let Self { inputs, symbols, outputs, macs, .. } = self;
        let (inputs, symbols, outputs) = (inputs.clone(), symbols.clone(), outputs.clone());
        Some(Record { inputs, symbols, outputs, macs: *macs, segments })
    }
}
