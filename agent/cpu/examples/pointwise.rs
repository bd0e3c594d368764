//! Times the pointwise kernels on sizes that convolutional networks have, for every instruction set of this machine.

use std::{hint::black_box, time::Instant};
use whimbrel_cpu::{
    isa::Isa,
    pointwise::{
        Quantisation,
        binary::{Binary, binary},
        layout::transpose,
        lut::{lut, of},
        normalise::softmax,
        pool::{self, Pool2d},
        qbinary::{QBinary, QOperation, qbinary},
        qpool::{self, GlobalAverage, global_average},
        qsoftmax::QSoftmax,
        quantise::{dequantise, dequantise_to_nchw, quantise, quantise_to_nhwc},
        resize::{self, Axis, Coordinates, Linear},
        unary::{Unary, unary},
    },
};

const Q: Quantisation = Quantisation { scale: 0.02, zero: 120, signed: false };

/// The least time of one call, in microseconds.
fn least(mut call: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    let start = Instant::now();
    while start.elapsed().as_millis() < 120 {
        let from = Instant::now();
        call();
        best = best.min(from.elapsed().as_secs_f64());
    }
    best * 1e6
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 2_654_435_761) >> 7) as u8).collect()
}

fn floats(len: usize) -> Vec<f32> {
    bytes(len)
        .into_iter()
        .zip(0..)
        .map(|(byte, i)| f32::from(byte) * 0.0513 - 6.0 + (i % 89) as f32 * 3.7e-5)
        .collect()
}

fn quantised(isa: Isa, print: &impl Fn(&str, f64)) {
    let image = floats(3 * 224 * 224);
    let mut pixels = bytes(image.len());
    print(
        "quantise to NHWC 3x224x224",
        least(|| quantise_to_nhwc(isa, Q, 3, black_box(&image), 0, &mut pixels)),
    );
    let halves: Vec<f32> =
        bytes(image.len()).into_iter().map(|byte| (f32::from(byte) - 127.5) * Q.scale).collect();
    print(
        "quantise ties to NHWC 3x224x224",
        least(|| quantise_to_nhwc(isa, Q, 3, black_box(&halves), 0, &mut pixels)),
    );
    print("quantise 3x224x224", least(|| quantise(isa, Q, black_box(&image), &mut pixels)));
    let (map, other) = (bytes(56 * 56 * 256), bytes(56 * 56 * 256));
    let mut out = map.clone();
    let add = QBinary { operation: QOperation::Add, a: Q, b: Q, out: Quantisation { scale: 0.03, ..Q } };
    print("add u8 56x56x256", least(|| qbinary(isa, &add, black_box(&map), &other, &mut out)));
    let mul = QBinary { operation: QOperation::Mul, ..add };
    print("mul u8 56x56x256", least(|| qbinary(isa, &mul, black_box(&map), &other, &mut out)));
    let table = of(Q, Q, Unary::Silu);
    print("lut 56x56x256", least(|| lut(isa, &table, black_box(&map), &mut out)));
    let spec = GlobalAverage { channels: 1280, pixels: 49, input: Q, output: Q };
    print(
        "global average u8 7x7x1280",
        least(|| global_average(isa, &spec, black_box(&map), 0, &mut out[..1280])),
    );
    let table = QSoftmax::new(Q, Quantisation { scale: 1.0 / 256.0, zero: 0, signed: false }, 1000);
    print("softmax u8 1000", least(|| table.run(black_box(&map[..1000]), &mut out[..1000])));
    let pool = Pool2d {
        channels: 64,
        input: [112, 112],
        output: [56, 56],
        kernel: [3, 3],
        stride: [2, 2],
        dilation: [1, 1],
        pad: [1, 1],
        pad_end: [1, 1],
        count_padding: false,
    };
    let half = &mut out[..56 * 56 * 64];
    print("max pool u8 3x3s2 112x112x64", least(|| qpool::max(isa, &pool, black_box(&map), 0..56, half)));
    print(
        "average pool u8 3x3s2 112x112x64",
        least(|| qpool::average(isa, &pool, [Q, Q], black_box(&map), 0..56, half)),
    );
    let mut planes = floats(112 * 112 * 64);
    print(
        "dequantise to NCHW 112x112x64",
        least(|| {
            dequantise_to_nchw(isa, Q, 64, black_box(&map[..112 * 112 * 64]), 0, &mut planes);
        }),
    );
    print(
        "dequantise 112x112x64",
        least(|| {
            dequantise(isa, Q, black_box(&map[..112 * 112 * 64]), &mut planes);
        }),
    );
    let axis = Axis { input: 28, output: 56, scale: 2.0, coordinates: Coordinates::HalfPixel };
    let linear = Linear::new(64, [axis, axis], false, false);
    print(
        "resize linear u8 28 to 56 x64",
        least(|| resize::linear_u8(isa, &linear, black_box(&map[..28 * 28 * 64]), 0..56, half)),
    );
}

fn floating(isa: Isa, print: &impl Fn(&str, f64)) {
    let (map, other) = (floats(56 * 56 * 144), floats(56 * 56 * 144));
    let mut out = map.clone();
    print("add f32 56x56x144", least(|| binary(isa, Binary::Add, black_box(&map), &other, &mut out)));
    for (name, function) in [
        ("sigmoid", Unary::Sigmoid),
        ("silu", Unary::Silu),
        ("hard swish", Unary::HardSwish),
        ("tanh", Unary::Tanh),
        ("gelu", Unary::Gelu),
        ("mish", Unary::Mish),
        ("relu", Unary::Relu),
    ] {
        print(&format!("{name} f32 56x56x144"), least(|| unary(isa, function, black_box(&map), &mut out)));
    }
    print("softmax f32 1000", least(|| softmax(isa, 1000, black_box(&map[..1000]), &mut out[..1000])));
    let pool = Pool2d::global(49, 1280);
    print(
        "global average f32 7x7x1280",
        least(|| {
            pool::average(isa, &pool, black_box(&map[..49 * 1280]), 0..1, &mut out[..1280]);
        }),
    );
    print("transpose f32 3136x144", least(|| transpose(144, black_box(&map), 0, &mut out)));
    let (small, mut turned) = (bytes(56 * 56 * 144), bytes(56 * 56 * 144));
    print("transpose u8 3136x144", least(|| transpose(144, black_box(&small), 0, &mut turned)));
}

fn main() {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    for isa in Isa::available().filter(|isa| !matches!(isa, Isa::AvxVnni)) {
        let print = |name: &str, time: f64| {
            if name.contains(&wanted) {
                println!("{isa:>12}  {name:<34} {time:9.1} us");
            }
        };
        quantised(isa, &print);
        floating(isa, &print);
    }
}
