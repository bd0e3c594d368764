//! The steps of the story: each named, timed and told in plain words as it happens.

use crate::{error::Failure, output::Output};
use serde::Serialize;
use std::time::{Duration, Instant};

/// One step, as reported.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Step {
    /// Its stable name.
    pub(crate) name: &'static str,
    /// Whether what it shows was seen.
    pub(crate) ok: bool,
    /// How long it took.
    pub(crate) seconds: f64,
    /// What was seen, or why it failed.
    pub(crate) detail: String,
}

/// The steps so far.
#[derive(Debug)]
pub(crate) struct Steps {
    output: Output,
    done: Vec<Step>,
}

impl Steps {
    /// No step yet.
    pub(crate) const fn new(output: Output) -> Self {
        Self { output, done: Vec::new() }
    }

    /// Tells what comes, runs it, and tells what was seen: the text that `run` gives beside its result.
    ///
    /// # Errors
    /// The failure of `run`, or that the time was up; the step's name stands before it.
    pub(crate) async fn run<T>(
        &mut self,
        name: &'static str,
        sentence: &str,
        within: Duration,
        run: impl Future<Output = Result<(T, String), Failure>>,
    ) -> Result<T, Failure> {
        self.say(&format!("{:>2}. {sentence}", self.done.len() + 1));
        let begin = Instant::now();
        let result = tokio::time::timeout(within, run).await.unwrap_or_else(|_| {
            Err(Failure::failed("finishing the step", format!("not done within {} s", within.as_secs())))
        });
        let seconds = (begin.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        let (ok, detail) = match &result {
            Ok((_, seen)) => (true, seen.clone()),
            Err(failure) => (false, failure.to_string()),
        };
        self.say(&format!("    {} {detail} ({seconds:.1} s)", if ok { "ok:" } else { "FAILED:" }));
        self.done.push(Step { name, ok, seconds, detail });
        match result {
            Ok((value, _)) => Ok(value),
            Err(failure) => {
                Err(Failure { attempted: format!("step {name}: {}", failure.attempted), ..failure })
            }
        }
    }

    /// The steps so far.
    pub(crate) fn done(&self) -> &[Step] {
        &self.done
    }

    /// Tells something: on standard output, or beside it where that is for JSON alone.
    pub(crate) fn say(&self, text: &str) {
        if self.output.json {
            eprintln!("{text}");
        } else {
            println!("{text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn steps_are_recorded_with_their_outcome() {
        let mut steps = Steps::new(Output { json: true });
        let long = Duration::from_secs(60);
        let value = steps.run("first", "one", long, async { Ok((7, "seven".to_owned())) }).await;
        assert_eq!(value.expect("ok"), 7);
        let failing = async { Err::<((), String), _>(Failure::failed("looking", "nothing there")) };
        let failure = steps.run("second", "two", long, failing).await.expect_err("fails");
        assert_eq!(failure.to_string(), "step second: looking: nothing there");
        let late = std::future::pending::<Result<((), String), Failure>>();
        assert!(steps.run("third", "three", Duration::ZERO, late).await.is_err());
        let outcome: Vec<_> = steps.done().iter().map(|s| (s.name, s.ok)).collect();
        assert_eq!(outcome, [("first", true), ("second", false), ("third", false)]);
    }
}
