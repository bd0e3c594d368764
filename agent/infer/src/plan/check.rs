//! Whether a plan from outside holds together.

use super::{Buffer, BufferId, Operation, Place, Plan, Pool, SLACK_BYTES};
use crate::{limits::ImportLimits, tensor::element_count};

impl Plan {
    /// Whether every buffer lies where it may, within the limits, and every step names buffers that are there and asks for no more than
    /// a tensor within the limits. What a step makes of its buffers is checked where it runs.
    pub(crate) fn is_sound(&self, limits: &ImportLimits) -> bool {
        let Self { buffers, steps, inputs, outputs, arena_bytes, outside } = self;
        let named = |ids: &[BufferId]| ids.iter().all(|id| id.0 < buffers.len());
        // Each buffer could be one of a model's, so they may take together what a model may take.
        let most = buffers.iter().try_fold(SLACK_BYTES, |all, buffer| {
            let bytes = element_count(&buffer.shape)?.checked_mul(buffer.datatype.size_bytes()?)?;
            all.checked_add(bytes)?.checked_add(2 * SLACK_BYTES)
        });
        most.is_some_and(|most| *arena_bytes <= most)
            && *outside == 0
            && steps.len() <= limits.nodes_max
            && buffers.iter().all(|buffer| self.holds(buffer, limits))
            && named(inputs)
            && named(outputs)
            && steps.iter().all(|step| {
                named(&step.inputs)
                    && named(&step.outputs)
                    && step.operation.is_bounded(limits.tensor_elements_max)
            })
    }

    fn holds(&self, buffer: &Buffer, limits: &ImportLimits) -> bool {
        let count = element_count(&buffer.shape).filter(|count| *count <= limits.tensor_elements_max);
        let bytes = count.and_then(|count| count.checked_mul(buffer.datatype.size_bytes()?));
        let (Some(bytes), true) = (bytes, buffer.shape.len() <= limits.rank_max) else { return false };
        match &buffer.place {
            Place::Arena(at) => at.checked_add(bytes).is_some_and(|end| end <= self.arena_bytes),
            Place::Constant(tensor) => tensor.as_le_bytes().is_some_and(|have| have.len() == bytes),
            Place::View(_) | Place::Part(..) | Place::Outside(_) => false,
        }
    }
}

impl Operation {
    /// Whether none of the products of its sizes is beyond `most`. Those of convolutions are checked with their packed weights.
    fn is_bounded(&self, most: usize) -> bool {
        let fits = |sizes: &[usize]| element_count(sizes).is_some_and(|count| count <= most);
        let pool = |pool: &Pool| {
            let Pool { input, output, kernel, strides, dilations, pads, .. } = pool;
            let steps = strides.iter().chain(dilations);
            let windows = [output[0], output[1], input[0], input[3]];
            fits(input)
                && fits(&windows)
                && fits(kernel)
                && kernel.iter().chain(steps.clone()).all(|size| *size > 0)
                && steps.chain(pads).all(|size| *size <= most)
        };
        match self {
            Self::MatMul(product) => {
                let (batch, m, k, n) = (product.batch, product.m, product.k, product.n);
                let steps = product.a_step <= most && product.b_step <= most;
                steps && [[batch, m, k], [batch, k, n], [batch, m, n]].iter().all(|sizes| fits(sizes))
            }
            Self::QBroadcast(pair) => pair.shapes.iter().all(|shape| fits(shape)),
            Self::MaxPool(spec) | Self::AveragePool(spec) | Self::QAveragePool { pool: spec, .. } => {
                pool(spec)
            }
            Self::Binary(binary) => {
                let strides = [&binary.a_strides, &binary.b_strides];
                fits(&binary.sizes)
                    && strides.iter().all(|s| s.len() == binary.sizes.len() && fits_each(s, most))
            }
            Self::Concat { outer, inner } => {
                let sum = inner.iter().try_fold(0usize, |sum, size| sum.checked_add(*size));
                sum.is_some_and(|sum| fits(&[*outer, sum]))
            }
            Self::Transpose { sizes, order } => {
                let mut axes = order.clone();
                axes.sort_unstable();
                fits(sizes) && axes.into_iter().eq(0..sizes.len())
            }
            Self::Resize(resize) => {
                let [images, rows, columns, channels] = resize.input;
                fits(&[images, rows, columns, channels])
                    && fits(&[images, resize.output[0], resize.output[1], channels])
                    && resize.input.iter().chain(&resize.output).all(|size| *size > 0)
            }
            Self::Recurrent(layer) => {
                let gates = layer.cell.gates();
                fits(&[layer.steps, layer.batch, layer.hidden, gates, layer.directions.len()])
            }
            Self::DynamicQuantise { to_last } => to_last.is_none_or(|sizes| fits(&sizes)),
            _ => true,
        }
    }
}

fn fits_each(sizes: &[usize], most: usize) -> bool {
    sizes.iter().all(|size| *size <= most)
}
