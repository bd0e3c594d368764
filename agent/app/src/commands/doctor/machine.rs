//! Processor, memory, backends, GPUs.

use super::report::Check;
use crate::platform::{meminfo_bytes, platform};

/// Less memory than this is little for anything but the smallest models.
const MEMORY_BYTES_LITTLE: u64 = 64 << 20;

/// Checks what the machine can run models with.
pub(super) fn checks(backend: &str) -> Vec<Check> {
    vec![processor(), memory(), chosen_backend(backend), gpu()]
}

fn processor() -> Check {
    let platform = platform();
    let features: Vec<String> = features()
        .into_iter()
        .map(|(name, there)| format!("{}{name}", if there { "+" } else { "-" }))
        .collect();
    let features = if features.is_empty() { "no known features".to_owned() } else { features.join(" ") };
    Check::ok("processor", format!("{}, {} cores: {features}", platform.arch, platform.cores))
}

/// The features that decide which kernels can run, and whether they are there.
#[cfg(target_arch = "x86_64")]
pub(super) fn features() -> Vec<(&'static str, bool)> {
    vec![
        ("sse4.1", is_x86_feature_detected!("sse4.1")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avxvnni", is_x86_feature_detected!("avxvnni")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512dq", is_x86_feature_detected!("avx512dq")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
    ]
}

/// The features that decide which kernels can run, and whether they are there.
#[cfg(target_arch = "aarch64")]
pub(super) fn features() -> Vec<(&'static str, bool)> {
    use std::arch::is_aarch64_feature_detected;
    vec![
        ("neon", is_aarch64_feature_detected!("neon")),
        ("dotprod", is_aarch64_feature_detected!("dotprod")),
        ("i8mm", is_aarch64_feature_detected!("i8mm")),
        ("fp16", is_aarch64_feature_detected!("fp16")),
        ("sve", is_aarch64_feature_detected!("sve")),
    ]
}

/// Other processors are not looked at more closely.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn features() -> Vec<(&'static str, bool)> {
    Vec::new()
}

fn memory() -> Check {
    let (Some(total), Some(available)) = (meminfo_bytes("MemTotal:"), meminfo_bytes("MemAvailable:")) else {
        return Check::warn("memory", "the system does not say how much there is");
    };
    let detail = format!("{} of {} MiB are available", available >> 20, total >> 20);
    if available < MEMORY_BYTES_LITTLE {
        return Check::warn("memory", detail)
            .hint("stop what else runs here: updates load a second model beside the first");
    }
    Check::ok("memory", detail)
}

fn chosen_backend(name: &str) -> Check {
    let all: Vec<&str> = crate::backends::all().iter().map(|b| b.name()).collect();
    match crate::backends::named(name) {
        Ok(backend) => {
            let why = match (all.as_slice(), name) {
                ([_], _) => "the only one of this build".to_owned(),
                (_, "auto") => format!("the best for this device among {}", all.join(", ")),
                _ => format!("as serve.backend = {name:?} asks; there are {}", all.join(", ")),
            };
            Check::ok("backend", format!("{}: {why}", backend.name()))
        }
        Err(error) => Check::fail("backend", error.to_string())
            .hint(format!("set serve.backend to auto or one of {}", all.join(", "))),
    }
}

#[cfg(feature = "gpu")]
fn gpu() -> Check {
    let adapters = whimbrel_gpu::adapters();
    if adapters.is_empty() {
        return Check::ok("gpu", "no adapter: no Vulkan driver, or no device for it");
    }
    let describe = |a: &whimbrel_gpu::Adapter| {
        format!("{} ({}, {}, compute {})", a.name, a.kind, a.driver, if a.compute { "yes" } else { "no" })
    };
    Check::ok("gpu", adapters.iter().map(describe).collect::<Vec<_>>().join("; "))
}

#[cfg(not(feature = "gpu"))]
fn gpu() -> Check {
    Check::ok("gpu", "not built in")
}

/// Every GPU with its limits, as JSON.
#[cfg(feature = "gpu")]
pub(super) fn gpus() -> Option<serde_json::Value> {
    serde_json::to_value(whimbrel_gpu::adapters()).ok()
}

/// Every GPU with its limits, as JSON: this build cannot look.
#[cfg(not(feature = "gpu"))]
pub(super) fn gpus() -> Option<serde_json::Value> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::report::Status;

    #[test]
    fn a_backend_that_is_not_there_fails_with_what_is() {
        assert_eq!(chosen_backend("auto").status, Status::Ok);
        let check = chosen_backend("npu");
        assert_eq!(check.status, Status::Fail);
        assert!(check.hint.expect("told").contains("tract"));
    }
}
