//! Tests of the pointwise kernels: every instruction set against plain loops, and against vectors from ONNX
//! Runtime.

mod floats;
mod layouts;
mod math;
#[rustfmt::skip]
mod onnxruntime;
mod quantised;

/// Bytes without a short period.
fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * i * 7 + i * 31 + seed * 17) >> 1) as u8).collect()
}

/// Numbers between -6.4 and 6.4.
fn floats(len: usize, seed: usize) -> Vec<f32> {
    bytes(len, seed)
        .into_iter()
        .zip(0..)
        .map(|(byte, i)| (f32::from(byte) - 128.0) * 0.05 + (i % 89) as f32 * 1e-5)
        .collect()
}
