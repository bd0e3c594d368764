//! What runs spent on each layer.

use serde::Serialize;
use std::{fmt::Write as _, time::Duration};
use whimbrel_infer::{LayerInfo, LayerTime, RunProfile};

/// Longest name and list of operators in the table, in characters.
const NAME_LEN_MAX: usize = 40;

/// A layer over all runs. The names are a contract.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Layer {
    name: String,
    /// ONNX operators; none where it only changes how elements lie.
    operators: Vec<String>,
    kernel: String,
    /// `tract` or `reference` where no kernel runs it.
    fallback: Option<&'static str>,
    /// Of its first output.
    shape: Vec<usize>,
    /// Executions per run.
    count: u64,
    /// Per run.
    macs: u64,
    /// Per run.
    median_us: f64,
    gmacs_per_s: Option<f64>,
    /// Of the sum of all medians, `other_us` among them.
    share: f64,
}

/// The layers of all runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Layers {
    /// In the order in which they ran.
    layers: Vec<Layer>,
    /// What a run takes besides: inputs and outputs, and what goes on between plans where a shape depends on data.
    other_us: f64,
}

/// Gathers the times of runs on the same inputs.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    layers: Vec<(LayerTime, Vec<Duration>)>,
    other: Vec<Duration>,
}

impl Gathered {
    /// Adds a run. The same inputs take the same way through a model, so layers are known by their places.
    pub(super) fn add(&mut self, RunProfile { layers, time }: RunProfile) {
        let known: Duration = layers.iter().map(|layer| layer.time).sum();
        self.other.push(time.saturating_sub(known));
        if self.layers.is_empty() {
            self.layers = layers.into_iter().map(|layer| (layer.clone(), vec![layer.time])).collect();
        } else {
            self.layers.iter_mut().zip(layers).for_each(|((_, times), layer)| times.push(layer.time));
        }
    }

    pub(super) fn finish(self) -> Layers {
        let other_us = median_us(self.other);
        let layers: Vec<Layer> = self.layers.into_iter().map(|(layer, times)| row(layer, times)).collect();
        let sum = other_us + layers.iter().map(|layer| layer.median_us).sum::<f64>();
        let share =
            |layer: Layer| Layer { share: if sum > 0.0 { layer.median_us / sum } else { 0.0 }, ..layer };
        Layers { layers: layers.into_iter().map(share).collect(), other_us }
    }
}

fn row(layer: LayerTime, times: Vec<Duration>) -> Layer {
    let LayerTime { layer: LayerInfo { name, operators, kernel, fallback, shape, .. }, macs, count, .. } =
        layer;
    let median_us = median_us(times);
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let gmacs_per_s = (macs > 0 && median_us > 0.0).then(|| macs as f64 / (median_us * 1e3));
    Layer { name, operators, kernel, fallback, shape, count, macs, median_us, gmacs_per_s, share: 0.0 }
}

fn median_us(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) / 2).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

/// A table, the slowest layer first, and what fell back.
pub(super) fn text(Layers { layers, other_us }: &Layers) -> String {
    let mut order: Vec<&Layer> = layers.iter().collect();
    order.sort_by(|a, b| b.median_us.total_cmp(&a.median_us));
    let mut rows =
        vec![["layer", "operators", "kernel", "output", "MMAC", "us", "GMAC/s", "share"].map(String::from)];
    rows.extend(order.iter().map(|layer| cells(layer)));
    let sum = other_us + layers.iter().map(|layer| layer.median_us).sum::<f64>();
    let blank = String::new;
    let total = |name: &str, mmac: String, us: f64| {
        let share = format!("{:.1} %", if sum > 0.0 { 100.0 * us / sum } else { 0.0 });
        [name.to_owned(), blank(), blank(), blank(), mmac, format!("{us:.1}"), blank(), share]
    };
    rows.push(total("(inputs, outputs, between plans)", blank(), *other_us));
    rows.push(total("sum", mmac(layers.iter().map(|layer| layer.macs).sum()), sum));
    let mut text = String::from("\n");
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 8] = std::array::from_fn(width);
    for row in &rows {
        let cell = |(column, (cell, width)): (usize, (&String, &usize))| match column {
            0..4 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        };
        let line: Vec<String> = row.iter().zip(&widths).enumerate().map(cell).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text + &fallbacks(layers)
}

fn cells(layer: &Layer) -> [String; 8] {
    let times = if layer.count > 1 { format!(" x {}", layer.count) } else { String::new() };
    [
        end_of(&layer.name) + &times,
        end_of(&layer.operators.join("+")),
        layer.kernel.clone(),
        layer.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
        if layer.macs > 0 { mmac(layer.macs) } else { String::new() },
        format!("{:.1}", layer.median_us),
        layer.gmacs_per_s.map_or_else(String::new, |rate| format!("{rate:.1}")),
        format!("{:.1} %", 100.0 * layer.share),
    ]
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn mmac(macs: u64) -> String {
    format!("{:.3}", macs as f64 / 1e6)
}

/// The end of a name, which tells layers apart, without what a terminal would take for a command.
fn end_of(name: &str) -> String {
    let plain: Vec<char> = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match plain.len().checked_sub(NAME_LEN_MAX) {
        None | Some(0) => plain.into_iter().collect(),
        Some(_) => {
            std::iter::once('…').chain(plain[plain.len() + 1 - NAME_LEN_MAX..].iter().copied()).collect()
        }
    }
}

fn fallbacks(layers: &[Layer]) -> String {
    let mut text = String::new();
    for layer in layers {
        if let Some(runner) = layer.fallback {
            let share = 100.0 * layer.share;
            let name = end_of(&layer.name);
            let _ = writeln!(
                text,
                "no kernel: {name} ({}), run by {runner}, {share:.1} %",
                layer.operators.join("+")
            );
        }
    }
    if text.is_empty() { "every layer has a kernel\n".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str, fallback: Option<&'static str>, macs: u64, us: u64) -> LayerTime {
        let layer = LayerInfo {
            name: name.to_owned(),
            operators: vec!["Conv".to_owned(), "Relu".to_owned()],
            kernel: fallback.unwrap_or("conv f32 avx2").to_owned(),
            fallback,
            shape: vec![1, 8, 4, 4],
            macs,
        };
        LayerTime { layer, macs, time: Duration::from_micros(us), count: 1 }
    }

    fn gathered() -> Layers {
        let mut gathered = Gathered::default();
        for us in [30, 10, 20] {
            let layers = vec![layer("first", None, 40_000, us), layer("second", Some("tract"), 0, 60)];
            gathered.add(RunProfile { layers, time: Duration::from_micros(us + 80) });
        }
        gathered.finish()
    }

    #[test]
    fn medians_rates_and_shares_are_of_all_runs() {
        let found = gathered();
        assert_eq!(
            (found.layers[0].median_us, found.layers[1].median_us, found.other_us),
            (20.0, 60.0, 20.0)
        );
        assert_eq!((found.layers[0].gmacs_per_s, found.layers[1].gmacs_per_s), (Some(2.0), None));
        assert_eq!((found.layers[0].share, found.layers[1].share), (0.2, 0.6));
    }

    #[test]
    fn the_table_has_the_slowest_first_and_names_what_fell_back() {
        let table = text(&gathered());
        let lines: Vec<&str> = table.trim().lines().collect();
        assert!(lines[1].starts_with("second") && lines[2].starts_with("first"), "{table}");
        assert!(
            lines[2].ends_with("Conv+Relu  conv f32 avx2  1x8x4x4  0.040   20.0     2.0   20.0 %"),
            "{table}"
        );
        assert!(table.ends_with("no kernel: second (Conv+Relu), run by tract, 60.0 %\n"), "{table}");
    }

    #[test]
    fn names_are_shortened_at_their_start_and_cannot_steer_a_terminal() {
        let long = end_of(&format!("{}\u{1b}end", "x".repeat(100)));
        assert!(long.starts_with('…') && long.ends_with("x end"));
        assert_eq!(long.chars().count(), NAME_LEN_MAX);
        assert_eq!(end_of(&"x".repeat(NAME_LEN_MAX)), "x".repeat(NAME_LEN_MAX));
    }
}
