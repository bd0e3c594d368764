//! The memory of a run, and runs.

use super::{
    Prepared, Runs, Whole,
    build::{Builder, Dispatch},
    pipelines::PLACES_STRIDE,
    stages::{Answer, Slot, Stage},
};
use crate::device::{Gpu, GpuError};
use std::time::{Duration, Instant};
use wgpu::{
    BindGroup, Buffer, BufferDescriptor, BufferUsages, CommandEncoderDescriptor, ComputePassDescriptor,
    ComputePipeline, util::BufferInitDescriptor, util::DeviceExt,
};
use whimbrel_infer::{
    Engine, Footprint, RunError, Tensor,
    plan::{BufferId, Place},
};

/// A dispatch with its pipeline.
#[derive(Debug)]
struct Ready {
    pipeline: ComputePipeline,
    chunk: usize,
    /// Where its places begin.
    places: u32,
    groups: [u32; 3],
}

/// What all runs of a plan share.
#[derive(Debug)]
pub(crate) struct Passes {
    constants: Vec<Buffer>,
    places: Buffer,
    /// The dispatches of each stage.
    stages: Vec<Vec<Ready>>,
    /// Constant operands: the byte of the arena, and the bytes.
    fixed: Vec<(usize, Vec<u8>)>,
    arena_bytes: usize,
    /// Most bytes that a stage fetches.
    staging_bytes: usize,
}

impl Passes {
    /// Makes pipelines and brings constants to the device.
    pub(crate) fn new<F: Engine>(
        gpu: &Gpu,
        builder: Builder<'_>,
        stages: &[Stage<F>],
    ) -> Result<Self, GpuError> {
        let lists: Vec<&[Dispatch]> = stages.iter().map(Stage::dispatches).collect();
        let all: Vec<&Dispatch> = lists.iter().flat_map(|list| list.iter()).collect();
        let pipelines = gpu.scoped("compile its shaders", || gpu.pipelines.of(&gpu.device, &all))?;
        let mut pipelines =
            all.iter().zip(pipelines).enumerate().map(|(index, (dispatch, pipeline))| Ready {
                pipeline,
                chunk: dispatch.chunk,
                places: index as u32 * PLACES_STRIDE,
                groups: dispatch.groups,
            });
        let ready = lists.iter().map(|list| pipelines.by_ref().take(list.len()).collect()).collect();
        let (constants, places) = gpu.scoped("hold its weights", || {
            let buffer =
                |words: &Vec<u32>| init(gpu, "constants", bytemuck::cast_slice(words), BufferUsages::STORAGE);
            let constants = builder.constants.chunks.iter().map(buffer).collect();
            (constants, init(gpu, "places", &places(&all), BufferUsages::UNIFORM))
        })?;
        let bytes = |id: BufferId| match &builder.plan.buffer(id).place {
            Place::Constant(tensor) => tensor.as_le_bytes().map(<[u8]>::to_vec).unwrap_or_default(),
            _ => Vec::new(),
        };
        Ok(Self {
            constants,
            places,
            stages: ready,
            fixed: builder.fixed.iter().map(|(id, start)| (*start, bytes(*id))).collect(),
            arena_bytes: builder.arena_bytes,
            staging_bytes: stages.iter().map(Stage::fetched_bytes).max().unwrap_or(0),
        })
    }

    /// What it takes: weights once for all runs, the arena and what comes back for each.
    pub(super) fn footprint(&self) -> Footprint {
        let constants = self.constants.iter().map(Buffer::size).sum::<u64>();
        let fixed = self.fixed.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
        Footprint {
            ready_bytes: constants + self.places.size() + fixed,
            making_bytes: 0,
            // The driver keeps what is sent and fetched in memory of its own for a while.
            run_bytes: self.arena_bytes as u64 + self.staging_bytes as u64 * 3,
        }
    }
}

fn places(dispatches: &[&Dispatch]) -> Vec<u8> {
    let mut bytes = vec![0; dispatches.len().max(1) * PLACES_STRIDE as usize];
    for (slot, dispatch) in bytes.chunks_exact_mut(PLACES_STRIDE as usize).zip(dispatches) {
        let places = bytemuck::bytes_of(&dispatch.places);
        slot[..places.len()].copy_from_slice(places);
    }
    bytes
}

fn init(gpu: &Gpu, label: &str, contents: &[u8], usage: BufferUsages) -> Buffer {
    gpu.device.create_buffer_init(&BufferInitDescriptor { label: Some(label), contents, usage })
}

/// Working memory of one run at a time.
pub struct State<F: Engine>(Memory<F>);

enum Memory<F: Engine> {
    /// Of the device.
    Device(OnDevice<F>),
    /// Of the other engine, which runs the whole plan.
    Other(F::State),
    /// There is none yet: the device is lost, or has none to give.
    None,
}

struct OnDevice<F: Engine> {
    arena: Buffer,
    staging: Buffer,
    /// One for each buffer of constants.
    groups: Vec<BindGroup>,
    /// One for each stage that is an island.
    islands: Vec<Option<F::State>>,
}

impl<F: Engine> State<F> {
    pub(super) fn new(gpu: &Gpu, other: &F, prepared: &Prepared<F>) -> Self {
        Self(match &prepared.runs {
            Runs::Other => Memory::None,
            Runs::Device(whole) => OnDevice::new(gpu, other, whole).map_or_else(
                |error| {
                    tracing::warn!(%error, "the processor stands in for the GPU");
                    Memory::None
                },
                Memory::Device,
            ),
        })
    }

    pub(super) fn run(
        &mut self,
        gpu: &Gpu,
        other: &F,
        prepared: &Prepared<F>,
        (inputs, mut times): (&[&Tensor], Option<&mut Vec<Duration>>),
    ) -> Result<Vec<Tensor>, RunError> {
        if let (Memory::Device(memory), Runs::Device(whole)) = (&mut self.0, &prepared.runs) {
            match memory.run(gpu, other, whole, (inputs, times.as_deref_mut())) {
                Err(RunError::Device { why }) => {
                    tracing::warn!(error = why, "the processor stands in for the GPU");
                    self.0 = Memory::None;
                    if let Some(times) = &mut times {
                        times.clear();
                    }
                }
                answer => return answer,
            }
        }
        let stand_in = prepared.stand_in(other).map_err(|e| RunError::Device { why: e.to_string() })?;
        if !matches!(self.0, Memory::Other(_)) {
            self.0 = Memory::Other(other.state(&stand_in));
        }
        match &mut self.0 {
            Memory::Other(state) => timed(other, &stand_in, state, (inputs, times)),
            _ => Err(RunError::Failed { why: "there is no memory for the run".into() }),
        }
    }
}

/// A run of the other engine, each step timed where that is asked for.
fn timed<F: Engine>(
    other: &F,
    prepared: &F::Prepared,
    state: &mut F::State,
    (inputs, times): (&[&Tensor], Option<&mut Vec<Duration>>),
) -> Result<Vec<Tensor>, RunError> {
    match times {
        Some(times) => other.run_timed(prepared, state, inputs, times),
        None => other.run(prepared, state, inputs),
    }
}

fn failed(error: &GpuError) -> RunError {
    RunError::Device { why: error.to_string() }
}

impl<F: Engine> OnDevice<F> {
    fn new(gpu: &Gpu, other: &F, whole: &Whole<F>) -> Result<Self, GpuError> {
        let passes = &whole.passes;
        let buffer = |label: &str, bytes: usize, usage: BufferUsages| {
            let size = bytes.next_multiple_of(4).max(16) as u64;
            gpu.device.create_buffer(&BufferDescriptor {
                label: Some(label),
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        let (arena, staging, groups) = gpu.scoped("hold its tensors", || {
            let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
            let arena = buffer("arena", passes.arena_bytes, usage);
            let staging =
                buffer("staging", passes.staging_bytes, BufferUsages::MAP_READ | BufferUsages::COPY_DST);
            for (start, bytes) in &passes.fixed {
                upload(gpu, &arena, *start, bytes);
            }
            let bind = |constants| gpu.pipelines.bind(&gpu.device, [&arena, constants, &passes.places]);
            let groups = passes.constants.iter().map(bind).collect();
            (arena, staging, groups)
        })?;
        let island = |stage: &Stage<F>| match stage {
            Stage::Island { prepared, .. } => Some(other.state(prepared)),
            Stage::Kernels { .. } => None,
        };
        Ok(Self { arena, staging, groups, islands: whole.stages.iter().map(island).collect() })
    }

    fn run(
        &mut self,
        gpu: &Gpu,
        other: &F,
        whole: &Whole<F>,
        (inputs, mut times): (&[&Tensor], Option<&mut Vec<Duration>>),
    ) -> Result<Vec<Tensor>, RunError> {
        for (tensor, slot) in inputs.iter().zip(&whole.ends.inputs) {
            if let Some(slot) = slot {
                self.put(gpu, slot, tensor)?;
            }
        }
        let mut fetched: Vec<Tensor> = Vec::new();
        for (index, stage) in whole.stages.iter().enumerate() {
            match stage {
                Stage::Kernels { steps, fetched: slots, .. } => {
                    let mut list = whole.passes.stages[index].as_slice();
                    if let Some(times) = &mut times {
                        self.step_by_step(gpu, list, steps, times)?;
                        list = &[];
                    }
                    fetched = self.kernels(gpu, list, slots)?;
                }
                Stage::Island { prepared, results } => {
                    let Some(state) = self.islands[index].as_mut() else { continue };
                    let given: Vec<&Tensor> = fetched.iter().collect();
                    let answers = timed(other, prepared, state, (&given, times.as_deref_mut()))?;
                    for (slot, tensor) in results.iter().zip(&answers) {
                        self.put(gpu, slot, tensor)?;
                    }
                }
            }
        }
        let mut fetched = fetched.into_iter();
        let missing = || RunError::Failed { why: "an answer was not fetched".into() };
        let answer = |answer: &Answer| match answer {
            Answer::Constant(tensor) => Ok(tensor.as_ref().clone()),
            Answer::Fetched => fetched.next().ok_or_else(missing),
        };
        whole.ends.outputs.iter().map(answer).collect()
    }

    fn put(&self, gpu: &Gpu, slot: &Slot, tensor: &Tensor) -> Result<(), RunError> {
        match tensor.as_le_bytes() {
            Some(bytes) if bytes.len() == slot.bytes => {
                upload(gpu, &self.arena, slot.start, bytes);
                Ok(())
            }
            _ => Err(RunError::Failed { why: "a tensor does not fit its buffer".into() }),
        }
    }

    /// A submission for each step, timed until it is done: a little more than the step takes among others.
    fn step_by_step(
        &self,
        gpu: &Gpu,
        mut list: &[Ready],
        steps: &[usize],
        times: &mut Vec<Duration>,
    ) -> Result<(), RunError> {
        for count in steps {
            let (step, rest) = list.split_at((*count).min(list.len()));
            list = rest;
            let start = Instant::now();
            self.kernels(gpu, step, &[])?;
            times.push(start.elapsed());
        }
        Ok(())
    }

    /// One submission: a pass of dispatches, then copies of what is asked for.
    fn kernels(&self, gpu: &Gpu, list: &[Ready], slots: &[Slot]) -> Result<Vec<Tensor>, RunError> {
        let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor { label: Some("run") });
        if !list.is_empty() {
            let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
            for ready in list {
                let [x, y, z] = ready.groups;
                pass.set_pipeline(&ready.pipeline);
                pass.set_bind_group(0, &self.groups[ready.chunk], &[ready.places]);
                pass.dispatch_workgroups(x, y, z);
            }
        }
        let mut end = 0;
        for slot in slots.iter().filter(|slot| slot.bytes > 0) {
            let bytes = slot.padded_bytes();
            encoder.copy_buffer_to_buffer(
                &self.arena,
                slot.start as u64,
                &self.staging,
                end as u64,
                bytes as u64,
            );
            end += bytes;
        }
        let submission = gpu.queue.submit([encoder.finish()]);
        let tensors = gpu.read(submission, (&self.staging, end as u64), |bytes| {
            let mut start = 0;
            let one = |slot: &Slot| {
                let own = bytes[start..start + slot.bytes].to_vec();
                start += slot.padded_bytes();
                tensor(slot, own)
            };
            slots.iter().map(one).collect()
        });
        tensors.map_err(|e| failed(&e))?
    }
}

fn tensor(slot: &Slot, bytes: Vec<u8>) -> Result<Tensor, RunError> {
    Tensor::from_le_bytes(slot.datatype, slot.shape.clone(), bytes)
        .map_err(|e| RunError::Failed { why: e.to_string() })
}

/// Writes bytes to the arena, in whole words: what comes after a buffer is slack.
fn upload(gpu: &Gpu, arena: &Buffer, start: usize, bytes: &[u8]) {
    if bytes.len().is_multiple_of(4) {
        if !bytes.is_empty() {
            gpu.queue.write_buffer(arena, start as u64, bytes);
        }
        return;
    }
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(4), 0);
    gpu.queue.write_buffer(arena, start as u64, &padded);
}
