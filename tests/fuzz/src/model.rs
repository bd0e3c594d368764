//! A model's file, loaded and run by the engine.

use whimbrel_cpu::Cpu;
use whimbrel_infer::{Backend, Datatype, ImportLimits, LoadOptions, Model, Tensor, TensorInfo};

/// What a file may ask for here: little, since every input is to take milliseconds.
const LIMITS: ImportLimits = ImportLimits {
    file_size_bytes_max: 1 << 20,
    messages_max: 20_000,
    nodes_max: 500,
    rank_max: 16,
    tensor_elements_max: 1 << 10,
    tensors_max: 16,
    input_bytes_max: 1 << 14,
    memory_bytes_max: 64 << 20,
};

/// Loads the bytes as a model; what loads is run.
pub(crate) fn model(bytes: &[u8]) {
    quiet();
    if let Ok(model) = Cpu.load(bytes, &options()) {
        run(model.as_ref());
    }
}

/// How models are loaded here.
pub(crate) fn options() -> LoadOptions {
    LoadOptions { limits: LIMITS, ..LoadOptions::default() }
}

/// Panics that are caught, within tract and in plans that hold untruths, become errors; a fuzzer's hook would end the process before.
pub(crate) fn quiet() {
    #[cfg(feature = "libfuzzer")]
    std::panic::set_hook(Box::new(|_| {}));
}

/// Runs a model twice, with free sizes 1 and then 3.
pub(crate) fn run(model: &dyn Model) {
    let mut session = model.session();
    for size in [1, 3] {
        let inputs: Option<Vec<Tensor>> = model.inputs().iter().map(|info| tensor(info, size)).collect();
        let Some(inputs) = inputs else { return };
        let named = model.inputs().iter().map(|info| info.name.as_str()).zip(&inputs);
        if let Ok(outputs) = session.run(&named.collect::<Vec<_>>()) {
            assert_eq!(outputs.len(), model.outputs().len(), "every output is answered");
        }
    }
}

/// Some bytes as an input's elements.
fn tensor(info: &TensorInfo, free: usize) -> Option<Tensor> {
    let shape: Vec<usize> = info.shape.iter().map(|size| size.unwrap_or(free)).collect();
    let count = shape.iter().try_fold(1usize, |count, size| count.checked_mul(*size))?;
    if count > LIMITS.tensor_elements_max {
        return None;
    }
    if info.datatype == Datatype::Fp32 {
        let values: Vec<f32> = (0..count).map(|at| (at % 7) as f32 - 2.5).collect();
        return Tensor::from_values(shape, &values).ok();
    }
    let bytes = (0..count * info.datatype.size_bytes()?).map(|at| (at % 2) as u8).collect();
    Tensor::from_le_bytes(info.datatype, shape, bytes).ok()
}
