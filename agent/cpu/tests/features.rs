//! Recurrent layers, control flow, computed shapes and dynamic quantisation: what ONNX Runtime answers, on every instruction set.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails where its own files are not as they should be"
)]

use std::{path::PathBuf, time::Duration};
use whimbrel_cpu::{CpuEngine, isa::Isa};
use whimbrel_infer::{Datatype, LoadOptions, RunProfile, Source, Tensor, program};

/// Largest difference, as a part of the output's largest value.
const TOLERANCE: f32 = 2e-5;

/// One run: what goes in, what comes out.
#[derive(Default)]
struct Set {
    inputs: Vec<(String, Tensor)>,
    outputs: Vec<(String, Tensor)>,
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/features").join(name)
}

fn sets(name: &str) -> Vec<Set> {
    let text = std::fs::read_to_string(file(&format!("{name}.txt"))).expect("a file of this folder");
    let mut sets: Vec<Set> = Vec::new();
    for line in text.lines() {
        if line == "set" {
            sets.push(Set::default());
            continue;
        }
        let (head, values) = line.split_once(" :").expect("values after a colon");
        let head: Vec<&str> = head.split(' ').collect();
        let [way, key, kind, sizes] = head.as_slice() else { panic!("{line}") };
        let shape: Vec<usize> =
            sizes.split(',').filter(|size| *size != "-").map(|size| size.parse().expect("a size")).collect();
        let tensor = tensor(kind, shape, &values.split_whitespace().collect::<Vec<_>>());
        let set = sets.last_mut().expect("a set begins first");
        let list = if *way == "in" { &mut set.inputs } else { &mut set.outputs };
        list.push(((*key).to_owned(), tensor));
    }
    sets
}

fn tensor(kind: &str, shape: Vec<usize>, values: &[&str]) -> Tensor {
    fn all<T: std::str::FromStr>(values: &[&str]) -> Vec<T> {
        values.iter().map(|value| value.parse().ok().expect("a number")).collect()
    }
    match kind {
        "float32" => Tensor::from_values(shape, &all::<f32>(values)),
        "int32" => Tensor::from_values(shape, &all::<i32>(values)),
        "int64" => Tensor::from_values(shape, &all::<i64>(values)),
        _ => panic!("type {kind}"),
    }
    .expect("as many values as the shape has")
}

fn check(name: &str) {
    let onnx = std::fs::read(file(&format!("{name}.onnx"))).expect("a file of this folder");
    for isa in Isa::available() {
        let engine = CpuEngine { isa, threads: 2, cores: None };
        let model =
            program::load(engine, &Source::of_bytes(onnx.clone()), &LoadOptions::default()).expect("loads");
        let mut session = model.session();
        // Twice, so that every plan is also used again.
        for (at, set) in sets(name).iter().chain(&sets(name)).enumerate() {
            let inputs: Vec<(&str, &Tensor)> = set.inputs.iter().map(|(key, t)| (key.as_str(), t)).collect();
            let answers = session.run(&inputs).unwrap_or_else(|e| panic!("{name} {isa} run {at}: {e}"));
            assert_eq!(answers.len(), set.outputs.len(), "{name}");
            for ((key, found), (_, expected)) in answers.iter().zip(&set.outputs) {
                assert_eq!(found.shape(), expected.shape(), "{name} {isa} run {at}: {key}");
                assert_eq!(found.datatype(), expected.datatype(), "{name} {isa} run {at}: {key}");
                if found.datatype() == Datatype::Fp32 {
                    let (found, expected) = (found.to_f32s().expect("f32"), expected.to_f32s().expect("f32"));
                    let largest = expected.iter().fold(1e-6f32, |most, value| most.max(value.abs()));
                    for (found, expected) in found.iter().zip(&expected) {
                        let off = (found - expected).abs() / largest;
                        assert!(
                            off <= TOLERANCE,
                            "{name} {isa} run {at} {key}: {found}, expected {expected}"
                        );
                    }
                } else {
                    assert_eq!(found.as_le_bytes(), expected.as_le_bytes(), "{name} {isa} run {at}: {key}");
                }
            }
        }
    }
}

macro_rules! features {
    ($($name:ident,)*) => {$(
        #[test]
        fn $name() {
            check(stringify!($name));
        }
    )*};
}

features! {
    lstm_state, lstm_lengths, gru_before, gru_after, rnn_relu, if_shape, loop_, scan, shape_in_graph, unshaped,
    dynamic_matmul, dynamic_conv, dynamic_lstm, fused, gates,
}

/// The profile of the first set.
fn profile(name: &str) -> RunProfile {
    let onnx = std::fs::read(file(&format!("{name}.onnx"))).expect("a file of this folder");
    let engine = CpuEngine { isa: Isa::best(), threads: 1, cores: None };
    let model = program::load(engine, &Source::of_bytes(onnx), &LoadOptions::default()).expect("loads");
    let set = &sets(name)[0];
    let inputs: Vec<(&str, &Tensor)> = set.inputs.iter().map(|(key, t)| (key.as_str(), t)).collect();
    let found = model.session().profile(&inputs).expect("runs").expect("tells");
    let sum: Duration = found.layers.iter().map(|layer| layer.time).sum();
    assert!(sum <= found.time, "{name}: layers are parts of the run");
    found
}

#[test]
fn a_profile_counts_turns_and_names_what_has_no_kernel() {
    let counts = |name: &str, operator: &str| {
        let layers = profile(name).layers;
        let of = |layer: &&whimbrel_infer::LayerTime| layer.layer.operators.iter().any(|o| o == operator);
        layers.iter().filter(of).map(|layer| (layer.count, layer.layer.fallback)).collect::<Vec<_>>()
    };
    assert_eq!(counts("loop_", "Mul"), [(3, None)]);
    assert_eq!(counts("scan", "Add"), [(4, None)]);
    assert_eq!(counts("fused", "LayerNormalization"), [(1, Some("tract"))]);
    assert_eq!(counts("fused", "FusedMatMul").len(), 0, "stands for what it is made of");
}
