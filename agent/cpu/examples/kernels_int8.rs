//! Times the int8 kernels on one thread: `cargo run --release -p whimbrel-cpu --example kernels_int8 -- [isa] [name]`.

use std::{hint::black_box, time::Instant};
use whimbrel_cpu::{
    geometry::Conv2d,
    isa::Isa,
    qconv::{QConv, QConvSpec, QOutput, QSlice, Residual},
};

const ROUNDS: usize = 60;
const ROUND_SECONDS: f64 = 0.0015;

const RESIDUAL: Residual = Residual {
    own_scale: 0.02,
    own_zero: 128,
    other_scale: 0.03,
    other_zero: 120,
    scale: 0.04,
    zero: 125,
    min: 0,
    max: 255,
    own_first: true,
    signed: false,
};

fn square(size: usize, in_c: usize, out_c: usize, kernel: usize, stride: usize) -> Conv2d {
    let pad = [kernel / 2; 4];
    Conv2d {
        in_h: size,
        in_w: size,
        kernel_h: kernel,
        kernel_w: kernel,
        stride_h: stride,
        stride_w: stride,
        pad,
        ..Conv2d::matmul(1, in_c, out_c)
    }
}

fn depthwise(size: usize, channels: usize, kernel: usize, stride: usize) -> Conv2d {
    Conv2d { groups: channels, ..square(size, channels, channels, kernel, stride) }
}

fn layers() -> Vec<(&'static str, Conv2d)> {
    let speech = |conv: Conv2d| Conv2d { in_h: 25, in_w: 5, ..conv };
    let first = Conv2d {
        in_h: 49,
        in_w: 10,
        kernel_h: 10,
        kernel_w: 4,
        stride_h: 2,
        stride_w: 2,
        pad: [4, 1, 5, 1],
        ..Conv2d::matmul(1, 1, 64)
    };
    vec![
        // What the kernel can do at most: rows and weights in the first cache, no order and no extra entries.
        ("roof 1x1 96x256->16", Conv2d::matmul(96, 256, 16)),
        ("1x1 112x112 16->96", square(112, 16, 96, 1, 1)),
        ("1x1 56x56 24->144", square(56, 24, 144, 1, 1)),
        ("1x1 56x56 144->24", square(56, 144, 24, 1, 1)),
        ("1x1 56x56 144->24 + add", square(56, 144, 24, 1, 1)),
        ("1x1 14x14 96->576", square(14, 96, 576, 1, 1)),
        ("1x1 7x7 320->1280", square(7, 320, 1280, 1, 1)),
        ("1x1 14x14 576->96", square(14, 576, 96, 1, 1)),
        ("3x3 56x56 64->64", square(56, 64, 64, 3, 1)),
        ("3x3 14x14 256->256", square(14, 256, 256, 3, 1)),
        ("3x3s2 224x224 3->32", square(224, 3, 32, 3, 2)),
        ("dw 3x3 112x112x32", depthwise(112, 32, 3, 1)),
        ("dw 3x3 56x56x144", depthwise(56, 144, 3, 1)),
        ("dw 3x3s2 56x56x144", depthwise(56, 144, 3, 2)),
        ("dw 3x3 14x14x576", depthwise(14, 576, 3, 1)),
        ("dw 5x5 14x14x480", depthwise(14, 480, 5, 1)),
        ("fc 1280->1000", Conv2d::matmul(1, 1280, 1000)),
        ("fc 640->128", Conv2d::matmul(1, 640, 128)),
        ("ds-cnn 1x1 25x5 64->64", speech(square(25, 64, 64, 1, 1))),
        ("ds-cnn dw 3x3 25x5x64", speech(depthwise(25, 64, 3, 1))),
        ("ds-cnn 10x4s2 49x10 1->64", first),
        ("ds-cnn fc 64->12", Conv2d::matmul(1, 64, 12)),
    ]
}

/// Weights as training leaves them: normal, the greatest of each channel at `greatest`.
fn normal_weights(geometry: &Conv2d, greatest: f32) -> Vec<i16> {
    let per_channel = geometry.in_c / geometry.groups * geometry.kernel_h * geometry.kernel_w;
    let mut state = 1u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let mut weights = Vec::new();
    for _ in 0..geometry.out_c {
        let normal = || (0..12).map(|_| uniform()).sum::<f32>() - 6.0;
        let channel: Vec<f32> = std::iter::repeat_with(normal).take(per_channel).collect();
        let most = channel.iter().fold(1e-3f32, |most, w| most.max(w.abs()));
        weights.extend(channel.iter().map(|w| (w / most * greatest).round() as i16));
    }
    weights
}

fn best_seconds(layer: &QConv, adds: bool) -> f64 {
    let geometry = layer.geometry();
    let other = adds.then(|| vec![99u8; geometry.out_len()]);
    let mut input: Vec<u8> = (0..geometry.in_len()).map(|i| (i * 7919 % 251) as u8).collect();
    input.resize(input.len() + layer.input_slack_bytes(), 0);
    let mut output = vec![0u8; geometry.out_len()];
    let mut scratch = vec![0u8; layer.scratch_bytes()];
    let mut run = || {
        let (slice, other) = (QSlice::U8(&mut output), other.as_deref());
        layer.run(0..layer.units(), black_box(&input), other, slice, &mut scratch);
    };
    let start = Instant::now();
    run();
    let times = ((ROUND_SECONDS / start.elapsed().as_secs_f64()) as usize).max(1);
    let round = |_| {
        let start = Instant::now();
        (0..times).for_each(|_| run());
        start.elapsed().as_secs_f64() / times as f64
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let isas = match arguments.next() {
        Some(name) if name != "all" => name.parse().into_iter().collect(),
        _ => Isa::available().collect::<Vec<Isa>>(),
    };
    let part = arguments.next().unwrap_or_default();
    for (name, geometry) in layers().into_iter().filter(|(name, _)| name.contains(&part)) {
        let weights = normal_weights(&geometry, if name.starts_with("roof") { 64.0 } else { 127.0 });
        print!("{name:26}");
        for isa in &isas {
            let multiplier = [1e-4];
            let adds = name.ends_with("add");
            let output = QOutput::Quantised {
                multiplier: &multiplier,
                zero: 128,
                min: 0,
                max: 255,
                residual: adds.then_some(RESIDUAL),
            };
            let spec = QConvSpec { geometry, weights: &weights, bias: None, input_zero: 128, output };
            let seconds = best_seconds(&QConv::new(*isa, &spec), adds);
            print!("  {isa} {:8.2} us {:6.1} GMAC/s", seconds * 1e6, geometry.macs() as f64 / seconds / 1e9);
        }
        println!();
    }
}
