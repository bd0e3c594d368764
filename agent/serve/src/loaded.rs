//! A model with its steps, and one run of it.

use semver::Version;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use whimbrel_infer::{Backend, LoadError, LoadOptions, Model, RunError, Session, Tensor, TensorInfo};
use whimbrel_pipeline::{CompileError, Environment, Interface, Program, StepError, datatype, spec_of};
use whimbrel_wire::{
    ModelName,
    manifest::{Manifest, TensorSpec, is_inner_path},
    pipeline::Pipeline,
};

/// Sessions kept for the next run.
const SESSIONS_KEPT_MAX: usize = 64;

/// A model with its steps, ready to run. Shared by all requests.
pub struct LoadedModel {
    name: ModelName,
    version: Version,
    platform: &'static str,
    model: Arc<dyn Model>,
    program: Program,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    sessions: Mutex<Vec<Box<dyn Session>>>,
}

/// Why a model was not made ready.
#[derive(Debug, thiserror::Error)]
pub enum LoadModelError {
    /// The manifest breaks a rule.
    #[error("load model {model}: its manifest is not valid: {why}")]
    Manifest {
        /// Which model.
        model: ModelName,
        /// Which rule.
        why: String,
    },
    /// The ONNX file was not loaded.
    #[error("load model {model}")]
    Load {
        /// Which model.
        model: ModelName,
        /// Why.
        #[source]
        source: LoadError,
    },
    /// The declared steps or tensors do not fit the ONNX file.
    #[error("load model {model}: its manifest does not fit its ONNX file")]
    Compile {
        /// Which model.
        model: ModelName,
        /// Why.
        #[source]
        source: Box<CompileError>,
    },
}

impl LoadModelError {
    /// Whether it would take more memory than it may.
    #[must_use]
    pub const fn is_memory(&self) -> bool {
        matches!(self, Self::Load { source: LoadError::Memory(_), .. })
    }
}

/// Why a request got no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InferError {
    /// The request's inputs are not what the model takes.
    #[error("{0}")]
    BadInput(String),
    /// The model failed.
    #[error(transparent)]
    Run(RunError),
    /// A step after the model failed.
    #[error(transparent)]
    Post(StepError),
}

impl InferError {
    /// A stable name for metrics and telemetry: `bad_input`, `non_finite`, `run_failed`, `post_failed`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::BadInput(_) => "bad_input",
            Self::Run(error) => error.kind(),
            Self::Post(_) => "post_failed",
        }
    }

    /// Whether the request was at fault, not the model.
    #[must_use]
    pub const fn is_bad_input(&self) -> bool {
        match self {
            Self::BadInput(_) => true,
            Self::Run(error) => error.is_bad_input(),
            Self::Post(_) => false,
        }
    }
}

/// What one run gave.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The app-facing outputs, in the manifest's order.
    pub outputs: Vec<(String, Arc<Tensor>)>,
    /// Every tensor after the last step.
    pub environment: Environment,
}

impl LoadedModel {
    /// Loads the model of an installed bundle.
    ///
    /// # Errors
    /// The manifest breaks a rule, the ONNX file was not loaded, or the two do not fit.
    pub fn from_bundle(
        dir: &Path,
        manifest: &Manifest,
        backend: &dyn Backend,
        options: &LoadOptions,
    ) -> Result<Self, LoadModelError> {
        let model = manifest.name.clone();
        manifest.validate().map_err(|why| LoadModelError::Manifest { model: model.clone(), why })?;
        if !is_inner_path(&manifest.model) {
            let why = format!("model: {:?} is not a plain relative path", manifest.model);
            return Err(LoadModelError::Manifest { model, why });
        }
        let loaded = whimbrel_infer::load_file(backend, &dir.join(&manifest.model), options)
            .map_err(|source| LoadModelError::Load { model, source })?;
        Self::from_parts(manifest, loaded, backend.name())
    }

    /// Puts a loaded model behind a manifest.
    ///
    /// # Errors
    /// The manifest does not fit the model.
    pub fn from_parts(
        manifest: &Manifest,
        model: Arc<dyn Model>,
        platform: &'static str,
    ) -> Result<Self, LoadModelError> {
        let interface = Interface {
            inputs: &manifest.inputs,
            outputs: &manifest.outputs,
            model_inputs: model.inputs(),
            model_outputs: model.outputs(),
        };
        let program = Program::compile(&manifest.pipeline, &manifest.labels, &interface)
            .map_err(|e| LoadModelError::Compile { model: manifest.name.clone(), source: Box::new(e) })?;
        Ok(Self {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            platform,
            program,
            inputs: manifest.inputs.clone(),
            outputs: manifest.outputs.clone(),
            sessions: Mutex::default(),
            model,
        })
    }

    /// Loads a bare ONNX file: version 0.0.0, no steps, apps see the model's own tensors.
    ///
    /// # Errors
    /// The file was not loaded.
    pub fn from_onnx(
        name: ModelName,
        path: &Path,
        backend: &dyn Backend,
        options: &LoadOptions,
    ) -> Result<Self, LoadModelError> {
        let model = whimbrel_infer::load_file(backend, path, options)
            .map_err(|source| LoadModelError::Load { model: name.clone(), source })?;
        Self::from_model(name, Version::new(0, 0, 0), model, backend.name())
    }

    /// Puts a loaded model behind a name and version, without steps: apps see the model's own tensors.
    ///
    /// # Errors
    /// The model's own tensors are not what a request can carry.
    pub fn from_model(
        name: ModelName,
        version: Version,
        model: Arc<dyn Model>,
        platform: &'static str,
    ) -> Result<Self, LoadModelError> {
        let inputs: Vec<TensorSpec> = model.inputs().iter().map(spec_of).collect();
        let outputs: Vec<TensorSpec> = model.outputs().iter().map(spec_of).collect();
        let interface = Interface {
            inputs: &inputs,
            outputs: &outputs,
            model_inputs: model.inputs(),
            model_outputs: model.outputs(),
        };
        let program = Program::compile(&Pipeline::default(), &[], &interface)
            .map_err(|e| LoadModelError::Compile { model: name.clone(), source: Box::new(e) })?;
        Ok(Self { name, version, platform, program, inputs, outputs, sessions: Mutex::default(), model })
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &ModelName {
        &self.name
    }

    /// Its version.
    #[must_use]
    pub const fn version(&self) -> &Version {
        &self.version
    }

    /// The name of the backend that runs it.
    #[must_use]
    pub const fn platform(&self) -> &'static str {
        self.platform
    }

    /// What apps send.
    #[must_use]
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    /// What apps get.
    #[must_use]
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// The model without its steps.
    #[must_use]
    pub fn model(&self) -> &Arc<dyn Model> {
        &self.model
    }

    /// Checks that tensors are what apps may send: every input once, no other, of the declared type and shape.
    ///
    /// # Errors
    /// [`InferError::BadInput`], naming the tensor and the rule.
    pub fn check_inputs<T: AsRef<Tensor>>(&self, inputs: &[(String, T)]) -> Result<(), InferError> {
        for (index, (name, _)) in inputs.iter().enumerate() {
            if inputs[..index].iter().any(|(other, _)| other == name) {
                return Err(bad_input(format!("input {} is given twice", excerpt(name))));
            }
            if !self.inputs.iter().any(|spec| spec.name == *name) {
                return Err(bad_input(format!("input {} is not one of model {}", excerpt(name), self.name)));
            }
        }
        self.inputs.iter().try_for_each(|spec| match inputs.iter().find(|(name, _)| *name == spec.name) {
            Some((_, tensor)) => fits(spec, tensor.as_ref()),
            None => Err(bad_input(format!("input {:?} is missing", spec.name))),
        })
    }

    /// Runs the steps, the model, and the steps after it.
    ///
    /// # Errors
    /// The inputs do not fit, the model failed, or a step after it did.
    pub fn infer(&self, inputs: Vec<(String, Tensor)>) -> Result<Answer, InferError> {
        let inputs: Vec<(String, Arc<Tensor>)> = inputs.into_iter().map(|(n, t)| (n, Arc::new(t))).collect();
        self.infer_shared(&inputs)
    }

    /// [`Self::infer`], on tensors that the caller keeps.
    ///
    /// # Errors
    /// See [`Self::infer`].
    pub fn infer_shared(&self, inputs: &[(String, Arc<Tensor>)]) -> Result<Answer, InferError> {
        self.check_inputs(inputs)?;
        let mut environment: Environment = inputs.iter().cloned().collect();
        // The model itself has not run yet: the values sent are what the step could not work on.
        self.program.run_pre(&mut environment).map_err(|e| bad_input(e.to_string()))?;
        let outputs = self.run_model(&environment).map_err(|error| blame(error, inputs))?;
        for (name, tensor) in outputs {
            environment.insert(name, tensor);
        }
        self.program.run_post(&mut environment).map_err(InferError::Post)?;
        let outputs =
            self.outputs.iter().map(|spec| self.pick(spec, &environment)).collect::<Result<_, _>>()?;
        Ok(Answer { outputs, environment })
    }

    fn run_model(&self, environment: &Environment) -> Result<Vec<(String, Tensor)>, RunError> {
        let missing = |info: &TensorInfo| RunError::MissingInput { input: info.name.clone() };
        let inputs: Vec<(&str, &Tensor)> = self
            .model
            .inputs()
            .iter()
            .map(|i| environment.get(&i.name).map(|t| (i.name.as_str(), &**t)).ok_or_else(|| missing(i)))
            .collect::<Result<_, _>>()?;
        let session = self.lock_sessions().pop().unwrap_or_else(|| self.model.session());
        match self.run_session(session, &inputs) {
            // Sessions that wait for their next run hold memory for inputs of other shapes.
            Err(RunError::Memory(error)) if error.fits_alone() => {
                let idle = std::mem::take(&mut *self.lock_sessions());
                drop(idle);
                self.run_session(self.model.session(), &inputs)
            }
            result => result,
        }
    }

    fn run_session(
        &self,
        mut session: Box<dyn Session>,
        inputs: &[(&str, &Tensor)],
    ) -> Result<Vec<(String, Tensor)>, RunError> {
        // A backend that panics must count as a model that failed, so that a fallback steps in and probation sees it.
        // The session it may have left half changed is dropped here and not kept.
        let result = catch_unwind(AssertUnwindSafe(|| session.run(inputs)))
            .map_err(|_| RunError::Failed { why: "the backend panicked".to_owned() })?;
        let mut sessions = self.lock_sessions();
        if sessions.len() < SESSIONS_KEPT_MAX {
            sessions.push(session);
        }
        result
    }

    fn lock_sessions(&self) -> std::sync::MutexGuard<'_, Vec<Box<dyn Session>>> {
        // A panic while the lock was held cannot have left the list half changed.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pick(
        &self,
        spec: &TensorSpec,
        environment: &Environment,
    ) -> Result<(String, Arc<Tensor>), InferError> {
        environment
            .get(&spec.name)
            .filter(|tensor| fits(spec, tensor).is_ok())
            .map(|tensor| (spec.name.clone(), Arc::clone(tensor)))
            .ok_or_else(|| {
                InferError::Run(RunError::Failed {
                    why: format!("output {:?} is not what the manifest declares", spec.name),
                })
            })
    }
}

/// A NaN among the inputs makes a NaN among the outputs: then the request is at fault, and must not count against the
/// model.
fn blame(error: RunError, inputs: &[(String, Arc<Tensor>)]) -> InferError {
    match (&error, inputs.iter().find(|(_, tensor)| tensor.has_non_finite())) {
        (RunError::NonFinite { .. }, Some((name, _))) => {
            bad_input(format!("input {name:?} holds a value that is not finite"))
        }
        _ => InferError::Run(error),
    }
}

fn bad_input(why: String) -> InferError {
    InferError::BadInput(why)
}

/// Cuts a name from outside so that an error stays one readable line.
fn excerpt(name: &str) -> String {
    format!("{:?}", name.chars().take(80).collect::<String>())
}

fn fits(spec: &TensorSpec, tensor: &Tensor) -> Result<(), InferError> {
    let expected = datatype(spec.datatype);
    if tensor.datatype() != expected {
        return Err(bad_input(format!("{:?} is {}, expected {expected}", spec.name, tensor.datatype())));
    }
    // A tensor declared without sizes takes any shape: files rarely tell a scalar from a shape that is not known.
    if spec.shape.is_empty() {
        return Ok(());
    }
    let same_rank = spec.shape.len() == tensor.shape().len();
    let same = |(want, have): (&i64, &usize)| *want == -1 || usize::try_from(*want) == Ok(*have);
    if same_rank && spec.shape.iter().zip(tensor.shape()).all(same) {
        Ok(())
    } else {
        Err(bad_input(format!("{:?} has shape {:?}, expected {:?}", spec.name, tensor.shape(), spec.shape)))
    }
}
