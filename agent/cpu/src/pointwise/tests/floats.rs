//! f32 kernels against plain loops in f64, on every instruction set.

use super::floats;
use crate::{
    isa::Isa,
    pointwise::{
        binary::{Binary, binary, binary_broadcast, binary_channels, binary_in_place},
        broadcast::Broadcast,
        normalise::{LayerNorm, instance_norm, layer_norm, log_softmax, scale_shift, softmax},
        pool::{self, Pool2d},
        qpool,
        reduce::{Reduction, arg_max, reduce_columns, reduce_rows},
        unary::{Unary, unary, unary_in_place},
    },
};
use proptest::prelude::*;

fn near(got: &[f32], wanted: impl IntoIterator<Item = f64>, tolerance: f64) {
    let wanted: Vec<f64> = wanted.into_iter().collect();
    assert_eq!(got.len(), wanted.len());
    for (at, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
        let error = (f64::from(*got) - wanted).abs();
        assert!(error <= tolerance * (1.0 + wanted.abs()), "{got} for {wanted} at {at}");
    }
}

fn exact_unary(function: Unary, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match function {
        Unary::Relu => x.max(0.0),
        Unary::Clip { min, max } => x.max(f64::from(min)).min(f64::from(max)),
        Unary::LeakyRelu(slope) => {
            if x < 0.0 {
                x * f64::from(slope)
            } else {
                x
            }
        }
        Unary::Sigmoid => sigmoid(x),
        Unary::Tanh => x.tanh(),
        Unary::HardSigmoid { alpha, beta } => (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0),
        Unary::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Unary::Silu => x * sigmoid(x),
        Unary::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
        }
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sqrt => x.sqrt(),
        Unary::Reciprocal => 1.0 / x,
        Unary::Neg => -x,
        Unary::Abs => x.abs(),
        Unary::Sign => {
            if x == 0.0 {
                0.0
            } else {
                x.signum()
            }
        }
        Unary::Floor => x.floor(),
        Unary::Ceil => x.ceil(),
        Unary::Round => x.round_ties_even(),
        Unary::Softplus => x.exp().ln_1p(),
        Unary::Softsign => x / (1.0 + x.abs()),
        Unary::Elu(alpha) => {
            if x < 0.0 {
                f64::from(alpha) * x.exp_m1()
            } else {
                x
            }
        }
        Unary::Selu { alpha, gamma } => {
            f64::from(gamma) * if x > 0.0 { x } else { f64::from(alpha) * x.exp_m1() }
        }
        Unary::Mish => x * x.exp().ln_1p().tanh(),
        Unary::ThresholdedRelu(threshold) => {
            if x > f64::from(threshold) {
                x
            } else {
                0.0
            }
        }
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Erf | Unary::Gelu => f64::NAN,
    }
}

#[test]
fn functions_of_one_tensor_are_near() {
    let functions = [
        Unary::Relu,
        Unary::Clip { min: -1.0, max: 2.0 },
        Unary::LeakyRelu(0.1),
        Unary::Sigmoid,
        Unary::Tanh,
        Unary::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Unary::HardSwish,
        Unary::Silu,
        Unary::GeluTanh,
        Unary::Exp,
        Unary::Neg,
        Unary::Abs,
        Unary::Sign,
        Unary::Floor,
        Unary::Ceil,
        Unary::Round,
        Unary::Softplus,
        Unary::Softsign,
        Unary::Elu(0.7),
        Unary::Selu { alpha: 1.6, gamma: 1.05 },
        Unary::Mish,
        Unary::ThresholdedRelu(0.5),
        Unary::Sin,
        Unary::Cos,
    ];
    let mut input = floats(131, 1);
    input[..4].copy_from_slice(&[0.0, -0.0, 0.5, 2.5]);
    for (isa, function) in Isa::available().flat_map(|isa| functions.map(|function| (isa, function))) {
        let (mut out, mut own) = (vec![0.0; input.len()], input.clone());
        unary(isa, function, &input, &mut out);
        near(&out, input.iter().map(|x| exact_unary(function, f64::from(*x))), 2e-6);
        unary_in_place(isa, function, &mut own);
        assert_eq!(out, own, "{isa} {function:?}");
    }
    let positive: Vec<f32> = input[4..].iter().map(|x| x.abs() + 0.01).collect();
    for (isa, function) in Isa::available()
        .flat_map(|isa| [Unary::Log, Unary::Sqrt, Unary::Reciprocal].map(|function| (isa, function)))
    {
        let mut out = vec![0.0; positive.len()];
        unary(isa, function, &positive, &mut out);
        near(&out, positive.iter().map(|x| exact_unary(function, f64::from(*x))), 2e-6);
    }
}

#[test]
fn nan_passes_through() {
    let functions = [
        Unary::Relu,
        Unary::Clip { min: 0.0, max: 6.0 },
        Unary::Sigmoid,
        Unary::Silu,
        Unary::Exp,
        Unary::Gelu,
        Unary::HardSwish,
        Unary::Mish,
    ];
    for (isa, function) in Isa::available().flat_map(|isa| functions.map(|function| (isa, function))) {
        let mut out = vec![0.0; 40];
        unary(isa, function, &[f32::NAN; 40], &mut out);
        assert!(out.iter().all(|x| x.is_nan()), "{isa} {function:?}");
    }
}

#[test]
fn arithmetic_takes_scalars_channels_and_broadcasts() {
    let exact = |operation, a: f32, b: f32| match operation {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Min => a.min(b),
        Binary::Max => a.max(b),
        Binary::Pow => a.powf(b),
        Binary::PRelu => {
            if a > 0.0 {
                a
            } else {
                a * b
            }
        }
    };
    let every = [
        Binary::Add,
        Binary::Sub,
        Binary::Mul,
        Binary::Div,
        Binary::Min,
        Binary::Max,
        Binary::Pow,
        Binary::PRelu,
    ];
    for (isa, operation) in Isa::available().flat_map(|isa| every.map(|operation| (isa, operation))) {
        let a: Vec<f32> = floats(90, 1).iter().map(|x| x.abs() + 0.1).collect();
        let b = floats(90, 2);
        let mut out = vec![0.0; 90];
        let check = |out: &[f32], of: &dyn Fn(usize) -> (f32, f32)| {
            let wanted = (0..90).map(|at| f64::from(exact(operation, of(at).0, of(at).1)));
            near(out, wanted, 1e-6);
        };
        binary(isa, operation, &a, &b, &mut out);
        check(&out, &|at| (a[at], b[at]));
        let mut own = a.clone();
        binary_in_place(isa, operation, &mut own, &b);
        assert_eq!(own, out);
        binary(isa, operation, &a, &b[..1], &mut out);
        check(&out, &|at| (a[at], b[0]));
        binary(isa, operation, &a[..1], &b, &mut out);
        check(&out, &|at| (a[0], b[at]));
        binary(isa, operation, &a[..1], &b[..1], &mut out);
        check(&out, &|_| (a[0], b[0]));
        binary_channels(isa, operation, &a, &b[..30], &mut out);
        check(&out, &|at| (a[at], b[at % 30]));
        let mut rows = vec![0.0; 90];
        let broadcast = Broadcast::new(&[3, 30], &[30]).expect("fits");
        binary_broadcast(isa, operation, &broadcast, [&a, &b], 0..3, &mut rows);
        assert_eq!(rows, out);
        let broadcast = Broadcast::new(&[3, 30], &[3, 1]).expect("fits");
        binary_broadcast(isa, operation, &broadcast, [&a, &b], 0..3, &mut rows);
        check(&rows, &|at| (a[at], b[at / 30]));
    }
}

#[test]
fn rows_are_normalised() {
    for (isa, len) in Isa::available().flat_map(|isa| [1usize, 3, 37, 100].map(|len| (isa, len))) {
        let input = floats(len * 3, 4);
        let (scale, bias) = (floats(len, 5), floats(len, 6));
        let wide: Vec<f64> = input.iter().map(|x| f64::from(*x)).collect();
        let of = |f: &dyn Fn(&[f64], usize) -> f64| -> Vec<f64> {
            wide.chunks(len).flat_map(|row| (0..len).map(move |at| f(row, at))).collect()
        };
        let mut out = vec![0.0; len * 3];
        let sum = |row: &[f64]| row.iter().map(|x| x.exp()).sum::<f64>();
        softmax(isa, len, &input, &mut out);
        near(&out, of(&|row, at| row[at].exp() / sum(row)), 1e-6);
        log_softmax(isa, len, &input, &mut out);
        near(&out, of(&|row, at| row[at] - sum(row).ln()), 1e-6);
        let mean = |row: &[f64]| row.iter().sum::<f64>() / len as f64;
        let variance =
            |row: &[f64], mean: f64| row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / len as f64;
        let norm = LayerNorm { epsilon: 1e-2, root_mean_square: false };
        layer_norm(isa, norm, &scale, &bias, &input, &mut out);
        let exact =
            |row: &[f64], mean: f64, at: usize| (row[at] - mean) / (variance(row, mean) + 1e-2).sqrt();
        near(
            &out,
            of(&|row, at| exact(row, mean(row), at) * f64::from(scale[at]) + f64::from(bias[at])),
            1e-5,
        );
        layer_norm(isa, LayerNorm { root_mean_square: true, ..norm }, &scale, &[], &input, &mut out);
        near(&out, of(&|row, at| exact(row, 0.0, at) * f64::from(scale[at])), 1e-5);
        scale_shift(isa, &scale, &bias, &input, &mut out);
        near(&out, of(&|row, at| row[at] * f64::from(scale[at]) + f64::from(bias[at])), 1e-6);
        let mut sums = vec![0.0; 2 * len];
        instance_norm(isa, [&scale, &bias], 1e-2, &mut sums, &input, &mut out);
        let column = |at: usize| -> Vec<f64> { wide.iter().skip(at).step_by(len).copied().collect() };
        let wanted = of(&|row, at| {
            let column = column(at);
            let mean = column.iter().sum::<f64>() / 3.0;
            let variance = column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 3.0;
            (row[at] - mean) / (variance + 1e-2).sqrt() * f64::from(scale[at]) + f64::from(bias[at])
        });
        near(&out, wanted, 2e-5);
    }
}

#[test]
fn masked_and_huge_rows_have_a_softmax() {
    for isa in Isa::available() {
        let mut out = [9.0; 4];
        softmax(isa, 4, &[f32::NEG_INFINITY, 3.0, 3.0, -200.0], &mut out);
        assert_eq!(out, [0.0, 0.5, 0.5, 0.0]);
        softmax(isa, 4, &[3e38; 4], &mut out);
        assert_eq!(out, [0.25; 4]);
    }
}

#[test]
fn axes_are_reduced() {
    let every = [
        Reduction::Sum,
        Reduction::Mean,
        Reduction::Max,
        Reduction::Min,
        Reduction::SumSquare,
        Reduction::L1,
        Reduction::L2,
        Reduction::Prod,
    ];
    let exact = |reduction, of: Vec<f64>| match reduction {
        Reduction::Sum => of.iter().sum(),
        Reduction::Mean => of.iter().sum::<f64>() / of.len() as f64,
        Reduction::Max => of.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        Reduction::Min => of.iter().copied().fold(f64::INFINITY, f64::min),
        Reduction::SumSquare => of.iter().map(|x| x * x).sum(),
        Reduction::L1 => of.iter().map(|x| x.abs()).sum(),
        Reduction::L2 => of.iter().map(|x| x * x).sum::<f64>().sqrt(),
        Reduction::Prod => of.iter().product(),
    };
    let input = floats(2 * 7 * 45, 3);
    let wide: Vec<f64> = input.iter().map(|x| f64::from(*x)).collect();
    for (isa, reduction) in Isa::available().flat_map(|isa| every.map(|reduction| (isa, reduction))) {
        let mut out = vec![0.0; 14];
        reduce_rows(isa, reduction, 45, &input, &mut out);
        near(&out, wide.chunks(45).map(|row| exact(reduction, row.to_vec())), 2e-5);
        let mut out = vec![0.0; 90];
        reduce_columns(isa, reduction, 7, 45, &input, &mut out);
        let of = |at: usize| (0..7).map(|row| wide[at / 45 * 315 + row * 45 + at % 45]).collect();
        near(&out, (0..90).map(|at| exact(reduction, of(at))), 2e-5);
    }
    assert_eq!((arg_max(&[1.0, 3.0, 3.0], false), arg_max(&[1.0, 3.0, 3.0], true)), (1, 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn pools_see_what_lies_under_the_kernel(
        channels in prop_oneof![1usize..40, Just(64usize), 60usize..150],
        input in (1usize..9, 1usize..9),
        kernel in (1usize..4, 1usize..4),
        (stride, dilation) in ((1usize..4, 1usize..4), (1usize..3, 1usize..3)),
        (pads, ceil, counted) in ((0usize..3, 0usize..3, 0usize..3, 0usize..3), any::<bool>(), any::<bool>()),
    ) {
        let pad = [pads.0.min(kernel.0 - 1), pads.1.min(kernel.1 - 1)];
        let pad_end = [pads.2.min(kernel.0 - 1), pads.3.min(kernel.1 - 1)];
        let size = |length, kernel, stride, dilation, axis: usize| {
            Pool2d::output_size(length, kernel, stride, dilation, [pad[axis], pad_end[axis]], ceil)
        };
        let pool = Pool2d {
            channels,
            input: [input.0, input.1],
            output: [
                size(input.0, kernel.0, stride.0, dilation.0, 0),
                size(input.1, kernel.1, stride.1, dilation.1, 1),
            ],
            kernel: [kernel.0, kernel.1],
            stride: [stride.0, stride.1],
            dilation: [dilation.0, dilation.1],
            pad,
            pad_end,
            count_padding: counted,
        };
        let image = floats(2 * pool.image_len(), 7);
        let taps = |row: usize, x: usize, channel: usize| -> Vec<f32> {
            let (batch, y) = (row / pool.output[0], row % pool.output[0]);
            (0..pool.kernel[0] * pool.kernel[1]).filter_map(|tap| {
                let y = (y * pool.stride[0] + tap / pool.kernel[1] * pool.dilation[0]).checked_sub(pad[0])?;
                let x = (x * pool.stride[1] + tap % pool.kernel[1] * pool.dilation[1]).checked_sub(pad[1])?;
                let inside = y < pool.input[0] && x < pool.input[1];
                inside.then(|| image[batch * pool.image_len() + (y * pool.input[1] + x) * channels + channel])
            }).collect()
        };
        let rows = 0..2 * pool.output[0];
        let elements: Vec<u8> = image.iter().map(|x| (x * 15.0 + 128.0) as u8).collect();
        for isa in Isa::available() {
            let mut max = vec![0.0; rows.len() * pool.row_len()];
            let mut average = max.clone();
            let mut max_u8 = vec![0; max.len()];
            pool::max(isa, &pool, &image, rows.clone(), &mut max);
            pool::average(isa, &pool, &image, rows.clone(), &mut average);
            qpool::max(isa, &pool, &elements, rows.clone(), &mut max_u8);
            for at in 0..max.len() {
                let (row, x, channel) = (at / pool.row_len(), at / channels % pool.output[1], at % channels);
                let taps = taps(row, x, channel);
                let greatest = taps.iter().copied().fold(f32::MIN, f32::max);
                prop_assert_eq!(max[at], greatest);
                if !taps.is_empty() {
                    prop_assert_eq!(max_u8[at], (greatest * 15.0 + 128.0) as u8);
                }
                if !counted && !taps.is_empty() {
                    let mean = taps.iter().sum::<f32>() / taps.len() as f32;
                    prop_assert!((mean - average[at]).abs() < 1e-5);
                }
            }
        }
    }
}
