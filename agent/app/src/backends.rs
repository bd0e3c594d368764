//! The backends of this build.

use whimbrel_cpu::Cpu;
use whimbrel_infer::{Backend, LoadError};

/// Every one, the best first.
pub(crate) fn all() -> [&'static dyn Backend; 2] {
    [&Cpu, whimbrel_infer::tract()]
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
        for bad in ["gpu", "npu", ""] {
            assert!(named(bad).err().expect("refused").is_unsupported());
        }
    }
}
