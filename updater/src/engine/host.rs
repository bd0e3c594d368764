//! What the engine needs of the program around it.

use crate::slots::InstalledBundle;
use std::sync::Arc;
use whimbrel_wire::{ModelName, manifest::Manifest, report::Reason};

pub use crate::machine::Traffic;

/// Loads, judges and serves models. The updater itself knows nothing about inference.
pub trait Host: Send + Sync + 'static {
    /// Whether this device can run such a bundle at all: memory, backend, operators. Asked before any of it is fetched.
    ///
    /// # Errors
    /// Why not.
    fn accepts(&self, manifest: &Manifest) -> Result<(), Reason> {
        let _ = manifest;
        Ok(())
    }

    /// Runs the bundle's golden vectors on the real backend, beside whatever serves now.
    ///
    /// # Errors
    /// Why the bundle must not serve.
    fn self_test(&self, bundle: &InstalledBundle) -> impl Future<Output = Result<(), Reason>> + Send;

    /// Lets `active` answer from now on, in one atomic step; `fallback`, where given, stays loaded and answers what `active`
    /// fails on. The counts of [`Host::traffic`] start at zero. Serving what serves already, with another or no
    /// fallback, is no new load.
    ///
    /// # Errors
    /// Why it cannot serve; what served before then still does.
    fn serve(
        &self,
        active: &InstalledBundle,
        fallback: Option<&InstalledBundle>,
    ) -> impl Future<Output = Result<(), Reason>> + Send;

    /// Stops serving the model: its only version did not pass probation.
    fn withdraw(&self, model: &ModelName) -> impl Future<Output = ()> + Send;

    /// Live requests that the serving version answered, or failed, since its last [`Host::serve`].
    fn traffic(&self, model: &ModelName) -> Traffic;
}

impl<H: Host> Host for Arc<H> {
    fn accepts(&self, manifest: &Manifest) -> Result<(), Reason> {
        H::accepts(self, manifest)
    }

    fn self_test(&self, bundle: &InstalledBundle) -> impl Future<Output = Result<(), Reason>> + Send {
        H::self_test(self, bundle)
    }

    fn serve(
        &self,
        active: &InstalledBundle,
        fallback: Option<&InstalledBundle>,
    ) -> impl Future<Output = Result<(), Reason>> + Send {
        H::serve(self, active, fallback)
    }

    fn withdraw(&self, model: &ModelName) -> impl Future<Output = ()> + Send {
        H::withdraw(self, model)
    }

    fn traffic(&self, model: &ModelName) -> Traffic {
        H::traffic(self, model)
    }
}
