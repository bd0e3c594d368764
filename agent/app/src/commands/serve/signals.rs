//! Signals from the system, and what the system is told.

use std::time::Duration;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// Finish what is under way and stop.
    End(&'static str),
    /// Read the configuration again.
    Reload,
}

/// The signals that are listened to, and the watchdog that is fed meanwhile.
pub(super) struct Signals {
    terminate: Stream,
    interrupt: Stream,
    hang_up: Stream,
    watchdog: Option<tokio::time::Interval>,
}

impl Signals {
    /// Takes the signals over from their defaults.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            watchdog: sd_notify::watchdog_enabled().and_then(watchdog),
        })
    }

    /// The next one. While waiting, the service manager hears that the agent lives.
    pub(super) async fn next(&mut self) -> Signal {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Signal::End("SIGTERM"),
                _ = self.interrupt.recv() => return Signal::End("SIGINT"),
                _ = self.hang_up.recv() => return Signal::Reload,
                () = beat(&mut self.watchdog) => notify(sd_notify::NotifyState::Watchdog),
            }
        }
    }
}

/// Tells the service manager that the agent answers.
pub(super) fn notify_ready() {
    notify(sd_notify::NotifyState::Ready);
}

/// Tells the service manager that the agent is on its way out.
pub(super) fn notify_stopping() {
    notify(sd_notify::NotifyState::Stopping);
}

fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// Three beats per period, so that one may be late.
fn watchdog(period: Duration) -> Option<tokio::time::Interval> {
    let every = period / 3;
    (!every.is_zero()).then(|| tokio::time::interval(every))
}

async fn beat(watchdog: &mut Option<tokio::time::Interval>) {
    match watchdog {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}
