//! What a run spends on each layer.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// What a step of a plan is, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInfo {
    /// The node or value it came from.
    pub name: String,
    /// The ONNX operators it stands for; none where it only changes how elements lie.
    pub operators: Vec<String>,
    /// What runs it.
    pub kernel: String,
    /// Who runs it where no kernel does: `tract`, or `reference` for a plain implementation.
    pub fallback: Option<&'static str>,
    /// Sizes of the first output.
    pub shape: Vec<usize>,
    /// Multiplications with accumulation of one execution.
    pub macs: u64,
}

/// A layer with what one run of a model spent on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerTime {
    /// The layer; as it was executed first, where its shapes change within a run.
    pub layer: LayerInfo,
    /// Multiplications with accumulation of all executions.
    pub macs: u64,
    /// Time of all executions.
    pub time: Duration,
    /// How often it was executed: more than once in a loop.
    pub count: u64,
}

/// What one run spent, and on what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunProfile {
    /// In the order in which they ran first.
    pub layers: Vec<LayerTime>,
    /// Of the whole run, without what it took to write this down.
    pub time: Duration,
}

/// Layers of one run, those of the same name, kernel and place added up.
#[derive(Debug, Default)]
pub(crate) struct Profile {
    layers: Vec<LayerTime>,
    /// Time spent here, which is none of the run's.
    noting: Duration,
    /// By name, kernel and how many of these came before in the same plan.
    places: HashMap<(String, String, usize), usize>,
}

impl Profile {
    /// Adds the steps of a plan.
    pub(crate) fn add_plan(&mut self, layers: &[LayerInfo], times: &[Duration]) {
        let start = Instant::now();
        let mut seen: HashMap<(&str, &str), usize> = HashMap::new();
        for (layer, time) in layers.iter().zip(times) {
            let nth = seen.entry((&layer.name, &layer.kernel)).or_default();
            self.add(layer, *nth, *time);
            *nth += 1;
        }
        self.noting += start.elapsed();
    }

    /// Adds a node that ran between plans.
    pub(crate) fn add_node(&mut self, time: Duration, layer: impl FnOnce() -> LayerInfo) {
        let start = Instant::now();
        self.add(&layer(), 0, time);
        self.noting += start.elapsed();
    }

    /// Adds an execution of the layer that is the `nth` of its name and kernel in its plan.
    fn add(&mut self, layer: &LayerInfo, nth: usize, time: Duration) {
        let key = (layer.name.clone(), layer.kernel.clone(), nth);
        let place = *self.places.entry(key).or_insert(self.layers.len());
        match self.layers.get_mut(place) {
            Some(known) => {
                known.macs = known.macs.saturating_add(layer.macs);
                known.time += time;
                known.count += 1;
            }
            None => self.layers.push(LayerTime { layer: layer.clone(), macs: layer.macs, time, count: 1 }),
        }
    }

    /// The profile of a run that took `elapsed`, the time spent here included.
    pub(crate) fn finish(self, elapsed: Duration) -> RunProfile {
        RunProfile { layers: self.layers, time: elapsed.saturating_sub(self.noting) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_one_plan_stay_apart_and_executions_add_up() {
        let layer = |name: &str| LayerInfo {
            name: name.to_owned(),
            operators: vec!["Conv".to_owned()],
            kernel: "conv".to_owned(),
            fallback: None,
            shape: vec![1],
            macs: 3,
        };
        let plan = [layer("a"), layer("a"), layer("b")];
        let times = [1, 2, 4].map(Duration::from_micros);
        let mut profile = Profile::default();
        profile.add_plan(&plan, &times);
        profile.add_plan(&plan, &times);
        profile.add_plan(&plan[2..], &times[..1]);
        profile.add_node(Duration::from_micros(5), || layer("b"));
        let noting = profile.noting;
        assert!(noting > Duration::ZERO, "it says what it costs itself");
        let RunProfile { layers: found, time } = profile.finish(Duration::from_secs(1));
        assert_eq!(time + noting, Duration::from_secs(1));
        let of = |at: usize| (found[at].layer.name.as_str(), found[at].time.as_micros(), found[at].count);
        assert_eq!(found.len(), 3);
        assert_eq!([of(0), of(1), of(2)], [("a", 2, 2), ("a", 4, 2), ("b", 14, 4)]);
        assert_eq!(found[2].macs, 12);
    }
}
