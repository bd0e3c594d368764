//! The model and its sessions.

use super::{
    Engine,
    drive::{Program, Tensors, Warm, Which},
    file::{Decoded, ModelFile},
    kept, probe,
    segments::{Key, Segments},
};
use crate::{
    backend::{LoadOptions, Model, Session, TensorInfo},
    binding::Binding,
    cache::Slot,
    compile::{
        CompileError,
        straight::{Environment, Ready},
    },
    error::{LoadError, RunError},
    graph,
    memory::{Budget, Purpose},
    profile::{Profile, RunProfile},
    rules,
    source::Source,
    tensor::Tensor,
    tract,
};
use std::{sync::Arc, time::Instant};

/// Makes a model of an ONNX file, which an engine runs.
///
/// # Errors
/// See [`LoadError`].
pub fn load<E: Engine>(
    engine: E,
    source: &Source,
    options: &LoadOptions,
) -> Result<Arc<dyn Model>, LoadError> {
    let name = engine.name();
    let limits = &options.limits;
    let budget = Budget::new(limits.memory_bytes_max);
    let slot = options.cache.as_ref().zip(engine.packs_for());
    let slot = slot.and_then(|(cache, engine)| Slot::new(cache, &engine, source, limits));
    let engine = match slot.as_ref().and_then(Slot::read) {
        Some(described) => match kept::restore(engine, described, (source, limits, &budget), slot.clone()) {
            Ok(shared) => return Ok(Arc::new(ProgramModel(Arc::new(shared)))),
            Err(engine) => engine,
        },
        None => engine,
    };
    let decoded = Decoded::of(source, limits, &budget, name)?;
    let binding = Binding { inputs: decoded.model.inputs.clone(), symbols: decoded.model.symbols.clone() };
    let file = ModelFile::read(source.clone(), decoded);
    let segments = Segments::new(slot.is_some());
    let program = Program { engine, file, limits: limits.clone(), segments, budget, slot: None };
    let free = binding.inputs.iter().any(|info| info.shape.is_empty() || info.shape.contains(&None));
    let first = first_segment(&program, &binding);
    let error = |error: CompileError| match error {
        CompileError::Unsupported { operator, node } => {
            LoadError::UnsupportedOperator { operator, node, backend: name }
        }
        CompileError::Memory(error) => LoadError::Memory(error),
        CompileError::Failed { why } => LoadError::Import { stage: "plan its run", why },
    };
    let mut macs = None;
    let planned = match first {
        Ok(segment) => {
            // Whoever loads it wants to run it.
            let run = program.segments.reserve(&program.budget, Purpose::Run, segment.run_bytes);
            drop(run.map_err(LoadError::Memory)?);
            let whole = segment.is_whole();
            macs = (whole && !free && segment.macs > 0).then_some(segment.macs);
            whole.then(|| segment.outputs.clone())
        }
        // Sizes of 1 need not make sense; those of a request will.
        Err(CompileError::Failed { .. }) if free => probe::outputs(&program, &binding),
        Err(e) => return Err(error(e)),
    };
    let declared = program.model().map_err(error)?.outputs.iter();
    let outputs = declared.enumerate().map(|(index, declared)| {
        let planned = planned.as_ref().and_then(|outputs| outputs.get(index));
        output_info(declared, planned.map(|(_, datatype, shape)| (*datatype, shape.as_slice())), free)
    });
    let outputs = outputs.collect::<Result<_, _>>()?;
    let shared = Arc::new(Shared { program, binding, outputs, macs });
    if let Some(slot) = slot {
        kept::keep(&shared, slot);
    }
    Ok(Arc::new(ProgramModel(shared)))
}

/// Whether an operator is known to programs, whatever the engine: here, or by tract.
#[must_use]
pub fn knows(operator: &str) -> bool {
    let (domain, op) = operator.rsplit_once('.').unwrap_or(("", operator));
    rules::is_native(domain, op) || tract::knows(op)
}

/// The segment for the smallest inputs: every free size 1.
fn first_segment<E: Engine>(
    program: &Program<E>,
    binding: &Binding,
) -> Result<Arc<super::segments::Segment<E>>, CompileError> {
    let mut environment = Environment::default();
    for info in &binding.inputs {
        let shape = info.shape.iter().map(|size| size.unwrap_or(1)).collect();
        environment.ready.insert(info.name.clone(), Ready::Live(info.datatype, shape));
    }
    let key = Key::of("", &environment, 0);
    program.segments.get(program, Which::Whole, &key, &environment)
}

fn output_info(
    declared: &graph::DeclaredOutput,
    planned: Option<(crate::datatype::Datatype, &[usize])>,
    free: bool,
) -> Result<TensorInfo, LoadError> {
    let datatype = planned.map(|(datatype, _)| datatype).or(declared.datatype).ok_or_else(|| {
        let tensor = tract::one_line(&declared.name);
        LoadError::UnsupportedDatatype { tensor, datatype: "unknown to this program".into() }
    })?;
    let fixed = |axis: usize, size: usize| {
        let said = declared.shape.as_ref().and_then(|shape| shape.get(axis).copied().flatten());
        (!free || said == Some(size)).then_some(size)
    };
    // Where sizes are free, so may ranks be (a `Squeeze` of whatever is 1): what the file says must agree.
    let agrees = |shape: &[usize]| declared.shape.as_ref().is_none_or(|said| said.len() == shape.len());
    let shape = match planned {
        Some((_, shape)) if !free || agrees(shape) => {
            shape.iter().enumerate().map(|(axis, size)| fixed(axis, *size)).collect()
        }
        _ => Vec::new(),
    };
    Ok(TensorInfo { name: declared.name.clone(), datatype, shape })
}

/// A model: what runs it, and what callers are told.
pub(super) struct Shared<E: Engine> {
    pub(super) program: Program<E>,
    pub(super) binding: Binding,
    pub(super) outputs: Vec<TensorInfo>,
    pub(super) macs: Option<u64>,
}

struct ProgramModel<E: Engine>(Arc<Shared<E>>);

impl<E: Engine> Model for ProgramModel<E> {
    fn inputs(&self) -> &[TensorInfo] {
        &self.0.binding.inputs
    }

    fn outputs(&self) -> &[TensorInfo] {
        &self.0.outputs
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(ProgramSession { shared: Arc::clone(&self.0), warm: None, whole: None })
    }

    fn macs(&self) -> Option<u64> {
        self.0.macs
    }

    fn is_from_cache(&self) -> bool {
        self.0.program.slot.is_some()
    }
}

struct ProgramSession<E: Engine> {
    shared: Arc<Shared<E>>,
    /// The segment that ran last, with its working memory.
    warm: Option<Warm<E>>,
    /// Where that segment is the whole model: the shapes it takes, and which input goes where.
    whole: Option<Whole>,
}

struct Whole {
    shapes: Vec<Vec<usize>>,
    order: Vec<usize>,
}

impl<E: Engine> ProgramSession<E> {
    /// A run by the segment of the last one, where the shapes are the same and it is the whole model.
    fn run_again(
        &mut self,
        inputs: &[&Tensor],
        profile: Option<&mut Profile>,
    ) -> Option<Result<Vec<Arc<Tensor>>, RunError>> {
        let whole = self.whole.as_ref()?;
        if !whole.shapes.iter().map(Vec::as_slice).eq(inputs.iter().map(|tensor| tensor.shape())) {
            return None;
        }
        let mut warm = self.warm.take()?;
        let ordered: Vec<&Tensor> = whole.order.iter().map(|index| inputs[*index]).collect();
        let prepared = &warm.segment.prepared;
        let outputs = self.shared.program.run_plan(prepared, &mut warm.state, &ordered, profile);
        self.warm = Some(warm);
        Some(outputs.map(|outputs| outputs.into_iter().map(Arc::new).collect()))
    }

    fn run_any(
        &mut self,
        inputs: &[&Tensor],
        profile: Option<&mut Profile>,
    ) -> Result<Vec<Arc<Tensor>>, RunError> {
        self.whole = None;
        let Shared { program, binding, .. } = &*self.shared;
        let named = binding.inputs.iter().map(|info| info.name.clone());
        let given: Tensors = named.zip(inputs.iter().map(|tensor| Arc::new((*tensor).clone()))).collect();
        let outputs = program.run(Which::Whole, given, &mut self.warm, profile)?;
        if let Some(Warm { segment, .. }) = self.warm.as_ref().filter(|warm| warm.segment.is_whole()) {
            let place = |name: &String| binding.inputs.iter().position(|info| info.name == *name);
            let order: Option<Vec<usize>> = segment.inputs.iter().map(place).collect();
            let shapes = inputs.iter().map(|tensor| tensor.shape().to_vec()).collect();
            self.whole = order.map(|order| Whole { shapes, order });
        }
        Ok(outputs)
    }

    fn run_watched(
        &mut self,
        inputs: &[(&str, &Tensor)],
        mut profile: Option<&mut Profile>,
    ) -> Result<Vec<(String, Tensor)>, RunError> {
        let inputs = self.shared.binding.arrange(inputs, &self.shared.program.limits)?;
        let outputs = match self.run_again(&inputs, profile.as_deref_mut()) {
            Some(outputs) => outputs?,
            None => self.run_any(&inputs, profile)?,
        };
        let mut answers = Vec::with_capacity(outputs.len());
        for (info, tensor) in self.shared.outputs.iter().zip(outputs) {
            if tensor.has_non_finite() {
                return Err(RunError::NonFinite { output: info.name.clone() });
            }
            answers.push((info.name.clone(), Arc::unwrap_or_clone(tensor)));
        }
        Ok(answers)
    }
}

impl<E: Engine> Session for ProgramSession<E> {
    fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<(String, Tensor)>, RunError> {
        self.run_watched(inputs, None)
    }

    fn profile(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Option<RunProfile>, RunError> {
        let mut profile = Profile::default();
        let start = Instant::now();
        self.run_watched(inputs, Some(&mut profile))?;
        let elapsed = start.elapsed();
        Ok(Some(profile.finish(elapsed)))
    }
}
