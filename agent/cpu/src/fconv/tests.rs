//! Every kind of layer against plain sums in f64, for every instruction set.

use super::{Activation, Conv, ConvSpec, MatMul, MatMulSpec};
use crate::{
    geometry::Conv2d,
    isa::Isa,
    packed::{Aligned, Packed},
};
use proptest::prelude::*;
use std::sync::Arc;

/// Numbers from -1 to 1 that depend on a seed.
fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::None => x,
        Activation::Clip { min, max } => x.max(f64::from(min)).min(f64::from(max)),
        Activation::LeakyRelu(slope) => {
            if x < 0.0 {
                x * f64::from(slope)
            } else {
                x
            }
        }
        Activation::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Silu => x / (1.0 + (-x).exp()),
    }
}

/// One layer's data.
struct Case {
    geometry: Conv2d,
    activation: Activation,
    weights: Vec<f32>,
    bias: Option<Vec<f32>>,
    input: Vec<f32>,
    residual: Option<Vec<f32>>,
}

impl Case {
    fn new(geometry: Conv2d, activation: Activation, bias: bool, residual: bool) -> Self {
        let depth = geometry.in_c / geometry.groups * geometry.kernel_h * geometry.kernel_w;
        Self {
            geometry,
            activation,
            weights: numbers(geometry.out_c * depth, 1),
            bias: bias.then(|| numbers(geometry.out_c, 2)),
            input: numbers(geometry.in_len(), 3),
            residual: residual.then(|| numbers(geometry.out_len(), 4)),
        }
    }

    fn layer(&self, isa: Isa) -> Conv {
        Conv::new(
            isa,
            &ConvSpec {
                geometry: self.geometry,
                weights: &self.weights,
                bias: self.bias.as_deref(),
                activation: self.activation,
                residual: self.residual.is_some(),
            },
        )
    }

    /// The sum of an output element before the activation, and of the products' sizes.
    fn sum(&self, pixel: usize, channel: usize) -> (f64, f64) {
        let g = &self.geometry;
        let (column, row, image) =
            (pixel % g.out_w(), pixel / g.out_w() % g.out_h(), pixel / g.out_w() / g.out_h());
        let channels = g.in_c / g.groups;
        let first = channel / (g.out_c / g.groups) * channels;
        let mut sum = self.bias.as_ref().map_or(0.0, |bias| f64::from(bias[channel]));
        sum += self.residual.as_ref().map_or(0.0, |residual| f64::from(residual[pixel * g.out_c + channel]));
        let mut size = sum.abs();
        for ky in 0..g.kernel_h {
            for kx in 0..g.kernel_w {
                let y = (row * g.stride_h + ky * g.dilation_h).wrapping_sub(g.pad[0]);
                let x = (column * g.stride_w + kx * g.dilation_w).wrapping_sub(g.pad[1]);
                if y >= g.in_h || x >= g.in_w {
                    continue;
                }
                let input = &self.input[((image * g.in_h + y) * g.in_w + x) * g.in_c + first..][..channels];
                for (index, input) in input.iter().enumerate() {
                    let weight =
                        self.weights[((channel * channels + index) * g.kernel_h + ky) * g.kernel_w + kx];
                    sum += f64::from(*input) * f64::from(weight);
                    size += (f64::from(*input) * f64::from(weight)).abs();
                }
            }
        }
        (sum, size)
    }

    /// Runs a layer in so many pieces.
    fn run(&self, layer: &Conv, pieces: usize) -> Vec<f32> {
        let mut output = vec![f32::NAN; self.geometry.out_len()];
        let mut scratch = vec![0xff; layer.scratch_bytes()];
        let units = layer.units();
        let mut end = 0;
        for piece in 0..pieces {
            let range = units * piece / pieces..units * (piece + 1) / pieces;
            let elements = layer.output_range(range.clone());
            assert!(elements.start == end || range.is_empty(), "pieces leave no gap");
            end = end.max(elements.end);
            layer.run(range, &self.input, self.residual.as_deref(), &mut output[elements], &mut scratch);
        }
        assert_eq!(end, output.len());
        output
    }

    fn check(&self) {
        for isa in Isa::available() {
            let layer = self.layer(isa);
            let output = self.run(&layer, 1);
            for (index, output) in output.iter().enumerate() {
                let (sum, size) = self.sum(index / self.geometry.out_c, index % self.geometry.out_c);
                let expected = activate(self.activation, sum);
                let error = (f64::from(*output) - expected).abs();
                let allowed = 4.0 * f64::from(f32::EPSILON) * (size + 1.0) * (1.0 + size.sqrt());
                assert!(error <= allowed, "{isa} {:?} {index}: {output} {expected}", self.geometry);
            }
            let bits = |output: &[f32]| output.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            for pieces in [2, 5] {
                assert_eq!(bits(&self.run(&layer, pieces)), bits(&output), "{isa} in {pieces} pieces");
            }
            let (header, parts) = layer.parts();
            let again = Conv::from_parts(isa, &header, parts).expect("parts of a layer");
            assert_eq!(bits(&self.run(&again, 1)), bits(&output), "{isa} from its parts");
        }
    }
}

fn activations() -> impl Strategy<Value = Activation> {
    prop_oneof![
        Just(Activation::None),
        Just(Activation::RELU),
        Just(Activation::Clip { min: -0.5, max: 0.75 }),
        Just(Activation::LeakyRelu(0.1)),
        Just(Activation::HardSwish),
        Just(Activation::Sigmoid),
        Just(Activation::Silu),
    ]
}

/// Group counts and channels of a group, in and out: dense, grouped, depthwise and depthwise with a multiplier.
fn channels() -> impl Strategy<Value = (usize, usize, usize)> {
    prop_oneof![
        3 => (Just(1usize), 1usize..70, 1usize..110),
        1 => (2usize..5, 1usize..9, 1usize..20),
        3 => (1usize..70, Just(1usize), Just(1usize)),
        1 => (1usize..9, Just(1usize), 2usize..4),
    ]
}

fn geometries() -> impl Strategy<Value = Conv2d> {
    let kernel = (1usize..6, 1usize..6, 1usize..4, 1usize..4, 1usize..3, 1usize..3);
    let pads = (0usize..4, 0usize..4, 0usize..4, 0usize..4);
    (1usize..3, 1usize..12, 1usize..14, channels(), kernel, pads).prop_map(
        |(batch, in_h, in_w, (groups, in_c, out_c), (kh, kw, sh, sw, dh, dw), (top, left, bottom, right))| {
            Conv2d {
                batch,
                in_h,
                in_w,
                in_c: in_c * groups,
                out_c: out_c * groups,
                kernel_h: kh,
                kernel_w: kw,
                stride_h: sh,
                stride_w: sw,
                dilation_h: dh,
                dilation_w: dw,
                pad: [top, left, bottom, right],
                groups,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn convolutions_match_plain_sums(
        geometry in geometries(),
        activation in activations(),
        bias: bool,
        residual: bool,
    ) {
        Case::new(geometry, activation, bias, residual).check();
    }

    #[test]
    fn matrix_products_match_plain_sums(
        (batch, m, k, n) in (1usize..3, 1usize..20, 1usize..70, 1usize..60),
        (transpose_a, transpose_b, bias) in any::<(bool, bool, bool)>(),
    ) {
        let mut spec = MatMulSpec::plain(batch, m, k, n);
        if transpose_a {
            spec = spec.transpose_a();
        }
        if transpose_b {
            spec = spec.transpose_b();
        }
        check_product(&spec, bias);
    }
}

fn check_product(spec: &MatMulSpec, with_bias: bool) {
    let (a, b) = (numbers(spec.a_len(), 5), numbers(spec.b_len(), 6));
    let bias = with_bias.then(|| numbers(spec.n, 7));
    for isa in Isa::available() {
        let product = MatMul::new(isa, spec);
        let mut scratch = vec![0xff; product.scratch_bytes()];
        let mut output = vec![f32::NAN; spec.batch * spec.m * spec.n];
        for piece in 0..3 {
            let range = product.units() * piece / 3..product.units() * (piece + 1) / 3;
            let elements = product.output_range(range.clone());
            product.run(range, (&a, &b), bias.as_deref(), &mut output[elements], &mut scratch);
        }
        for (index, output) in output.iter().enumerate() {
            let (column, row, matrix) = (index % spec.n, index / spec.n % spec.m, index / spec.n / spec.m);
            let mut sum = bias.as_ref().map_or(0.0, |bias| f64::from(bias[column]));
            for k in 0..spec.k {
                let a = a[matrix * spec.a_batch_step + row * spec.a_steps[0] + k * spec.a_steps[1]];
                let b = b[matrix * spec.b_batch_step + k * spec.b_steps[0] + column * spec.b_steps[1]];
                sum += f64::from(a) * f64::from(b);
            }
            let allowed = f64::from(f32::EPSILON) * (spec.k as f64 + 2.0);
            assert!((f64::from(*output) - sum).abs() <= allowed, "{isa} {spec:?} {index}: {output} {sum}");
        }
    }
}

/// A layer of `size x size` pixels with an odd kernel, padded so that a stride of one keeps the size.
fn square(size: usize, in_c: usize, out_c: usize, kernel: usize) -> Conv2d {
    Conv2d {
        in_h: size,
        in_w: size,
        kernel_h: kernel,
        kernel_w: kernel,
        pad: [kernel / 2; 4],
        ..Conv2d::matmul(1, in_c, out_c)
    }
}

#[test]
#[cfg_attr(miri, ignore = "its many products take hours there")]
fn deep_products_are_cut_and_blocks_of_rows_too() {
    Case::new(square(20, 40, 50, 1), Activation::RELU, true, true).check();
    Case::new(square(6, 600, 40, 1), Activation::Silu, true, true).check();
    Case::new(square(4, 530, 20, 3), Activation::None, false, true).check();
    Case::new(square(17, 3, 33, 7), Activation::RELU, true, false).check();
    Case::new(square(1, 700, 130, 1), Activation::HardSwish, true, true).check();
}

#[test]
fn kernel_columns_may_lie_wholly_in_the_padding() {
    let narrow = Conv2d { in_h: 5, in_w: 3, kernel_w: 3, stride_h: 3, ..Conv2d::matmul(1, 13, 1) };
    Case::new(Conv2d { pad: [0, 3, 0, 3], ..narrow }, Activation::None, false, false).check();
    Case::new(Conv2d { pad: [0, 5, 0, 5], in_c: 3, out_c: 9, ..narrow }, Activation::None, true, false)
        .check();
}

#[test]
fn values_that_are_no_numbers_come_through() {
    for geometry in
        [square(5, 16, 16, 3), square(1, 16, 20, 1), Conv2d { groups: 16, ..square(5, 16, 16, 3) }]
    {
        for activation in [Activation::None, Activation::RELU, Activation::HardSwish, Activation::Silu] {
            let mut case = Case::new(geometry, activation, true, false);
            case.input.fill(f32::NAN);
            for isa in Isa::available() {
                let output = case.run(&case.layer(isa), 1);
                assert!(output.iter().all(|x| x.is_nan()), "{isa} {activation:?} {geometry:?}");
            }
            case.input.fill(f32::INFINITY);
            for isa in Isa::available() {
                case.run(&case.layer(isa), 1);
            }
        }
    }
}

#[test]
fn torn_parts_give_no_layer() {
    let case = Case::new(square(5, 20, 24, 3), Activation::LeakyRelu(0.1), true, false);
    for isa in Isa::available() {
        let (header, parts) = case.layer(isa).parts();
        for word in 0..header.len() {
            for value in [0, 1, 2, 3, 7, 1 << 20, u64::MAX] {
                let mut torn = header.clone();
                torn[word] = value;
                // Another size may by chance be one that fits.
                if let Some(layer) = Conv::from_parts(isa, &torn, parts.clone()) {
                    assert!(layer.scratch_bytes() < 1 << 30, "word {word} = {value}");
                }
            }
        }
        assert!(Conv::from_parts(isa, &header[1..], parts.clone()).is_none());
        assert!(Conv::from_parts(isa, &header, parts[..1].to_vec()).is_none());
        let len = parts[0].as_bytes().len();
        for short in [0, 4, len - 64, len - 1] {
            let part = Packed::within(Arc::new(Aligned::zeroed(len)), 0..short).expect("within");
            assert!(Conv::from_parts(isa, &header, vec![part.clone(), parts[1].clone()]).is_none());
            assert!(Conv::from_parts(isa, &header, vec![parts[0].clone(), part]).is_none());
        }
        for other in Isa::available().filter(|other| *other != isa) {
            assert!(Conv::from_parts(other, &header, parts.clone()).is_none());
        }
    }
}
