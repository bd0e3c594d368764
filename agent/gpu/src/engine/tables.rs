//! Functions of bytes and maps of images, computed by the engine that stands in for the GPU: what a table holds is what that engine
//! answers, bit for bit.

use std::sync::Arc;
use whimbrel_infer::{
    CompileError, Datatype, Engine, Tensor,
    plan::{
        ALIGNMENT_BYTES, Buffer, BufferId, Layout, Operation, Place, Plan, QBroadcast, QPair, Resize,
        SLACK_BYTES, Step,
    },
};

/// Largest table of weights that a linear resizing is measured by, in elements.
const WEIGHTS_MAX: usize = 1 << 22;

/// Runs one operation on tensors.
pub(crate) trait Tables {
    /// What the operation makes of channels-last inputs.
    ///
    /// # Errors
    /// The engine refuses it.
    fn answer(
        &self,
        operation: Operation,
        inputs: &[Tensor],
        output: (Datatype, Vec<usize>),
    ) -> Result<Vec<u8>, CompileError>;
}

impl<F: Engine> Tables for F {
    fn answer(
        &self,
        operation: Operation,
        inputs: &[Tensor],
        (datatype, shape): (Datatype, Vec<usize>),
    ) -> Result<Vec<u8>, CompileError> {
        let mut plan = Plan {
            buffers: Vec::new(),
            steps: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            arena_bytes: 0,
            outside: 0,
        };
        let mut add = |datatype: Datatype, shape: Vec<usize>| {
            let place = Place::Arena(plan.arena_bytes);
            let buffer = Buffer { datatype, shape, layout: Layout::ChannelsLast, place };
            plan.arena_bytes += buffer.size_bytes().next_multiple_of(ALIGNMENT_BYTES) + SLACK_BYTES;
            plan.buffers.push(buffer);
            BufferId(plan.buffers.len() - 1)
        };
        let from: Vec<_> =
            inputs.iter().map(|tensor| add(tensor.datatype(), tensor.shape().to_vec())).collect();
        let to = vec![add(datatype, shape)];
        let (name, operators) = ("table".to_owned(), Vec::new());
        plan.steps = vec![Step { operation, inputs: from.clone(), outputs: to.clone(), name, operators }];
        (plan.inputs, plan.outputs) = (from, to);
        let prepared = Arc::new(self.prepare(plan)?);
        let mut state = self.state(&prepared);
        let outputs = self.run(&prepared, &mut state, &inputs.iter().collect::<Vec<_>>());
        let outputs = outputs.map_err(|e| failed(&e.to_string()))?;
        let bytes = outputs.first().and_then(Tensor::as_le_bytes);
        bytes.map(<[u8]>::to_vec).ok_or_else(|| failed("no answer"))
    }
}

fn failed(why: &str) -> CompileError {
    CompileError::Failed { why: format!("make a table for the GPU: {why}") }
}

fn bytes(shape: Vec<usize>, values: Vec<u8>) -> Result<Tensor, CompileError> {
    Tensor::from_le_bytes(Datatype::Uint8, shape, values).map_err(|e| failed(&e.to_string()))
}

fn every_byte() -> Vec<u8> {
    (0..=u8::MAX).collect()
}

/// What an operation makes of each byte.
pub(crate) fn of_byte(tables: &dyn Tables, operation: Operation) -> Result<Vec<u8>, CompileError> {
    let input = bytes(vec![256], every_byte())?;
    tables.answer(operation, &[input], (Datatype::Uint8, vec![256]))
}

/// How an operand lies along the rows in which the processor works: that decides how its sums are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meets {
    /// Byte by byte.
    Same,
    /// One byte of the first operand with each of the second.
    FirstRepeats,
    /// One byte of the second operand with each of the first.
    SecondRepeats,
}

/// What a sum or product makes of each pair of bytes; the first operand's is the higher byte of the index, but for
/// [`Meets::SecondRepeats`].
pub(crate) fn of_pair(
    tables: &dyn Tables,
    (pair, sum): (QPair, bool),
    meets: Meets,
) -> Result<Vec<u8>, CompileError> {
    let output = (Datatype::Uint8, vec![256, 256]);
    if meets == Meets::Same {
        let first = (0..=u8::MAX).flat_map(|byte| [byte; 256]).collect();
        let inputs = [bytes(vec![256, 256], first)?, bytes(vec![256, 256], every_byte().repeat(256))?];
        let operation = if sum { Operation::QAdd(pair) } else { Operation::QMul(pair) };
        return tables.answer(operation, &inputs, output);
    }
    let shapes = match meets {
        Meets::FirstRepeats => [vec![256, 1], vec![1, 256]],
        _ => [vec![1, 256], vec![256, 1]],
    };
    let inputs = [bytes(shapes[0].clone(), every_byte())?, bytes(shapes[1].clone(), every_byte())?];
    tables.answer(Operation::QBroadcast(QBroadcast { pair, sum, shapes }), &inputs, output)
}

/// A resizing of one axis.
fn along(resize: &Resize, axis: usize, channels: usize) -> Resize {
    let mut one = resize.clone();
    one.input = [1, resize.input[axis + 1], 1, channels];
    one.output = [resize.output[axis], 1];
    one.scales = [resize.scales[axis], 1.0];
    one
}

fn resized(tables: &dyn Tables, resize: &Resize, values: &[f32]) -> Result<Vec<f32>, CompileError> {
    let [_, height, _, channels] = resize.input;
    let input =
        Tensor::from_values(vec![1, channels, height, 1], values).map_err(|e| failed(&e.to_string()))?;
    let shape = vec![1, channels, resize.output[0], 1];
    let bytes = tables.answer(Operation::Resize(resize.clone()), &[input], (Datatype::Fp32, shape))?;
    Ok(bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect())
}

/// The input's place of each place of the output along an axis (0: rows, 1: columns), of a nearest resizing.
pub(crate) fn nearest(tables: &dyn Tables, resize: &Resize, axis: usize) -> Result<Vec<u32>, CompileError> {
    let one = along(resize, axis, 1);
    let numbers: Vec<f32> = (0..one.input[1]).map(|at| at as f32).collect();
    let last = one.input[1].saturating_sub(1) as u32;
    Ok(resized(tables, &one, &numbers)?.into_iter().map(|at| (at as u32).min(last)).collect())
}

/// Two places of the input, and their weights.
pub(crate) type Mix = ([u32; 2], [f32; 2]);

/// What is mixed for each place of the output along an axis, of a linear resizing. `None` where the axis is too long, or more than two
/// places are mixed.
pub(crate) fn linear(
    tables: &dyn Tables,
    resize: &Resize,
    axis: usize,
) -> Result<Option<Vec<Mix>>, CompileError> {
    let (from, to) = (resize.input[axis + 1], resize.output[axis]);
    if from.saturating_mul(from.max(to)) > WEIGHTS_MAX {
        return Ok(None);
    }
    // A channel for each place, which is 1 there and 0 elsewhere.
    let unit: Vec<f32> = (0..from * from).map(|at| f32::from(u8::from(at / from == at % from))).collect();
    let weights = resized(tables, &along(resize, axis, from), &unit)?;
    let of = |row: &[f32]| {
        let mut found = row.iter().enumerate().filter(|(_, weight)| **weight != 0.0);
        let first = found.next().map_or((0, 0.0), |(at, weight)| (at as u32, *weight));
        let second = found.next().map_or((first.0, 0.0), |(at, weight)| (at as u32, *weight));
        found.next().is_none().then_some(([first.0, second.0], [first.1, second.1]))
    };
    Ok(weights.chunks_exact(from.max(1)).map(of).collect())
}
