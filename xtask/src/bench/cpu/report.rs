//! The figures as tables, for a terminal and for the documentation.

use super::{super::stats::number, plot};
use crate::command::root;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    fmt::{self, Write},
    fs,
};

const DOCS: &str = "docs/benchmarks.md";
/// Lines of the document between which the tables stand.
const BEGIN: &str = "<!-- written by `cargo xtask bench cpu --write-docs` -->";
const END: &str = "<!-- end of what is written -->";
/// The columns of the table of times: the peer in figures, and its heading.
const PEERS: [(&str, &str); 4] = [
    ("onnxruntime", "ONNX Runtime"),
    ("onnxruntime-exact", "its exact path"),
    ("openvino", "OpenVINO"),
    ("litert", "LiteRT"),
];

/// Puts the tables and the plots into `docs/`.
///
/// # Errors
/// The document lacks its marks, or cannot be written.
pub(super) fn write_docs(figures: &Value) -> Result<()> {
    let mut text = markdown(figures);
    for isa in isas(figures) {
        let name = format!("inference-{isa}.svg");
        let path = root().join("docs").join(&name);
        fs::write(&path, plot::svg(&rows(figures, "speed", isa)))
            .with_context(|| format!("writing {}", path.display()))?;
        write!(text, "\n![Time of one inference beside other engines, {isa}]({name})\n")?;
    }
    let path = root().join(DOCS);
    let old = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let new = replaced(&old, &text)?;
    fs::write(&path, new).with_context(|| format!("writing {}", path.display()))
}

/// The document with new text between its marks.
fn replaced(document: &str, text: &str) -> Result<String> {
    let parts = document.split_once(BEGIN).and_then(|(head, rest)| Some((head, rest.split_once(END)?.1)));
    let Some((head, tail)) = parts else { bail!("{DOCS} lacks the lines {BEGIN} and {END}") };
    Ok(format!("{head}{BEGIN}\n{}\n\n{END}{tail}", text.trim()))
}

/// Every table.
pub(super) fn markdown(figures: &Value) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = tables(figures, &mut text);
    text
}

fn tables(figures: &Value, out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "Measured on: {}. Goals met: {}.",
        figures["machine"].as_str().unwrap_or_default(),
        goals(figures)
    )?;
    for isa in isas(figures) {
        writeln!(out, "\n#### {}\n", title(isa))?;
        times(&rows(figures, "speed", isa), out)?;
        starts(&rows(figures, "start", isa), out)?;
        agreement(&rows(figures, "agreement", isa), out)?;
    }
    for (field, word) in [("skipped", "Skipped"), ("failed", "Failed")] {
        for what in figures[field].as_array().into_iter().flatten() {
            writeln!(out, "\n{word}: {}.", what.as_str().unwrap_or_default())?;
        }
    }
    Ok(())
}

fn title(isa: &str) -> &str {
    match isa {
        "avx2" => "AVX2 only (newer instructions hidden from every engine)",
        _ => "Everything that this CPU has",
    }
}

fn isas(figures: &Value) -> impl Iterator<Item = &str> {
    figures["isas"].as_array().into_iter().flatten().filter_map(|isa| isa["name"].as_str())
}

fn rows<'a>(figures: &'a Value, table: &str, isa: &str) -> Vec<&'a Value> {
    figures[table].as_array().into_iter().flatten().filter(|row| row["isa"] == *isa).collect()
}

/// How many of the goals, in words.
fn goals(figures: &Value) -> String {
    let starts = figures["start"].as_array().into_iter().flatten();
    let parts = starts.flat_map(|row| [&row["load"], &row["cached_load"], &row["memory"]]);
    let outputs = figures["agreement"].as_array().into_iter().flatten().map(|row| &row["ours"]);
    let all = figures["speed"].as_array().into_iter().flatten().chain(parts).chain(outputs);
    let met: Vec<bool> = all.filter_map(|fields| fields["met"].as_bool()).collect();
    format!("{} of {}", met.iter().filter(|met| **met).count(), met.len())
}

/// What a network is called in tables.
pub(super) fn label(row: &Value) -> String {
    let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
    format!("{}, {}", text("model"), text("precision"))
}

/// † where a goal is missed.
fn mark(fields: &Value) -> &'static str {
    if fields["met"] == Value::Bool(false) { " †" } else { "" }
}

/// A ratio with its spread.
fn spread(fields: &Value) -> String {
    if fields["ratio"].is_null() {
        return String::new();
    }
    let part = |field: &str| number(&fields[field]);
    format!("{:.2} ({:.2} to {:.2}){}", part("ratio"), part("ratio_min"), part("ratio_max"), mark(fields))
}

/// The different values of what `key` gives, in order of appearance.
pub(super) fn distinct<K: PartialEq>(rows: &[&Value], key: impl Fn(&Value) -> K) -> Vec<K> {
    let mut keys = Vec::new();
    for row in rows {
        let key = key(row);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

fn times(rows: &[&Value], out: &mut String) -> fmt::Result {
    let headings: Vec<&str> = PEERS.iter().map(|(_, heading)| *heading).collect();
    writeln!(out, "| network | threads | Whimbrel, ms | {} |", headings.join(" | "))?;
    writeln!(out, "|{}", "---|".repeat(3 + PEERS.len()))?;
    for (label, threads) in distinct(rows, |row| (label(row), row["threads"].clone())) {
        let of_row = |row: &&Value| self::label(row) == label && row["threads"] == threads;
        let own: Vec<&Value> = rows.iter().copied().filter(of_row).collect();
        let ours = own.first().map_or(f64::NAN, |row| number(&row["ours_ms"]));
        write!(out, "| {label} | {threads} | {} |", milliseconds(ours))?;
        for (peer, _) in PEERS {
            let fields = own.iter().find(|row| row["peer"] == peer);
            write!(out, " {} |", fields.map(|fields| spread(fields)).unwrap_or_default())?;
        }
        writeln!(out)?;
    }
    writeln!(out)
}

fn starts(rows: &[&Value], out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "| network | load, ms | beside ONNX Runtime | from cache, ms | beside ONNX Runtime | peak memory, MB | beside ONNX Runtime |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|")?;
    for row in rows {
        let (load, cached, memory) = (&row["load"], &row["cached_load"], &row["memory"]);
        let ms = |fields: &Value| fields["ours_ms"].as_f64().map(milliseconds).unwrap_or_default();
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {:.0} | {} |",
            label(row),
            ms(load),
            spread(load),
            ms(cached),
            spread(cached),
            number(&memory["ours_bytes"]) / 1e6,
            spread(memory),
        )?;
    }
    writeln!(out)
}

fn agreement(rows: &[&Value], out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "| network | Whimbrel: equal | furthest | same class | ONNX Runtime by default: equal | furthest | same class |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|")?;
    for row in rows {
        write!(out, "| {} |", label(row))?;
        for fields in [&row["ours"], &row["ort_default"]] {
            write!(
                out,
                " {} | {} | {} |",
                share(&fields["equal_share"]),
                furthest(fields),
                share(&fields["top1_share"])
            )?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn share(value: &Value) -> String {
    value.as_f64().map(|share| format!("{:.1} %", 100.0 * share)).unwrap_or_default()
}

/// In quanta of the output; of a network in f32, as a share of the greatest output.
fn furthest(fields: &Value) -> String {
    match (fields["max_quanta"].as_u64(), fields["max_relative"].as_f64()) {
        (Some(quanta), _) => format!("{quanta} quanta{}", mark(fields)),
        (None, Some(relative)) => format!("{relative:.0e}{}", mark(fields)),
        (None, None) => String::new(),
    }
}

/// With three digits that mean something.
fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 0.1 => format!("{ms:.4}"),
        ms if ms < 10.0 => format!("{ms:.3}"),
        ms => format!("{ms:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn figures() -> Value {
        let speed = |threads: u16, peer: &str, ratio: f64, met: Option<bool>| {
            json!({"isa": "avx2", "model": "net", "precision": "int8", "threads": threads, "peer": peer, "ours_ms": 1.5,
                   "ratio": ratio, "ratio_min": 0.4, "ratio_max": 2.0, "met": met})
        };
        let fields = json!({"ours_ms": 12.0, "ours_bytes": 3e7, "ratio": 0.5, "ratio_min": 0.4, "ratio_max": 0.6, "met": true});
        json!({
            "machine": "a CPU, 2 cores",
            "isas": [{"name": "avx2"}],
            "speed": [
                speed(1, "onnxruntime", 0.5, Some(true)),
                speed(1, "openvino", 1.25, Some(false)),
                speed(2, "onnxruntime", 0.75, None),
            ],
            "start": [{"isa": "avx2", "model": "net", "precision": "int8", "load": fields, "cached_load": null, "memory": fields}],
            "agreement": [{"isa": "avx2", "model": "net", "precision": "int8",
                           "ours": {"equal_share": 0.5, "max_quanta": 3, "top1_share": 1.0, "met": false}}],
            "skipped": ["something: why"],
        })
    }

    #[test]
    fn peers_are_columns_and_missed_goals_are_marked() {
        let text = markdown(&figures());
        for line in [
            "Measured on: a CPU, 2 cores. Goals met: 3 of 5.",
            "| net, int8 | 1 | 1.500 | 0.50 (0.40 to 2.00) |  | 1.25 (0.40 to 2.00) † |  |",
            "| net, int8 | 2 | 1.500 | 0.75 (0.40 to 2.00) |  |  |  |",
            "| net, int8 | 12.0 | 0.50 (0.40 to 0.60) |  |  | 30 | 0.50 (0.40 to 0.60) |",
            "| net, int8 | 50.0 % | 3 quanta † | 100.0 % |  |  |  |",
            "Skipped: something: why.",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let document = format!("head\n{BEGIN}\nold\n{END}\ntail\n");
        let new = replaced(&document, "new\n").expect("has marks");
        assert_eq!(new, format!("head\n{BEGIN}\nnew\n\n{END}\ntail\n"));
        assert_eq!(replaced(&new, "new").expect("has marks"), new);
        assert!(replaced("no marks", "new").is_err());
    }
}
