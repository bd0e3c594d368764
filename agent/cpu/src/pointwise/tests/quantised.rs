//! Quantised kernels against ONNX Runtime and against plain loops.

use super::{bytes, floats, onnxruntime as ort};
use crate::{
    isa::Isa,
    pointwise::{
        Quantisation,
        broadcast::Broadcast,
        lut::{lut, lut_in_place, of, requantise, table},
        pool::Pool2d,
        qbinary::{QBinary, QOperation, qbinary, qbinary_broadcast, qbinary_in_place},
        qpool::{self, GlobalAverage},
        qsoftmax::QSoftmax,
        quantise::{self, dequantise_to_nchw, quantise_channels, quantise_to_nhwc},
        unary::Unary,
    },
};
use proptest::prelude::*;

const NUMBERS: [f32; 24] = [
    0.0,
    -0.0,
    0.01,
    -0.01,
    0.03,
    0.05,
    -0.05,
    0.07,
    1.11,
    -1.11,
    2.345,
    -2.345,
    9.0,
    -9.0,
    1e30,
    -1e30,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    0.5,
    -0.5,
    1.25,
    -1.25,
    3.3,
];

fn q(scale: f32, zero: u8, signed: bool) -> Quantisation {
    Quantisation { scale, zero, signed }
}

/// ONNX Runtime's results for u8 or for int8.
fn expected<'a>(signed: bool, unsigned: &'a [u8], other: &'a [u8]) -> &'a [u8] {
    if signed { other } else { unsigned }
}

#[test]
fn elements_are_those_of_onnx_runtime() {
    for (isa, signed) in Isa::available().flat_map(|isa| [(isa, false), (isa, true)]) {
        let mut out = vec![0; 24];
        quantise::quantise(isa, q(0.02, 120, signed), &NUMBERS, &mut out);
        assert_eq!(out, expected(signed, &ort::QUANTISED_U8, &ort::QUANTISED_S8), "{isa}");
        let (a, b) = (q(0.0213, 117, signed), q(0.0371, 140, signed));
        let add = QBinary { operation: QOperation::Add, a, b, out: q(0.0419, 131, signed) };
        let mut out = vec![0; 45];
        qbinary(isa, &add, &bytes(45, 1), &bytes(45, 2), &mut out);
        assert_eq!(out, expected(signed, &ort::ADD_U8, &ort::ADD_S8), "{isa}");
        let mul = QBinary { operation: QOperation::Mul, out: q(0.0271, 131, signed), ..add };
        qbinary(isa, &mul, &bytes(45, 1), &bytes(45, 2), &mut out);
        assert_eq!(out, expected(signed, &ort::MUL_U8, &ort::MUL_S8), "{isa}");
    }
}

#[test]
fn tables_and_softmax_are_those_of_onnx_runtime() {
    for signed in [false, true] {
        let sigmoid = of(q(0.0371, 117, signed), q(1.0 / 256.0, 0, signed), Unary::Sigmoid);
        let every_fifth: Vec<u8> = sigmoid.iter().step_by(5).copied().collect();
        assert_eq!(every_fifth, expected(signed, &ort::SIGMOID_U8, &ort::SIGMOID_S8));
        let softmax = QSoftmax::new(q(0.05, 128, signed), q(1.0 / 256.0, 0, signed), 10);
        let mut out = vec![0; 20];
        softmax.run(&bytes(20, 3), &mut out);
        assert_eq!(out, expected(signed, &ort::SOFTMAX_U8, &ort::SOFTMAX_S8));
    }
    let same = q(0.1, 7, false);
    assert!(requantise(same, same).iter().enumerate().all(|(at, element)| at == usize::from(*element)));
}

#[test]
fn means_are_those_of_onnx_runtime() {
    for (isa, signed) in Isa::available().flat_map(|isa| [(isa, false), (isa, true)]) {
        let (input, output) = (q(0.02, 117, signed), q(0.0131, 131, signed));
        let mut out = vec![0; 19];
        let spec = GlobalAverage { channels: 19, pixels: 25, input, output };
        qpool::global_average(isa, &spec, &bytes(25 * 19, 4), 0, &mut out[..5]);
        qpool::global_average(isa, &spec, &bytes(25 * 19, 4), 5, &mut out[5..]);
        assert_eq!(out, expected(signed, &ort::GLOBAL_U8, &ort::GLOBAL_S8), "{isa}");
        let pool = Pool2d {
            channels: 3,
            input: [6, 6],
            output: [3, 3],
            kernel: [3, 2],
            stride: [2, 2],
            dilation: [1, 1],
            pad: [1, 0],
            pad_end: [0, 1],
            count_padding: signed,
        };
        assert_eq!(Pool2d::output_size(6, 2, 2, 1, [0, 1], true), 3);
        let wanted = expected(signed, &ort::AVERAGE_U8, &ort::AVERAGE_S8);
        assert_eq!(wanted.len(), pool.row_len() * pool.output[0]);
        let mut out = vec![0; wanted.len()];
        qpool::average(isa, &pool, [input, output], &bytes(36 * 3, 5), 0..pool.output[0], &mut out);
        assert_eq!(out, wanted, "{isa}");
    }
}

#[test]
fn a_scalar_and_a_broadcast_are_like_repeated_elements() {
    let add = QBinary {
        operation: QOperation::Add,
        a: q(0.02, 100, false),
        b: q(0.03, 150, false),
        out: q(0.05, 128, false),
    };
    for isa in Isa::available() {
        for operation in [QOperation::Add, QOperation::Mul] {
            let spec = QBinary { operation, ..add };
            let (a, b) = (bytes(3 * 40, 1), bytes(40, 2));
            let repeated: Vec<u8> = b.iter().copied().cycle().take(120).collect();
            let (mut whole, mut parts) = (vec![0; 120], vec![0; 120]);
            qbinary(isa, &spec, &a, &repeated, &mut whole);
            let broadcast = Broadcast::new(&[3, 40], &[40]).expect("fits");
            let (first, rest) = parts.split_at_mut(40);
            qbinary_broadcast(isa, &spec, &broadcast, [&a, &b], 0..1, first);
            qbinary_broadcast(isa, &spec, &broadcast, [&a, &b], 1..3, rest);
            assert_eq!(whole, parts, "{isa}");
            let mut scalar = vec![0; 120];
            qbinary(isa, &spec, &a, &b[..1], &mut scalar);
            qbinary(isa, &spec, &a, &[b[0]; 120], &mut whole);
            let far = whole.iter().zip(&scalar).filter(|(a, b)| a.abs_diff(**b) > 1).count();
            assert_eq!(far, 0, "{isa}");
            let (mut own, mut own_scalar) = (a.clone(), a.clone());
            qbinary_in_place(isa, &spec, &mut own, &repeated);
            qbinary_in_place(isa, &spec, &mut own_scalar, &b[..1]);
            assert_eq!([own, own_scalar], [parts, scalar], "{isa}");
            let mut one = vec![9; 3];
            qbinary(isa, &spec, &a[..1], &b[..1], &mut one);
            assert_eq!(one, [one[0]; 3]);
        }
    }
}

#[test]
fn sums_saturate_at_both_ends_and_what_no_i32_holds_becomes_the_lowest() {
    let q = q(1.0, 0, false);
    let far = Quantisation { scale: 1e-9, zero: 100, signed: false };
    for isa in Isa::available() {
        for (a, out, wanted) in [(q, q, 255), (Quantisation { zero: 255, ..q }, q, 0), (q, far, 0)] {
            let spec = QBinary { operation: QOperation::Add, a, b: a, out };
            let element = if a.zero == 0 { 255 } else { 0 };
            let mut result = vec![7; 70];
            qbinary(isa, &spec, &[element; 70], &[element; 70], &mut result);
            assert_eq!(result, [wanted; 70], "{isa}");
        }
    }
}

#[test]
fn a_quantisation_per_channel_takes_turns() {
    let channels = [q(0.1, 10, false), q(0.2, 20, false), q(0.3, 30, false)];
    let input = floats(24, 3);
    for (isa, inner) in Isa::available().flat_map(|isa| [(isa, 1), (isa, 4)]) {
        let (mut out, mut back) = (vec![0; 24], vec![0.0; 24]);
        quantise_channels(isa, &channels, inner, &input, &mut out);
        quantise::dequantise_channels(isa, &channels, inner, &out, &mut back);
        for at in 0..24 {
            let channel = channels[at / inner % 3];
            assert_eq!(out[at], channel.quantise(input[at]));
            assert_eq!(back[at], channel.dequantise(out[at]));
        }
    }
}

#[test]
fn a_dynamic_range_holds_zero() {
    let q = quantise::dynamic(1.0, 5.0);
    assert_eq!((q.scale, q.zero), (5.0 / 255.0, 0));
    assert_eq!(quantise::dynamic(0.0, 0.0).scale, 1.0);
    assert_eq!(quantise::dynamic(-1.0, 1.0).zero, 127);
    for isa in Isa::available() {
        let mut input = floats(77, 5);
        input[3] = f32::NAN;
        input[70] = 99.0;
        input[71] = -98.0;
        assert_eq!(quantise::range(isa, &input), (-98.0, 99.0));
        assert_eq!(quantise::range(isa, &[]), (0.0, 0.0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn quantising_is_dividing_and_rounding(
        (len, seed) in (0usize..700, 0usize..99),
        scale in prop_oneof![Just(0.02f32), Just(2.0 / 255.0), 1e-6f32..1e3, Just(1e-42f32), Just(3e38f32)],
        (zero, signed, steps) in (any::<u8>(), any::<bool>(), any::<bool>()),
    ) {
        let q = Quantisation { scale, zero, signed };
        // Half of the cases consist of ties.
        let input: Vec<f32> = bytes(len, seed).iter().zip(floats(len, seed))
            .map(|(step, value)| if steps { (f32::from(*step) - 127.5) * scale } else { value * scale * 30.0 })
            .collect();
        let zero = f32::from(zero);
        let wanted: Vec<u8> = input.iter()
            .map(|x| ((x / scale).max(-zero).min(255.0 - zero).round_ties_even() + zero) as u8).collect();
        for isa in Isa::available() {
            let mut out = vec![1; len];
            quantise::quantise(isa, q, &input, &mut out);
            prop_assert_eq!(&out, &wanted, "{}", isa);
            let mut back = vec![1.0; len];
            quantise::dequantise(isa, q, &out, &mut back);
            prop_assert!(back.iter().zip(&out).all(|(x, e)| *x == (f32::from(*e) - zero) * scale));
        }
    }

    #[test]
    fn layouts_change_along_the_way(
        (channels, pixels) in (1usize..40, 1usize..300),
        (first, last) in (0usize..300, 0usize..300),
    ) {
        let (first, last) = (first.min(last) % pixels, first.max(last) % pixels + 1);
        let (first, last) = (first.min(last), first.max(last));
        let q = Quantisation { scale: 0.05, zero: 77, signed: false };
        let planes = floats(channels * pixels, 2);
        for isa in Isa::available() {
            let mut out = vec![0; (last - first) * channels];
            quantise_to_nhwc(isa, q, channels, &planes, first, &mut out);
            for (at, element) in out.iter().enumerate() {
                let (pixel, channel) = (at / channels + first, at % channels);
                prop_assert_eq!(*element, q.quantise(planes[channel * pixels + pixel]));
            }
            let elements = bytes(channels * pixels, 3);
            let from = channels / 3;
            let mut back = vec![0.0; (channels - from) * pixels];
            dequantise_to_nchw(isa, q, channels, &elements, from, &mut back);
            for (at, value) in back.iter().enumerate() {
                let (channel, pixel) = (at / pixels + from, at % pixels);
                prop_assert_eq!(*value, q.dequantise(elements[pixel * channels + channel]));
            }
        }
    }

    #[test]
    fn sums_and_products_agree_on_every_machine(
        (len, signed) in (0usize..200, any::<bool>()),
        scales in [1e-3f32..1.0, 1e-3f32..1.0, 1e-2f32..1.0],
        zeros in any::<[u8; 3]>(),
    ) {
        let [a, b, out] = [0, 1, 2].map(|at| Quantisation { scale: scales[at], zero: zeros[at], signed });
        for operation in [QOperation::Add, QOperation::Mul] {
            let spec = QBinary { operation, a, b, out };
            let mut plain = vec![0; len];
            qbinary(Isa::Generic, &spec, &bytes(len, 1), &bytes(len, 2), &mut plain);
            for isa in Isa::available() {
                let mut out = vec![0; len];
                qbinary(isa, &spec, &bytes(len, 1), &bytes(len, 2), &mut out);
                prop_assert_eq!(&out, &plain, "{}", isa);
            }
            for ((x, y), z) in bytes(len, 1).iter().zip(bytes(len, 2)).zip(plain) {
                let (x, y) = (f64::from(a.dequantise(*x)), f64::from(b.dequantise(y)));
                let exact = if operation == QOperation::Add { x + y } else { x * y };
                let exact = (exact / f64::from(out.scale) + f64::from(out.zero)).clamp(0.0, 255.0);
                prop_assert!((exact - f64::from(z)).abs() < 0.501, "{} is not near {}", z, exact);
            }
        }
    }

    #[test]
    fn tables_are_looked_up(len in 0usize..300) {
        let table = table(q(0.1, 3, false), q(0.2, 9, false), |x| 3.0 - x);
        for isa in Isa::available() {
            let (mut out, mut own) = (vec![0; len], bytes(len, 4));
            lut(isa, &table, &bytes(len, 4), &mut out);
            lut_in_place(&table, &mut own);
            prop_assert!(out.iter().zip(bytes(len, 4)).all(|(out, at)| *out == table[usize::from(at)]));
            prop_assert_eq!(out, own);
        }
    }
}
