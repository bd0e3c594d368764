//! A model on the GPU beside the processor: how far the answers are apart, and how long each takes.
//!
//! `cargo run -p whimbrel-gpu --example compare -- MODEL [RUNS]`
#![allow(clippy::print_stdout, reason = "what it found is its output")]

use std::{
    error::Error,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use whimbrel_cpu::{Cpu, CpuEngine};
use whimbrel_gpu::Gpu;
use whimbrel_infer::{Backend, LoadOptions, Model, Tensor, load_file};

static GPU: Gpu<CpuEngine> = Gpu::new(CpuEngine::new);

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = PathBuf::from(args.next().ok_or("which model?")?);
    let runs: usize = args.next().map_or(Ok(5), |runs| runs.parse())?;
    let (found, gpu) = measured(&GPU, &path, runs)?;
    let (expected, cpu) = measured(&Cpu, &path, runs)?;
    for ((name, found), (_, expected)) in found.iter().zip(&expected) {
        let (found, expected) = (found.to_f64s()?, expected.to_f64s()?);
        let largest = expected.iter().fold(0.0f64, |most, value| most.max(value.abs()));
        let pairs = || found.iter().zip(&expected);
        let off = pairs().fold(0.0f64, |most, (a, b)| most.max((a - b).abs()));
        let wrong = pairs().filter(|(a, b)| a != b).count();
        println!("{name}: {wrong} of {} differ, by {off:e} at most; the largest is {largest:e}", found.len());
    }
    println!("gpu {:.2} ms, cpu {:.2} ms", gpu.as_secs_f64() * 1e3, cpu.as_secs_f64() * 1e3);
    Ok(())
}

/// Tensors by name.
type Named = Vec<(String, Tensor)>;

/// What it answers, and the least time of a run.
fn measured(
    backend: &dyn Backend,
    path: &std::path::Path,
    runs: usize,
) -> Result<(Named, Duration), Box<dyn Error>> {
    let start = Instant::now();
    let model = load_file(backend, path, &LoadOptions::default())?;
    println!("{} loads in {:.0} ms", backend.name(), start.elapsed().as_secs_f64() * 1e3);
    let inputs = inputs(&model)?;
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut session = model.session();
    if let Some(profile) = session.profile(&inputs)? {
        let fallbacks = profile.layers.iter().filter(|time| time.layer.fallback.is_some());
        fallbacks.for_each(|time| {
            println!("  no kernel for {} ({})", time.layer.name, time.layer.operators.join(", "))
        });
    }
    let mut answer = session.run(&inputs)?;
    let mut least = Duration::MAX;
    for _ in 0..runs {
        let start = Instant::now();
        answer = session.run(&inputs)?;
        least = least.min(start.elapsed());
    }
    Ok((answer, least))
}

/// The same numbers every time; 1 where any size is accepted.
fn inputs(model: &Arc<dyn Model>) -> Result<Named, Box<dyn Error>> {
    let one = |info: &whimbrel_infer::TensorInfo| {
        let shape: Vec<usize> = info.shape.iter().map(|size| size.unwrap_or(1)).collect();
        let count = shape.iter().product();
        let tensor = match info.datatype.size_bytes() {
            Some(1) => {
                let bytes = (0..count).map(|at: usize| (at * 7919 % 251) as u8).collect();
                Tensor::from_le_bytes(info.datatype, shape, bytes)?
            }
            _ => {
                let values: Vec<f32> = (0..count).map(|at| (at * 7919 % 997) as f32 / 498.5 - 1.0).collect();
                Tensor::from_values(shape, &values)?
            }
        };
        Ok((info.name.clone(), tensor))
    };
    model.inputs().iter().map(one).collect()
}
