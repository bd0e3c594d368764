//! Runs segment after segment.

use super::{
    Engine, dynamic,
    file::ModelFile,
    segments::{After, Key, Operand, Segment, Segments},
};
use crate::{
    cache::Slot,
    compile::{
        CompileError,
        straight::{Environment, Ready},
    },
    error::RunError,
    graph::{Graph, Model},
    limits::ImportLimits,
    memory::{Budget, Purpose, Reservation},
    profile::Profile,
    tensor::Tensor,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Most segments of one run of one graph.
const SEGMENTS_MAX: usize = 10_000;

/// What runs need besides their inputs.
pub(super) struct Program<E: Engine> {
    pub(super) engine: E,
    pub(super) file: ModelFile,
    pub(super) limits: ImportLimits,
    pub(super) segments: Segments<E>,
    pub(super) budget: Arc<Budget>,
    /// Where it came from, unless from its file.
    pub(super) slot: Option<Slot>,
}

/// Which graph runs.
#[derive(Clone, Copy)]
pub(super) enum Which<'a> {
    /// The model's own.
    Whole,
    /// One inside a node, and the path of that node.
    Inner(&'a Graph, &'a str),
}

/// A segment with working memory, kept for the next run.
pub(super) struct Warm<E: Engine> {
    pub(super) segment: Arc<Segment<E>>,
    pub(super) state: E::State,
    /// Of the state.
    _memory: Reservation,
}

/// Tensors by name.
pub(super) type Tensors = HashMap<String, Arc<Tensor>>;

pub(super) fn shapes_failed(error: &CompileError) -> RunError {
    match error {
        CompileError::Memory(error) => RunError::Memory(error.clone()),
        _ => RunError::Shapes { why: error.to_string() },
    }
}

impl<E: Engine> Program<E> {
    /// What the model's file says.
    ///
    /// # Errors
    /// It cannot be read any more, or there is no memory for it.
    pub(super) fn model(&self) -> Result<&Model, CompileError> {
        self.file.model(&self.limits, &self.budget, self.engine.name())
    }

    /// A graph of the model.
    ///
    /// # Errors
    /// As [`Self::model`].
    pub(super) fn graph<'a>(&'a self, which: Which<'a>) -> Result<&'a Graph, CompileError> {
        match which {
            Which::Whole => Ok(&self.model()?.graph),
            Which::Inner(graph, _) => Ok(graph),
        }
    }

    /// Runs a graph. Where there is a profile, layers are timed.
    ///
    /// # Errors
    /// See [`RunError`].
    pub(super) fn run(
        &self,
        which: Which<'_>,
        given: Tensors,
        warm: &mut Option<Warm<E>>,
        mut profile: Option<&mut Profile>,
    ) -> Result<Vec<Arc<Tensor>>, RunError> {
        let mut tensors = given;
        let mut environment = Environment::default();
        for (name, tensor) in &tensors {
            let ready = Ready::Live(tensor.datatype(), tensor.shape().to_vec());
            environment.ready.insert(name.clone(), ready);
        }
        for depth in 0..SEGMENTS_MAX {
            let path = if let Which::Inner(_, path) = which { path } else { "" };
            let key = Key::of(path, &environment, depth);
            let get = || self.segments.get(self, which, &key, &environment).map_err(|e| shapes_failed(&e));
            let mut segment = get()?;
            let mut outputs = self.run_segment(&segment, &tensors, warm, profile.as_deref_mut());
            if outputs.is_err() && self.engine.is_damaged(&segment.prepared) {
                self.forget(&key);
                // Its memory is needed for the one that takes its place.
                drop(segment);
                segment = get()?;
                outputs = self.run_segment(&segment, &tensors, warm, profile.as_deref_mut());
            }
            let outputs = outputs?;
            if matches!(segment.after, After::Answer) {
                return Ok(outputs.into_iter().map(Arc::new).collect());
            }
            tensors.extend(
                segment.outputs.iter().map(|(name, ..)| name.clone()).zip(outputs.into_iter().map(Arc::new)),
            );
            environment.done.extend(segment.done.iter().cloned());
            self.between(&segment, which, &mut tensors, &mut environment, profile.as_deref_mut())?;
        }
        Err(RunError::Failed { why: format!("more than {SEGMENTS_MAX} values had to be looked at") })
    }

    /// Gives up a segment whose packed parts are not what was written, and the file that they came from.
    fn forget(&self, key: &Key) {
        self.segments.forget(key);
        if let Some(slot) = &self.slot {
            slot.discard("its packed weights are not what was written");
        }
    }

    fn run_segment(
        &self,
        segment: &Arc<Segment<E>>,
        tensors: &Tensors,
        warm: &mut Option<Warm<E>>,
        profile: Option<&mut Profile>,
    ) -> Result<Vec<Tensor>, RunError> {
        let mut inputs = Vec::with_capacity(segment.inputs.len());
        for name in &segment.inputs {
            let missing = || RunError::Failed { why: format!("{name:?} is not there") };
            inputs.push(tensors.get(name).ok_or_else(missing)?.as_ref());
        }
        // Taken out, so that a state in which a run failed is dropped and never used again, and that of another segment at once.
        let mut here = match warm.take().filter(|warm| Arc::ptr_eq(&warm.segment, segment)) {
            Some(warm) => warm,
            None => self.warm(segment)?,
        };
        let outputs = self.run_plan(&segment.prepared, &mut here.state, &inputs, profile)?;
        *warm = Some(here);
        Ok(outputs)
    }

    fn warm(&self, segment: &Arc<Segment<E>>) -> Result<Warm<E>, RunError> {
        let memory = self.segments.reserve(&self.budget, Purpose::Run, segment.run_bytes);
        let memory = memory.map_err(RunError::Memory)?;
        let state = self.engine.state(&segment.prepared);
        Ok(Warm { segment: Arc::clone(segment), state, _memory: memory })
    }

    /// Runs a plan, and adds its layers where there is a profile.
    pub(super) fn run_plan(
        &self,
        prepared: &E::Prepared,
        state: &mut E::State,
        inputs: &[&Tensor],
        profile: Option<&mut Profile>,
    ) -> Result<Vec<Tensor>, RunError> {
        let Some(profile) = profile else { return self.engine.run(prepared, state, inputs) };
        let layers = self.engine.layers(prepared);
        let mut times = Vec::with_capacity(layers.len());
        let outputs = self.engine.run_timed(prepared, state, inputs, &mut times)?;
        profile.add_plan(layers, &times);
        Ok(outputs)
    }

    /// Does what comes after a segment, and says what is known then.
    fn between(
        &self,
        segment: &Segment<E>,
        which: Which<'_>,
        tensors: &mut Tensors,
        environment: &mut Environment,
        profile: Option<&mut Profile>,
    ) -> Result<(), RunError> {
        let live: BTreeMap<String, Ready> = segment
            .outputs
            .iter()
            .map(|(name, datatype, shape)| (name.clone(), Ready::Live(*datatype, shape.clone())))
            .collect();
        environment.ready.retain(|_, ready| matches!(ready, Ready::Known(_)));
        environment.ready.extend(live);
        match &segment.after {
            After::Answer => {}
            After::Observe(name) => {
                if let Some(tensor) = tensors.get(name) {
                    environment.ready.insert(name.clone(), Ready::Known(Arc::clone(tensor)));
                }
            }
            After::Run(placed, operands) => {
                let mut inputs: Vec<Option<Arc<Tensor>>> = Vec::new();
                for operand in operands {
                    inputs.push(match operand {
                        None => None,
                        Some(Operand::Constant(tensor)) => Some(Arc::clone(tensor)),
                        Some(Operand::Named(name)) => {
                            let missing = || RunError::Failed { why: format!("{name:?} is not there") };
                            Some(Arc::clone(tensors.get(name).ok_or_else(missing)?))
                        }
                    });
                }
                let graph = self.graph(which).map_err(|e| shapes_failed(&e))?;
                let outer = dynamic::Outer { tensors, constants: &graph.constants };
                let outputs = dynamic::run(self, placed, &inputs, &outer, profile)?;
                let prefix_len = placed.key.rfind('/').map_or(0, |at| at + 1);
                let prefix = &placed.key[..prefix_len];
                let names = placed.node.outputs.iter().filter(|name| !name.is_empty());
                for (name, tensor) in names.zip(outputs) {
                    let name = format!("{prefix}{name}");
                    let ready = Ready::Live(tensor.datatype(), tensor.shape().to_vec());
                    environment.ready.insert(name.clone(), ready);
                    tensors.insert(name, tensor);
                }
                environment.done.insert(placed.key.clone());
            }
        }
        Ok(())
    }
}
