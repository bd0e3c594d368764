//! The backend of this crate.

use crate::{
    device::{Gpu as Device, GpuError},
    engine::GpuEngine,
};
use std::sync::{Arc, Mutex, PoisonError};
use whimbrel_infer::{Backend, Engine, LoadError, LoadOptions, Model, Source, program};

/// Runs models on the best GPU of the machine. All of them share one device, which is opened when the first is loaded.
pub struct Gpu<F> {
    /// Makes the engine for what no kernel does.
    fallback: fn(&LoadOptions) -> Result<F, LoadError>,
    device: Mutex<Option<Arc<Device>>>,
    plain: bool,
}

impl<F: Engine> Gpu<F> {
    /// With an engine for what no kernel does.
    #[must_use]
    pub const fn new(fallback: fn(&LoadOptions) -> Result<F, LoadError>) -> Self {
        Self { fallback, device: Mutex::new(None), plain: false }
    }

    /// As [`Self::new`], on a device that is asked for nothing that not every one has.
    #[must_use]
    pub const fn plain(fallback: fn(&LoadOptions) -> Result<F, LoadError>) -> Self {
        Self { fallback, device: Mutex::new(None), plain: true }
    }

    /// The engine for a model.
    ///
    /// # Errors
    /// There is no GPU to be had, or the other engine refuses.
    pub fn engine(&self, options: &LoadOptions) -> Result<GpuEngine<F>, LoadError> {
        let device = self.device().map_err(|error| match error {
            GpuError::NoAdapter => LoadError::UnsupportedBackend { name: "gpu".into(), why: NO_ADAPTER },
            other => LoadError::Processor { why: other.to_string() },
        })?;
        Ok(GpuEngine::new(device, (self.fallback)(options)?))
    }

    /// The device, opened if there is none or it was lost.
    fn device(&self) -> Result<Arc<Device>, GpuError> {
        let mut kept = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = kept.as_ref().filter(|device| !device.is_lost()) {
            return Ok(Arc::clone(device));
        }
        let device = Arc::new(Device::open(self.plain)?);
        *kept = Some(Arc::clone(&device));
        Ok(device)
    }
}

/// Why there is no GPU.
pub const NO_ADAPTER: &str = "no GPU with a Vulkan driver was found";

/// What to do then.
pub const HOW_TO_GET_ADAPTER: &str = "install the Vulkan driver of your GPU, in Debian mesa-vulkan-drivers (which also has lavapipe, \
                                      a driver that computes on the processor), or use the cpu backend";

impl<F: Engine> Backend for Gpu<F> {
    fn name(&self) -> &'static str {
        "gpu"
    }

    fn load(&self, onnx: &[u8], options: &LoadOptions) -> Result<Arc<dyn Model>, LoadError> {
        self.load_source(&Source::of_bytes(onnx.to_vec()), options)
    }

    fn load_source(&self, source: &Source, options: &LoadOptions) -> Result<Arc<dyn Model>, LoadError> {
        program::load(self.engine(options)?, source, options)
    }

    fn knows(&self, operator: &str) -> bool {
        program::knows(operator)
    }

    fn is_gpu(&self) -> bool {
        true
    }
}
