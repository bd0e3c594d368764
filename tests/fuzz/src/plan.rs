//! A plan cache whose description is not what was written although its sum says so.

use crate::model::{options, quiet, run};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};
use whimbrel_cpu::Cpu;
use whimbrel_infer::{Backend, LoadOptions, PlanCache, Source};

/// Models of which plans are made.
const MODELS: [&[u8]; 8] = [
    include_bytes!("../corpus/model/dynamic_conv.onnx"),
    include_bytes!("../corpus/model/lstm_state.onnx"),
    include_bytes!("../corpus/model/gru_before.onnx"),
    include_bytes!("../corpus/model/maxpool_2d_ceil.onnx"),
    include_bytes!("../corpus/model/matmul_4d.onnx"),
    include_bytes!("../corpus/model/softmax_axis_1.onnx"),
    include_bytes!("../corpus/model/transpose_all_permutations_3.onnx"),
    include_bytes!("../corpus/model/qlinearconv.onnx"),
];

/// Where the numbers and texts of a file begin, and where it says how long they are.
const TEXT: usize = 48;
const LENGTHS: [usize; 2] = [24, 32];

/// The first byte chooses a model, each three after it change a byte of what its cache says: place and value.
pub(crate) fn plan(bytes: &[u8]) {
    quiet();
    let Some((model, edits)) = bytes.split_first() else { return };
    let (model, good) = written(usize::from(*model) % MODELS.len());
    let Some(good) = good else { return };
    let mut file = good.clone();
    let len: usize = LENGTHS.iter().filter_map(|at| number(&file, *at)).sum();
    for edit in edits.as_chunks::<3>().0 {
        let at = TEXT + usize::from(u16::from_le_bytes([edit[0], edit[1]])) % len.max(1);
        file[at] = edit[2];
    }
    let sum = crc32fast::hash(&file[16..TEXT + len]);
    file[12..16].copy_from_slice(&sum.to_le_bytes());
    let Some(folder) = folder() else { return };
    if let Some(path) = path(&folder) {
        fs::write(path, file).ok();
    }
    load(model, &folder);
    fs::remove_dir_all(folder).ok();
}

/// Loads a model with a cache in a folder, and runs it.
fn load(model: &[u8], folder: &Path) {
    let cache = PlanCache::beside(folder, [0; 32]);
    let options = LoadOptions { cache: Some(cache.clone()), ..options() };
    let model = Cpu.load_source(&Source::of_bytes(model.to_vec()), &options);
    run(&*model.unwrap_or_else(|error| unreachable!("the model is as it was: {error}")));
    cache.finish();
}

/// A model, and the file that a load leaves of it.
fn written(index: usize) -> (&'static [u8], &'static Option<Vec<u8>>) {
    static FILES: [OnceLock<Option<Vec<u8>>>; MODELS.len()] = [const { OnceLock::new() }; MODELS.len()];
    let file = FILES[index].get_or_init(|| {
        let folder = folder()?;
        load(MODELS[index], &folder);
        let file = fs::read(path(&folder)?).ok();
        fs::remove_dir_all(folder).ok();
        file
    });
    (MODELS[index], file)
}

fn path(folder: &Path) -> Option<PathBuf> {
    let isa = whimbrel_cpu::isa::Isa::chosen().ok()?;
    Some(folder.join(format!("plan~cpu-{isa}")))
}

/// A new folder, in memory where there is such a place.
fn folder() -> Option<PathBuf> {
    let shared = Path::new("/dev/shm");
    let above = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
    let thread = std::thread::current().id();
    let folder = above.join(format!("whimbrel-fuzz-{}-{thread:?}", std::process::id()));
    fs::create_dir_all(&folder).ok()?;
    Some(folder)
}

fn number(file: &[u8], at: usize) -> Option<usize> {
    let bytes = file.get(at..at + 8)?.try_into().ok()?;
    usize::try_from(u64::from_le_bytes(bytes)).ok()
}
