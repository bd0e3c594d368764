//! `run`: a model on arrays from npz files.

use crate::{
    cli::RunArgs,
    failure::{Failure, chain},
    model,
    npz::{self, NpzFile, NpzLimits},
};
use indicatif::ProgressBar;
use std::{
    collections::BTreeSet,
    fs,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};
use whimbrel_infer::{LoadOptions, PlanCache, RunError, Tensor};
use whimbrel_serve::{InferError, LoadedModel};
use whimbrel_wire::manifest::TensorSpec;

/// What the caller's own files may ask for: as much as an input of the model may hold.
const LIMITS: NpzLimits = NpzLimits { file_bytes_max: 4 << 30, array_bytes_max: 2 << 30 };
/// Most files of one folder.
const FILES_MAX: usize = 1_000_000;

/// One file to read, and the one to write.
#[derive(Debug, PartialEq, Eq)]
struct Job {
    inputs: PathBuf,
    outputs: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// The model or a file is not what it should be, or the model fails. With several inputs, the first failure ends it.
pub(crate) fn run(args: &RunArgs) -> Result<(), Failure> {
    let backend = crate::backends::named(args.backend.as_str())
        .map_err(|e| Failure::not_supported("choosing what runs the model", e).hint("use --backend auto"))?;
    let cache = args.plan_cache.as_deref().map(|folder| PlanCache::within(folder, &args.model));
    let options = LoadOptions { cache: cache.clone(), ..args.resources.options() };
    let model = model::open(&args.model, None, backend, &options)?.model;
    let jobs = jobs(&args.inputs, &args.outputs)?;
    let progress = match jobs.len() {
        many if many > 1 && std::io::stderr().is_terminal() => ProgressBar::new(many as u64),
        _ => ProgressBar::hidden(),
    };
    run_all(&model, &jobs, args.threads.map_or(1, usize::from), &progress)?;
    if let Some(cache) = cache {
        cache.finish();
    }
    Ok(())
}

/// Works on `threads` files at a time.
fn run_all(model: &LoadedModel, jobs: &[Job], threads: usize, progress: &ProgressBar) -> Result<(), Failure> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Failure>> = Mutex::default();
    let lock = || failed.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(jobs.len()) {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if lock().is_some() {
                        return;
                    }
                    if let Err(failure) = run_one(model, job) {
                        lock().get_or_insert(failure);
                    }
                    progress.inc(1);
                }
            });
        }
    });
    progress.finish_and_clear();
    lock().take().map_or(Ok(()), Err)
}

fn run_one(model: &LoadedModel, Job { inputs, outputs }: &Job) -> Result<(), Failure> {
    let reading = format!("reading {}", inputs.display());
    let mut file = NpzFile::open(inputs, LIMITS).map_err(|e| Failure::usage(&reading, chain(&e)))?;
    let expected = || format!("expected the arrays {}", specs_text(model.inputs()));
    check_names(&file.names(), model.inputs())
        .map_err(|why| Failure::usage(&reading, why).hint(expected()))?;
    let tensors = file.read_all().map_err(|e| Failure::usage(&reading, chain(&e)).hint(expected()))?;
    let running = format!("running {} on {}", model.name(), inputs.display());
    let answer = model.infer(tensors).map_err(|error| match error {
        InferError::Run(RunError::Memory(error)) => {
            Failure::refused(&running, error).hint(model::MEMORY_HINT)
        }
        InferError::BadInput(why) => Failure::usage(&running, why).hint(expected()),
        error if error.is_bad_input() => Failure::usage(&running, error).hint(expected()),
        error => Failure::failed(&running, error),
    })?;
    let tensors = answer.outputs.iter().map(|(name, tensor)| (name.as_str(), &**tensor) as (&str, &Tensor));
    npz::write(outputs, tensors)
        .map_err(|e| Failure::failed(format!("writing {}", outputs.display()), chain(&e)))
}

/// Says which arrays are missing or not asked for, all at once.
fn check_names(found: &[String], expected: &[TensorSpec]) -> Result<(), String> {
    let is_expected = |name: &String| expected.iter().any(|spec| spec.name == *name);
    let missing: Vec<&str> = expected
        .iter()
        .map(|spec| spec.name.as_str())
        .filter(|name| !found.iter().any(|f| f == name))
        .collect();
    let extra: Vec<String> =
        found.iter().filter(|n| !is_expected(n)).map(|n| n.chars().take(80).collect()).collect();
    match (missing.is_empty(), extra.is_empty()) {
        (true, true) => Ok(()),
        (false, true) => Err(format!("array {} is missing", missing.join(", "))),
        (true, false) => Err(format!("the model has no input {}", extra.join(", "))),
        (false, false) => Err(format!(
            "array {} is missing, and the model has no input {}",
            missing.join(", "),
            extra.join(", ")
        )),
    }
}

fn specs_text(specs: &[TensorSpec]) -> String {
    let text = |spec: &TensorSpec| {
        format!("{} ({} {:?})", spec.name, whimbrel_pipeline::datatype(spec.datatype), spec.shape)
    };
    specs.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// One file gives one file; several, or a folder, give files of the same names in a folder.
fn jobs(inputs: &[PathBuf], outputs: &Path) -> Result<Vec<Job>, Failure> {
    if let [one] = inputs
        && !one.is_dir()
    {
        return Ok(vec![Job { inputs: one.clone(), outputs: outputs.to_owned() }]);
    }
    let mut files = Vec::new();
    for path in inputs {
        if path.is_dir() {
            files.extend(folder_files(path)?);
        } else {
            files.push(path.clone());
        }
    }
    let attempted = || format!("writing into {}", outputs.display());
    let mut names = BTreeSet::new();
    let mut jobs = Vec::new();
    for file in files {
        let name = file.file_name().map(ToOwned::to_owned).unwrap_or_default();
        if !names.insert(name.clone()) {
            let why = format!("two input files are called {}", name.display());
            return Err(Failure::usage(attempted(), why).hint("run them one after the other"));
        }
        jobs.push(Job { inputs: file, outputs: outputs.join(name) });
    }
    fs::create_dir_all(outputs)
        .map_err(|e| Failure::usage(attempted(), e).hint("with several inputs, --outputs is a folder"))?;
    if jobs.iter().any(|job| is_same(&job.inputs, &job.outputs)) {
        return Err(Failure::usage(attempted(), "an input would be overwritten").hint("name another folder"));
    }
    Ok(jobs)
}

fn is_same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn folder_files(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let fail = |e: std::io::Error| Failure::usage(format!("reading {}", dir.display()), e);
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|e| e == "npz") {
            files.push(path);
        }
        if files.len() > FILES_MAX {
            return Err(fail(std::io::Error::other(format!("more than {FILES_MAX} files"))));
        }
    }
    if files.is_empty() {
        return Err(fail(std::io::Error::other("there is no .npz file in it")));
    }
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{BackendChoice, ResourceArgs};

    fn digits() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits/v1")
    }

    fn image() -> Tensor {
        let pixels: Vec<f32> = (0u8..64).map(|i| f32::from(i % 17)).collect();
        Tensor::from_values(vec![1, 1, 8, 8], &pixels).expect("fits")
    }

    fn args(inputs: &[PathBuf], outputs: &Path) -> RunArgs {
        RunArgs {
            model: digits(),
            inputs: inputs.to_vec(),
            outputs: outputs.to_owned(),
            backend: BackendChoice::Auto,
            threads: Some(2),
            plan_cache: None,
            resources: ResourceArgs::default(),
        }
    }

    #[test]
    fn all_outputs_are_written_under_their_names() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (inputs, outputs) = (dir.path().join("in.npz"), dir.path().join("out.npz"));
        npz::write(&inputs, [("pixels", &image())]).expect("writes");
        run(&args(&[inputs], &outputs)).expect("runs");
        let mut out = NpzFile::open(&outputs, LIMITS).expect("opens");
        assert_eq!(out.names(), ["label", "probabilities", "score"]);
        let sum: f32 = out.read("probabilities").expect("there").to_f32s().expect("numbers").iter().sum();
        assert!((sum - 1.0).abs() < 1e-3, "{sum}");
    }

    #[test]
    fn several_inputs_give_a_folder_of_the_same_names() {
        let dir = tempfile::tempdir().expect("temp dir");
        let folder = dir.path().join("in");
        fs::create_dir(&folder).expect("creates");
        for name in ["a.npz", "b.npz", "c.npz"] {
            npz::write(&folder.join(name), [("pixels", &image())]).expect("writes");
        }
        let outputs = dir.path().join("out");
        run(&args(std::slice::from_ref(&folder), &outputs)).expect("runs");
        assert_eq!(folder_files(&outputs).expect("files").len(), 3);
        let again = run(&args(std::slice::from_ref(&folder), &folder)).expect_err("would overwrite");
        assert_eq!(again.exit_code(), 2);
        let twice = [folder.join("a.npz"), folder.join("a.npz")];
        assert_eq!(run(&args(&twice, &outputs)).expect_err("same name").exit_code(), 2);
    }

    #[test]
    fn wrong_inputs_are_bad_input_and_say_what_is_expected() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (inputs, outputs) = (dir.path().join("in.npz"), dir.path().join("out.npz"));
        let flat = Tensor::from_values(vec![64], &[0f32; 64]).expect("fits");
        let doubles = Tensor::from_values(vec![1, 1, 8, 8], &[0f64; 64]).expect("fits");
        let cases = [
            (vec![("image", image())], "array pixels is missing, and the model has no input image"),
            (vec![], "array pixels is missing"),
            (vec![("pixels", image()), ("x", image())], "the model has no input x"),
            (vec![("pixels", flat)], "shape"),
            (vec![("pixels", doubles)], "FP64"),
        ];
        for (arrays, expected) in cases {
            npz::write(&inputs, arrays.iter().map(|(name, tensor)| (*name, tensor))).expect("writes");
            let failure = run(&args(std::slice::from_ref(&inputs), &outputs)).expect_err(expected);
            assert_eq!(failure.exit_code(), 2, "{failure}");
            let text = failure.render(false);
            assert!(text.contains(expected) && text.contains("pixels (FP32 [1, 1, 8, 8])"), "{text}");
        }
        assert!(!outputs.exists());
    }

    #[test]
    fn a_model_beyond_its_memory_is_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (inputs, outputs) = (dir.path().join("in.npz"), dir.path().join("out.npz"));
        npz::write(&inputs, [("pixels", &image())]).expect("writes");
        let resources = ResourceArgs { memory_bytes_max: Some(1000), cores: None };
        let args = RunArgs { resources, ..args(&[inputs], &outputs) };
        let failure = run(&args).expect_err("too little");
        assert_eq!(failure.exit_code(), 4, "{failure}");
        let text = failure.render(false);
        for part in ["1000 bytes", "would take about", "hint: --memory-bytes-max"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
