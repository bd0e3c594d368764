//! `bench`: how fast a model runs here.

mod layers;

use crate::{
    cli::BenchArgs,
    failure::{Failure, chain},
    model,
    platform::peak_rss_bytes,
};
use layers::{Gathered, Layers};
use serde::Serialize;
use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};
use whimbrel_infer::{Datatype, LoadOptions, PlanCache, RunError, Tensor, TensorInfo, element_count};

/// Inputs are the same in every run and on every machine.
const SEED: u64 = 0x5748_494d_4252_454c;

/// A number of threads.
fn threads(count: u16) -> Option<NonZeroUsize> {
    NonZeroUsize::new(usize::from(count))
}

/// What was measured. The names are a contract.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Measured {
    median_ms: f64,
    min_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    runs: u32,
    backend: &'static str,
    load_ms: f64,
    cached_load_ms: Option<f64>,
    peak_rss_bytes: Option<u64>,
    macs: Option<u64>,
    gmacs_per_s: Option<f64>,
    /// With `--profile`.
    #[serde(flatten)]
    layers: Option<Layers>,
}

/// Runs the command: the model itself, without the steps of its bundle.
///
/// # Errors
/// The model cannot be loaded or fails, or something is asked for that the backend does not offer.
pub(crate) fn run(args: &BenchArgs) -> Result<(), Failure> {
    let backend = crate::backends::named(args.backend.as_str())
        .map_err(|e| Failure::not_supported("choosing what runs the model", e).hint("use --backend auto"))?;
    let attempted = || format!("measuring {}", args.model.display());
    let start = Instant::now();
    let cache = args.plan_cache.as_deref().map(|folder| PlanCache::within(folder, &args.model));
    let threads = args.threads.and_then(threads);
    let options = LoadOptions { threads, cache: cache.clone(), ..args.resources.options() };
    let model = model::open(&args.model, None, backend, &options)?.model;
    let load = start.elapsed();
    // Not beside what is measured.
    if let Some(cache) = cache {
        cache.finish();
    }
    let model = model.model();
    let inputs = random_inputs(model.inputs()).map_err(|why| Failure::failed(attempted(), why))?;
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut session = model.session();
    let (mut times, mut gathered) = (Vec::new(), args.profile.then(Gathered::default));
    for index in 0..args.warmup.saturating_add(args.runs) {
        let start = Instant::now();
        let outcome = match gathered {
            Some(_) => session.profile(&inputs),
            None => session.run(&inputs).map(|_| None),
        };
        let mut elapsed = start.elapsed();
        let profile = outcome.map_err(|error| match error {
            RunError::Memory(error) => Failure::refused(attempted(), error).hint(model::MEMORY_HINT),
            error => Failure::failed(attempted(), chain(&error)),
        })?;
        if let Some(profile) = &profile {
            elapsed = profile.time;
        } else if args.profile {
            let why = format!("the {} backend does not tell the time of each layer", backend.name());
            return Err(
                Failure::not_supported(attempted(), why).hint("leave --profile away, or use --backend cpu")
            );
        }
        if index >= args.warmup {
            times.push(elapsed);
            if let (Some(gathered), Some(profile)) = (&mut gathered, profile) {
                gathered.add(profile);
            }
        }
    }
    let load = Load { took: load, cached: model.is_from_cache() };
    let mut measured = measured(times, &load, backend.name(), model.macs());
    measured.layers = gathered.map(Gathered::finish);
    if args.json {
        let text = serde_json::to_string(&measured).map_err(|e| Failure::failed(attempted(), e))?;
        println!("{text}");
    } else {
        print!("{}", text(&measured));
        print!("{}", measured.layers.as_ref().map_or_else(String::new, layers::text));
    }
    Ok(())
}

/// How the model was loaded.
struct Load {
    took: Duration,
    cached: bool,
}

fn measured(mut times: Vec<Duration>, load: &Load, backend: &'static str, macs: Option<u64>) -> Measured {
    times.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    // The smallest time that at least this share of the runs did not exceed.
    let percentile = |percent: usize| {
        let rank = (times.len() * percent).div_ceil(100).max(1) - 1;
        times.get(rank).copied().map_or(0.0, ms)
    };
    let median_ms = percentile(50);
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let gmacs_per_s = macs.filter(|_| median_ms > 0.0).map(|macs| macs as f64 / (median_ms * 1e6));
    Measured {
        median_ms,
        min_ms: percentile(0),
        p95_ms: percentile(95),
        p99_ms: percentile(99),
        runs: u32::try_from(times.len()).unwrap_or(u32::MAX),
        backend,
        load_ms: ms(load.took),
        cached_load_ms: load.cached.then(|| ms(load.took)),
        peak_rss_bytes: peak_rss_bytes(),
        macs,
        gmacs_per_s,
        layers: None,
    }
}

fn text(measured: &Measured) -> String {
    let Measured {
        median_ms,
        min_ms,
        p95_ms,
        p99_ms,
        runs,
        backend,
        load_ms,
        cached_load_ms,
        peak_rss_bytes,
        macs,
        gmacs_per_s,
        layers: _,
    } = measured;
    let from = cached_load_ms.map_or("", |_| ", from the plan cache");
    let or_unknown = |value: Option<String>| value.unwrap_or_else(|| "unknown".to_owned());
    format!(
        "backend  {backend}\nruns     {runs}\nmedian   {median_ms:.3} ms\nmin      {min_ms:.3} ms\n\
         p95      {p95_ms:.3} ms\np99      {p99_ms:.3} ms\nload     {load_ms:.3} ms{from}\n\
         peak     {}\nMACs     {}\nrate     {}\n",
        or_unknown(peak_rss_bytes.map(|n| format!("{n} bytes"))),
        or_unknown(macs.map(|n| n.to_string())),
        or_unknown(gmacs_per_s.map(|n| format!("{n:.3} GMAC/s"))),
    )
}

/// An input of each declared shape; 1 where any size is accepted.
fn random_inputs(infos: &[TensorInfo]) -> Result<Vec<(String, Tensor)>, String> {
    let mut random = Random(SEED);
    infos
        .iter()
        .map(|info| {
            let shape: Vec<usize> = info.shape.iter().map(|size| size.unwrap_or(1)).collect();
            let tensor = random_tensor(info.datatype, shape, &mut random);
            tensor.map(|tensor| (info.name.clone(), tensor)).map_err(|e| format!("input {}: {e}", info.name))
        })
        .collect()
}

fn random_tensor(datatype: Datatype, shape: Vec<usize>, random: &mut Random) -> Result<Tensor, String> {
    let count = element_count(&shape).filter(|n| *n <= 1 << 28).ok_or("its shape has too many elements")?;
    let tensor = match datatype {
        Datatype::Bytes => Tensor::from_strings(shape, vec![b"0".to_vec(); count]),
        Datatype::Fp64 => Tensor::from_values(shape, &random.take(count, |r| f64::from(r.unit()))),
        Datatype::Fp32 => Tensor::from_values(shape, &random.take(count, Random::unit)),
        Datatype::Fp16 => {
            // Halves below 1, by their bits: every exponent below that of 1 is a number.
            let bytes = random.take(count, |r| (r.next() % 0x3c00) as u16);
            let bytes = bytes.into_iter().flat_map(u16::to_le_bytes).collect();
            Tensor::from_le_bytes(datatype, shape, bytes)
        }
        Datatype::Uint8 | Datatype::Int8 => {
            Tensor::from_le_bytes(datatype, shape, random.take(count, |r| (r.next() & 0xff) as u8))
        }
        // Wider integers are mostly indices, and 0 and 1 are valid ones nearly everywhere.
        _ => {
            let size = datatype.size_bytes().unwrap_or(1);
            let mut bytes = vec![0; count.checked_mul(size).ok_or("its shape has too many elements")?];
            bytes.chunks_exact_mut(size).for_each(|element| element[0] = (random.next() & 1) as u8);
            Tensor::from_le_bytes(datatype, shape, bytes)
        }
    };
    tensor.map_err(|e| e.to_string())
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to below 1.
    fn unit(&mut self) -> f32 {
        f32::from((self.next() >> 48) as u16) / 65_536.0
    }

    fn take<T>(&mut self, count: usize, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..count).map(|_| one(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_has_exactly_the_promised_fields() {
        let times = (1..=100).map(Duration::from_millis).collect();
        let load = Load { took: Duration::from_millis(7), cached: true };
        let measured = measured(times, &load, "tract", Some(50_000_000));
        let value = serde_json::to_value(&measured).expect("JSON");
        let mut fields: Vec<&str> =
            value.as_object().expect("an object").keys().map(String::as_str).collect();
        fields.sort_unstable();
        let mut promised: Vec<&str> =
            "median_ms min_ms p95_ms p99_ms runs backend load_ms cached_load_ms peak_rss_bytes macs gmacs_per_s"
                .split(' ')
                .collect();
        promised.sort_unstable();
        assert_eq!(fields, promised);
        assert_eq!((measured.median_ms, measured.min_ms), (50.0, 1.0));
        assert_eq!((measured.p95_ms, measured.p99_ms), (95.0, 99.0));
        assert_eq!(measured.gmacs_per_s, Some(1.0));
    }

    #[test]
    fn one_run_is_every_percentile_and_unknown_macs_are_null() {
        let load = Load { took: Duration::ZERO, cached: false };
        let measured = measured(vec![Duration::from_millis(3)], &load, "tract", None);
        assert_eq!((measured.min_ms, measured.median_ms, measured.p99_ms), (3.0, 3.0, 3.0));
        let value = serde_json::to_value(&measured).expect("JSON");
        assert!(
            value["cached_load_ms"].is_null() && value["macs"].is_null() && value["gmacs_per_s"].is_null()
        );
    }

    #[test]
    fn inputs_are_finite_and_the_same_every_time() {
        for datatype in Datatype::ALL {
            let infos = [TensorInfo { name: "x".into(), datatype: *datatype, shape: vec![None, Some(32)] }];
            let inputs = random_inputs(&infos).expect("made");
            assert_eq!(inputs[0].1.shape(), [1, 32]);
            assert!(!inputs[0].1.has_non_finite());
            assert_eq!(random_inputs(&infos).expect("made"), inputs);
        }
    }
}
