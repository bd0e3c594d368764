//! The model and its sessions.

use super::{
    convert::{self, FromTract},
    guard::guarded,
    import::{Template, has_free_sizes},
    plan::{self, Plan},
};
use crate::{
    backend::{Model, Session, TensorInfo},
    binding::Binding,
    datatype::Datatype,
    error::RunError,
    limits::ImportLimits,
    tensor::Tensor,
};
use std::sync::{Arc, Mutex, PoisonError};
use tract_onnx::prelude::{InferenceModel, TypedSimpleState};

/// Plans kept for shapes seen lately.
const PLANS_KEPT_MAX: usize = 8;

/// The shape of each input, in the model's order.
type Shapes = Vec<Vec<usize>>;

/// A model that tract runs.
pub(crate) struct TractModel(Arc<Shared>);

struct Shared {
    graph: InferenceModel,
    binding: Binding,
    outputs: Vec<TensorInfo>,
    limits: ImportLimits,
    /// Newest last. One entry for ever where all sizes are fixed.
    plans: Mutex<Vec<(Shapes, Arc<Plan>)>>,
    macs: Option<u64>,
}

impl TractModel {
    /// Takes over an imported file.
    pub(crate) fn new(template: Template) -> Self {
        let Template { graph, inputs, outputs, symbols, plan, limits } = template;
        let smallest: Shapes =
            inputs.iter().map(|info| info.shape.iter().map(|d| d.unwrap_or(1)).collect()).collect();
        let macs = if has_free_sizes(&inputs) { None } else { plan.macs };
        let plans = Mutex::new(vec![(smallest, Arc::new(plan))]);
        let binding = Binding { inputs, symbols };
        Self(Arc::new(Shared { graph, binding, outputs, limits, plans, macs }))
    }
}

impl Model for TractModel {
    fn inputs(&self) -> &[TensorInfo] {
        &self.0.binding.inputs
    }

    fn outputs(&self) -> &[TensorInfo] {
        &self.0.outputs
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(TractSession { model: Arc::clone(&self.0), state: None })
    }

    fn macs(&self) -> Option<u64> {
        self.0.macs
    }
}

impl Shared {
    fn plan(&self, shapes: &Shapes) -> Result<Arc<Plan>, RunError> {
        // Held while a plan is made: sessions that need the same one wait for it rather than make it again.
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = plans.iter().position(|(key, _)| key == shapes) {
            let entry = plans.remove(at);
            let plan = Arc::clone(&entry.1);
            plans.push(entry);
            return Ok(plan);
        }
        let inputs: Vec<(Datatype, &[usize])> = self
            .binding
            .inputs
            .iter()
            .zip(shapes)
            .map(|(info, shape)| (info.datatype, shape.as_slice()))
            .collect();
        let plan = plan::build(&self.graph, &inputs, &self.limits).map_err(|why| RunError::Shapes { why })?;
        let plan = Arc::new(plan);
        if plans.len() >= PLANS_KEPT_MAX {
            plans.remove(0);
        }
        plans.push((shapes.clone(), Arc::clone(&plan)));
        Ok(plan)
    }
}

struct TractSession {
    model: Arc<Shared>,
    /// The shapes of the last run and the state that ran them.
    state: Option<(Shapes, TypedSimpleState)>,
}

impl Session for TractSession {
    fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<(String, Tensor)>, RunError> {
        let inputs = self.model.binding.arrange(inputs, &self.model.limits)?;
        let values = inputs
            .iter()
            .zip(&self.model.binding.inputs)
            .map(|(tensor, info)| {
                let fail = |why| RunError::Value { input: info.name.clone(), why };
                convert::to_tract(tensor).map(Into::into).map_err(fail)
            })
            .collect::<Result<_, _>>()?;
        let shapes: Shapes = inputs.iter().map(|tensor| tensor.shape().to_vec()).collect();
        // Taken out, so that a state in which a run failed or panicked is dropped and never used again.
        let mut state = match self.state.take() {
            Some((key, state)) if key == shapes => state,
            _ => {
                let plan = self.model.plan(&shapes)?;
                guarded(|| plan.runnable.spawn()).map_err(|why| RunError::Failed { why })?
            }
        };
        let outputs = guarded(|| state.run(values)).map_err(|why| RunError::Failed { why })?;
        let outputs = self
            .model
            .outputs
            .iter()
            .zip(&outputs)
            .map(|(info, value)| take_over(info, value))
            .collect::<Result<_, _>>()?;
        self.state = Some((shapes, state));
        Ok(outputs)
    }
}

fn take_over(info: &TensorInfo, value: &tract_onnx::prelude::Tensor) -> Result<(String, Tensor), RunError> {
    let output = || info.name.clone();
    let tensor = convert::from_tract(value).map_err(|error| match error {
        FromTract::Tensor(source) => RunError::Output { output: output(), source },
        FromTract::Access(why) => RunError::Failed { why: format!("output {:?}: {why}", info.name) },
    })?;
    if tensor.has_non_finite() {
        return Err(RunError::NonFinite { output: output() });
    }
    Ok((output(), tensor))
}
