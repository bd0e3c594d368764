//! Plans by what is known before them.

use super::{
    Engine,
    drive::{Program, Which},
};
use crate::{
    cache::Names,
    compile::{
        CompileError, lower, memory, propagate,
        straight::{self, End, Environment, Placed, Ready},
    },
    memory::{Budget, MemoryError, Purpose, Reservation},
    tensor::Tensor,
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError, Weak},
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
    pub(super) live: Names,
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
    pub(super) outputs: Names,
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
    /// One that is all that a run does, with the memory of a run and its own.
    pub(super) fn whole(
        prepared: Arc<E::Prepared>,
        (inputs, outputs): (Vec<String>, Names),
        macs: u64,
        (run_bytes, memory): (u64, Reservation),
    ) -> Self {
        let (after, done) = (After::Answer, BTreeSet::new());
        Self { prepared, inputs, outputs, after, done, macs, run_bytes, _memory: memory, is_first: true }
    }

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
    /// While segments are recorded for a cache: those that are whole runs, and may be kept.
    recorded: Mutex<Option<Vec<Recorded<E>>>>,
}

/// A segment for a cache.
pub(super) struct Recorded<E: Engine> {
    pub(super) key: Key,
    /// Gone where it had to make way.
    pub(super) segment: Weak<Segment<E>>,
    /// Its plan, without what was packed.
    pub(super) plan: Vec<u8>,
}

/// Newest last.
type Kept<E> = Vec<(Key, Arc<Segment<E>>)>;

impl<E: Engine> Segments<E> {
    /// None yet; `recording` those that are made from now on.
    pub(super) fn new(recording: bool) -> Self {
        Self { kept: Mutex::default(), recorded: Mutex::new(recording.then(Vec::new)) }
    }

    /// A segment that was made before.
    pub(super) fn add(&self, key: Key, segment: Segment<E>) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push((key, Arc::new(segment)));
    }

    /// Gives up a segment.
    pub(super) fn forget(&self, key: &Key) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).retain(|(other, _)| other != key);
    }

    /// Ends the recording.
    pub(super) fn recorded(&self) -> Vec<Recorded<E>> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }

    fn record(&self, key: &Key, segment: &Arc<Segment<E>>, plan: Option<Vec<u8>>) {
        if let Some(plan) = plan.filter(|_| segment.is_whole())
            && let Some(list) = &mut *self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
        {
            list.push(Recorded { key: key.clone(), segment: Arc::downgrade(segment), plan });
        }
    }

    fn is_recording(&self) -> bool {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(super) fn get(
        &self,
        program: &Program<E>,
        which: Which<'_>,
        key: &Key,
        environment: &Environment,
    ) -> Result<Arc<Segment<E>>, CompileError> {
        // Held while a plan is made: sessions that need the same one wait for it rather than make it again.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = kept.iter().position(|(other, _)| other == key) {
            let entry = kept.remove(at);
            let segment = Arc::clone(&entry.1);
            kept.push(entry);
            return Ok(segment);
        }
        let (segment, plan) = make(program, which, environment, &mut kept)?;
        let segment = Arc::new(segment);
        self.record(key, &segment, plan);
        if key.is_kept() {
            if kept.len() >= KEPT_MAX {
                kept.remove(0);
            }
            kept.push((key.clone(), Arc::clone(&segment)));
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

/// A segment, and for a cache its plan without what is packed, unless there are steps that cannot be kept.
fn make<E: Engine>(
    program: &Program<E>,
    which: Which<'_>,
    environment: &Environment,
    kept: &mut Kept<E>,
) -> Result<(Segment<E>, Option<Vec<u8>>), CompileError> {
    let Program { engine, limits, segments, budget, .. } = program;
    let (model, graph) = (program.model()?, program.graph(which)?);
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
    let recording = segments.is_recording() && plan.is_sound(limits);
    let recorded = if recording { postcard::to_extend(&plan, Vec::new()).ok() } else { None };
    let prepared = Arc::new(engine.prepare(plan)?);
    let found = engine.footprint(&prepared).unwrap_or(estimate);
    memory.settle(found.ready_bytes)?;
    let segment = Segment {
        prepared,
        inputs,
        outputs,
        after,
        done,
        macs,
        run_bytes: found.run_bytes,
        _memory: memory,
        is_first: environment.done.is_empty() && !knows_values,
    };
    Ok((segment, recorded))
}
