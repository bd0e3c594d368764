//! Models from the plan cache: the same bits as from their files, and never anything else, whatever became of the cache's file.
#![allow(clippy::expect_used, reason = "a test fails where its own models do not load")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use whimbrel_cpu::{CpuEngine, isa::Isa};
use whimbrel_infer::{
    Datatype, LoadError, LoadOptions, Model, PlanCache, Source, Tensor, TensorInfo, program,
};

/// Models whose plan cannot be kept: their shapes depend on data, or a step has no kernel.
const NOT_KEPT: [&str; 4] = ["fused", "loop_", "scan", "unshaped"];

fn models() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let features = fs::read_dir(root.join("tests/features")).expect("the project's own");
    let mut list: Vec<PathBuf> = features.map(|entry| entry.expect("an entry").path()).collect();
    list.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    list.sort();
    list.extend(
        ["v1", "v2"].map(|version| root.join("../../examples/digits").join(version).join("model.onnx")),
    );
    list
}

fn model(name: &str) -> PathBuf {
    models().into_iter().find(|path| path.ends_with(format!("{name}.onnx"))).expect("the project's own")
}

fn is_kept(model: &Path) -> bool {
    !NOT_KEPT.contains(&model.file_stem().unwrap_or_default().to_string_lossy().as_ref())
}

/// Loads a model with a cache in a folder, and waits until the cache is written.
fn load(model: &Path, isa: Isa, folder: &Path) -> Result<Arc<dyn Model>, LoadError> {
    let cache = PlanCache::beside(folder, [7; 32]);
    let options = LoadOptions { cache: Some(cache.clone()), ..LoadOptions::default() };
    let loaded = program::load(
        CpuEngine { isa, threads: 1, cores: None },
        &Source::open(model).expect("there"),
        &options,
    );
    cache.finish();
    loaded
}

fn tensor(info: &TensorInfo, free: usize, seed: usize) -> Tensor {
    let shape: Vec<usize> = info.shape.iter().map(|size| size.unwrap_or(free)).collect();
    let count = shape.iter().product();
    let number = |at: usize| ((at * 7919 + seed * 31) % 23) as f32 / 4.0 - 2.5;
    let tensor = match info.datatype {
        Datatype::Fp32 => Tensor::from_values(shape, &(0..count).map(number).collect::<Vec<_>>()),
        Datatype::Int32 => Tensor::from_values(shape, &vec![1i32; count]),
        Datatype::Int64 => Tensor::from_values(shape, &vec![1i64; count]),
        other => {
            let size = other.size_bytes().expect("no strings");
            Tensor::from_le_bytes(other, shape, (0..count * size).map(|at| (at % 2) as u8).collect())
        }
    };
    tensor.expect("as many elements as the shape has")
}

/// What a model answers to several inputs, errors included.
fn answers(model: &dyn Model) -> Vec<String> {
    let mut session = model.session();
    let cases = [(1, 0), (1, 1), (3, 2), (1, 3)];
    let mut run = |(free, seed): (usize, usize)| {
        let inputs: Vec<Tensor> = model.inputs().iter().map(|info| tensor(info, free, seed)).collect();
        let named = model.inputs().iter().map(|info| info.name.as_str()).zip(&inputs);
        format!("{:?}", session.run(&named.collect::<Vec<_>>()))
    };
    cases.into_iter().map(&mut run).collect()
}

/// The one file in a folder.
fn file(folder: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

#[test]
fn every_model_answers_from_the_cache_as_from_its_file() {
    for model in models() {
        for isa in Isa::available() {
            let folder = tempfile::tempdir().expect("a folder");
            let fresh = load(&model, isa, folder.path()).expect("loads");
            assert!(!fresh.is_from_cache());
            let cached = load(&model, isa, folder.path()).expect("loads");
            assert_eq!(cached.is_from_cache(), is_kept(&model), "{} {isa}", model.display());
            assert_eq!(fresh.inputs(), cached.inputs());
            assert_eq!(fresh.outputs(), cached.outputs());
            assert_eq!(fresh.macs(), cached.macs());
            assert_eq!(answers(fresh.as_ref()), answers(cached.as_ref()), "{} {isa}", model.display());
        }
    }
}

#[test]
fn a_file_that_is_not_what_was_written_is_made_again_and_never_believed() {
    let model = &model("rnn_relu");
    // In memory where there is such a folder: it is written a thousand times.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let fresh = load(model, Isa::Generic, folder.path()).expect("loads");
    let expected = answers(fresh.as_ref());
    let path = file(folder.path());
    let good = fs::read(&path).expect("written");
    let mut damaged = 0;
    let mut case = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).expect("written");
        let loaded = load(model, Isa::Generic, folder.path()).expect(what);
        assert_eq!(answers(loaded.as_ref()), expected, "{what}");
        damaged += usize::from(!loaded.is_from_cache());
    };
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        case(&bytes, &format!("byte {at} of {}", good.len()));
    }
    for len in (0..good.len()).step_by(61).chain([good.len() - 1]) {
        case(&good[..len], &format!("the first {len} bytes"));
    }
    case(&[good.as_slice(), &[0]].concat(), "a byte more");
    case(b"WHIMPLAN and something else", "another file");
    assert!(damaged > good.len() / 4, "{damaged} of {}", good.len());
    assert!(load(model, Isa::Generic, folder.path()).expect("loads").is_from_cache());
}

#[test]
fn weights_that_went_bad_are_noticed_by_the_first_run_and_the_file_is_removed() {
    let model = &model("dynamic_conv");
    let folder = tempfile::tempdir().expect("a folder");
    let expected = answers(load(model, Isa::Generic, folder.path()).expect("loads").as_ref());
    let path = file(folder.path());
    let mut bytes = fs::read(&path).expect("written");
    // The first of the packed parts: where it begins is said in the head.
    let at = u64::from_le_bytes(bytes[40..48].try_into().expect("8 bytes")) as usize;
    bytes[at] ^= 0x40;
    fs::write(&path, &bytes).expect("written");
    let loaded = load(model, Isa::Generic, folder.path()).expect("loads");
    assert!(loaded.is_from_cache());
    assert_eq!(answers(loaded.as_ref()), expected);
    assert!(!path.exists());
}

#[test]
fn another_instruction_set_limit_or_model_has_its_own_plan() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = &model("dynamic_conv");
    load(model, Isa::Generic, folder.path()).expect("loads");
    let path = file(folder.path());
    for isa in Isa::available().filter(|isa| *isa != Isa::Generic) {
        assert!(!load(model, isa, folder.path()).expect("loads").is_from_cache());
        let other = path.with_file_name(format!("plan~cpu-{isa}"));
        // Under the name of another, it is made again.
        fs::copy(&path, &other).expect("copied");
        assert!(!load(model, isa, folder.path()).expect("loads").is_from_cache());
        assert!(load(model, isa, folder.path()).expect("loads").is_from_cache());
    }
    let with = |digest, elements| {
        let mut options =
            LoadOptions { cache: Some(PlanCache::beside(folder.path(), digest)), ..LoadOptions::default() };
        options.limits.tensor_elements_max -= elements;
        let engine = CpuEngine { isa: Isa::Generic, threads: 1, cores: None };
        let loaded = program::load(engine, &Source::open(model).expect("there"), &options).expect("loads");
        loaded.is_from_cache()
    };
    assert_eq!([with([7; 32], 0), with([7; 32], 1), with([8; 32], 0)], [true, false, false]);
}

#[test]
fn a_folder_that_cannot_be_written_costs_nothing_but_the_cache() {
    let model = &model("dynamic_conv");
    let folder = tempfile::tempdir().expect("a folder");
    let expected = answers(load(model, Isa::Generic, folder.path()).expect("loads").as_ref());
    for bad in [Path::new("/proc/self"), Path::new("/nowhere"), Path::new("/dev/null")] {
        let loaded = load(model, Isa::Generic, bad).expect("loads");
        assert!(!loaded.is_from_cache());
        assert_eq!(answers(loaded.as_ref()), expected);
    }
}

#[test]
fn many_at_once_leave_one_file_that_is_whole() {
    let model = &model("dynamic_conv");
    let folder = tempfile::tempdir().expect("a folder");
    let expected = answers(load(model, Isa::Generic, folder.path()).expect("loads").as_ref());
    std::thread::scope(|scope| {
        for turn in 0..8 {
            let (folder, expected) = (folder.path(), &expected);
            scope.spawn(move || {
                for _ in 0..10 {
                    if turn == 0 {
                        // Others may have removed it.
                        fs::remove_file(folder.join("plan~cpu-generic")).ok();
                    }
                    let loaded = load(model, Isa::Generic, folder).expect("loads");
                    assert_eq!(answers(loaded.as_ref()), *expected);
                }
            });
        }
    });
    load(model, Isa::Generic, folder.path()).expect("loads");
    assert!(load(model, Isa::Generic, folder.path()).expect("loads").is_from_cache());
    let name = file(folder.path());
    assert!(name.ends_with("plan~cpu-generic"), "{}", name.display());
}

#[test]
fn a_file_that_others_may_write_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let model = &model("dynamic_conv");
    let folder = tempfile::tempdir().expect("a folder");
    load(model, Isa::Generic, folder.path()).expect("loads");
    let path = file(folder.path());
    assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("set");
    assert!(!load(model, Isa::Generic, folder.path()).expect("loads").is_from_cache());
    assert!(load(model, Isa::Generic, folder.path()).expect("loads").is_from_cache());
}
