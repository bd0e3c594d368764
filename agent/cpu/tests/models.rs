//! Whole models on the engine: the same bits on every instruction set and number of threads, and what tract says within a quantum.
#![allow(clippy::expect_used, reason = "a test fails where its own models do not load")]

use std::{path::PathBuf, sync::Arc, time::Duration};
use whimbrel_cpu::{CpuEngine, isa::Isa};
use whimbrel_infer::{LoadOptions, Model, RunProfile, Tensor, program, tract};

/// One step of the models' outputs.
const QUANTUM: f32 = 1.0 / 256.0;

fn model(version: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits").join(version);
    std::fs::read(path.join("model.onnx")).expect("an example of the project")
}

/// Inputs from plain to extreme, the same every time.
fn inputs(model: &dyn Model) -> Vec<Tensor> {
    let info = &model.inputs()[0];
    let shape: Vec<usize> = info.shape.iter().map(|size| size.unwrap_or(1)).collect();
    let count = shape.iter().product();
    let of = |f: &dyn Fn(usize) -> f32| {
        let values: Vec<f32> = (0..count).map(f).collect();
        Tensor::from_values(shape.clone(), &values).expect("as many values as the shape has")
    };
    let mut list = vec![of(&|_| 0.0), of(&|_| 1e9), of(&|_| -1e9), of(&|at| at as f32 / 4.0)];
    list.extend((1..20).map(|seed| of(&|at| ((at * seed * 7919 + seed) % 17) as f32)));
    list
}

fn answers(model: &Arc<dyn Model>, inputs: &[Tensor]) -> Vec<Vec<f32>> {
    let name = model.inputs()[0].name.clone();
    let mut session = model.session();
    let mut run = |tensor: &Tensor| {
        let outputs = session.run(&[(name.as_str(), tensor)]).expect("runs");
        outputs[0].1.to_f32s().expect("numbers")
    };
    inputs.iter().map(&mut run).collect()
}

#[test]
fn every_instruction_set_and_thread_gives_the_same_bits_and_tracts_answer() {
    for version in ["v1", "v2"] {
        let onnx = model(version);
        let reference = tract().load(&onnx, &LoadOptions::default()).expect("tract loads it");
        let inputs = inputs(reference.as_ref());
        let expected = answers(&reference, &inputs);
        let mut first: Option<Vec<Vec<f32>>> = None;
        for isa in Isa::available() {
            for threads in [1, 2, 5] {
                let engine = CpuEngine { isa, threads, cores: None };
                let loaded = program::load(
                    engine,
                    &whimbrel_infer::Source::of_bytes(onnx.clone()),
                    &LoadOptions::default(),
                )
                .expect("loads");
                let found = answers(&loaded, &inputs);
                for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
                    assert!(
                        (found - expected).abs() <= QUANTUM * 1.01,
                        "{version} {isa}: {found}, tract {expected}"
                    );
                }
                assert_eq!(*first.get_or_insert_with(|| found.clone()), found, "{version} {isa} x {threads}");
            }
        }
    }
}

#[test]
fn a_profile_names_every_layer_once_and_leaves_answers_alone() {
    for version in ["v1", "v2"] {
        let source = whimbrel_infer::Source::of_bytes(model(version));
        let engine = CpuEngine { isa: Isa::best(), threads: 2, cores: None };
        let loaded = program::load(engine, &source, &LoadOptions::default()).expect("loads");
        let name = loaded.inputs()[0].name.clone();
        let tensor = &inputs(loaded.as_ref())[3];
        let given = [(name.as_str(), tensor)];
        let mut session = loaded.session();
        // The first run looks for a plan, later ones go straight to it.
        let RunProfile { layers: first, .. } = session.profile(&given).expect("runs").expect("tells");
        let answer = session.run(&given).expect("runs");
        let RunProfile { layers: second, time } = session.profile(&given).expect("runs").expect("tells");
        assert!(second.iter().map(|layer| layer.time).sum::<Duration>() <= time, "parts of the whole");
        assert_eq!(session.run(&given).expect("runs"), answer);
        let infos =
            |list: &[whimbrel_infer::LayerTime]| list.iter().map(|l| l.layer.clone()).collect::<Vec<_>>();
        assert_eq!(infos(&first), infos(&second));
        assert_eq!(Some(first.iter().map(|layer| layer.macs).sum::<u64>()), loaded.macs());
        for layer in &first {
            assert!(layer.count == 1 && !layer.layer.name.is_empty() && !layer.layer.kernel.is_empty());
            assert_eq!(layer.layer.fallback, None, "{layer:?}");
        }
        assert!(first.iter().any(|layer| layer.layer.kernel == format!("conv int8 {}", Isa::best())));
    }
}

#[test]
fn runs_that_share_the_processors_give_the_same_bits() {
    let onnx = model("v2");
    let load = |threads| {
        let engine = CpuEngine { isa: Isa::best(), threads, cores: None };
        let source = whimbrel_infer::Source::of_bytes(onnx.clone());
        program::load(engine, &source, &LoadOptions::default()).expect("loads")
    };
    let alone = load(1);
    let inputs = inputs(alone.as_ref());
    let expected = answers(&alone, &inputs);
    // What each has changes from layer to layer, as the others come and go.
    std::thread::scope(|scope| {
        for threads in [1, 2, 3, 8, 2] {
            let (load, inputs, expected) = (&load, &inputs, &expected);
            scope.spawn(move || {
                let model = load(threads);
                for _ in 0..20 {
                    assert_eq!(answers(&model, inputs), *expected, "{threads} threads");
                }
            });
        }
    });
}
