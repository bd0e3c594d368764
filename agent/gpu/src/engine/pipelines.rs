//! Pipelines, made once for each kernel with its constants, and the one layout that all share.

use crate::{
    engine::build::{Dispatch, Places},
    kernels::Kernel,
};
use std::{
    collections::HashMap,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use wgpu::{
    BindGroup, BindGroupDescriptor, BindGroupEntry, BindGroupLayout, BindGroupLayoutDescriptor,
    BindGroupLayoutEntry, BindingResource, BindingType, Buffer, BufferBinding, BufferBindingType, BufferSize,
    ComputePipeline, ComputePipelineDescriptor, Device, PipelineCompilationOptions, PipelineLayout,
    PipelineLayoutDescriptor, ShaderModule, ShaderModuleDescriptor, ShaderSource, ShaderStages,
};

/// Bytes from one dispatch's places to the next: the coarsest alignment that a device may ask for.
pub(crate) const PLACES_STRIDE: u32 = 256;

/// The layout of all pipelines: the arena, the constants, and the places of the dispatch.
#[derive(Debug)]
pub(crate) struct Pipelines {
    group: BindGroupLayout,
    layout: PipelineLayout,
}

fn entry(binding: u32, ty: BufferBindingType, has_dynamic_offset: bool) -> BindGroupLayoutEntry {
    BindGroupLayoutEntry {
        binding,
        visibility: ShaderStages::COMPUTE,
        ty: BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
        count: None,
    }
}

impl Pipelines {
    pub(crate) fn new(device: &Device) -> Self {
        let group = device.create_bind_group_layout(&BindGroupLayoutDescriptor {
            label: Some("kernel"),
            entries: &[
                entry(0, BufferBindingType::Storage { read_only: false }, false),
                entry(1, BufferBindingType::Storage { read_only: true }, false),
                entry(2, BufferBindingType::Uniform, true),
            ],
        });
        let layout = device.create_pipeline_layout(&PipelineLayoutDescriptor {
            label: Some("kernel"),
            bind_group_layouts: &[Some(&group)],
            ..PipelineLayoutDescriptor::default()
        });
        Self { group, layout }
    }

    /// What kernels see: an arena, constants, and places.
    pub(crate) fn bind(&self, device: &Device, [arena, constants, places]: [&Buffer; 3]) -> BindGroup {
        let places =
            BufferBinding { buffer: places, offset: 0, size: BufferSize::new(size_of::<Places>() as u64) };
        device.create_bind_group(&BindGroupDescriptor {
            label: Some("kernel"),
            layout: &self.group,
            entries: &[
                BindGroupEntry { binding: 0, resource: arena.as_entire_binding() },
                BindGroupEntry { binding: 1, resource: constants.as_entire_binding() },
                BindGroupEntry { binding: 2, resource: BindingResource::Buffer(places) },
            ],
        })
    }

    /// The pipeline of each dispatch. Dispatches of one kernel with the same constants share it; they are compiled on several threads.
    pub(crate) fn of(&self, device: &Device, dispatches: &[&Dispatch]) -> Vec<ComputePipeline> {
        let mut modules: HashMap<&'static str, ShaderModule> = HashMap::new();
        let mut kernels: Vec<&Kernel> = Vec::new();
        let mut places = Vec::with_capacity(dispatches.len());
        for Dispatch { kernel, .. } in dispatches {
            modules.entry(kernel.shader.name).or_insert_with(|| module(device, kernel));
            places.push(kernels.iter().position(|other| *other == kernel).unwrap_or(kernels.len()));
            if places.last() == Some(&kernels.len()) {
                kernels.push(kernel);
            }
        }
        let made: Vec<OnceLock<ComputePipeline>> = kernels.iter().map(|_| OnceLock::new()).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let (Some(kernel), Some(slot)) = (kernels.get(at), made.get(at)) else { return };
                slot.get_or_init(|| self.pipeline(device, kernel, &modules[kernel.shader.name]));
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from).min(kernels.len());
        thread::scope(|scope| {
            (1..threads).for_each(|_| drop(scope.spawn(work)));
            work();
        });
        places.into_iter().filter_map(|at| made[at].get().cloned()).collect()
    }

    fn pipeline(&self, device: &Device, kernel: &Kernel, module: &ShaderModule) -> ComputePipeline {
        device.create_compute_pipeline(&ComputePipelineDescriptor {
            label: Some(kernel.shader.name),
            layout: Some(&self.layout),
            module,
            entry_point: None,
            compilation_options: PipelineCompilationOptions {
                constants: &kernel.constants,
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        })
    }
}

fn module(device: &Device, kernel: &Kernel) -> ShaderModule {
    device.create_shader_module(ShaderModuleDescriptor {
        label: Some(kernel.shader.name),
        source: ShaderSource::Wgsl(kernel.shader.source.into()),
    })
}
