//! Whether a device rounds as exact results need it.
//!
//! WGSL lets a device round a product, or the conversion of an integer, either way. Every known one rounds half to even; one that does not
//! must not be trusted with quantised models.

use crate::{
    device::{Gpu, GpuError},
    engine::build::{Dispatch, Places},
    kernels::{Probe, groups},
};
use bytemuck::cast_slice;
use wgpu::{
    BufferDescriptor, BufferUsages, CommandEncoderDescriptor, ComputePassDescriptor,
    util::{BufferInitDescriptor, DeviceExt},
};

/// Pairs that are tried.
const PAIRS: u32 = 1024;

/// Tries products of integers and factors of all sizes, ties among them.
///
/// # Errors
/// The device is lost, refuses, or rounds otherwise.
pub(crate) fn check(gpu: &Gpu) -> Result<(), GpuError> {
    let pairs: Vec<(i32, f32)> = (0..PAIRS).map(pair).collect();
    let found = run(gpu, &pairs)?;
    for ((sum, factor), found) in pairs.iter().zip(found.chunks_exact(2)) {
        let product = *sum as f32 * factor;
        let nearest = product.clamp(-300.0, 300.0).round_ties_even() as i32;
        let wrong = |what| Err(GpuError::Rounding { adapter: gpu.name.clone(), what });
        if found[0] != product.to_bits() {
            return wrong("products");
        }
        if found[1] != nearest.cast_unsigned() {
            return wrong("nearest integers");
        }
    }
    Ok(())
}

fn pair(index: u32) -> (i32, f32) {
    let random = index.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    match index % 4 {
        // Halves: to be rounded to even.
        0 => (index as i32 - 512, 0.5),
        // More bits than f32 has.
        1 => (random.cast_signed(), 0.75),
        2 => ((random >> 8).cast_signed(), f32::from_bits(0x3a00_0000 | (random & 0x7f_ffff))),
        _ => ((random >> 16).cast_signed() - 32_768, f32::from_bits(0x3800_0000 | (random & 0x7f_ffff))),
    }
}

/// The words that the kernel answers.
fn run(gpu: &Gpu, pairs: &[(i32, f32)]) -> Result<Vec<u32>, GpuError> {
    let count = pairs.len();
    let mut words: Vec<u32> = pairs.iter().map(|(sum, _)| sum.cast_unsigned()).collect();
    words.extend(pairs.iter().map(|(_, factor)| factor.to_bits()));
    words.resize(count * 4, 0);
    let places = Places { x: 0, y: PAIRS, out: PAIRS * 2, constants: 0 };
    let units = PAIRS;
    let dispatch = Dispatch { kernel: Probe { units }.into(), places, chunk: 0, groups: groups(units) };
    let bytes = count as u64 * 8;
    let (submission, staging) = gpu.scoped("check its arithmetic", || {
        let init = |contents: &[u8], usage| {
            gpu.device.create_buffer_init(&BufferInitDescriptor { label: Some("probe"), contents, usage })
        };
        let arena = init(cast_slice(&words), BufferUsages::STORAGE | BufferUsages::COPY_SRC);
        let constants = init(&[0; 16], BufferUsages::STORAGE);
        let places = init(bytemuck::bytes_of(&places), BufferUsages::UNIFORM);
        let staging = gpu.device.create_buffer(&BufferDescriptor {
            label: Some("probe"),
            size: bytes,
            usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let group = gpu.pipelines.bind(&gpu.device, [&arena, &constants, &places]);
        let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
        for pipeline in gpu.pipelines.of(&gpu.device, &[&dispatch]) {
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &group, &[0]);
            let [x, y, z] = dispatch.groups;
            pass.dispatch_workgroups(x, y, z);
        }
        drop(pass);
        encoder.copy_buffer_to_buffer(&arena, bytes, &staging, 0, bytes);
        (gpu.queue.submit([encoder.finish()]), staging)
    })?;
    gpu.read(submission, (&staging, bytes), bytemuck::pod_collect_to_vec)
}
