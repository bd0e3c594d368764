//! The backends of this build.

use whimbrel_cpu::Cpu;
use whimbrel_infer::{Backend, LoadError};

/// What no kernel of the GPU does runs on the processor.
#[cfg(feature = "gpu")]
static GPU: whimbrel_gpu::Gpu<whimbrel_cpu::CpuEngine> = whimbrel_gpu::Gpu::new(whimbrel_cpu::CpuEngine::new);

/// Every one, the best first.
pub(crate) fn all() -> Vec<&'static dyn Backend> {
    vec![
        &Cpu,
        #[cfg(feature = "gpu")]
        &GPU,
        whimbrel_infer::tract(),
    ]
}

/// The backend of that name; `auto` picks the best of this build that runs on this device.
///
/// # Errors
/// The name is unknown, or the backend is not part of this build.
pub(crate) fn named(name: &str) -> Result<&'static dyn Backend, LoadError> {
    let unsupported = |why| LoadError::UnsupportedBackend { name: name.chars().take(80).collect(), why };
    match name {
        "auto" | "cpu" => Ok(&Cpu),
        "tract" => Ok(whimbrel_infer::tract()),
        #[cfg(feature = "gpu")]
        "gpu" => Ok(&GPU),
        #[cfg(not(feature = "gpu"))]
        "gpu" => Err(unsupported("this build has no GPU backend")),
        _ => Err(unsupported("expected auto, cpu, gpu or tract")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backend_is_found_by_its_name() {
        for backend in all() {
            assert_eq!(named(backend.name()).expect("there").name(), backend.name());
        }
        assert_eq!(named("auto").expect("there").name(), "cpu");
        for bad in ["npu", ""] {
            assert!(named(bad).err().expect("refused").is_unsupported());
        }
        assert_eq!(named("gpu").is_ok(), cfg!(feature = "gpu"));
    }
}
