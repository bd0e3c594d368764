//! What the demo showed, as one JSON object.

use super::steps::Step;
use serde::Serialize;

/// Fewest predictions of a run that counts as shown.
pub(crate) const PREDICTIONS_MIN: u64 = 500;
/// Smallest share of right answers of the good versions.
pub(crate) const ACCURACY_MIN: f64 = 0.95;

/// The figures of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Figures {
    /// Successful answers of both agents.
    pub(crate) predictions: u64,
    /// Share of the answers of the good versions that named the right class.
    pub(crate) accuracy: f64,
    /// Devices that took a version back.
    pub(crate) rollbacks: u64,
    /// Devices that refused a version before it served.
    pub(crate) refused: u64,
    /// Answers that the previous version gave while a failing candidate was on probation.
    pub(crate) answered_by_fallback: u64,
    /// Requests that the agents answered, failed ones included.
    pub(crate) telemetry_sent: u64,
    /// Requests that the server knows of.
    pub(crate) telemetry_received: u64,
    /// Requests whose connection broke when the agent was killed: they may count or not.
    pub(crate) telemetry_ambiguous: u64,
    /// Answered requests that the server never heard of.
    pub(crate) telemetry_lost: u64,
    /// Requests that the server counted more often than they were made.
    pub(crate) telemetry_duplicated: u64,
    /// From the start of the killed agent's new process to its first answer, without a network.
    pub(crate) cold_start_ms: f64,
}

/// The object that `whimbrel demo --once --json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether everything was seen that the demo is to show.
    pub(crate) ok: bool,
    /// What was not, where something was not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) missing: Vec<String>,
    /// Every step.
    pub(crate) steps: Vec<Step>,
    /// The figures.
    #[serde(flatten)]
    pub(crate) figures: Figures,
}

impl Report {
    /// The figures in words.
    pub(crate) fn text(&self) -> String {
        let f = &self.figures;
        let verdict = if self.ok { "everything was shown".to_owned() } else { self.missing.join("; ") };
        format!(
            "\n{}: {verdict}\n\
             predictions       {} ({:.2} % right), {} of them by the fallback\n\
             bad versions      refused by {} devices, taken back by {}\n\
             telemetry         {} requests answered, {} received, {} lost, {} counted twice\n\
             cold start        {:.0} ms to the first answer, without a network",
            if self.ok { "ok" } else { "NOT OK" },
            f.predictions,
            f.accuracy * 100.0,
            f.answered_by_fallback,
            f.refused,
            f.rollbacks,
            f.telemetry_sent,
            f.telemetry_received,
            f.telemetry_lost,
            f.telemetry_duplicated,
            f.cold_start_ms,
        )
    }
}

impl Figures {
    /// Compares what the agents answered with what the server knows of.
    pub(crate) fn reconcile(&mut self, answered: u64, ambiguous: u64, received: u64) {
        self.telemetry_sent = answered;
        self.telemetry_ambiguous = ambiguous;
        self.telemetry_received = received;
        self.telemetry_lost = answered.saturating_sub(received);
        self.telemetry_duplicated = received.saturating_sub(answered + ambiguous);
    }

    /// Sentences for everything that should have been seen and was not.
    pub(crate) fn missing(&self) -> Vec<String> {
        let checks = [
            (
                self.predictions >= PREDICTIONS_MIN,
                format!("{} predictions, expected {PREDICTIONS_MIN}", self.predictions),
            ),
            (
                self.accuracy > ACCURACY_MIN,
                format!("accuracy {:.3}, expected above {ACCURACY_MIN}", self.accuracy),
            ),
            (self.refused > 0, "no device refused the bad version".to_owned()),
            (self.rollbacks > 0, "no device took the failing version back".to_owned()),
            (self.answered_by_fallback > 0, "no answer came from the fallback".to_owned()),
            (self.cold_start_ms > 0.0, "no cold start was measured".to_owned()),
            (self.telemetry_sent > 0, "no telemetry was compared".to_owned()),
            (self.telemetry_lost == 0, format!("{} requests lost", self.telemetry_lost)),
            (self.telemetry_duplicated == 0, format!("{} requests counted twice", self.telemetry_duplicated)),
        ];
        checks.into_iter().filter(|(holds, _)| !holds).map(|(_, sentence)| sentence).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> Figures {
        let mut figures = Figures {
            predictions: 2000,
            accuracy: 0.97,
            rollbacks: 1,
            refused: 2,
            answered_by_fallback: 9,
            cold_start_ms: 80.0,
            ..Figures::default()
        };
        figures.reconcile(2010, 1, 2010);
        figures
    }

    #[test]
    fn a_request_that_broke_may_count_or_not() {
        assert!(shown().missing().is_empty());
        let mut figures = shown();
        figures.reconcile(2010, 1, 2011);
        assert!(figures.missing().is_empty());
        figures.reconcile(2010, 1, 2012);
        assert_eq!((figures.telemetry_lost, figures.telemetry_duplicated), (0, 1));
        figures.reconcile(2010, 1, 2009);
        assert_eq!((figures.telemetry_lost, figures.telemetry_duplicated), (1, 0));
        assert_eq!(figures.missing(), ["1 requests lost"]);
    }

    #[test]
    fn nothing_seen_is_not_ok() {
        assert!(Figures::default().missing().len() >= 6);
    }

    #[test]
    fn figures_stand_beside_ok_in_the_object() {
        let report = Report { ok: true, missing: vec![], steps: vec![], figures: shown() };
        let value = serde_json::to_value(report).expect("is JSON");
        for key in ["ok", "steps", "predictions", "accuracy", "rollbacks", "telemetry_lost", "cold_start_ms"]
        {
            assert!(value.get(key).is_some(), "{key}");
        }
    }
}
