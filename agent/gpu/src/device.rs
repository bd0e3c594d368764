//! A device of one adapter, and what goes wrong with it.

use crate::{adapter, engine::pipelines::Pipelines, probe};
use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, OnceLock, PoisonError, mpsc},
    task::{Context, Poll, Waker},
    time::Duration,
};
use wgpu::{
    AdapterInfo, Buffer, Device, DeviceDescriptor, DeviceType, ErrorFilter, Features, Limits, MapMode,
    PollType, Queue, SubmissionIndex,
};

/// How long a device may work on one submission before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why a GPU did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// No adapter can run compute shaders.
    #[error("no GPU with a Vulkan driver was found")]
    NoAdapter,
    /// The driver gave no device.
    #[error("open {adapter}: {why}")]
    Open {
        /// Which adapter.
        adapter: String,
        /// The driver's words.
        why: String,
    },
    /// The device rounds otherwise than exact results ask for.
    #[error("{adapter} computes {what} with another rounding than exact results need")]
    Rounding {
        /// Which adapter.
        adapter: String,
        /// What it computes.
        what: &'static str,
    },
    /// The device is gone: removed, reset by its driver, or taken away.
    #[error("the GPU was lost: {why}")]
    Lost {
        /// The driver's words.
        why: String,
    },
    /// The device has not enough memory.
    #[error("the GPU has not enough memory to {what}")]
    Memory {
        /// What it was asked for.
        what: String,
    },
    /// The driver refused something.
    #[error("{what}: {why}")]
    Refused {
        /// What it was asked for.
        what: String,
        /// Its words.
        why: String,
    },
}

/// A device with its queue.
#[derive(Debug)]
pub(crate) struct Gpu {
    pub(crate) device: Device,
    pub(crate) queue: Queue,
    pub(crate) pipelines: Pipelines,
    /// The adapter's name.
    pub(crate) name: String,
    /// Fewest invocations that keep it busy.
    pub(crate) invocations_min: usize,
    /// The fewest and the most lanes of its subgroups, where lanes shall share what they read.
    pub(crate) subgroup: Option<[u32; 2]>,
    faults: Arc<Faults>,
}

/// What the driver reported outside of a call.
#[derive(Debug, Default)]
struct Faults {
    lost: OnceLock<String>,
    other: Mutex<Option<String>>,
}

impl Gpu {
    /// Opens the best adapter and checks its arithmetic. A `plain` device is asked for nothing that not every one has.
    ///
    /// # Errors
    /// See [`GpuError`].
    pub(crate) fn open(plain: bool) -> Result<Self, GpuError> {
        let adapter = adapter::best().ok_or(GpuError::NoAdapter)?;
        let info = adapter.get_info();
        let subgroup = if plain { None } else { shared_lanes(&adapter, &info) };
        let AdapterInfo { name, device_type, .. } = info;
        let has = adapter.limits();
        // What any device offers, but for the sizes of buffers.
        let required_limits = Limits {
            max_storage_buffer_binding_size: has.max_storage_buffer_binding_size,
            max_buffer_size: has.max_buffer_size,
            ..Limits::downlevel_defaults()
        };
        let descriptor = DeviceDescriptor {
            label: Some("whimbrel"),
            required_features: if subgroup.is_some() { Features::SUBGROUP } else { Features::empty() },
            required_limits,
            ..DeviceDescriptor::default()
        };
        let opened = pollster::block_on(adapter.request_device(&descriptor));
        let (device, queue) =
            opened.map_err(|e| GpuError::Open { adapter: name.clone(), why: one_line(&e.to_string()) })?;
        let faults = Arc::new(Faults::default());
        let seen = Arc::clone(&faults);
        device.set_device_lost_callback(move |reason, why| {
            let why = if why.is_empty() { format!("{reason:?}").to_lowercase() } else { why };
            let _ = seen.lost.set(why);
        });
        let seen = Arc::clone(&faults);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let mut other = seen.other.lock().unwrap_or_else(PoisonError::into_inner);
            other.get_or_insert_with(|| one_line(&error.to_string()));
        }));
        let pipelines = Pipelines::new(&device);
        let invocations_min = invocations_min(device_type);
        let gpu = Self { device, queue, pipelines, name, invocations_min, subgroup, faults };
        probe::check(&gpu)?;
        Ok(gpu)
    }

    /// Whether it is gone.
    pub(crate) fn is_lost(&self) -> bool {
        // Callbacks run while the device is asked; its own answer adds nothing to theirs.
        let _ = self.device.poll(PollType::Poll);
        self.faults.lost.get().is_some()
    }

    /// What the driver has reported since it was last asked.
    ///
    /// # Errors
    /// The device is lost, or something was refused outside of a call.
    pub(crate) fn check(&self, what: &str) -> Result<(), GpuError> {
        let other = self.faults.other.lock().unwrap_or_else(PoisonError::into_inner).take();
        if other.is_none() && self.faults.lost.get().is_none() {
            return Ok(());
        }
        let _ = self.is_lost();
        if let Some(why) = self.faults.lost.get() {
            return Err(GpuError::Lost { why: why.clone() });
        }
        other.map_or(Ok(()), |why| Err(GpuError::Refused { what: what.to_owned(), why }))
    }

    /// Runs what makes things on the device, and says what the driver refused.
    ///
    /// # Errors
    /// The device is lost or out of memory, or refused something.
    pub(crate) fn scoped<T>(&self, what: &str, make: impl FnOnce() -> T) -> Result<T, GpuError> {
        let memory = self.device.push_error_scope(ErrorFilter::OutOfMemory);
        let internal = self.device.push_error_scope(ErrorFilter::Internal);
        let validation = self.device.push_error_scope(ErrorFilter::Validation);
        let made = make();
        // On native devices, scopes are resolved at once.
        let validation = now(validation.pop());
        let internal = now(internal.pop());
        let memory = now(memory.pop());
        self.check(what)?;
        if memory.is_some() {
            return Err(GpuError::Memory { what: what.to_owned() });
        }
        match validation.or(internal) {
            Some(error) => {
                Err(GpuError::Refused { what: what.to_owned(), why: one_line(&error.to_string()) })
            }
            None => Ok(made),
        }
    }

    /// Waits until a submission is done, and reads the beginning of a buffer that it filled.
    ///
    /// # Errors
    /// The device is lost, or does not answer in time.
    pub(crate) fn read<T>(
        &self,
        submission: SubmissionIndex,
        (buffer, bytes): (&Buffer, u64),
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, GpuError> {
        let (sender, receiver) = mpsc::channel();
        if bytes > 0 {
            buffer.map_async(MapMode::Read, 0..bytes, move |mapped| {
                let _ = sender.send(mapped);
            });
        }
        let wait = PollType::Wait { submission_index: Some(submission), timeout: Some(PATIENCE) };
        let polled = self.device.poll(wait);
        self.check("run")?;
        if let Err(error) = polled {
            // Whatever it does by now, nobody waits for it again.
            let why = self.faults.lost.get_or_init(|| error.to_string());
            return Err(GpuError::Lost { why: why.clone() });
        }
        if bytes == 0 {
            return Ok(read(&[]));
        }
        let refused = |why: String| GpuError::Refused { what: "read the answer".into(), why };
        // Another thread that waits may be the one that is told.
        let mapped = receiver.recv_timeout(PATIENCE).map_err(|e| refused(e.to_string()))?;
        mapped.map_err(|e| refused(e.to_string()))?;
        let view = buffer.get_mapped_range(0..bytes).map_err(|e| refused(e.to_string()))?;
        let result = read(&view);
        drop(view);
        buffer.unmap();
        Ok(result)
    }
}

/// A driver's words on one line, and not too many of them.
fn one_line(text: &str) -> String {
    const CHARS_MAX: usize = 300;
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(CHARS_MAX).collect()
}

/// Lanes of subgroups, where it pays that they share what they read: on a processor, where each lane's read is an instruction of its own.
fn shared_lanes(adapter: &wgpu::Adapter, info: &AdapterInfo) -> Option<[u32; 2]> {
    let lanes = [info.subgroup_min_size, info.subgroup_max_size];
    let usable = lanes[0] >= 8 && lanes[1] <= 64 && adapter.features().contains(Features::SUBGROUP);
    (info.device_type == DeviceType::Cpu && usable).then_some(lanes)
}

/// How many invocations a kind of device wants, by its usual number of lanes and a few for each to hide what memory takes.
const fn invocations_min(kind: DeviceType) -> usize {
    match kind {
        DeviceType::DiscreteGpu | DeviceType::VirtualGpu => 32_768,
        DeviceType::IntegratedGpu | DeviceType::Other => 4096,
        DeviceType::Cpu => 128,
    }
}

/// The value of a future that is ready.
fn now(future: impl Future<Output = Option<wgpu::Error>>) -> Option<wgpu::Error> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(error) => error,
        Poll::Pending => None,
    }
}
