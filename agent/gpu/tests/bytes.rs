//! Kernels of bytes: the same bits as on the processor, over random sizes and extreme values.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by a panic that says why")]

mod common;

use common::{Random, Value, answer, answer_by_kernels, engines, plan};
use std::sync::Arc;
use whimbrel_infer::plan::{
    BinaryKind, Conv2d, Layout, MapFunction, Operation, Place, Pool, QBroadcast, QConv, QConvOutput, QMap,
    QPair, QResidual, Quant, Unary, Weights,
};
use whimbrel_infer::{Datatype, Tensor};

fn same(seed: u64, case: impl Fn(&mut Random) -> (Operation, Vec<Value>, Value)) {
    let Some((gpu, cpu)) = engines() else { return };
    let mut random = Random(seed);
    let (operation, inputs, output) = case(&mut random);
    let tensors: Vec<Tensor> = inputs.iter().map(|value| random.tensor(value)).collect();
    check(&gpu, &cpu, operation, &inputs, &output, &tensors);
}

fn check(
    gpu: &whimbrel_gpu::GpuEngine<whimbrel_cpu::CpuEngine>,
    cpu: &whimbrel_cpu::CpuEngine,
    operation: Operation,
    inputs: &[Value],
    output: &Value,
    tensors: &[Tensor],
) {
    let what = format!("{operation:?} of {inputs:?}").chars().take(1500).collect::<String>();
    let plan = plan(operation, inputs, output);
    let (found, expected) = (answer_by_kernels(gpu, &plan, tensors), answer(cpu, &plan, tensors));
    let (found, expected) =
        (found[0].as_le_bytes().expect("bytes"), expected[0].as_le_bytes().expect("bytes"));
    let first = found.iter().zip(expected).position(|(a, b)| a != b);
    if let Some(at) = first {
        let wrong = found.iter().zip(expected).filter(|(a, b)| a != b).count();
        let (found_one, expected_one) = (found[at], expected[at]);
        panic!(
            "{what}: {wrong} of {} bytes differ, the first is {at}: {found_one}, on the processor {expected_one}",
            found.len()
        );
    }
}

fn geometry(random: &mut Random) -> Conv2d {
    let kind = random.below(5);
    let (groups, in_c, out_c) = match kind {
        // Depthwise.
        0 | 1 => {
            let channels = random.one_of(&[2, 3, 4, 8, 13, 16, 36]);
            (channels, channels, channels)
        }
        // In groups.
        2 => {
            let groups = random.between(2, 4);
            (groups, groups * random.between(1, 9), groups * random.between(1, 9))
        }
        _ => (1, random.one_of(&[1, 3, 4, 7, 8, 16, 33, 64]), random.one_of(&[1, 3, 4, 10, 16, 17, 40])),
    };
    let (kernel_h, kernel_w) = (random.between(1, 4), random.between(1, 4));
    let (dilation_h, dilation_w) = (random.between(1, 2), random.between(1, 2));
    let spans = [(kernel_h - 1) * dilation_h + 1, (kernel_w - 1) * dilation_w + 1];
    Conv2d {
        batch: random.between(1, 2),
        in_h: spans[0] + random.below(8),
        in_w: spans[1] + random.below(8),
        in_c,
        out_c,
        kernel_h,
        kernel_w,
        stride_h: random.between(1, 3),
        stride_w: random.between(1, 3),
        dilation_h,
        dilation_w,
        pad: std::array::from_fn(|at| random.below(spans[at % 2].min(3))),
        groups,
    }
}

fn quant(random: &mut Random) -> Quant {
    Quant { scale: 0.002 + random.unit().abs() * 0.1, zero: random.one_of(&[0, 128, 255, 7, 131]) }
}

fn pair(random: &mut Random) -> QPair {
    // Ties everywhere, or factors beyond what arithmetic is trusted with.
    let exact = Quant { scale: random.one_of(&[0.5, 1e-9, 3e9]), zero: 128 };
    if random.below(4) == 0 {
        let out = Quant { scale: 1.0, zero: 128 };
        return QPair { a: exact, b: exact, out, min: 0, max: 255, signed: random.flag() };
    }
    let (min, max) = random.one_of(&[(0, 255), (0, 255), (30, 200)]);
    QPair { a: quant(random), b: quant(random), out: quant(random), min, max, signed: random.flag() }
}

fn weights(random: &mut Random, count: usize) -> Vec<i16> {
    match random.below(6) {
        0 => vec![127; count],
        1 => vec![-128; count],
        2 => vec![255; count],
        3 => (0..count).map(|_| random.below(511) as i16 - 255).collect(),
        _ => (0..count).map(|_| random.below(256) as i16 - 128).collect(),
    }
}

fn conv(random: &mut Random) -> (Operation, Vec<Value>, Value) {
    let geometry = geometry(random);
    let Conv2d { batch, in_h, in_w, in_c, out_c, .. } = geometry;
    let taps = geometry.kernel_h * geometry.kernel_w * in_c / geometry.groups;
    let weights = weights(random, out_c * taps);
    let shape = [batch, out_c, geometry.out_h(), geometry.out_w()];
    let mut inputs = vec![Value::bytes(&[batch, in_c, in_h, in_w])];
    let factors = |random: &mut Random| -> Arc<Vec<f32>> {
        let count = if random.flag() { out_c } else { 1 };
        Arc::new((0..count).map(|_| (0.5 + random.unit().abs()) / (taps as f32 * 90.0)).collect())
    };
    let (output, datatype) = match random.below(5) {
        0 => (QConvOutput::Sums, Datatype::Int32),
        _ => {
            let residual = random.flag().then(|| QResidual { pair: pair(random), own_first: random.flag() });
            inputs.extend(residual.map(|_| Value::bytes(&shape)));
            let zero = random.one_of(&[0, 128, 255, 77]);
            let (min, max) = random.one_of(&[(0, 255), (0, 255), (zero, 255), (3, 199)]);
            let multiplier = factors(random);
            (QConvOutput::Bytes { multiplier, zero, min, max, residual }, Datatype::Uint8)
        }
    };
    let bias: Vec<i32> = (0..out_c).map(|_| random.below(20_001) as i32 - 10_000).collect();
    let conv = QConv {
        geometry,
        weights: Weights::of(weights),
        bias: random.flag().then(|| Arc::new(bias)),
        input_zero: random.one_of(&[0, 128, 255, 3]),
        output,
    };
    (Operation::QConv(conv), inputs, Value::new(datatype, &shape, Layout::ChannelsLast))
}

#[test]
fn convolutions() {
    for seed in 0..60 {
        same(seed, conv);
    }
}

#[test]
fn products_of_matrices() {
    for seed in 0..10 {
        same(seed, |random| {
            let (rows, k, n) =
                (random.between(1, 9), random.one_of(&[1, 5, 64, 130]), random.one_of(&[1, 10, 32, 1001]));
            let conv = QConv {
                geometry: Conv2d::matmul(rows, k, n),
                weights: Weights::of(weights(random, k * n)),
                bias: None,
                input_zero: 128,
                output: QConvOutput::Bytes {
                    multiplier: Arc::new(vec![0.01 / k as f32]),
                    zero: 100,
                    min: 0,
                    max: 255,
                    residual: None,
                },
            };
            let (x, y) = (Value::bytes(&[rows, k]), Value::bytes(&[rows, n]));
            (Operation::QConv(conv), vec![x], y)
        });
    }
}

#[test]
fn sums_and_products() {
    for seed in 0..12 {
        same(seed, |random| {
            let shape = [random.between(1, 3), random.between(1, 9), random.between(1, 50)];
            let value = Value::bytes(&shape);
            let pair = pair(random);
            let operation = if random.flag() { Operation::QAdd(pair) } else { Operation::QMul(pair) };
            (operation, vec![value.clone(), value.clone()], value)
        });
    }
}

#[test]
fn sums_and_products_that_broadcast() {
    for seed in 0..24 {
        same(seed, |random| {
            let sizes: Vec<usize> = (0..random.between(1, 4)).map(|_| random.between(1, 7)).collect();
            let thinned = |random: &mut Random| -> Vec<usize> {
                sizes.iter().map(|size| if random.below(3) == 0 { 1 } else { *size }).collect()
            };
            let (first, second) = (thinned(random), thinned(random));
            let out: Vec<usize> = first.iter().zip(&second).map(|(a, b)| *a.max(b)).collect();
            let spec = QBroadcast {
                pair: pair(random),
                sum: random.flag(),
                shapes: [first.clone(), second.clone()],
            };
            let inputs = vec![Value::bytes(&first), Value::bytes(&second)];
            (Operation::QBroadcast(spec), inputs, Value::bytes(&out))
        });
    }
}

#[test]
fn sums_and_products_with_a_constant() {
    let Some((gpu, cpu)) = engines() else { return };
    for seed in 0..8 {
        let mut random = Random(seed);
        let place = random.below(2);
        let shape = [random.between(1, 5), random.between(2, 50)];
        let mut inputs = [Value::bytes(&shape), Value::bytes(&shape)];
        inputs[place] = Value::bytes(&[1, 1]);
        let shapes = [inputs[0].shape.clone(), inputs[1].shape.clone()];
        let spec = QBroadcast { pair: pair(&mut random), sum: random.flag(), shapes };
        let what = format!("{spec:?}");
        let mut plan = plan(Operation::QBroadcast(spec), &inputs, &Value::bytes(&shape));
        plan.buffers[place].place = Place::Constant(random.tensor(&inputs[place]).into());
        plan.inputs.remove(place);
        let given = [random.tensor(&inputs[1 - place])];
        assert_eq!(answer_by_kernels(&gpu, &plan, &given), answer(&cpu, &plan, &given), "{what}");
    }
}

#[test]
fn functions_of_a_byte() {
    let functions = [
        None,
        Some(MapFunction::Unary(Unary::Sigmoid)),
        Some(MapFunction::Unary(Unary::Gelu)),
        Some(MapFunction::Scalar { kind: BinaryKind::Div, number: 3.0, number_first: true }),
    ];
    for (seed, function) in (0..).zip(functions) {
        same(seed, |random| {
            let map = QMap { from: quant(random), to: quant(random), function, min: 0, max: 250 };
            let value = Value::bytes(&[1, random.between(1, 300)]);
            (Operation::Map(map), vec![value.clone()], value)
        });
    }
    same(9, |_| (Operation::Flip, vec![Value::bytes(&[3, 7])], Value::bytes(&[3, 7])));
}

#[test]
fn softmax_of_rows() {
    for (seed, row_len) in (0..).zip([2, 3, 10, 63, 64, 100, 1001]) {
        same(seed, |random| {
            let value = Value::new(Datatype::Uint8, &[random.between(1, 4), row_len], Layout::Rows);
            let input_scale = random.one_of(&[0.003, 0.1, 0.7, 3.0]);
            let scale = random.one_of(&[1.0 / 256.0, 1.0 / 255.0, 0.002]);
            let output = Quant { scale, zero: random.one_of(&[0, 0, 3]) };
            let operation = Operation::QSoftmax { input_scale, output, signed: random.flag() };
            (operation, vec![value.clone()], value)
        });
    }
}

fn window(random: &mut Random) -> Pool {
    let channels = random.one_of(&[1, 3, 4, 10, 16]);
    let kernel = [random.between(1, 3), random.between(1, 3)];
    let input = [random.between(1, 2), random.between(3, 9), random.between(3, 9), channels];
    let strides = [random.between(1, 2), random.between(1, 2)];
    let pads = std::array::from_fn(|at| random.below(kernel[at % 2]));
    let output =
        std::array::from_fn(|at| (input[at + 1] + pads[at] + pads[at + 2] - kernel[at]) / strides[at] + 1);
    Pool { input, output, kernel, strides, dilations: [1, 1], pads, count_padding: random.flag() }
}

#[test]
fn windows() {
    for seed in 0..16 {
        same(seed, |random| {
            let pool = window(random);
            let [n, h, w, c] = pool.input;
            let out = Value::bytes(&[n, c, pool.output[0], pool.output[1]]);
            (Operation::MaxPool(pool), vec![Value::bytes(&[n, c, h, w])], out)
        });
        same(seed, |random| {
            let pool = window(random);
            let [n, h, w, c] = pool.input;
            let (input, output, signed) = (quant(random), quant(random), random.flag());
            let operation = Operation::QAveragePool { pool, input, output, global: false, signed };
            let out = Value::bytes(&[n, c, pool.output[0], pool.output[1]]);
            (operation, vec![Value::bytes(&[n, c, h, w])], out)
        });
        same(seed, |random| {
            let [n, h, w, c] = window(random).input;
            let pool = Pool {
                input: [n, h, w, c],
                output: [1, 1],
                kernel: [h, w],
                strides: [1, 1],
                dilations: [1, 1],
                pads: [0; 4],
                count_padding: false,
            };
            let (input, output) = (quant(random), quant(random));
            let operation =
                Operation::QAveragePool { pool, input, output, global: true, signed: random.flag() };
            (operation, vec![Value::bytes(&[n, c, h, w])], Value::bytes(&[n, c, 1, 1]))
        });
    }
}

#[test]
fn quantisation_rounds_as_the_processor_even_at_ties() {
    let Some((gpu, cpu)) = engines() else { return };
    let mut random = Random(5);
    for quant in [
        Quant { scale: 0.1, zero: 128 },
        Quant { scale: 1.0 / 3.0, zero: 0 },
        Quant { scale: 0.007_843_138, zero: 127 },
        Quant { scale: 2.0, zero: 255 },
        Quant { scale: 1e-20, zero: 3 },
    ] {
        let steps = (-2000..2000).map(|at| at as f32 * 0.25 * quant.scale);
        let near = (-600..600).flat_map(|at| {
            let tie = (at as f32 + 0.5) * quant.scale;
            [tie, tie.next_up(), tie.next_down(), tie.next_up().next_up()]
        });
        let extreme = [
            f32::NAN,
            -f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN,
            0.0,
            -0.0,
            f32::MIN_POSITIVE,
            1e-45,
        ];
        let mut values: Vec<f32> = steps.chain(near).chain(extreme).collect();
        values.extend((0..1000).map(|_| f32::from_bits(random.next() as u32)));
        let shape = [values.len()];
        let tensor = Tensor::from_values(shape.to_vec(), &values).expect("one axis");
        let (x, y) = (Value::floats(&shape), Value::bytes(&shape));
        check(&gpu, &cpu, Operation::Quantise(quant), &[x], &y, &[tensor]);
    }
}

#[test]
fn quantisation_and_back_between_layouts() {
    for seed in 0..12 {
        same(seed, |random| {
            let shape =
                [random.between(1, 2), random.between(1, 9), random.between(1, 6), random.between(1, 6)];
            let layouts = [random.one_of(&[Layout::Rows, Layout::ChannelsLast]), Layout::ChannelsLast];
            let quant = quant(random);
            let floats = Value::new(Datatype::Fp32, &shape, layouts[0]);
            let bytes = Value::new(Datatype::Uint8, &shape, layouts[1]);
            if random.flag() {
                (Operation::Quantise(quant), vec![floats], bytes)
            } else {
                (Operation::Dequantise(quant), vec![bytes], floats)
            }
        });
    }
}
