//! Every shader is valid WGSL, has just the overrides that its kernel gives, and keeps to what any device offers.

use super::*;
use wgpu::naga::{
    AddressSpace, StorageAccess,
    back::pipeline_constants::process_overrides,
    front::wgsl,
    proc::Layouter,
    valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator},
};

/// Of any device: see `wgpu::Limits::downlevel_defaults`.
const STORAGE_BUFFERS_MAX: usize = 4;
const WORKGROUP_BYTES_MAX: u32 = 16_352;
const INVOCATIONS_MAX: u32 = 256;

/// One of each kernel.
fn every() -> Vec<Kernel> {
    vec![
        Probe::default().into(),
        conv::Dense::default().into(),
        conv::Depthwise::default().into(),
        conv::DenseLanes::default().into(),
        qconv::QDenseLanes::default().into(),
        conv::Grouped::default().into(),
        conv::Product::default().into(),
        movement::Concat::default().into(),
        movement::Linear::default().into(),
        movement::Nearest::default().into(),
        movement::Transpose::default().into(),
        pointwise::Dequantise::default().into(),
        pointwise::EachByte::default().into(),
        pointwise::EachFloat::default().into(),
        pointwise::Quantise::default().into(),
        pointwise::Repitch::default().into(),
        pointwise::Softmax::default().into(),
        pointwise::TwoBytes::default().into(),
        pointwise::TwoFloats::default().into(),
        pool::Pooling::default().into(),
        pool::QMean::default().into(),
        pool::QPooling::default().into(),
        pointwise::QSoftmax::default().into(),
        qconv::QDense::default().into(),
        qconv::QDepthwise::default().into(),
    ]
}

fn parsed(kernel: &Kernel) -> (wgpu::naga::Module, ModuleInfo) {
    let Shader { name, source } = kernel.shader;
    let module = wgsl::parse_str(source).unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(source)));
    // Only shaders that say so may use what not every device offers.
    let asks = name.ends_with("_lanes");
    let allowed = if asks { Capabilities::SUBGROUP } else { Capabilities::empty() };
    let mut validator = Validator::new(ValidationFlags::all(), allowed);
    if asks {
        validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
    }
    let info = validator.validate(&module);
    let info = info.unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(source)));
    (module, info)
}

#[test]
fn every_shader_is_valid_and_takes_just_the_constants_that_its_kernel_gives() {
    for kernel in every() {
        let (module, info) = parsed(&kernel);
        let name = kernel.shader.name;
        let mut wanted: Vec<&str> = module.overrides.iter().filter_map(|(_, o)| o.name.as_deref()).collect();
        let mut given: Vec<&str> = kernel.constants.iter().map(|(name, _)| *name).collect();
        wanted.sort_unstable();
        given.sort_unstable();
        assert_eq!(given, wanted, "{name}");
        // Sizes of 1: those that a shader divides by are never 0.
        let values = kernel.constants.iter().map(|(name, _)| ((*name).to_owned(), 1.0)).collect();
        process_overrides(&module, &info, None, &values).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn no_shader_asks_for_more_than_any_device_offers() {
    for kernel in every() {
        let (module, _) = parsed(&kernel);
        let mut layouter = Layouter::default();
        layouter.update(module.to_ctx()).expect("layouts");
        let variables = || module.global_variables.iter().map(|(_, variable)| variable);
        let storage = variables().filter(|v| matches!(v.space, AddressSpace::Storage { .. }));
        assert!(storage.count() <= STORAGE_BUFFERS_MAX, "{}", kernel.shader.name);
        let shared = variables().filter(|v| v.space == AddressSpace::WorkGroup);
        let bytes: u32 = shared.map(|v| layouter[v.ty].size).sum();
        assert!(bytes <= WORKGROUP_BYTES_MAX, "{}", kernel.shader.name);
        for entry in &module.entry_points {
            assert!(
                entry.workgroup_size.iter().product::<u32>() <= INVOCATIONS_MAX,
                "{}",
                kernel.shader.name
            );
        }
        // What is written is bound once: no dispatch sees a buffer both as one to read and one to write.
        let written = variables().filter(
            |v| matches!(v.space, AddressSpace::Storage { access } if access.contains(StorageAccess::STORE)),
        );
        assert_eq!(written.count(), 1, "{}", kernel.shader.name);
    }
}

#[test]
fn workgroups_are_enough_and_fit_a_dispatch() {
    for units in [1, 63, 64, 65, 64 * GROUPS_MAX, 64 * GROUPS_MAX + 1, u32::MAX - 63] {
        let [x, y, z] = groups(units);
        assert!(x <= GROUPS_MAX && y <= GROUPS_MAX && z == 1, "{units}");
        assert!(u64::from(x) * u64::from(y) * u64::from(WIDTH) >= u64::from(units), "{units}");
    }
}
