//! Ratios as bars with their spread: an SVG without a library.

use super::{
    super::stats::number,
    report::{distinct, label},
};
use serde_json::Value;
use std::fmt::{self, Write};

/// The peers: name in figures, in the legend, and colour. They are told apart by order too, not by colour alone.
const PEERS: [(&str, &str, &str); 4] = [
    ("onnxruntime", "ONNX Runtime", "#0072b2"),
    ("onnxruntime-exact", "ONNX Runtime, exact path", "#56b4e9"),
    ("openvino", "OpenVINO", "#e69f00"),
    ("litert", "LiteRT", "#009e73"),
];
const LABEL_WIDTH: f64 = 190.0;
const PANEL_WIDTH: f64 = 330.0;
const PANEL_GAP: f64 = 30.0;
const TOP: f64 = 64.0;
const BAR: f64 = 9.0;
const GROUP_GAP: f64 = 9.0;
const RIGHT: f64 = 16.0;
/// Ratios beyond the right edge are cut off there, and say how large they are.
const RATIO_MAX: f64 = 2.0;

/// One panel for each number of threads, one group for each network, one bar for each peer: our time divided by the peer's.
pub(super) fn svg(rows: &[&Value]) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = draw(rows, &mut text);
    text
}

fn draw(rows: &[&Value], out: &mut String) -> fmt::Result {
    let networks = distinct(rows, label);
    let panels = distinct(rows, |row| row["threads"].clone());
    let peers = |network: &str| -> Vec<usize> {
        let has =
            |index: &usize| rows.iter().any(|row| label(row) == network && row["peer"] == PEERS[*index].0);
        (0..PEERS.len()).filter(has).collect()
    };
    let group = |network: &str| units(peers(network).len()) * BAR + GROUP_GAP;
    let bottom = TOP + networks.iter().map(|network| group(network)).sum::<f64>();
    let width = LABEL_WIDTH + units(panels.len()) * (PANEL_WIDTH + PANEL_GAP) - PANEL_GAP + RIGHT;
    writeln!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="11" fill="#222">"##,
        height = bottom + 24.0
    )?;
    writeln!(out, "<title>Time of one inference, ours divided by the other engine's</title>")?;
    writeln!(out, r##"<rect width="100%" height="100%" fill="#fff"/>"##)?;
    legend(out)?;
    for (index, threads) in panels.iter().enumerate() {
        axis(LABEL_WIDTH + units(index) * (PANEL_WIDTH + PANEL_GAP), bottom, threads, out)?;
    }
    let mut y = TOP + GROUP_GAP / 2.0;
    for network in &networks {
        let height = group(network) - GROUP_GAP;
        let middle = y + height / 2.0 + 4.0;
        writeln!(out, r#"<text x="{}" y="{middle}" text-anchor="end">{network}</text>"#, LABEL_WIDTH - 8.0)?;
        for (line, peer) in peers(network).into_iter().enumerate() {
            for (index, threads) in panels.iter().enumerate() {
                let x = LABEL_WIDTH + units(index) * (PANEL_WIDTH + PANEL_GAP);
                let row = rows.iter().find(|row| {
                    label(row) == *network && row["threads"] == *threads && row["peer"] == PEERS[peer].0
                });
                if let Some(row) = row {
                    bar(x, y + units(line) * BAR, PEERS[peer].2, row, out)?;
                }
            }
        }
        y += height + GROUP_GAP;
    }
    writeln!(out, "</svg>")
}

fn legend(out: &mut String) -> fmt::Result {
    writeln!(
        out,
        r#"<text x="8" y="18" font-size="13">Time of one inference, ours divided by the other engine's: left of the line is faster</text>"#
    )?;
    for (index, (_, name, colour)) in PEERS.iter().enumerate() {
        let x = 8.0 + units(index) * 172.0;
        writeln!(out, r#"<rect x="{x}" y="27" width="10" height="10" fill="{colour}"/>"#)?;
        writeln!(out, r#"<text x="{}" y="36">{name}</text>"#, x + 15.0)?;
    }
    Ok(())
}

fn axis(x: f64, bottom: f64, threads: &Value, out: &mut String) -> fmt::Result {
    let plural = if *threads == 1 { "thread" } else { "threads" };
    writeln!(out, r#"<text x="{x}" y="56" font-weight="bold">{threads} {plural}</text>"#)?;
    for tick in [0.0, 0.5, 1.0, 1.5, 2.0] {
        let at = x + place(tick);
        let (colour, line) = if tick == 1.0 { ("#222", 1.5) } else { ("#ddd", 1.0) };
        writeln!(out, r#"<path d="M{at} {TOP}V{bottom}" stroke="{colour}" stroke-width="{line}"/>"#)?;
        writeln!(out, r#"<text x="{at}" y="{}" text-anchor="middle">{tick}</text>"#, bottom + 15.0)?;
    }
    Ok(())
}

/// A bar to the median, a line from the least to the greatest round, and a mark at the goal.
fn bar(x: f64, y: f64, colour: &str, row: &Value, out: &mut String) -> fmt::Result {
    let ratio = number(&row["ratio"]);
    let (length, middle) = (place(ratio), y + BAR / 2.0);
    writeln!(out, r#"<rect x="{x}" y="{y}" width="{length:.1}" height="{}" fill="{colour}"/>"#, BAR - 1.0)?;
    let (from, to) = (x + place(number(&row["ratio_min"])), x + place(number(&row["ratio_max"])));
    writeln!(out, r##"<path d="M{from:.1} {middle}H{to:.1}" stroke="#222"/>"##)?;
    if let Some(goal) = row["goal"].as_f64() {
        let at = x + place(goal);
        writeln!(out, r##"<path d="M{at:.1} {y}v{}" stroke="#d55e00" stroke-width="2"/>"##, BAR - 1.0)?;
    }
    if ratio > RATIO_MAX {
        let at = x + PANEL_WIDTH - 4.0;
        writeln!(
            out,
            r##"<text x="{at}" y="{}" font-size="8" text-anchor="end" fill="#fff">{ratio:.1}</text>"##,
            y + 7.0
        )?;
    }
    Ok(())
}

fn place(ratio: f64) -> f64 {
    ratio.clamp(0.0, RATIO_MAX) / RATIO_MAX * PANEL_WIDTH
}

#[allow(clippy::cast_precision_loss, reason = "a few rows and columns")]
const fn units(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_row_is_a_bar_in_the_panel_of_its_threads() {
        let row = |threads: u16, peer: &str, ratio: f64| {
            json!({"model": "net", "precision": "int8", "threads": threads, "peer": peer, "goal": 0.75,
                   "ratio": ratio, "ratio_min": ratio * 0.9, "ratio_max": ratio * 1.1})
        };
        let rows = [row(1, "onnxruntime", 0.5), row(1, "litert", 3.3), row(2, "onnxruntime", 1.0)];
        let text = svg(&rows.iter().collect::<Vec<_>>());
        assert!(text.starts_with("<svg") && text.ends_with("</svg>\n"));
        assert_eq!(text.matches(r#"height="8""#).count(), 3, "{text}");
        assert!(text.contains(r#"width="82.5""#) && text.contains("2 threads") && text.contains(">3.3<"));
    }
}
