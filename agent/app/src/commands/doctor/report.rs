//! What a check says.

use super::kernels::Kernels;
use crate::failure::one_line;
use serde::Serialize;
use whimbrel_wire::report::Platform;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// As it should be.
    Ok,
    /// Works, but not as well as it could, or not for long.
    Warn,
    /// Does not work.
    Fail,
}

impl Status {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// What was looked at.
    pub(super) name: &'static str,
    /// How it went.
    pub(super) status: Status,
    /// What was found.
    pub(super) detail: String,
    /// What to do.
    pub(super) hint: Option<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, detail: detail.into(), hint: None }
    }

    pub(super) fn warn(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Warn, detail: detail.into(), hint: None }
    }

    pub(super) fn fail(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Fail, detail: detail.into(), hint: None }
    }

    #[must_use]
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// Everything that was found.
pub(super) struct Report {
    pub(super) platform: Platform,
    /// What models compute with on the processor.
    pub(super) kernels: Kernels,
    /// GPUs, each as the driver describes it; `None` where this build cannot look.
    pub(super) gpus: Option<serde_json::Value>,
    pub(super) checks: Vec<Check>,
}

#[derive(Serialize)]
struct ReportJson<'a> {
    ok: bool,
    agent: &'static str,
    platform: &'a Platform,
    kernels: &'a Kernels,
    gpus: Option<&'a serde_json::Value>,
    checks: &'a [Check],
}

impl Report {
    /// How many checks failed.
    pub(super) fn failed(&self) -> usize {
        self.checks.iter().filter(|c| c.status == Status::Fail).count()
    }

    /// One JSON object.
    pub(super) fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&ReportJson {
            ok: self.failed() == 0,
            agent: env!("CARGO_PKG_VERSION"),
            platform: &self.platform,
            kernels: &self.kernels,
            gpus: self.gpus.as_ref(),
            checks: &self.checks,
        })
    }

    /// Lines for people.
    pub(super) fn text(&self) -> String {
        let width = self.checks.iter().map(|c| c.name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for Check { name, status, detail, hint } in &self.checks {
            text.push_str(&format!("{:<4}  {name:<width$}  {}\n", status.as_str(), one_line(detail)));
            if let Some(hint) = hint {
                text.push_str(&format!("      {:<width$}  hint: {}\n", "", one_line(hint)));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_no_failure_and_hints_are_told() {
        let checks = vec![Check::ok("a", "fine"), Check::warn("bb", "full\nsoon").hint("make room")];
        let mut report =
            Report { platform: Platform::default(), kernels: Kernels::here(Vec::new()), gpus: None, checks };
        assert_eq!(report.failed(), 0);
        assert_eq!(report.text(), "ok    a   fine\nwarn  bb  full soon\n          hint: make room\n");
        report.checks.push(Check::fail("c", "broken"));
        let value: serde_json::Value = serde_json::from_str(&report.json().expect("JSON")).expect("JSON");
        assert_eq!(value["ok"], false);
        assert_eq!(value["checks"][1]["status"], "warn");
        assert_eq!(value["checks"][1]["hint"], "make room");
        assert!(value["gpus"].is_null());
    }
}
