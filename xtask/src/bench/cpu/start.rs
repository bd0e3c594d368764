//! From a file to a network that can run, and the memory that a process needs for it, beside ONNX Runtime.

use super::{
    super::stats::{Ratio, number},
    agent::Runs,
    catalogue, goals,
    peer::{Engine, Peer},
    speed::Setting,
};
use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use std::fs;

/// Processes started of each engine; each loads once and runs once.
const STARTS_MAX: usize = 5;

/// One row: loading, loading from the cache where the agent has one, memory.
pub(super) fn measure(setting: Setting) -> Result<Value> {
    let Setting { bench, network, threads, isa } = setting;
    let mut ours = Vec::new();
    let mut peers = Vec::new();
    let mut again = Vec::new();
    // The first one leaves what the others load.
    let folder = catalogue::cache().join("plans");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    bench.agent.bench_cached(network, threads, isa, &folder)?;
    for _ in 0..bench.options.rounds.min(STARTS_MAX) {
        ours.push(bench.agent.bench(network, threads, Runs::ONE, isa)?);
        again.push(bench.agent.bench_cached(network, threads, isa, &folder)?);
        let mut peer = Peer::start(Engine::Ort, network, threads, isa, &bench.python)?;
        let mut figures = peer.memory()?;
        figures["load_ms"] = json!(peer.load_ms);
        peers.push(figures);
    }
    let load = ratio(&ours, "load_ms", &peers, "load_ms");
    let cached = ratio(&again, "cached_load_ms", &peers, "load_ms");
    let memory = ratio(&ours, "peak_rss_bytes", &peers, "peak_rss_bytes");
    let named = |ratio: Option<Ratio>, unit, goal| ratio.map(|ratio| ratio.fields(unit, Some(goal)));
    let mut row = Map::new();
    row.insert("isa".into(), json!(isa.name));
    row.insert("model".into(), json!(network.name));
    row.insert("precision".into(), json!(network.precision));
    row.insert("peer".into(), json!(Engine::Ort.name()));
    row.insert("load".into(), json!(named(load, "ms", goals::LOAD)));
    row.insert("cached_load".into(), json!(named(cached, "ms", goals::CACHED_LOAD)));
    row.insert("memory".into(), json!(named(memory, "bytes", goals::MEMORY)));
    row.insert(
        "peer_before_load_bytes".into(),
        peers.first().map_or(Value::Null, |p| p["before_load_rss_bytes"].clone()),
    );
    let row = Value::Object(row);
    for (what, fields) in
        [("load", &row["load"]), ("cached load", &row["cached_load"]), ("memory", &row["memory"])]
    {
        if !fields.is_null() {
            let ratio = number(&fields["ratio"]);
            eprintln!(
                "  {} {what}: ratio {ratio:.2}{}",
                network.label(),
                goals::remark(fields["goal"].as_f64(), ratio)
            );
        }
    }
    Ok(row)
}

/// None where a side has no such figure.
fn ratio(ours: &[Value], field: &str, peers: &[Value], peer_field: &str) -> Option<Ratio> {
    let column =
        |rows: &[Value], field: &str| rows.iter().map(|row| row[field].as_f64()).collect::<Option<Vec<_>>>();
    Some(Ratio::of(&column(ours, field)?, &column(peers, peer_field)?))
}
