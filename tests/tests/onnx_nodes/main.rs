//! The node cases of ONNX's own backend test, run by the backend that `auto` picks and by a GPU. A case passes or is on the committed list, which
//! says why it does not; one that passes must not be on it.
//!
//! `WHIMBREL_UPDATE=1` writes the list and `docs/operators.md` anew.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by a panic that says why")]

mod cases;
mod compare;
mod list;
mod table;
mod verdict;

use cases::Case;
use std::{
    env, fs,
    io::{self, Write},
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};
use verdict::Verdict;
use whimbrel_cpu::CpuEngine;
use whimbrel_gpu::{Gpu, HOW_TO_GET_ADAPTER, NO_ADAPTER};
use whimbrel_infer::{Backend, LoadOptions};
use whimbrel_tests::root;

#[test]
fn every_case_passes_or_is_listed() {
    let verdicts = judge(cases::all(), &whimbrel_cpu::Cpu);
    let files = [
        (root().join("tests/data/onnx_nodes_unsupported.txt"), list::format(&verdicts)),
        (root().join("docs/operators.md"), table::format(&verdicts)),
    ];
    if env::var_os("WHIMBREL_UPDATE").is_some() {
        files.iter().for_each(|(path, text)| fs::write(path, text).expect("written"));
    }
    let listed = list::parse(&fs::read_to_string(&files[0].0).expect("the list is there"));
    let problems =
        list::problems(&listed, verdicts.iter().map(|(case, verdict)| (case.name.as_str(), verdict)));
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    is_up_to_date(&files[1]);
}

/// What passes on the processor passes on a GPU, if there is one.
#[test]
fn a_gpu_passes_every_case_that_is_not_listed() {
    static GPU: Gpu<CpuEngine> = Gpu::new(CpuEngine::new);
    if GPU.engine(&LoadOptions::default()).is_err() {
        let _ = writeln!(io::stderr(), "SKIPPED, ONNX's cases on a GPU: {NO_ADAPTER}; {HOW_TO_GET_ADAPTER}");
        return;
    }
    let listed = list::parse(
        &fs::read_to_string(root().join("tests/data/onnx_nodes_unsupported.txt")).expect("the list is there"),
    );
    let verdicts = judge(cases::all(), &GPU);
    let problems =
        list::problems(&listed, verdicts.iter().map(|(case, verdict)| (case.name.as_str(), verdict)));
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

fn is_up_to_date((path, text): &(PathBuf, String)) {
    let have = fs::read_to_string(path).unwrap_or_default();
    assert!(have == *text, "{} is out of date: run this test with WHIMBREL_UPDATE=1", path.display());
}

/// Every case with what came of it, in the same order.
fn judge(cases: Vec<Case>, backend: &dyn Backend) -> Vec<(Case, Verdict)> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut judged = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(index) else { return judged };
            judged.push((index, verdict::of(case, backend)));
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut judged: Vec<(usize, Verdict)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no worker panics")).collect()
    });
    judged.sort_by_key(|(index, _)| *index);
    cases.into_iter().zip(judged).map(|(case, (_, verdict))| (case, verdict)).collect()
}
