//! A model beyond its memory budget is refused before anything of it is in memory, and one within it takes no more than was estimated.
//!
//! One test, in a process of its own: it looks at the most memory that the process has had.
#![cfg(target_os = "linux")]
#![allow(clippy::expect_used, reason = "a test fails where its own model is not as it should be")]

use std::{
    fs,
    path::{Path, PathBuf},
};
use whimbrel_cpu::Cpu;
use whimbrel_infer::{
    Backend as _, ImportLimits, LoadError, LoadOptions, MemoryError, Model, RunError, Source, Tensor,
    memory::Purpose,
};

const MIB: u64 = 1 << 20;

/// What the process may take for anything else.
const ASIDE: u64 = 8 * MIB;

const DEPTH: usize = 64;
const COLUMNS: usize = 1 << 17;

/// Bytes of the weights.
const WEIGHTS: u64 = (DEPTH * COLUMNS * 4) as u64;

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut len = content.len();
    while len >= 0x80 {
        bytes.push(len as u8 | 0x80);
        len >>= 7;
    }
    bytes.push(len as u8);
    bytes.extend_from_slice(content);
    bytes
}

fn number(number: u8, value: u64) -> Vec<u8> {
    let mut bytes = field(number, &[]);
    bytes.truncate(1);
    bytes[0] &= !2;
    let mut value = value;
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// An ONNX file: a matrix product of any number of rows by large weights.
fn model() -> PathBuf {
    let shape = [field(1, &field(2, b"n")), field(1, &number(1, DEPTH as u64))].concat();
    let tensor = [number(1, 1), field(2, &shape)].concat();
    let input = [field(1, b"x"), field(2, &field(1, &tensor))].concat();
    let output = [field(1, b"y"), field(2, &field(1, &number(1, 1)))].concat();
    let node = [field(1, b"x"), field(1, b"w"), field(2, b"y"), field(4, b"MatMul")].concat();
    let dims = [number(1, DEPTH as u64), number(1, COLUMNS as u64), number(2, 1), field(8, b"w")].concat();
    let weights = field(9, &vec![0x3c; WEIGHTS as usize]);
    let graph = [
        field(1, &node),
        field(2, b"g"),
        field(5, &[dims, weights].concat()),
        field(11, &input),
        field(12, &output),
    ]
    .concat();
    let onnx = [number(1, 8), field(7, &graph), field(8, &number(2, 17))].concat();
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("large.onnx");
    fs::write(&path, onnx).expect("written");
    path
}

fn load(path: &Path, memory_bytes_max: u64) -> Result<std::sync::Arc<dyn Model>, MemoryError> {
    let limits = ImportLimits { memory_bytes_max, ..ImportLimits::default() };
    let source = Source::open(path).expect("opens");
    match Cpu.load_source(&source, &LoadOptions { limits, ..LoadOptions::default() }) {
        Ok(model) => Ok(model),
        Err(LoadError::Memory(error)) => Err(error),
        Err(error) => unreachable!("{error}"),
    }
}

fn run(model: &dyn Model, rows: usize) -> Result<usize, RunError> {
    let tensor = Tensor::from_values(vec![rows, DEPTH], &vec![1f32; rows * DEPTH]).expect("fits");
    model.session().run(&[("x", &tensor)]).map(|outputs| outputs[0].1.shape()[0])
}

/// Bytes that the process has at most had more than now while `work` ran.
fn growth<T>(work: impl FnOnce() -> T) -> (T, u64) {
    fs::write("/proc/self/clear_refs", "5").expect("the system forgets the peak");
    let field = |name: &str| {
        let text = fs::read_to_string("/proc/self/status").expect("read");
        let value = text.lines().find_map(|line| line.strip_prefix(name)).expect("there");
        value.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    };
    let before = field("VmRSS:");
    let result = work();
    (result, field("VmHWM:").saturating_sub(before))
}

#[test]
fn a_budget_holds_before_memory_is_taken() {
    let path = model();
    let (error, grown) = growth(|| load(&path, WEIGHTS / 2).err().expect("refused"));
    assert_eq!((error.purpose, error.needed_bytes, error.fits_alone()), (Purpose::Weights, WEIGHTS, false));
    assert!(grown < ASIDE, "{grown} bytes were taken for a refusal");

    let (error, grown) = growth(|| load(&path, WEIGHTS * 3 / 2).err().expect("refused"));
    assert_eq!(error.purpose, Purpose::Plan);
    assert!(grown < ASIDE, "{grown} bytes were taken for a refusal");
    let estimate = error.needed_bytes;

    let (model, grown) = growth(|| load(&path, estimate + MIB).expect("fits"));
    assert!(grown <= estimate + ASIDE, "{grown} bytes, {estimate} were estimated");
    assert!(grown >= estimate / 2, "{grown} bytes, {estimate} were estimated");
    drop(model);

    // Room for two plans and a third in the making: older ones make way.
    let budget = 5 * WEIGHTS;
    let model = load(&path, budget).expect("fits");
    let (rows, grown) =
        growth(|| (1..7).map(|rows| run(model.as_ref(), rows)).collect::<Result<Vec<_>, _>>());
    assert_eq!(rows, Ok((1..7).collect()));
    assert!(grown <= budget - WEIGHTS + ASIDE, "{grown} bytes of {budget}");

    let (refused, grown) = growth(|| run(model.as_ref(), 1000));
    let Err(RunError::Memory(error)) = refused else { unreachable!("{refused:?}") };
    assert!(error.needed_bytes >= 1000 * COLUMNS as u64 * 4 && !error.fits_alone(), "{error}");
    assert!(grown < ASIDE, "{grown} bytes were taken for a refusal");
    assert_eq!(run(model.as_ref(), 2), Ok(2), "it goes on");
    fs::remove_file(path).expect("removed");
}
