//! Kernels of f32, and those that only move elements: what the processor answers, over random sizes.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by a panic that says why")]

mod common;

use common::{Random, Value, answer, answer_by_kernels, assert_near, engines, plan};
use std::sync::Arc;
use whimbrel_infer::plan::{
    Activation, Binary, BinaryKind, Conv, Conv2d, Layout, MatMul, Operation, Pool, QConv, QConvOutput,
    Resize, Unary, Weights,
};
use whimbrel_infer::{Datatype, Tensor};

/// Largest difference, as a part of the largest result: sums are made in another order, exponentials by the device.
const TOLERANCE: f32 = 2e-5;

fn near(seed: u64, case: impl Fn(&mut Random) -> (Operation, Vec<Value>, Value)) {
    let Some((gpu, cpu)) = engines() else { return };
    let mut random = Random(seed);
    let (operation, inputs, output) = case(&mut random);
    let tensors: Vec<Tensor> = inputs.iter().map(|value| random.tensor(value)).collect();
    let what = format!("seed {seed}, {operation:?} of {inputs:?}");
    let plan = plan(operation, &inputs, &output);
    let (found, expected) = (answer_by_kernels(&gpu, &plan, &tensors), answer(&cpu, &plan, &tensors));
    if output.datatype == Datatype::Fp32 {
        assert_near(&found, &expected, TOLERANCE, &what);
    } else {
        assert_eq!(found, expected, "{what}");
    }
}

const FUNCTIONS: [Unary; 21] = [
    Unary::Clip { min: 0.0, max: 6.0 },
    Unary::LeakyRelu { alpha: 0.1 },
    Unary::Sigmoid,
    Unary::Tanh,
    Unary::HardSigmoid { alpha: 0.2, beta: 0.5 },
    Unary::HardSwish,
    Unary::Silu,
    Unary::Gelu,
    Unary::GeluTanh,
    Unary::Erf,
    Unary::Exp,
    Unary::Sqrt,
    Unary::Reciprocal,
    Unary::Neg,
    Unary::Abs,
    Unary::Floor,
    Unary::Ceil,
    Unary::Round,
    Unary::Elu { alpha: 0.7 },
    Unary::Softplus,
    Unary::Log,
];

#[test]
fn convolutions() {
    for seed in 0..40 {
        near(seed, |random| {
            let (groups, in_c, out_c) = match random.below(4) {
                0 => {
                    let channels = random.one_of(&[2, 3, 8, 13, 36]);
                    (channels, channels, channels)
                }
                1 => {
                    let groups = random.between(2, 4);
                    (groups, groups * random.between(1, 9), groups * random.between(1, 9))
                }
                _ => (1, random.one_of(&[1, 3, 8, 33]), random.one_of(&[1, 3, 4, 10, 17, 40])),
            };
            let geometry = Conv2d {
                batch: random.between(1, 2),
                in_h: random.between(5, 9),
                in_w: random.between(5, 9),
                in_c,
                out_c,
                kernel_h: random.between(1, 3),
                kernel_w: random.between(1, 3),
                stride_h: random.between(1, 2),
                stride_w: random.between(1, 2),
                dilation_h: random.between(1, 2),
                dilation_w: random.between(1, 2),
                pad: std::array::from_fn(|_| random.below(2)),
                groups,
            };
            let taps = geometry.kernel_h * geometry.kernel_w * in_c / groups;
            let residual = random.flag();
            let bias = random.floats(out_c);
            let activation = random.one_of(&[
                Activation::None,
                Activation::Clip { min: 0.0, max: f32::INFINITY },
                Activation::Function(Unary::Silu),
            ]);
            let conv = Conv {
                geometry,
                weights: Weights::of(random.floats(out_c * taps)),
                bias: random.flag().then(|| Arc::new(bias)),
                activation,
                residual,
            };
            let x = Value::floats(&[geometry.batch, in_c, geometry.in_h, geometry.in_w]);
            let y = Value::floats(&[geometry.batch, out_c, geometry.out_h(), geometry.out_w()]);
            let inputs = if residual { vec![x, y.clone()] } else { vec![x] };
            (Operation::Conv(conv), inputs, y)
        });
    }
}

#[test]
fn convolutions_of_bytes_that_make_floats() {
    for seed in 0..6 {
        near(seed, |random| {
            let (rows, k, n) = (random.between(1, 9), random.between(1, 70), random.between(1, 40));
            let weights = (0..k * n).map(|_| random.below(256) as i16 - 128).collect();
            let output = QConvOutput::Floats {
                multiplier: Arc::new((0..n).map(|_| random.unit()).collect()),
                bias: random.flag().then(|| Arc::new(vec![0.5; n])),
            };
            let geometry = Conv2d::matmul(rows, k, n);
            let conv = QConv { geometry, weights: Weights::of(weights), bias: None, input_zero: 9, output };
            (Operation::QConv(conv), vec![Value::bytes(&[rows, k])], Value::floats(&[rows, n]))
        });
    }
}

#[test]
fn products_of_matrices() {
    for seed in 0..12 {
        near(seed, |random| {
            let [batch, m, k, n] = std::array::from_fn(|at| random.between(1, if at == 0 { 3 } else { 21 }));
            let (a_step, b_step) = (m * k, if random.flag() { k * n } else { 0 });
            let product = MatMul { batch, a_step, b_step, m, k, n };
            let a = Value::floats(&[batch, m, k]);
            let b = Value::floats(&[if b_step == 0 { 1 } else { batch }, k, n]);
            (Operation::MatMul(product), vec![a, b], Value::floats(&[batch, m, n]))
        });
    }
}

#[test]
fn functions_of_a_number() {
    for (seed, function) in (0..).zip(FUNCTIONS) {
        let Some((gpu, cpu)) = engines() else { return };
        let mut random = Random(seed);
        let mut values: Vec<f32> = (0..997).map(|_| random.unit() * 12.0).collect();
        if matches!(function, Unary::Log | Unary::Sqrt | Unary::Reciprocal) {
            values.iter_mut().for_each(|value| *value = value.abs() + 0.01);
        }
        if matches!(function, Unary::Sigmoid | Unary::Tanh | Unary::Silu | Unary::Erf | Unary::Softplus) {
            values.extend([1e4, -1e4, 88.0, -88.0, 0.0]);
        }
        let value = Value::floats(&[values.len()]);
        let tensor = Tensor::from_values(value.shape.clone(), &values).expect("one axis");
        let plan = plan(Operation::Unary(function), std::slice::from_ref(&value), &value);
        let tensors = [tensor];
        let (found, expected) = (answer_by_kernels(&gpu, &plan, &tensors), answer(&cpu, &plan, &tensors));
        assert_near(&found, &expected, TOLERANCE, &format!("{function:?}"));
    }
}

#[test]
fn operators_of_two_numbers() {
    use BinaryKind::{Add, Div, Max, Min, Mul, PRelu, Sub};
    for (seed, kind) in (0..).zip([Add, Div, Max, Min, Mul, PRelu, Sub].repeat(3)) {
        near(seed, |random| {
            let sizes: Vec<usize> = (0..random.between(1, 4)).map(|_| random.between(1, 7)).collect();
            let strides = |shape: &[usize]| -> Vec<usize> {
                (0..shape.len())
                    .map(|at| if shape[at] == 1 { 0 } else { shape[at + 1..].iter().product() })
                    .collect()
            };
            let thinned: Vec<usize> =
                sizes.iter().map(|size| if random.flag() { 1 } else { *size }).collect();
            let (first, second) =
                if random.flag() { (sizes.clone(), thinned) } else { (thinned, sizes.clone()) };
            let (a_strides, b_strides) = (strides(&first), strides(&second));
            let activation = Activation::Clip { min: -2.0, max: 2.0 };
            let binary = Binary { kind, sizes: sizes.clone(), a_strides, b_strides, activation };
            let inputs = vec![Value::floats(&first), Value::floats(&second)];
            (Operation::Binary(binary), inputs, Value::floats(&sizes))
        });
    }
}

#[test]
fn softmax_of_rows() {
    for (seed, row_len) in (0..).zip([1, 2, 10, 64, 65, 1000]) {
        near(seed, |random| {
            let value = Value::new(Datatype::Fp32, &[random.between(1, 5), row_len], Layout::Rows);
            (Operation::Softmax { log: random.flag() }, vec![value.clone()], value)
        });
    }
}

#[test]
fn windows() {
    for seed in 0..24 {
        near(seed, |random| {
            let channels = random.one_of(&[1, 3, 4, 10]);
            let kernel = [random.between(1, 3), random.between(1, 3)];
            let dilations = [random.between(1, 2), random.between(1, 2)];
            let input = [random.between(1, 2), random.between(5, 9), random.between(5, 9), channels];
            let strides = [random.between(1, 2), random.between(1, 2)];
            let pads: [usize; 4] = std::array::from_fn(|at| random.below(kernel[at % 2]));
            let output = std::array::from_fn(|at| {
                let span = (kernel[at] - 1) * dilations[at] + 1;
                (input[at + 1] + pads[at] + pads[at + 2] - span) / strides[at] + 1
            });
            let count_padding = random.flag();
            let pool = Pool { input, output, kernel, strides, dilations, pads, count_padding };
            let x = Value::floats(&[input[0], channels, input[1], input[2]]);
            let y = Value::floats(&[input[0], channels, output[0], output[1]]);
            let operation =
                if random.flag() { Operation::MaxPool(pool) } else { Operation::AveragePool(pool) };
            (operation, vec![x], y)
        });
    }
}

#[test]
fn concatenations() {
    for (seed, datatype) in
        (0..).zip([Datatype::Fp32, Datatype::Uint8, Datatype::Int64, Datatype::Fp16].repeat(3))
    {
        near(seed, |random| {
            let outer = random.between(1, 4);
            let inner: Vec<usize> = (0..random.between(1, 4)).map(|_| random.below(9) + 1).collect();
            let whole: usize = inner.iter().sum();
            let value = |size: usize| Value::new(datatype, &[outer, size], Layout::Rows);
            let inputs = inner.iter().map(|size| value(*size)).collect();
            (Operation::Concat { outer, inner }, inputs, value(whole))
        });
    }
}

#[test]
fn transpositions() {
    for (seed, datatype) in
        (0..).zip([Datatype::Fp32, Datatype::Uint8, Datatype::Int64, Datatype::Fp16].repeat(3))
    {
        near(seed, |random| {
            let sizes: Vec<usize> = (0..random.between(2, 4)).map(|_| random.between(1, 7)).collect();
            let mut order: Vec<usize> = (0..sizes.len()).collect();
            for at in (1..order.len()).rev() {
                order.swap(at, random.below(at + 1));
            }
            let made: Vec<usize> = order.iter().map(|axis| sizes[*axis]).collect();
            let (x, y) =
                (Value::new(datatype, &sizes, Layout::Rows), Value::new(datatype, &made, Layout::Rows));
            (Operation::Transpose { sizes, order }, vec![x], y)
        });
    }
}

#[test]
fn images_at_another_size() {
    let coordinates = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"];
    let nearest = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"];
    for seed in 0..24 {
        near(seed, |random| {
            let linear = random.flag();
            let bytes = !linear && random.flag();
            let input =
                [random.between(1, 2), random.between(1, 9), random.between(1, 9), random.between(1, 6)];
            let output: [usize; 2] = std::array::from_fn(|_| random.between(1, 14));
            let resize = Resize {
                input,
                output,
                scales: std::array::from_fn(|at| output[at] as f32 / input[at + 1] as f32),
                linear,
                coordinates: random.one_of(&coordinates).to_owned(),
                nearest: random.one_of(&nearest).to_owned(),
            };
            let of = |shape: &[usize]| if bytes { Value::bytes(shape) } else { Value::floats(shape) };
            let x = of(&[input[0], input[3], input[1], input[2]]);
            let y = of(&[input[0], input[3], output[0], output[1]]);
            (Operation::Resize(resize), vec![x], y)
        });
    }
}
