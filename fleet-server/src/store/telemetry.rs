//! Telemetry: each batch is counted exactly once, in the transaction that remembers its number.

use super::{
    Doing as _, Store, StoreError, Tx, commit,
    decode::{clamp, count, damaged, json, parse, to_json},
};
use crate::bus::Address;
use std::collections::BTreeMap;
use whimbrel_wire::{
    TenantId,
    api::TelemetrySummary,
    telemetry::{Batch, LatencySketch, Window},
};

/// Sums stop here instead of overflowing, whatever devices claim.
const SUM_MAX: i64 = 1 << 62;
/// Largest count accepted from one window.
const WINDOW_MAX: u64 = 1 << 53;
/// Buckets of honest sketches lie within this many of zero; others are moved to the border, so that a lying device cannot
/// make the stored sketch grow.
const BUCKET_MAX: i32 = 1100;

/// A batch and who sent it.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    /// Who.
    pub(crate) from: Address,
    /// What.
    pub(crate) batch: Batch,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    /// Counted now.
    New,
    /// Counted before.
    Before,
}

type SumRow = (String, String, i64, i64, i64, i64);

impl Store {
    /// Counts batches, all in one transaction: after it returns, every one of them is stored, now or before.
    ///
    /// # Errors
    /// When the database refuses; then none is to be acknowledged.
    pub(crate) async fn count_batches(
        &self,
        deliveries: &[Delivery],
        now_ms: i64,
    ) -> Result<Vec<Counted>, StoreError> {
        let mut tx = self.begin().await?;
        let mut sketches: BTreeMap<(String, String, String), LatencySketch> = BTreeMap::new();
        let mut counted = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            if !remember(&mut tx, delivery, now_ms).await? {
                counted.push(Counted::Before);
                continue;
            }
            add_windows(&mut tx, delivery, now_ms, &mut sketches).await?;
            counted.push(Counted::New);
        }
        for ((tenant, model, version), sketch) in sketches {
            merge_sketch(&mut tx, &tenant, &model, &version, &sketch).await?;
        }
        commit(tx).await?;
        Ok(counted)
    }

    /// Sums of every model version.
    ///
    /// # Errors
    /// When the database refuses or holds something else.
    pub(crate) async fn telemetry_summary(
        &self,
        tenant: &TenantId,
    ) -> Result<Vec<TelemetrySummary>, StoreError> {
        let rows: Vec<SumRow> = sqlx::query_as(
            "SELECT model, version, count(*), min(sum(min(batches, 1 << 40)), 1 << 62),
                    min(sum(min(requests, 1 << 40)), 1 << 62), min(sum(min(errors, 1 << 40)), 1 << 62)
             FROM telemetry_sums WHERE tenant = ? GROUP BY model, version ORDER BY model, version",
        )
        .bind(tenant.as_str())
        .fetch_all(&self.readers)
        .await
        .doing("sum telemetry")?;
        let sketches: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT model, version, CAST(sketch AS TEXT) FROM telemetry_sketches WHERE tenant = ?",
        )
        .bind(tenant.as_str())
        .fetch_all(&self.readers)
        .await
        .doing("read latency sketches")?;
        let mut by_version = BTreeMap::new();
        for (model, version, sketch) in sketches {
            by_version.insert((model, version), json::<LatencySketch>("sketch", &sketch)?);
        }
        rows.into_iter()
            .map(|(model, version, devices, batches, requests, errors)| {
                let (name, number) = (parse("model", &model)?, parse("version", &version)?);
                let sketch = by_version.get(&(model, version));
                Ok(TelemetrySummary {
                    model: name,
                    version: number,
                    devices: count("devices", devices)?,
                    batches: count("batches", batches)?,
                    requests: count("requests", requests)?,
                    errors: count("errors", errors)?,
                    latency_p50_ms: sketch.and_then(|s| s.quantile(0.5)),
                    latency_p95_ms: sketch.and_then(|s| s.quantile(0.95)),
                })
            })
            .collect()
    }

    /// Drops windows received before a time; sums and batch numbers stay. Returns how many.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn drop_windows(&self, before_ms: i64) -> Result<u64, StoreError> {
        let done = sqlx::query("DELETE FROM windows WHERE received_ms < ?")
            .bind(before_ms)
            .execute(&self.writer)
            .await
            .doing("drop old telemetry windows")?;
        Ok(done.rows_affected())
    }
}

/// False when the batch was counted before.
async fn remember(tx: &mut Tx, delivery: &Delivery, now_ms: i64) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT INTO batches (tenant, device, boot, sequence, received_ms) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT DO NOTHING",
    )
    .bind(delivery.from.tenant.as_str())
    .bind(delivery.from.device.as_str())
    .bind(delivery.batch.boot.cast_signed())
    .bind(delivery.batch.sequence.cast_signed())
    .bind(now_ms)
    .execute(&mut **tx)
    .await
    .doing("remember a batch")?;
    Ok(done.rows_affected() == 1)
}

/// What a batch adds to one model version.
#[derive(Default)]
struct Added {
    requests: u64,
    errors: u64,
}

async fn add_windows(
    tx: &mut Tx,
    delivery: &Delivery,
    now_ms: i64,
    sketches: &mut BTreeMap<(String, String, String), LatencySketch>,
) -> Result<(), StoreError> {
    let (tenant, device) = (delivery.from.tenant.as_str(), delivery.from.device.as_str());
    let mut added: BTreeMap<(String, String), Added> = BTreeMap::new();
    for window in &delivery.batch.windows {
        let key = (window.model.to_string(), window.version.to_string());
        let errors = window.errors.values().fold(0u64, |sum, n| sum.saturating_add(*n));
        let sum = added.entry(key.clone()).or_default();
        sum.requests = sum.requests.saturating_add(window.requests);
        sum.errors = sum.errors.saturating_add(errors);
        let sketch = sketches.entry((tenant.to_owned(), key.0, key.1)).or_default();
        sketch.merge(&bounded(&window.latency_ms));
        keep_window(tx, delivery, window, now_ms).await?;
    }
    for ((model, version), sum) in added {
        sqlx::query(
            "INSERT INTO telemetry_sums (tenant, model, version, device, batches, requests, errors)
             VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6)
             ON CONFLICT DO UPDATE SET batches = min(batches + 1, ?7),
                 requests = min(requests + ?5, ?7), errors = min(errors + ?6, ?7)",
        )
        .bind(tenant)
        .bind(model)
        .bind(version)
        .bind(device)
        .bind(clamp(sum.requests.min(WINDOW_MAX)))
        .bind(clamp(sum.errors.min(WINDOW_MAX)))
        .bind(SUM_MAX)
        .execute(&mut **tx)
        .await
        .doing("add up telemetry")?;
    }
    Ok(())
}

async fn keep_window(
    tx: &mut Tx,
    delivery: &Delivery,
    window: &Window,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO windows (tenant, device, model, version, start_ms, end_ms, received_ms, body)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(delivery.from.tenant.as_str())
    .bind(delivery.from.device.as_str())
    .bind(window.model.as_str())
    .bind(window.version.to_string())
    .bind(window.start_ms)
    .bind(window.end_ms)
    .bind(now_ms)
    .bind(to_json("window", window)?.into_bytes())
    .execute(&mut **tx)
    .await
    .map(drop)
    .doing("keep a telemetry window")
}

async fn merge_sketch(
    tx: &mut Tx,
    tenant: &str,
    model: &str,
    version: &str,
    added: &LatencySketch,
) -> Result<(), StoreError> {
    let before: Option<(Vec<u8>,)> = sqlx::query_as(
        "SELECT sketch FROM telemetry_sketches WHERE tenant = ? AND model = ? AND version = ?",
    )
    .bind(tenant)
    .bind(model)
    .bind(version)
    .fetch_optional(&mut **tx)
    .await
    .doing("read a latency sketch")?;
    let mut sketch: LatencySketch = match before {
        Some((bytes,)) => serde_json::from_slice(&bytes).map_err(|e| damaged("sketch", e))?,
        None => LatencySketch::default(),
    };
    sketch.merge(added);
    // JSON has no infinity: the sum of absurd but finite values must stay finite.
    sketch.sum = sketch.sum.clamp(-f64::MAX, f64::MAX);
    sqlx::query(
        "INSERT INTO telemetry_sketches (tenant, model, version, sketch) VALUES (?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET sketch = excluded.sketch",
    )
    .bind(tenant)
    .bind(model)
    .bind(version)
    .bind(to_json("sketch", &sketch)?.into_bytes())
    .execute(&mut **tx)
    .await
    .map(drop)
    .doing("keep a latency sketch")
}

/// The same sketch with every bucket in the range that real latencies have.
fn bounded(sketch: &LatencySketch) -> LatencySketch {
    let mut out = LatencySketch { buckets: Vec::new(), ..sketch.clone() };
    for &(index, n) in &sketch.buckets {
        let index = index.clamp(-BUCKET_MAX, BUCKET_MAX);
        match out.buckets.last_mut() {
            Some(last) if last.0 == index => last.1 = last.1.saturating_add(n),
            _ => out.buckets.push((index, n)),
        }
    }
    out
}
