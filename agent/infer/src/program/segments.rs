//! Plans by what is known before them.

use super::{Engine, drive::Program};
use crate::{
    compile::{
        CompileError, lower, memory, propagate,
        straight::{self, End, Environment, Placed, Ready},
    },
    datatype::Datatype,
    graph::Graph,
    memory::{Budget, MemoryError, Purpose, Reservation},
    tensor::Tensor,
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

/// Segments kept, those of inner graphs included.
const KEPT_MAX: usize = 64;

/// Largest tensor, in elements, that a segment is kept for.
const KNOWN_ELEMENTS_MAX: usize = 4096;

/// What a segment was made for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    /// Which graph: empty for the model's own, else the path of the node it stands in.
    pub(super) graph: String,
    pub(super) live: Vec<(String, Datatype, Vec<usize>)>,
    pub(super) known: Vec<(String, Arc<Tensor>)>,
    /// How many segments came before it in this run.
    pub(super) depth: usize,
}

impl Key {
    pub(super) fn of(graph: &str, environment: &Environment, depth: usize) -> Self {
        let mut key = Self { graph: graph.to_owned(), live: Vec::new(), known: Vec::new(), depth };
        for (name, ready) in &environment.ready {
            match ready {
                Ready::Live(datatype, shape) => key.live.push((name.clone(), *datatype, shape.clone())),
                Ready::Known(tensor) => key.known.push((name.clone(), Arc::clone(tensor))),
            }
        }
        key
    }

    fn is_kept(&self) -> bool {
        self.known.iter().map(|(_, tensor)| tensor.len()).sum::<usize>() <= KNOWN_ELEMENTS_MAX
    }
}

/// A plan and what comes after it.
pub(super) struct Segment<E: Engine> {
    pub(super) prepared: Arc<E::Prepared>,
    /// Names of what the plan is given, in its order.
    pub(super) inputs: Vec<String>,
    /// Names, types and shapes of what it answers, in its order.
    pub(super) outputs: Vec<(String, Datatype, Vec<usize>)>,
    pub(super) after: After,
    /// Keys of the nodes it runs.
    pub(super) done: BTreeSet<String>,
    pub(super) macs: u64,
    /// Working memory of a run.
    pub(super) run_bytes: u64,
    /// Of the plan.
    _memory: Reservation,
    /// Whether nothing runs before it.
    is_first: bool,
}

impl<E: Engine> Segment<E> {
    /// Whether it is all that a graph's run does.
    pub(super) fn is_whole(&self) -> bool {
        self.is_first && matches!(self.after, After::Answer)
    }
}

/// What comes after a segment.
pub(super) enum After {
    /// Nothing: its outputs are the graph's.
    Answer,
    /// The rest, with this value known.
    Observe(String),
    /// This node, then the rest.
    Run(Box<Placed>, Vec<Option<Operand>>),
}

/// An input of a node that runs between segments.
#[derive(Debug, Clone)]
pub(super) enum Operand {
    Constant(Arc<Tensor>),
    Named(String),
}

/// Makes and keeps segments.
pub(super) struct Segments<E: Engine> {
    kept: Mutex<Kept<E>>,
}

/// Newest last.
type Kept<E> = Vec<(Key, Arc<Segment<E>>)>;

impl<E: Engine> Segments<E> {
    pub(super) const fn new() -> Self {
        Self { kept: Mutex::new(Vec::new()) }
    }

    pub(super) fn get(
        &self,
        program: &Program<E>,
        graph: &Graph,
        key: Key,
        environment: &Environment,
    ) -> Result<Arc<Segment<E>>, CompileError> {
        // Held while a plan is made: sessions that need the same one wait for it rather than make it again.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = kept.iter().position(|(other, _)| *other == key) {
            let entry = kept.remove(at);
            let segment = Arc::clone(&entry.1);
            kept.push(entry);
            return Ok(segment);
        }
        let segment = Arc::new(make(program, graph, environment, &mut kept)?);
        if key.is_kept() {
            if kept.len() >= KEPT_MAX {
                kept.remove(0);
            }
            kept.push((key, Arc::clone(&segment)));
        }
        Ok(segment)
    }

    /// Takes memory of the budget, that of kept segments which nobody uses where there is no other.
    ///
    /// # Errors
    /// There is not as much.
    pub(super) fn reserve(
        &self,
        budget: &Arc<Budget>,
        purpose: Purpose,
        bytes: u64,
    ) -> Result<Reservation, MemoryError> {
        reserve(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner), budget, purpose, bytes)
    }
}

fn reserve<E: Engine>(
    kept: &mut Kept<E>,
    budget: &Arc<Budget>,
    purpose: Purpose,
    bytes: u64,
) -> Result<Reservation, MemoryError> {
    loop {
        let error = match budget.reserve(purpose, bytes) {
            Ok(reservation) => return Ok(reservation),
            Err(error) => error,
        };
        let unused = kept.iter().position(|(_, segment)| Arc::strong_count(segment) == 1);
        match unused.filter(|_| error.fits_alone()) {
            Some(oldest) => drop(kept.remove(oldest)),
            None => return Err(error),
        }
    }
}

fn make<E: Engine>(
    program: &Program<E>,
    graph: &Graph,
    environment: &Environment,
    kept: &mut Kept<E>,
) -> Result<Segment<E>, CompileError> {
    let Program { engine, model, limits, budget, .. } = program;
    let knows_values = environment.ready.values().any(|ready| matches!(ready, Ready::Known(_)));
    let mut list = straight::straighten(model, graph, environment, limits)?;
    propagate::propagate(&mut list);
    let name = |id: &straight::ValueId| list.values[id.0].name.clone();
    let after = match &list.end {
        End::Done => After::Answer,
        End::Observe(id) => After::Observe(name(id)),
        End::Dynamic(placed) => {
            let operand = |id: &straight::ValueId| match &list.values[id.0].constant {
                Some(tensor) => Operand::Constant(Arc::clone(tensor)),
                None => Operand::Named(name(id)),
            };
            let operands = placed.inputs.iter().map(|id| id.as_ref().map(operand)).collect();
            After::Run(placed.clone(), operands)
        }
    };
    let output = |id: &straight::ValueId| {
        let value = &list.values[id.0];
        (value.name.clone(), value.datatype, value.shape.clone())
    };
    let done = list.nodes.iter().map(|placed| placed.key.clone()).collect();
    let inputs = list.inputs.iter().map(name).collect();
    let outputs = list.outputs.iter().map(output).collect();
    let mut plan = lower::lower(&list, &model.opsets, limits)?;
    drop(list);
    memory::place(&mut plan);
    let macs = plan.macs();
    let estimate = engine.estimate(&plan);
    let peak = estimate.ready_bytes.saturating_add(estimate.making_bytes.max(estimate.run_bytes));
    let mut memory = reserve(kept, budget, Purpose::Plan, peak)?;
    let prepared = Arc::new(engine.prepare(plan)?);
    let found = engine.footprint(&prepared).unwrap_or(estimate);
    memory.settle(found.ready_bytes)?;
    Ok(Segment {
        prepared,
        inputs,
        outputs,
        after,
        done,
        macs,
        run_bytes: found.run_bytes,
        _memory: memory,
        is_first: environment.done.is_empty() && !knows_values,
    })
}
