use super::*;
use crate::npz;
use whimbrel_infer::{Datatype as Type, Model, RunError, Session, TensorInfo};

/// Doubles `x` and says whether it is above 1, or fails.
struct Double {
    infos: (Vec<TensorInfo>, Vec<TensorInfo>),
    wrong: Option<f32>,
}

impl Double {
    fn loaded(wrong: Option<f32>) -> LoadedModel {
        let info = |name: &str| TensorInfo { name: name.into(), datatype: Type::Fp32, shape: vec![Some(2)] };
        let model = Self { infos: (vec![info("x")], vec![info("y")]), wrong };
        let name = "double".parse().expect("valid");
        LoadedModel::from_model(name, semver::Version::new(1, 0, 0), Arc::new(model), "test").expect("fits")
    }
}

impl Model for Double {
    fn inputs(&self) -> &[TensorInfo] {
        &self.infos.0
    }
    fn outputs(&self) -> &[TensorInfo] {
        &self.infos.1
    }
    fn session(&self) -> Box<dyn Session> {
        Box::new(DoubleSession(self.wrong))
    }
}

struct DoubleSession(Option<f32>);

impl Session for DoubleSession {
    fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<(String, Tensor)>, RunError> {
        let mut values: Vec<f32> = inputs[0].1.to_f32s().expect("numbers").iter().map(|v| v * 2.0).collect();
        match self.0 {
            Some(wrong) if !wrong.is_finite() => return Err(RunError::NonFinite { output: "y".into() }),
            Some(wrong) => values[1] = wrong,
            None => {}
        }
        Ok(vec![("y".into(), Tensor::from_values(vec![2], &values).expect("fits"))])
    }
}

const MANIFEST: &str = r#"
name = "double"
version = "1.0.0"
licence = "MIT"
model = "model.onnx"
inputs = [{ name = "x", datatype = "FP32", shape = [2] }]
outputs = [{ name = "y", datatype = "FP32", shape = [2] }]
golden = { file = "golden.npz", count = 2, tolerance = 0.01 }
needs = { latency_ms_max = 60000.0 }
"#;

fn tensor(values: &[f32]) -> Tensor {
    Tensor::from_values(vec![values.len()], values).expect("fits")
}

fn good() -> Vec<(&'static str, Tensor)> {
    vec![
        ("0/in/x", tensor(&[1.0, 2.0])),
        ("0/out/y", tensor(&[2.0, 4.0])),
        ("1/in/x", tensor(&[0.0, -1.0])),
        ("1/out/y", tensor(&[0.0, -2.0])),
    ]
}

fn check_arrays(wrong: Option<f32>, arrays: &[(&str, Tensor)]) -> Result<Passed, Reason> {
    let dir = tempfile::tempdir().expect("temp dir");
    let arrays = arrays.iter().map(|(name, tensor)| (*name, tensor));
    npz::write(&dir.path().join("golden.npz"), arrays).expect("writes");
    let manifest: Manifest = toml::from_str(MANIFEST).expect("a manifest");
    Ok(check(&Double::loaded(wrong), dir.path(), &manifest)?)
}

#[test]
fn right_answers_pass() {
    let passed = check_arrays(None, &good()).expect("passes");
    assert_eq!((passed.vectors, passed.difference_max), (2, 0.0));
    let mut nearly = good();
    nearly[1].1 = tensor(&[2.009, 3.991]);
    let difference = check_arrays(None, &nearly).expect("within the tolerance").difference_max;
    assert!(difference > 0.008 && difference <= 0.01, "{difference}");
}

#[test]
fn a_wrong_answer_names_vector_output_element_and_both_values() {
    let reason = check_arrays(Some(4.0), &good()).expect_err("vector 1 expects -2");
    assert_eq!(reason.kind, ReasonKind::GoldenMismatch);
    assert_eq!(reason.detail, "golden vector 1, output y, element 1: got 4, expected -2 within 0.01");
    let mut off = good();
    off[1].1 = tensor(&[2.02, 4.0]);
    assert_eq!(check_arrays(None, &off).expect_err("too far off").kind, ReasonKind::GoldenMismatch);
}

#[test]
fn nan_never_passes() {
    let mut arrays = good();
    arrays[1].1 = tensor(&[f32::NAN, 4.0]);
    assert_eq!(check_arrays(None, &arrays).expect_err("NaN").kind, ReasonKind::GoldenMismatch);
    let failed = check_arrays(Some(f32::NAN), &good()).expect_err("the model fails");
    assert_eq!(failed.kind, ReasonKind::GoldenMismatch);
    assert!(failed.detail.contains("not finite"), "{failed}");
    let nan = tensor(&[f32::NAN, f32::INFINITY]);
    let difference = differ(&nan, &nan, f64::MAX).expect("numbers");
    assert!(matches!(difference, Difference::At { element: 0, .. }), "{difference:?}");
}

#[test]
fn vectors_that_do_not_fit_the_manifest_are_malformed() {
    let with = |name, tensor: Tensor| {
        let mut arrays = good();
        arrays.push((name, tensor));
        arrays
    };
    let without = |index: usize| {
        let mut arrays = good();
        arrays.remove(index);
        arrays
    };
    let replaced = |index: usize, tensor: Tensor| {
        let mut arrays = good();
        arrays[index].1 = tensor;
        arrays
    };
    let cases = [
        with("2/in/x", tensor(&[1.0, 2.0])),
        with("01/in/z", tensor(&[1.0, 2.0])),
        with("0/middle/x", tensor(&[1.0, 2.0])),
        with("x", tensor(&[1.0])),
        with("0/in/z", tensor(&[1.0])),
        with("0/out/z", tensor(&[1.0])),
        without(1),
        without(2),
        replaced(0, tensor(&[1.0, 2.0, 3.0])),
        replaced(1, tensor(&[2.0, 4.0, 6.0])),
        replaced(1, Tensor::from_strings(vec![2], vec![vec![], vec![]]).expect("fits")),
    ];
    for (index, arrays) in cases.iter().enumerate() {
        let reason = check_arrays(None, arrays).expect_err("malformed");
        assert_eq!(reason.kind, ReasonKind::Malformed, "case {index}: {reason}");
    }
}

#[test]
fn an_absent_file_is_malformed() {
    let dir = tempfile::tempdir().expect("temp dir");
    let manifest: Manifest = toml::from_str(MANIFEST).expect("a manifest");
    let error = check(&Double::loaded(None), dir.path(), &manifest).expect_err("absent");
    assert_eq!(Reason::from(error).kind, ReasonKind::Malformed);
}

#[test]
fn the_median_run_decides_about_latency() {
    let ms = |list: &[u64]| list.iter().map(|n| Duration::from_millis(*n)).collect::<Vec<_>>();
    assert_eq!(judge_latency(ms(&[9, 1, 500]), 9.0).expect("one slow run is no slow model"), ms(&[9])[0]);
    let error = judge_latency(ms(&[10, 11, 12]), 10.9).expect_err("too slow");
    assert_eq!(Reason::from(error).kind, ReasonKind::Latency);
}

#[test]
fn strings_are_compared_where_the_file_has_them() {
    let text = |t: &str| Tensor::from_strings(vec![1], vec![t.as_bytes().to_vec()]).expect("fits");
    assert_eq!(differ(&text("7"), &text("7"), 0.0), Ok(Difference::Within(0.0)));
    assert!(matches!(differ(&text("7"), &text("1"), 9.0), Ok(Difference::At { .. })));
    assert!(differ(&text("7"), &tensor(&[7.0]), 9.0).is_err());
}
