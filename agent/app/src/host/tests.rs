use super::*;
use crate::{
    config::ModelSettings,
    npz::{NpzFile, NpzLimits},
    telemetry::{Telemetry, TelemetrySettings},
};
use std::{path::Path, time::Duration};
use whimbrel_infer::Tensor;
use whimbrel_serve::NoObserver;
use whimbrel_updater::{bundle::pack, disk::Files, slots::Slots};

/// Packs a version of the example and installs it as the updater does.
fn install(dir: &Path, version: u32) -> InstalledBundle {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../examples/digits/v{version}"));
    let packed = pack(&source).expect("packs");
    std::fs::create_dir_all(dir.join("models")).expect("folder");
    let slots = Slots::new(Arc::new(Files), &dir.join("models"));
    slots.install(&packed).expect("installs")
}

fn host(dir: &Path) -> (AgentHost, Arc<Registry>, Arc<Telemetry>) {
    let settings = TelemetrySettings {
        dir: dir.join("spool"),
        window: Duration::from_secs(300),
        spool_bytes_max: 8 << 20,
    };
    let telemetry = Telemetry::new(settings);
    let registry = Arc::new(Registry::default());
    let observer = AgentObserver::new(Arc::clone(&telemetry));
    let backend = crate::backends::named("auto").expect("there");
    (AgentHost::new(Arc::clone(&registry), Some(observer), backend, Models::default()), registry, telemetry)
}

/// One of the images that no version was trained on.
fn image(number: usize) -> Tensor {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits/heldout.npz");
    let limits = NpzLimits { file_bytes_max: 1 << 20, array_bytes_max: 1 << 20 };
    let pixels = NpzFile::open(&path, limits).and_then(|mut f| f.read("pixels")).expect("reads");
    let pixels = pixels.to_f32s().expect("numbers");
    Tensor::from_values(vec![1, 1, 8, 8], &pixels[number * 64..][..64]).expect("fits")
}

fn ask(registry: &Registry, host: &AgentHost, name: &ModelName, pixels: Tensor) -> whimbrel_serve::Answered {
    let serving = registry.get(name).expect("serves");
    let observer: &dyn whimbrel_serve::Observer = match &host.inner.observer {
        Some(observer) => &**observer,
        None => &NoObserver,
    };
    serving.answer(vec![("pixels".to_owned(), pixels)], observer).expect("an answer")
}

#[tokio::test]
async fn a_version_with_other_answers_is_refused_and_what_serves_goes_on() {
    let dir = tempfile::tempdir().expect("folder");
    let (good, wrong) = (install(dir.path(), 1), install(dir.path(), 3));
    let (host, registry, _) = host(dir.path());
    host.self_test(&good).await.expect("passes");
    host.serve(&good, None).await.expect("serves");
    let reason = host.self_test(&wrong).await.expect_err("other answers");
    assert_eq!(reason.kind, ReasonKind::GoldenMismatch);
    for part in ["vector 0", "probabilities", "element 0", "got", "expected"] {
        assert!(reason.detail.contains(part), "{reason}");
    }
    assert_eq!(ask(&registry, &host, &good.manifest.name, image(0)).version, good.manifest.version);
}

#[tokio::test]
async fn a_failing_candidate_is_counted_and_the_fallback_answers() {
    let dir = tempfile::tempdir().expect("folder");
    let (good, failing) = (install(dir.path(), 2), install(dir.path(), 4));
    let (host, registry, telemetry) = host(dir.path());
    host.serve(&failing, Some(&good)).await.expect("serves");
    let name = &good.manifest.name;
    let answers: Vec<_> = (0..50).map(|n| ask(&registry, &host, name, image(n))).collect();
    let failed = answers.iter().filter(|a| a.fallback).count() as u64;
    assert!(failed > 0, "version 4 fails on some images");
    let traffic = host.traffic(name);
    assert_eq!((traffic.requests, traffic.errors), (50, failed));
    assert!(answers.iter().filter(|a| a.fallback).all(|a| a.version == good.manifest.version));
    host.serve(&good, None).await.expect("serves");
    assert_eq!(host.traffic(name).requests, 0, "counts begin anew");
    ask(&registry, &host, name, image(0));
    telemetry.finish();
    let batches = telemetry.pending(9);
    let batch: whimbrel_wire::telemetry::Batch = whimbrel_wire::decode(&batches[0].1).expect("a batch");
    let of = |bundle: &InstalledBundle| {
        batch.windows.iter().find(|w| w.version == bundle.manifest.version).expect("a window")
    };
    assert_eq!(of(&failing).requests, 50);
    assert_eq!(of(&failing).errors.values().sum::<u64>(), failed);
    let window = of(&good);
    assert_eq!((window.requests, window.classes.values().sum::<u64>()), (1, 1));
    assert_eq!(window.features.len(), good.manifest.reference.features.len());
    assert!(window.features.iter().all(|f| f.n == 1 && f.nan == 0), "{:?}", window.features);
}

#[tokio::test]
async fn a_bundle_that_needs_more_than_there_is_or_is_too_slow_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().expect("folder");
    let bundle = install(dir.path(), 1);
    let (host, ..) = host(dir.path());
    let mut hungry = bundle.clone();
    hungry.manifest.needs.memory_bytes_max = u64::MAX;
    assert_eq!(host.self_test(&hungry).await.expect_err("too much").kind, ReasonKind::Memory);
    let mut slow = bundle.clone();
    slow.manifest.needs.latency_ms_max = 1e-9;
    assert_eq!(host.self_test(&slow).await.expect_err("too slow").kind, ReasonKind::Latency);
    std::fs::write(bundle.dir.join(&bundle.manifest.model), b"not a model").expect("written");
    assert_eq!(host.self_test(&bundle).await.expect_err("no model").kind, ReasonKind::Load);
}

#[tokio::test]
async fn a_withdrawn_model_answers_no_more() {
    let dir = tempfile::tempdir().expect("folder");
    let bundle = install(dir.path(), 1);
    let (host, registry, _) = host(dir.path());
    host.serve(&bundle, None).await.expect("serves");
    host.withdraw(&bundle.manifest.name).await;
    assert!(registry.get(&bundle.manifest.name).is_none());
    assert_eq!(host.traffic(&bundle.manifest.name).requests, 0);
}

#[test]
fn what_the_device_cannot_run_is_refused_before_it_is_fetched() {
    let backend = crate::backends::named("cpu").expect("there");
    let kind = |needs: Needs| preflight(&needs, backend, Some(1 << 20)).map_err(|reason| reason.kind);
    let small = || Needs { memory_bytes_max: 1 << 20, ..Needs::default() };
    assert_eq!(kind(small()), Ok(()));
    assert_eq!(kind(Needs { memory_bytes_max: (1 << 20) + 1, ..small() }), Err(ReasonKind::Memory));
    assert_eq!(kind(Needs { backend: NeededBackend::Gpu, ..small() }), Err(ReasonKind::Backend));
    assert_eq!(kind(Needs { backend: NeededBackend::Cpu, ..small() }), Ok(()));
    let uses = |operators: &[&str]| {
        kind(Needs { operators: operators.iter().map(|&o| o.to_owned()).collect(), ..small() })
    };
    assert_eq!(uses(&["Conv", "com.microsoft.Gelu"]).err(), uses(&["Gelu"]).err());
    assert_eq!(uses(&["Conv", "Relu"]), Ok(()));
    assert_eq!(uses(&["Conv", "FlashFutureAttention"]), Err(ReasonKind::Operators));
}

#[tokio::test]
async fn a_version_beyond_the_memory_of_its_model_is_refused_for_that() {
    let dir = tempfile::tempdir().expect("folder");
    let bundle = install(dir.path(), 1);
    let backend = crate::backends::named("auto").expect("there");
    let every = ModelSettings { memory_bytes_max: Some(1000), ..ModelSettings::default() };
    let models = Models { every, ..Models::default() };
    let host = AgentHost::new(Arc::default(), None, backend, models);
    let reason = host.self_test(&bundle).await.expect_err("too little");
    assert_eq!(reason.kind, ReasonKind::Memory, "{reason:?}");
    assert!(reason.detail.contains("the model's budget is 1000 bytes"), "{reason:?}");
}

#[tokio::test]
async fn a_bundle_leaves_its_plan_beside_it_and_takes_it_along() {
    let dir = tempfile::tempdir().expect("folder");
    let bundle = install(dir.path(), 1);
    let plans = || {
        let names =
            std::fs::read_dir(&bundle.dir).expect("lists").map(|entry| entry.expect("an entry").file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        names.filter(|name| name.starts_with("plan~")).collect::<Vec<_>>()
    };
    let (first, registry, _) = host(dir.path());
    first.self_test(&bundle).await.expect("passes");
    first.serve(&bundle, None).await.expect("serves");
    let name = &bundle.manifest.name;
    let answer = ask(&registry, &first, name, image(0)).answer.outputs;
    for _ in 0..200 {
        if plans().iter().any(|name| !name.ends_with(".new")) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(plans().len(), 1, "{:?}", plans());
    assert_eq!(InstalledBundle::open(&bundle.dir).expect("as it was installed"), bundle);
    let (second, registry, _) = host(dir.path());
    assert!(second.inner.load(&bundle).expect("loads").model().is_from_cache());
    second.self_test(&bundle).await.expect("passes");
    second.serve(&bundle, None).await.expect("serves");
    assert_eq!(ask(&registry, &second, name, image(0)).answer.outputs, answer);
    Slots::new(Arc::new(Files), &dir.path().join("models")).retain(name, &[]).expect("removes");
    assert!(!bundle.dir.exists());
}
