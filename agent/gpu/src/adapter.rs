//! What there is, and what it can do.

use serde::Serialize;
use wgpu::{Backends, DeviceType, DownlevelFlags, Features, Instance, InstanceDescriptor};

/// One GPU behind one driver, as a backend would use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Adapter {
    /// The driver's name of it.
    pub name: String,
    /// `discrete`, `integrated`, `virtual`, `cpu` (a driver that computes on the CPU, such as lavapipe) or `other`.
    pub kind: &'static str,
    /// The driver, with its version where it says so.
    pub driver: String,
    /// PCI vendor id.
    pub vendor: u32,
    /// PCI device id.
    pub device: u32,
    /// Whether it can run compute shaders at all; without, it is of no use here.
    pub compute: bool,
    /// Whether shaders may compute in half precision.
    pub f16: bool,
    /// Whether shaders may use subgroup operations.
    pub subgroups: bool,
    /// Whether the device can tell when a dispatch began and ended.
    pub timestamps: bool,
    /// What one dispatch may use.
    pub limits: Limits,
}

/// The limits that decide how a kernel may be tiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Largest buffer bound to a shader.
    pub storage_buffer_bytes_max: u64,
    /// Most storage buffers of one shader.
    pub storage_buffers_max: u32,
    /// Memory shared by a workgroup.
    pub workgroup_memory_bytes_max: u32,
    /// Most invocations of a workgroup.
    pub workgroup_invocations_max: u32,
    /// Fewest and most invocations of a subgroup.
    pub subgroup_size: (u32, u32),
}

/// Every adapter that a Vulkan driver offers; empty where there is no driver.
#[must_use]
pub fn adapters() -> Vec<Adapter> {
    enumerate().iter().map(describe).collect()
}

fn enumerate() -> Vec<wgpu::Adapter> {
    let instance = Instance::new(InstanceDescriptor {
        backends: Backends::VULKAN,
        ..InstanceDescriptor::new_without_display_handle()
    });
    pollster::block_on(instance.enumerate_adapters(Backends::VULKAN))
}

/// The adapter to run models on: a card before what is part of the processor, and that before a driver that computes on it.
pub(crate) fn best() -> Option<wgpu::Adapter> {
    let rank = |adapter: &wgpu::Adapter| match adapter.get_info().device_type {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    };
    let computes = |adapter: &wgpu::Adapter| {
        adapter.get_downlevel_capabilities().flags.contains(DownlevelFlags::COMPUTE_SHADERS)
    };
    enumerate().into_iter().filter(computes).min_by_key(rank)
}

fn describe(adapter: &wgpu::Adapter) -> Adapter {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    Adapter {
        kind: match info.device_type {
            DeviceType::DiscreteGpu => "discrete",
            DeviceType::IntegratedGpu => "integrated",
            DeviceType::VirtualGpu => "virtual",
            DeviceType::Cpu => "cpu",
            DeviceType::Other => "other",
        },
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        name: info.name,
        vendor: info.vendor,
        device: info.device,
        compute: adapter.get_downlevel_capabilities().flags.contains(DownlevelFlags::COMPUTE_SHADERS),
        f16: features.contains(Features::SHADER_F16),
        subgroups: features.contains(Features::SUBGROUP),
        timestamps: features.contains(Features::TIMESTAMP_QUERY),
        limits: Limits {
            storage_buffer_bytes_max: limits.max_storage_buffer_binding_size,
            storage_buffers_max: limits.max_storage_buffers_per_shader_stage,
            workgroup_memory_bytes_max: limits.max_compute_workgroup_storage_size,
            workgroup_invocations_max: limits.max_compute_invocations_per_workgroup,
            subgroup_size: (info.subgroup_min_size, info.subgroup_max_size),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_for_adapters_never_fails_and_what_is_found_is_usable_text() {
        // A machine may have none: then this shows that looking is safe without a driver.
        for adapter in adapters() {
            assert!(!adapter.name.is_empty());
            assert!(adapter.limits.workgroup_invocations_max > 0);
            assert!(serde_json::to_string(&adapter).is_ok());
        }
    }
}
