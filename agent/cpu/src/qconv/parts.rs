//! A layer as plain numbers and packed bytes, for a plan cache.

use super::{
    Method, Parameters, QConv, dense::Dense, depthwise::Depthwise, finish::Add, finish::Finish,
    finish::Quantise, layout::Format,
};
use crate::{geometry::Conv2d, isa::Isa, packed::Packed};

/// Changes with every change of the packed form.
const VERSION: u32 = 2;

/// Channels, kernels and images beyond which nothing is believed.
const MOST: u32 = 1 << 24;

/// Numbers of a layer.
const NUMBERS: usize = 34;

impl QConv {
    /// The layer's numbers and its packed parts, from which [`Self::from_parts`] makes it again.
    #[must_use]
    pub fn parts(&self) -> (Vec<u32>, Vec<Packed>) {
        let (method, [weights, extra, shuffles]) = match &self.method {
            Method::Dense(dense) => (dense.format() as u32, dense.parts()),
            Method::Depthwise(depthwise) => (DEPTHWISE + depthwise.format() as u32, depthwise.parts()),
        };
        let place = Isa::ALL.iter().position(|isa| *isa == self.isa).unwrap_or_default();
        let mut numbers = vec![VERSION, place as u32, u32::from(self.input_zero), method];
        numbers.extend(geometry_numbers(&self.geometry));
        numbers.extend(finish_numbers(&self.finish));
        let Parameters { bias, sums, multiplier, offset } = self.parameters.clone();
        (numbers, vec![weights, extra, shuffles, bias, sums, multiplier, offset])
    }

    /// The layer of [`Self::parts`]; `None` where they contradict each other or are another instruction set's.
    #[must_use]
    pub fn from_parts(isa: Isa, numbers: &[u32], parts: &[Packed]) -> Option<Self> {
        let numbers: &[u32; NUMBERS] = numbers.try_into().ok()?;
        let [weights, extra, shuffles, bias, sums, multiplier, offset] =
            <&[Packed; 7]>::try_from(parts).ok()?.clone();
        let [version, place, input_zero, method, ..] = *numbers;
        if version != VERSION || Isa::ALL.get(place as usize) != Some(&isa) {
            return None;
        }
        let geometry = geometry(numbers[4..20].try_into().ok()?)?;
        let finish = finish(numbers[20..].try_into().ok()?)?;
        let method = if let Some(format) = method.checked_sub(DEPTHWISE) {
            let fits =
                geometry.is_depthwise() && extra.as_bytes().is_empty() && shuffles.as_bytes().is_empty();
            let format = Format::from_number(format)?;
            let layer = fits.then(|| Depthwise::from_parts(isa, &geometry, format, weights));
            Method::Depthwise(layer??)
        } else if geometry.is_depthwise() {
            return None;
        } else {
            Method::Dense(Dense::from_parts(
                isa,
                &geometry,
                Format::from_number(method)?,
                [weights, extra, shuffles],
            )?)
        };
        let channels = method.places(&geometry).len(geometry.out_c);
        let lengths = [&bias, &sums, &multiplier, &offset].map(|part| part.as_bytes().len());
        let fits = match finish {
            Finish::Int32 => lengths == [channels * 4, channels * 4, 0, 0],
            Finish::Quantised(..) => lengths == [channels * 4, channels * 4, channels * 4, 0],
            Finish::Float => {
                lengths[..3] == [channels * 4; 3] && (lengths[3] == 0 || lengths[3] == channels * 4)
            }
        };
        let parameters = Parameters { bias, sums, multiplier, offset };
        let input_zero = u8::try_from(input_zero).ok()?;
        fits.then_some(Self { isa, geometry, input_zero, finish, method, parameters })
    }
}

/// Added to the number of a depthwise layer's format.
const DEPTHWISE: u32 = 100;

fn geometry_numbers(geometry: &Conv2d) -> [u32; 16] {
    let Conv2d { batch, in_h, in_w, in_c, out_c, kernel_h, kernel_w, .. } = *geometry;
    let Conv2d { stride_h, stride_w, dilation_h, dilation_w, pad, groups, .. } = *geometry;
    [
        batch, in_h, in_w, in_c, out_c, kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w,
        groups, pad[0], pad[1], pad[2], pad[3],
    ]
    .map(|number| number as u32)
}

fn geometry(numbers: [u32; 16]) -> Option<Conv2d> {
    let sizes = &numbers[..12];
    if numbers.iter().any(|size| *size > MOST) || sizes[1..].contains(&0) {
        return None;
    }
    let n = numbers.map(|number| number as usize);
    let geometry = Conv2d {
        batch: n[0],
        in_h: n[1],
        in_w: n[2],
        in_c: n[3],
        out_c: n[4],
        kernel_h: n[5],
        kernel_w: n[6],
        stride_h: n[7],
        stride_w: n[8],
        dilation_h: n[9],
        dilation_w: n[10],
        groups: n[11],
        pad: [n[12], n[13], n[14], n[15]],
    };
    let input = [n[0], n[1], n[2], n[3]];
    let output = [n[0], geometry.out_h(), geometry.out_w(), n[4]];
    let k = [n[3], n[4], n[5], n[6]];
    let counts = |sizes: [usize; 4]| sizes.iter().try_fold(1usize, |all, size| all.checked_mul(*size));
    let believable = [input, output, k].iter().all(|sizes| counts(*sizes).is_some_and(|all| all < 1 << 31));
    let channels = n[3].is_multiple_of(n[11]) && n[4].is_multiple_of(n[11]);
    (believable && channels).then_some(geometry)
}

fn finish_numbers(finish: &Finish) -> [u32; 14] {
    let mut numbers = [0; 14];
    match finish {
        Finish::Int32 => {}
        Finish::Float => numbers[0] = 1,
        Finish::Quantised(quantise, add) => {
            numbers[0] = 2 + u32::from(add.is_some());
            numbers[1..4].copy_from_slice(&[
                quantise.low.to_bits(),
                quantise.high.to_bits(),
                quantise.zero as u32,
            ]);
            numbers[11] = u32::from(quantise.small);
            if let Some(add) = add {
                let ratios = [add.own_ratio, add.other_ratio, add.fixed, add.low, add.high];
                numbers[4..9].copy_from_slice(&ratios.map(f32::to_bits));
                numbers[9..11].copy_from_slice(&[add.shift as u32, u32::from(add.own_first)]);
            }
        }
    }
    numbers
}

fn finish(numbers: [u32; 14]) -> Option<Finish> {
    match numbers[0] {
        0 => Some(Finish::Int32),
        1 => Some(Finish::Float),
        2 | 3 => {
            let [low, high] = [numbers[1], numbers[2]].map(f32::from_bits);
            let small = numbers[11] == 1;
            let quantise = Quantise { low, high, zero: i32::try_from(numbers[3]).ok()?, small };
            let add = Add {
                own_ratio: f32::from_bits(numbers[4]),
                other_ratio: f32::from_bits(numbers[5]),
                fixed: f32::from_bits(numbers[6]),
                low: f32::from_bits(numbers[7]),
                high: f32::from_bits(numbers[8]),
                shift: i32::try_from(numbers[9]).ok()?,
                own_first: numbers[10] == 1,
            };
            let bytes = |bound: f32, zero: i32| (0.0..=255.0).contains(&(bound + zero as f32));
            let within = bytes(low, quantise.zero) && bytes(high, quantise.zero);
            let sum_within = bytes(add.low, add.shift) && bytes(add.high, add.shift);
            (within && sum_within).then_some(Finish::Quantised(quantise, (numbers[0] == 3).then_some(add)))
        }
        _ => None,
    }
}
