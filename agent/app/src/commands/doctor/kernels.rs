//! What models run on: kernels, threads, memory.

use super::report::Check;
use crate::{
    config::{ModelSettings, Models},
    platform::memory_bytes,
};
use serde::Serialize;
use std::collections::BTreeMap;
use whimbrel_cpu::{
    isa::{Isa, VARIABLE},
    threads::team,
};
use whimbrel_infer::LoadOptions;

/// The instruction set of the kernels, and why it is this one.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Kernels {
    /// That of the kernels; `None` where the variable names none that is here.
    isa: Option<&'static str>,
    /// The best that is here.
    best: &'static str,
    available: Vec<&'static str>,
    /// What the variable `WHIMBREL_CPU` says, if it is set.
    forced: Option<String>,
    /// What each family of kernels computes with.
    families: BTreeMap<&'static str, &'static str>,
    /// Features of the processor that decide which kernels can run.
    features: BTreeMap<&'static str, bool>,
}

impl Kernels {
    /// Of this machine, in this environment.
    pub(super) fn here(features: Vec<(&'static str, bool)>) -> Self {
        Self::of(std::env::var(VARIABLE).ok().filter(|name| !name.is_empty()), features)
    }

    fn of(forced: Option<String>, features: Vec<(&'static str, bool)>) -> Self {
        let isa = match &forced {
            Some(name) => name.parse().ok(),
            None => Some(Isa::best()),
        };
        Self {
            isa: isa.map(Isa::as_str),
            best: Isa::best().as_str(),
            available: Isa::available().map(Isa::as_str).collect(),
            forced,
            families: isa.into_iter().flat_map(Isa::families).collect(),
            features: features.into_iter().collect(),
        }
    }

    /// Whether they are the best that there can be.
    pub(super) fn check(&self, backend: &str) -> Check {
        const NAME: &str = "kernels";
        if !matches!(backend, "auto" | "cpu") {
            return Check::ok(NAME, format!("none: serve.backend = {backend:?} has its own"));
        }
        let here = self.available.join(", ");
        let unset = format!("unset {VARIABLE}, which the agent reads when it starts");
        let Some(isa) = self.isa else {
            let name: String = self.forced.iter().flat_map(|name| name.chars()).take(40).collect();
            return Check::fail(NAME, format!("{VARIABLE} is {name:?}, this machine has {here}"))
                .hint(format!("no model loads; {unset}"));
        };
        let families: Vec<String> =
            self.families.iter().map(|(name, how)| format!("{name}: {how}")).collect();
        let families = families.join("; ");
        if self.forced.is_some() {
            let detail = format!("{isa}, as {VARIABLE} asks, among {here} ({families})");
            return if isa == self.best {
                Check::ok(NAME, detail)
            } else {
                Check::warn(NAME, detail).hint(unset)
            };
        }
        let detail = format!("{isa}, the best among {here} ({families})");
        if isa == Isa::Generic.as_str() {
            return Check::warn(NAME, detail)
                .hint("models run many times slower than on a processor with AVX2 or Advanced SIMD");
        }
        Check::ok(NAME, detail)
    }
}

/// How many threads a run may have, and on which processors.
pub(super) fn threads(Models { every, named }: &Models) -> Check {
    const NAME: &str = "threads";
    let (all, team) = (std::thread::available_parallelism().map_or(1, usize::from), team());
    let at_once = all.min(team.processors().count());
    let mut lines = vec![
        format!("processors {}, {at_once} of them at work at a time", team.processors()),
        settings("a run", every),
    ];
    lines.extend(named.iter().map(|(name, model)| settings(&format!("a run of {name}"), model)));
    let detail = lines.join("; ");
    let settings = std::iter::once(("[models]".to_owned(), every));
    let mut settings = settings.chain(named.iter().map(|(name, model)| (format!("[model.{name}]"), model)));
    let absent = settings.find_map(|(section, model)| {
        let cores = model.cores?.without(team.processors())?;
        Some(format!("{section} cores: {cores} not there, or not for this process"))
    });
    match absent {
        None => Check::ok(NAME, detail),
        Some(why) => Check::warn(NAME, format!("{detail}; {why}")).hint("name processors that are there"),
    }
}

fn settings(who: &str, model: &ModelSettings) -> String {
    let threads = model.options().threads.map_or(1, usize::from);
    let most = if threads == 1 { "1 thread".to_owned() } else { format!("up to {threads} threads") };
    let place = model.cores.map_or_else(String::new, |cores| format!(" on {cores}"));
    format!("{who} has {most}{place}")
}

/// How much memory models may take.
pub(super) fn memory(models: &Models) -> Check {
    const NAME: &str = "model memory";
    let most = |LoadOptions { limits, .. }: LoadOptions| limits.memory_bytes_max;
    let every = most(models.every.options());
    let mut detail = match every {
        u64::MAX => "no limit: the system does not say how much there is".to_owned(),
        bytes => format!("at most {} MiB for a model", bytes >> 20),
    };
    for (name, model) in &models.named {
        detail.push_str(&format!(", {} MiB for {name}", most(model.options()) >> 20));
    }
    let there = memory_bytes().unwrap_or(u64::MAX);
    let more = models.named.values().map(|model| most(model.options())).chain([every]);
    if more.filter(|bytes| *bytes < u64::MAX).any(|bytes| bytes > there) {
        return Check::warn(NAME, format!("{detail}; there are {} MiB", there >> 20))
            .hint("a model that takes as much would be ended by the system: lower memory_bytes_max");
    }
    Check::ok(NAME, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::report::Status;

    #[test]
    fn the_choice_of_kernels_is_told_with_its_reason() {
        let of = |forced: Option<&str>| Kernels::of(forced.map(str::to_owned), vec![("avx2", true)]);
        let chosen = of(None);
        assert_eq!(chosen.isa, Some(chosen.best));
        let check = chosen.check("auto");
        assert!(check.detail.contains(chosen.best) && check.detail.contains("f32: "), "{check:?}");
        let forced = of(Some("generic")).check("cpu");
        assert!(forced.detail.starts_with("generic, as WHIMBREL_CPU asks"), "{forced:?}");
        let is_best = Isa::best() == Isa::Generic;
        assert_eq!(forced.status == Status::Ok, is_best);
        let unknown = of(Some("sse9")).check("cpu");
        assert_eq!(unknown.status, Status::Fail);
        assert!(unknown.detail.contains("sse9") && unknown.detail.contains("generic"), "{unknown:?}");
        assert_eq!(of(Some("sse9")).check("tract").status, Status::Ok, "nobody asks for them");
        let json = serde_json::to_value(of(Some("generic"))).expect("JSON");
        assert_eq!((&json["isa"], &json["features"]["avx2"]), (&"generic".into(), &true.into()));
    }

    #[test]
    fn what_each_model_may_use_is_told_and_what_is_not_there() {
        let named = |cores: &str| {
            let cores = Some(cores.parse().expect("a set"));
            let model =
                ModelSettings { threads: 2, cores, memory_bytes_max: Some(64 << 20), ..Default::default() };
            let named = [("detector".parse().expect("a name"), model)].into();
            Models { named, ..Models::default() }
        };
        let first = team().processors().numbers().next().expect("one").to_string();
        let check = threads(&named(&first));
        assert_eq!(check.status, Status::Ok);
        assert!(
            check.detail.contains(&format!("a run of detector has up to 2 threads on {first}")),
            "{check:?}"
        );
        assert_eq!(threads(&named("127")).status, Status::Warn);
        let check = memory(&named("0"));
        assert!(check.detail.ends_with("64 MiB for detector"), "{check:?}");
        let mut large = Models::default();
        large.every.memory_bytes_max = Some(1 << 50);
        assert_eq!(memory(&large).status, Status::Warn);
    }
}
