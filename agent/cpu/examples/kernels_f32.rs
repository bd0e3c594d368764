//! Times f32 layers of usual networks on one thread, beside the multipliers' own speed.
//!
//! `cargo run --release -p whimbrel-cpu --example kernels_f32 -- [instruction set] [part of a name]`

use std::{hint::black_box, time::Instant};
use whimbrel_cpu::{
    fconv::{Activation, Conv, ConvSpec},
    geometry::Conv2d,
    isa::Isa,
};

/// Rounds, of which the fastest counts.
const ROUNDS: usize = 30;

/// Seconds that a round takes at least.
const ROUND_SECONDS: f64 = 0.004;

fn main() -> Result<(), whimbrel_cpu::isa::UnknownIsa> {
    let mut arguments = std::env::args().skip(1);
    let isas = match arguments.next() {
        Some(name) => vec![name.parse()?],
        None => Isa::available().collect(),
    };
    let part = arguments.next().unwrap_or_default();
    for isa in isas {
        // A product of one register tile's rows that stays in the first cache comes closest to the multipliers' speed.
        let roof = rate(isa, &Conv2d::matmul(48, 384, 16 * 3));
        println!("{isa}: {roof:.1} GMAC/s in the first cache");
        for (name, geometry) in layers().into_iter().filter(|(name, _)| name.contains(&part)) {
            let rate = rate(isa, &geometry);
            println!("  {name:28} {rate:7.1} GMAC/s {:5.0} %", rate / roof * 100.0);
        }
    }
    Ok(())
}

/// The layers.
fn layers() -> Vec<(&'static str, Conv2d)> {
    vec![
        ("1x1 56x56 24->144", square(56, 24, 144, 1, 1)),
        ("1x1 14x14 96->576", square(14, 96, 576, 1, 1)),
        ("1x1 14x14 576->96", square(14, 576, 96, 1, 1)),
        ("1x1 7x7 320->1280", square(7, 320, 1280, 1, 1)),
        ("3x3 56x56 64->64", square(56, 64, 64, 3, 1)),
        ("3x3 14x14 256->256", square(14, 256, 256, 3, 1)),
        ("3x3 7x7 512->512", square(7, 512, 512, 3, 1)),
        ("1x1 14x14 1024->256", square(14, 1024, 256, 1, 1)),
        ("7x7s2 224x224 3->64", square(224, 3, 64, 7, 2)),
        ("3x3s2 224x224 3->32", square(224, 3, 32, 3, 2)),
        ("depthwise 3x3 112x112x32", depthwise(112, 32, 3, 1)),
        ("depthwise 3x3s2 56x56x144", depthwise(56, 144, 3, 2)),
        ("depthwise 3x3 14x14x576", depthwise(14, 576, 3, 1)),
        ("depthwise 3x3 7x7x960", depthwise(7, 960, 3, 1)),
        ("depthwise 5x5 14x14x480", depthwise(14, 480, 5, 1)),
        ("depthwise 5x5s2 14x14x672", depthwise(14, 672, 5, 2)),
        ("fc 2048->1000", Conv2d::matmul(1, 2048, 1000)),
    ]
}

fn square(size: usize, in_c: usize, out_c: usize, kernel: usize, stride: usize) -> Conv2d {
    Conv2d {
        in_h: size,
        in_w: size,
        kernel_h: kernel,
        kernel_w: kernel,
        stride_h: stride,
        stride_w: stride,
        pad: [kernel / 2; 4],
        ..Conv2d::matmul(1, in_c, out_c)
    }
}

fn depthwise(size: usize, channels: usize, kernel: usize, stride: usize) -> Conv2d {
    Conv2d { groups: channels, ..square(size, channels, channels, kernel, stride) }
}

/// Multiplications with accumulation of a layer in 1e9 a second.
fn rate(isa: Isa, geometry: &Conv2d) -> f64 {
    let depth = geometry.in_c / geometry.groups * geometry.kernel_h * geometry.kernel_w;
    let weights = vec![0.01; geometry.out_c * depth];
    let bias = vec![0.5; geometry.out_c];
    let layer = Conv::new(
        isa,
        &ConvSpec {
            geometry: *geometry,
            weights: &weights,
            bias: Some(&bias),
            activation: Activation::Clip { min: 0.0, max: 6.0 },
            residual: false,
        },
    );
    let input = vec![0.25; geometry.in_len() + layer.input_slack_bytes() / 4];
    let mut output = vec![0.0; geometry.out_len()];
    let mut scratch = vec![0; layer.scratch_bytes()];
    let mut run =
        || layer.run(0..layer.units(), black_box(&input), None, black_box(&mut output), &mut scratch);
    let mut seconds = |count: usize| {
        let start = Instant::now();
        (0..count).for_each(|_| run());
        start.elapsed().as_secs_f64()
    };
    let once = seconds(1).min(seconds(1)).max(1e-9);
    let count = (ROUND_SECONDS / once).ceil().max(1.0);
    let best = (0..ROUNDS).map(|_| seconds(count as usize) / count).fold(f64::INFINITY, f64::min);
    geometry.macs() as f64 / best / 1e9
}
