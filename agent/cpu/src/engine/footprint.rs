//! What plans take of memory, before and after they are made ready.

use super::layer::Layer;
use crate::{
    isa::Isa,
    qconv::layout::{Format, Layout},
};
use whimbrel_infer::{
    Footprint,
    plan::{Conv2d, Operation, Plan, RecurrentWeights, SLACK_BYTES},
};

/// Most scratch memory of a thread for layers other than those that [`scratch_bytes`] knows; the check before a run is exact.
const SCRATCH_BYTES: u64 = 512 << 10;

/// What a plan will take, from its sizes alone: weights are not looked at.
pub(super) fn estimate(isa: Isa, threads: usize, plan: &Plan) -> Footprint {
    let scratch = plan.steps.iter().map(|step| scratch_bytes(&step.operation)).max().unwrap_or(0);
    plan.footprint(threads, |step| packed_bytes(isa, &step.operation), scratch.max(SCRATCH_BYTES))
}

/// What a plan takes whose layers these are.
pub(super) fn of_layers(threads: usize, plan: &Plan, layers: &[Layer], scratch_bytes: usize) -> Footprint {
    let packed: u64 = layers.iter().map(|layer| layer.packed_bytes() as u64).sum();
    let rest = plan.footprint(threads, |_| 0, scratch_bytes as u64);
    Footprint { ready_bytes: rest.ready_bytes + packed, ..rest }
}

/// Packed weights at most, but for integers beyond the range of a byte, which are rare.
fn packed_bytes(isa: Isa, operation: &Operation) -> u64 {
    match operation {
        Operation::Conv(conv) => float_bytes(isa, &conv.geometry),
        Operation::QConv(conv) | Operation::DynamicConv(conv) => integer_bytes(isa, &conv.geometry),
        Operation::Recurrent(layer) => {
            let rows = layer.cell.gates() * layer.hidden;
            let geometry = Conv2d::matmul(layer.batch, layer.hidden, rows);
            let of = |weights: &RecurrentWeights| match weights {
                RecurrentWeights::Floats(_) => float_bytes(isa, &geometry),
                RecurrentWeights::Bytes { .. } => integer_bytes(isa, &geometry),
            };
            layer.directions.iter().map(|direction| of(&direction.weights)).sum()
        }
        _ => 0,
    }
}

/// Floats of the widest vectors.
const fn lanes(isa: Isa) -> usize {
    match isa {
        Isa::Avx512Vnni => 16,
        _ => 8,
    }
}

fn float_bytes(isa: Isa, geometry: &Conv2d) -> u64 {
    let groups = geometry.groups.max(1);
    let depth = geometry.in_c / groups * geometry.kernel_h * geometry.kernel_w;
    let columns = if geometry.is_depthwise() {
        geometry.out_c.next_multiple_of(lanes(isa))
    } else {
        groups * (geometry.out_c / groups).next_multiple_of(lanes(isa))
    };
    (columns as u64).saturating_mul(depth as u64 + 1).saturating_mul(4)
}

/// Weights, and for each channel its bias, sum, multiplier and offset.
fn integer_bytes(isa: Isa, geometry: &Conv2d) -> u64 {
    let channels = geometry.out_c.next_multiple_of(16) as u64;
    if geometry.is_depthwise() {
        // Two variants, kernel rows filled up to words of four.
        let taps = (geometry.kernel_h + 1).next_multiple_of(4) * geometry.kernel_w.next_multiple_of(4);
        return channels.saturating_mul(2 * 2 * taps as u64 + 16);
    }
    let format = match isa {
        Isa::Generic | Isa::Neon => Format::Pairs16,
        // Words where bytes would need too many extra entries: twice as much.
        Isa::Avx2 => Format::Pairs16,
        _ => Format::Quads8,
    };
    let layout = Layout::new(isa, format, geometry);
    let columns = (layout.groups * layout.padded_columns()) as u64;
    columns.saturating_mul(layout.row_bytes() as u64 + 4 + 16)
}

/// Scratch memory of operations that need much of it.
fn scratch_bytes(operation: &Operation) -> u64 {
    let floats = |count: usize| 4 * count as u64 + 64;
    match operation {
        Operation::MatMul(product) => {
            let (m, k, n) = (product.m, product.k, product.n.next_multiple_of(16));
            floats(k * n) + floats(m * k) + SCRATCH_BYTES
        }
        Operation::Recurrent(layer) => {
            let state = layer.batch * layer.hidden;
            floats(state * (6 + 2 * layer.cell.gates())) + SCRATCH_BYTES
        }
        Operation::QConv(conv) | Operation::DynamicConv(conv) => {
            let row = conv.geometry.in_c * conv.geometry.in_w * 2;
            let rows = conv.geometry.kernel_h * conv.geometry.dilation_h + 8;
            (row * rows) as u64 + SLACK_BYTES as u64 + SCRATCH_BYTES
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use whimbrel_infer::plan::{Activation, Conv, QConv, QConvOutput, Step, Weights};

    fn geometry() -> impl Strategy<Value = Conv2d> {
        let sizes = (1usize..40, 1usize..40, 1usize..6, 1usize..6, 1usize..9);
        (sizes, 1usize..5, any::<bool>()).prop_map(
            |((in_c, out_c, kernel_h, kernel_w, size), groups, single)| {
                let depthwise = groups == 4;
                let (in_c, out_c) = if depthwise { (in_c, in_c) } else { (in_c * groups, out_c * groups) };
                let (kernel_h, kernel_w) = if single { (1, 1) } else { (kernel_h, kernel_w) };
                Conv2d {
                    in_c,
                    out_c,
                    groups: if depthwise { in_c } else { groups },
                    kernel_h,
                    kernel_w,
                    in_h: kernel_h + size,
                    in_w: kernel_w + size,
                    ..Conv2d::matmul(1, in_c, out_c)
                }
            },
        )
    }

    fn compare(isa: Isa, geometry: Conv2d, operation: Operation) -> Result<(), TestCaseError> {
        let step =
            Step { operation, inputs: vec![], outputs: vec![], name: "step".into(), operators: vec![] };
        let estimate = packed_bytes(isa, &step.operation);
        let plan = Plan {
            buffers: vec![],
            steps: vec![step],
            inputs: vec![],
            outputs: vec![],
            arena_bytes: 0,
            outside: 0,
        };
        let layer = Layer::new(isa, &plan, &plan.steps[0]).expect("made");
        let found = layer.packed_bytes() as u64;
        let offsets = 4 << 10;
        prop_assert!(found <= estimate + offsets, "{isa}: {found} of {estimate}: {geometry:?}");
        let scratch = scratch_bytes(&plan.steps[0].operation).max(SCRATCH_BYTES);
        prop_assert!(layer.scratch_bytes() as u64 <= scratch, "{isa}: scratch of {geometry:?}");
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn packed_weights_are_no_more_than_estimated(geometry in geometry(), seed in any::<u32>()) {
            let count = geometry.out_c * geometry.in_c / geometry.groups * geometry.kernel_h * geometry.kernel_w;
            let mut state = seed | 1;
            let weights: Vec<i16> = (0..count)
                .map(|_| {
                    state = state.wrapping_mul(0x9E37_79B1).wrapping_add(0x7F4A_7C15);
                    i16::from((state >> 24) as u8 as i8)
                })
                .collect();
            let floats = weights.iter().map(|weight| f32::from(*weight)).collect();
            for isa in Isa::available() {
                let output = QConvOutput::Sums;
                let conv = QConv { geometry, weights: Weights::of(weights.clone()), bias: None, input_zero: 3, output };
                compare(isa, geometry, Operation::QConv(conv))?;
                let conv = Conv {
                    geometry,
                    weights: Weights::of(Vec::clone(&floats)),
                    bias: None,
                    activation: Activation::None,
                    residual: false,
                };
                compare(isa, geometry, Operation::Conv(conv))?;
            }
        }
    }
}
