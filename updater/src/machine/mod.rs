//! Every decision of an update: `step(State, Event) -> (State, Vec<Action>)`, one machine per model. No clock, no file, no
//! socket; the engine performs the actions and tells what came of them.
//!
//! ```text
//! Idle -> Resolving -> Fetching -> Installing -> Testing -> Switching -> Probation -> Settling -> Idle
//! ```
//! and from each a typed rejection or roll-back. A record that must survive a crash is saved before the step that could
//! crash: before the self-test, before the candidate serves, and before what follows from a decision.

mod decide;
mod recover;
mod report;
mod state;
mod step;

pub use decide::{Traffic, Verdict, decide};
pub use recover::recover;
pub use report::report;
pub use state::{Action, Candidate, Confirmed, Event, Failure, Job, Resolved, Settle, State, Tries, Work};
pub use step::{TEST_STARTS_MAX, step};

#[cfg(test)]
mod tests;
