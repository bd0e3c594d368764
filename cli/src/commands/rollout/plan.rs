//! A plan as people read it.

use crate::output::{bytes, table};
use whimbrel_wire::api::{FetchPlan, RolloutPlan, SourcePlan, StagePlan};

/// Devices of a stage that the table names.
const DEVICES_SHOWN: u64 = 4;

pub(super) fn describe(plan: &RolloutPlan) -> String {
    let spec = &plan.spec;
    if plan.total.devices == 0 {
        return format!("{} {}: no device matches", spec.model, spec.version);
    }
    let stages: Vec<Vec<String>> = plan.stages.iter().enumerate().map(|(i, s)| stage(i + 1, s)).collect();
    let sources: Vec<Vec<String>> = plan.sources.iter().map(source).collect();
    let uncompared = if plan.sources.iter().all(|s| s.compared) {
        ""
    } else {
        "\n* not compared: the server has no index of it, or there are too many bundles\n"
    };
    let shown = sum(&plan.sources);
    let more = if shown < plan.total.devices {
        format!("and {} more with rarer bundles\n", plan.total.devices - shown)
    } else {
        String::new()
    };
    format!(
        "{} {}\n{}\n\n{}\n{}{more}{uncompared}",
        spec.model,
        spec.version,
        in_short(&plan.total),
        table(&["STAGE", "SHARE", "DEVICES", "FETCH", "WHICH"], &stages),
        table(&["ACTIVE", "DEVICES", "EACH", "OF", "SAVED"], &sources),
    )
}

/// The figure that a rollout is started with.
pub(super) fn in_short(total: &FetchPlan) -> String {
    match total.devices {
        0 => "no device matches yet".to_owned(),
        n => format!(
            "{n} {} {} in all instead of {}: {:.1} % saved",
            if n == 1 { "device fetches" } else { "devices fetch" },
            bytes(total.moved_bytes),
            bytes(total.whole_bytes),
            total.saved_percent(),
        ),
    }
}

fn stage(number: usize, stage: &StagePlan) -> Vec<String> {
    let named: Vec<&str> =
        stage.first.iter().take(DEVICES_SHOWN as usize).map(whimbrel_wire::DeviceId::as_str).collect();
    let more = stage.fetch.devices.saturating_sub(named.len() as u64);
    let which = match (named.is_empty(), more) {
        (true, _) => "none beside the earlier ones".to_owned(),
        (false, 0) => named.join(", "),
        (false, more) => format!("{} and {more} more", named.join(", ")),
    };
    vec![
        number.to_string(),
        format!("{} %", stage.percent),
        stage.fetch.devices.to_string(),
        bytes(stage.fetch.moved_bytes),
        which,
    ]
}

fn source(source: &SourcePlan) -> Vec<String> {
    let fetch = &source.fetch;
    // All of them have the same bundle, so that each fetches the same.
    let each = |all: u64| bytes(all.checked_div(fetch.devices).unwrap_or(0));
    let active = source.active.as_ref().map_or_else(|| "none".to_owned(), |a| a.version.to_string());
    let mark = if source.compared { "" } else { "*" };
    vec![
        format!("{active}{mark}"),
        fetch.devices.to_string(),
        each(fetch.moved_bytes),
        each(fetch.whole_bytes),
        format!("{:.1} %", fetch.saved_percent()),
    ]
}

fn sum(sources: &[SourcePlan]) -> u64 {
    sources.iter().map(|s| s.fetch.devices).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_wire::{
        Digest,
        api::{NewRollout, OnFailure},
        report::Installed,
    };

    fn fetch(devices: u64, moved_bytes: u64) -> FetchPlan {
        FetchPlan { devices, moved_bytes: devices * moved_bytes, whole_bytes: devices * 40_960 }
    }

    fn plan() -> RolloutPlan {
        let names = |n: std::ops::Range<usize>| {
            n.map(|i| format!("cam-{i}").parse().expect("valid")).collect::<Vec<_>>()
        };
        let active = |major| {
            Some(Installed { version: semver::Version::new(major, 0, 0), bundle: Digest::new([1; 32]) })
        };
        RolloutPlan {
            spec: NewRollout {
                model: "digits".parse().expect("valid"),
                version: semver::Version::new(3, 0, 0),
                stages: vec![10, 11, 100],
                tags: Vec::new(),
                success_percent_min: 95,
                on_failure: OnFailure::Pause,
                soak_s: 0,
            },
            stages: vec![
                StagePlan { percent: 10, first: names(0..1), fetch: fetch(1, 1024) },
                StagePlan { percent: 11, first: Vec::new(), fetch: FetchPlan::default() },
                StagePlan { percent: 100, first: names(1..7), fetch: fetch(6, 1024) },
            ],
            sources: vec![
                SourcePlan { active: active(2), compared: true, fetch: fetch(5, 1024) },
                SourcePlan { active: active(1), compared: false, fetch: fetch(1, 40_960) },
                SourcePlan { active: None, compared: true, fetch: fetch(1, 40_960) },
            ],
            total: FetchPlan { devices: 8, moved_bytes: 87_040, whole_bytes: 327_680 },
        }
    }

    #[test]
    fn a_plan_says_who_is_asked_when_and_what_each_fetches() {
        let text = describe(&plan());
        for line in [
            "digits 3.0.0",
            "8 devices fetch 85.0 KiB in all instead of 320.0 KiB: 73.4 % saved",
            "STAGE  SHARE  DEVICES  FETCH    WHICH",
            "1      10 %   1        1.0 KiB  cam-0",
            "2      11 %   0        0 B      none beside the earlier ones",
            "3      100 %  6        6.0 KiB  cam-1, cam-2, cam-3, cam-4 and 2 more",
            "ACTIVE  DEVICES  EACH      OF        SAVED",
            "2.0.0   5        1.0 KiB   40.0 KiB  97.5 %",
            "1.0.0*  1        40.0 KiB  40.0 KiB  0.0 %",
            "none    1        40.0 KiB  40.0 KiB  0.0 %",
            "and 1 more with rarer bundles",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} is not in\n{text}");
        }
        assert!(text.contains("* not compared"));
    }

    #[test]
    fn a_plan_for_nobody_says_so() {
        let nobody = RolloutPlan { total: FetchPlan::default(), ..plan() };
        assert_eq!(describe(&nobody), "digits 3.0.0: no device matches");
        assert_eq!(in_short(&nobody.total), "no device matches yet");
        assert!(in_short(&fetch(1, 1)).starts_with("1 device fetches 1 B in all instead of 40.0 KiB"));
    }
}
