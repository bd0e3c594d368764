//! Every kernel against a plain scalar convolution.

use super::*;
use proptest::prelude::*;

/// Small, reproducible random numbers.
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn between(&mut self, low: i32, high: i32) -> i32 {
        low + (self.next() % (high - low + 1) as u64) as i32
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Quantised,
    Residual { own_first: bool, signed: bool },
    Int32,
    Float,
}

/// Which weights and inputs to draw.
#[derive(Debug, Clone, Copy)]
enum Values {
    Even,
    /// As seven-bit quantisation leaves them.
    Small,
    Asymmetric,
    /// Only the greatest magnitudes.
    Extreme,
}

#[derive(Debug, Clone)]
struct Case {
    geometry: Conv2d,
    weights: Vec<i16>,
    bias: Option<Vec<i32>>,
    float_bias: Vec<f32>,
    multiplier: Vec<f32>,
    input: Vec<u8>,
    other: Vec<u8>,
    input_zero: u8,
    kind: Kind,
    bounds: (u8, u8, u8),
}

impl Case {
    fn new(geometry: Conv2d, kind: Kind, values: Values, seed: u64) -> Self {
        let mut random = Random(seed);
        for _ in 0..4 {
            random.next();
        }
        let per_channel = geometry.in_c / geometry.groups * geometry.kernel_h * geometry.kernel_w;
        let weight = |random: &mut Random| match values {
            Values::Even => random.between(-128, 127),
            Values::Small => random.between(-64, 63),
            Values::Asymmetric => random.between(-255, 255),
            Values::Extreme => [-128, 127, 127, -127][random.between(0, 3) as usize],
        } as i16;
        let value = |random: &mut Random| match values {
            Values::Extreme => [0, 255, 255, 128][random.between(0, 3) as usize],
            _ => random.between(0, 255),
        } as u8;
        let weights = (0..geometry.out_c * per_channel).map(|_| weight(&mut random)).collect();
        let mut input: Vec<u8> = (0..geometry.in_len()).map(|_| value(&mut random)).collect();
        input.resize(input.len() + SLACK_BYTES, 0xa5);
        let c = geometry.out_c;
        let multipliers = if random.between(0, 3) == 0 { 1 } else { c };
        let scale = 1.0 / (1 << 20) as f32 / per_channel as f32;
        let multiplier = (0..multipliers)
            .map(|_| match random.between(0, 9) {
                0 => 1e-12,
                _ => random.between(500, 10_000) as f32 * scale,
            })
            .collect();
        let min = random.between(0, 60) as u8;
        Self {
            geometry,
            weights,
            bias: (random.between(0, 2) > 0)
                .then(|| (0..c).map(|_| random.between(-20_000, 20_000)).collect()),
            float_bias: (0..c).map(|_| random.between(-1000, 1000) as f32 / 64.0).collect(),
            multiplier,
            input,
            other: (0..geometry.out_len()).map(|_| random.between(0, 255) as u8).collect(),
            input_zero: random.between(0, 255) as u8,
            kind,
            bounds: (random.between(0, 255) as u8, min, random.between(i32::from(min), 255) as u8),
        }
    }

    fn residual(&self) -> Option<Residual> {
        let Kind::Residual { own_first, signed } = self.kind else { return None };
        Some(Residual {
            own_scale: 0.0231,
            own_zero: self.bounds.0,
            other_scale: 0.0417,
            other_zero: 131,
            scale: 0.0529,
            zero: 117,
            min: 3,
            max: 250,
            own_first,
            signed,
        })
    }

    fn spec(&self) -> QConvSpec<'_> {
        let output = match self.kind {
            Kind::Quantised | Kind::Residual { .. } => QOutput::Quantised {
                multiplier: &self.multiplier,
                zero: self.bounds.0,
                min: self.bounds.1,
                max: self.bounds.2,
                residual: self.residual(),
            },
            Kind::Int32 => QOutput::Int32,
            Kind::Float => QOutput::Float {
                multiplier: &self.multiplier,
                bias: self.bias.is_some().then_some(&self.float_bias[..]),
            },
        };
        QConvSpec {
            geometry: self.geometry,
            weights: &self.weights,
            bias: self.bias.as_deref(),
            input_zero: self.input_zero,
            output,
        }
    }

    /// The sum of one output element, over an input of this zero.
    fn sum(&self, index: usize, zero: u8) -> i32 {
        let g = &self.geometry;
        let (pixel, c) = (index / g.out_c, index % g.out_c);
        let (row, x) = (pixel / g.out_w(), pixel % g.out_w());
        let (image, y) = (row / g.out_h(), row % g.out_h());
        let in_c = g.in_c / g.groups;
        let first = c / (g.out_c / g.groups) * in_c;
        let mut sum = self.bias.as_ref().map_or(0, |bias| bias[c]);
        for i in 0..in_c * g.kernel_h * g.kernel_w {
            let (ic, tap) = (i / (g.kernel_h * g.kernel_w), i % (g.kernel_h * g.kernel_w));
            let y = (y * g.stride_h + tap / g.kernel_w * g.dilation_h).wrapping_sub(g.pad[0]);
            let x = (x * g.stride_w + tap % g.kernel_w * g.dilation_w).wrapping_sub(g.pad[1]);
            if y < g.in_h && x < g.in_w {
                let at = ((image * g.in_h + y) * g.in_w + x) * g.in_c + first + ic;
                let weight = self.weights[c * in_c * g.kernel_h * g.kernel_w + i];
                sum += (i32::from(self.input[at]) - i32::from(zero)) * i32::from(weight);
            }
        }
        sum
    }

    fn factor(&self, index: usize) -> f32 {
        self.multiplier[index % self.geometry.out_c % self.multiplier.len()]
    }

    fn quantised(&self, index: usize) -> u8 {
        let (zero, min, max) = self.bounds;
        let value = (self.sum(index, self.input_zero) as f32 * self.factor(index)).round_ties_even();
        let own = (value + f32::from(zero)).clamp(min.into(), max.into()) as u8;
        let Some(add) = self.residual() else { return own };
        let shift = if add.signed { 128.0 } else { 0.0 };
        let number = |stored: u8| f32::from(stored) - shift;
        let own = (number(own), add.own_scale / add.scale, number(add.own_zero));
        let other = (number(self.other[index]), add.other_scale / add.scale, number(add.other_zero));
        let (a, b) = if add.own_first { (own, other) } else { (other, own) };
        let fixed = number(add.zero) - a.1.mul_add(a.2, b.1 * b.2);
        let value = a.0.mul_add(a.1, b.0.mul_add(b.1, fixed));
        (value.round_ties_even() + shift).clamp(add.min.into(), add.max.into()) as u8
    }

    fn float(&self, index: usize, zero: u8, scale: f32) -> f32 {
        let value = self.sum(index, zero) as f32 * (scale * self.factor(index));
        if self.bias.is_some() { value + self.float_bias[index % self.geometry.out_c] } else { value }
    }

    /// Runs the layer on every instruction set, in pieces of `step` units.
    fn check(&self, step: usize) -> Result<(), TestCaseError> {
        for isa in Isa::available() {
            let layer = QConv::new(isa, &self.spec());
            self.check_layer(&layer, step)?;
            let (numbers, parts) = layer.parts();
            let again = QConv::from_parts(isa, &numbers, &parts).expect("a layer's own parts");
            self.check_layer(&again, usize::MAX)?;
        }
        Ok(())
    }

    fn check_layer(&self, layer: &QConv, step: usize) -> Result<(), TestCaseError> {
        let mut scratch = vec![0x5a; layer.scratch_bytes()];
        let units = layer.units();
        prop_assert_eq!(layer.output_range(0..units), 0..self.geometry.out_len());
        let mut start = 0;
        while start < units {
            let part = start..start.saturating_add(step).min(units);
            let range = layer.output_range(part.clone());
            start = part.end;
            match self.kind {
                Kind::Quantised | Kind::Residual { .. } => {
                    let mut output = vec![0; range.len()];
                    let other = self.residual().map(|_| &self.other[..]);
                    layer.run(part, &self.input, other, QSlice::U8(&mut output), &mut scratch);
                    let expected: Vec<u8> = range.map(|i| self.quantised(i)).collect();
                    prop_assert_eq!(output, expected, "{}", layer.isa());
                }
                Kind::Int32 => {
                    let mut output = vec![0; range.len()];
                    layer.run(part.clone(), &self.input, None, QSlice::I32(&mut output), &mut scratch);
                    let expected: Vec<i32> = range.map(|i| self.sum(i, self.input_zero)).collect();
                    prop_assert_eq!(output, expected, "{}", layer.isa());
                }
                Kind::Float => self.check_float(layer, part, &mut scratch)?,
            }
        }
        Ok(())
    }

    fn check_float(
        &self,
        layer: &QConv,
        units: Range<usize>,
        scratch: &mut [u8],
    ) -> Result<(), TestCaseError> {
        let range = layer.output_range(units.clone());
        let mut output = vec![0.0; range.len()];
        layer.run(units.clone(), &self.input, None, QSlice::F32(&mut output), scratch);
        let expected: Vec<f32> = range.clone().map(|i| self.float(i, self.input_zero, 1.0)).collect();
        prop_assert_eq!(&output, &expected, "{}", layer.isa());
        let dynamic = Dynamic { input_zero: 77, scale: 0.37 };
        layer.run_dynamic(units, &self.input, dynamic, QSlice::F32(&mut output), scratch);
        let expected: Vec<f32> = range.map(|i| self.float(i, 77, 0.37)).collect();
        prop_assert_eq!(&output, &expected, "{}", layer.isa());
        Ok(())
    }
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => Just(Kind::Quantised),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(own_first, signed)| Kind::Residual { own_first, signed }),
        1 => Just(Kind::Int32),
        1 => Just(Kind::Float),
    ]
}

fn values() -> impl Strategy<Value = Values> {
    prop_oneof![Just(Values::Even), Just(Values::Small), Just(Values::Asymmetric), Just(Values::Extreme)]
}

prop_compose! {
    /// Channels are per group; `depthwise` makes them one each.
    fn geometries()(
        (batch, in_h, in_w) in (1usize..3, 1usize..12, 1usize..12),
        (in_c, out_c, groups) in (1usize..20, 1usize..40, prop_oneof![3 => Just(1usize), 1 => 2usize..4]),
        depthwise in prop_oneof![Just(None), (2usize..150).prop_map(Some)],
        (kernel_h, kernel_w) in prop_oneof![Just((1, 1)), Just((3, 3)), (1usize..6, 1usize..6)],
        (stride_h, stride_w, dilation_h, dilation_w) in (1usize..3, 1usize..4, 1usize..3, 1usize..3),
        pad in prop::array::uniform4(0usize..3),
    ) -> Conv2d {
        let (groups, in_c, out_c) = match depthwise {
            Some(channels) => (channels, 1, 1),
            None => (groups, in_c, out_c),
        };
        Conv2d {
            batch, in_h, in_w, in_c: in_c * groups, out_c: out_c * groups, kernel_h, kernel_w,
            stride_h, stride_w, dilation_h, dilation_w, pad, groups,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 40 } else { 250 }, ..ProptestConfig::default() })]

    #[test]
    fn every_kernel_computes_the_plain_convolution(
        geometry in geometries(), kind in kinds(), values in values(), seed: u64, step in 1usize..5,
    ) {
        Case::new(geometry, kind, values, seed).check(step)?;
    }

    #[test]
    fn every_kernel_computes_the_plain_product(
        (rows, in_c, out_c) in (prop_oneof![Just(1usize), 1usize..60], 1usize..200, 1usize..150),
        kind in kinds(), values in values(), seed: u64, step in 1usize..5,
    ) {
        Case::new(Conv2d::matmul(rows, in_c, out_c), kind, values, seed).check(step)?;
    }

    #[test]
    fn torn_parts_make_no_layer(
        geometry in geometries(), values in values(), seed: u64, which in 0usize..8, place: prop::sample::Index,
    ) {
        let case = Case::new(geometry, Kind::Quantised, values, seed);
        for isa in Isa::available() {
            let (mut numbers, mut parts) = QConv::new(isa, &case.spec()).parts();
            if let Some(part) = parts.get_mut(which) {
                let bytes = part.as_bytes();
                if bytes.is_empty() {
                    continue;
                }
                *part = Packed::of(&bytes[..place.index(bytes.len())]);
                prop_assert!(QConv::from_parts(isa, &numbers, &parts).is_none());
            } else {
                // Another number may be another layer's, but never one that leaves its slices.
                let at = place.index(numbers.len());
                numbers[at] = numbers[at].wrapping_add(seed as u32 >> (seed >> 59));
                if let Some(layer) = QConv::from_parts(isa, &numbers, &parts) {
                    prop_assert!(layer.units() < usize::MAX);
                }
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "its many products take hours there, and no other path than others")]
fn uniform_extremes_are_exact() {
    for (value, weight) in [(0u8, -128i16), (255, -128), (255, 127), (255, 255), (128, -255)] {
        for geometry in [Conv2d::matmul(1, 300, 40), Conv2d::matmul(9, 77, 70)] {
            let mut case = Case::new(geometry, Kind::Int32, Values::Even, 1);
            case.weights.fill(weight);
            case.input.fill(value);
            case.check(3).expect("exact sums");
        }
    }
}

#[test]
fn an_output_without_pixels_has_no_units() {
    let geometry = Conv2d { kernel_h: 3, kernel_w: 3, in_h: 2, ..Conv2d::matmul(2, 4, 4) };
    let case = Case::new(geometry, Kind::Quantised, Values::Even, 1);
    assert_eq!(QConv::new(Isa::Generic, &case.spec()).units(), 0);
}
