//! Whole models: the same bits as on the processor where they are quantised.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by a panic that says why")]

mod common;

use common::{GPU, Random, engines};
use std::path::PathBuf;
use whimbrel_infer::{Backend, LoadOptions, Model, Source, Tensor, program};

fn example(version: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits").join(version);
    std::fs::read(path.join("model.onnx")).expect("an example of the project")
}

fn input(model: &dyn Model, random: &mut Random) -> (String, Tensor) {
    let info = &model.inputs()[0];
    let shape: Vec<usize> = info.shape.iter().map(|size| size.unwrap_or(1)).collect();
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.below(17) as f32).collect();
    (info.name.clone(), Tensor::from_values(shape, &values).expect("as many values as the shape has"))
}

#[test]
fn example_models_answer_as_on_the_processor() {
    let Some((_, cpu)) = engines() else { return };
    for version in ["v1", "v2"] {
        let onnx = example(version);
        let found = GPU.load(&onnx, &LoadOptions::default()).expect("loads");
        let expected = program::load(cpu, &Source::of_bytes(onnx), &LoadOptions::default()).expect("loads");
        let mut random = Random(1);
        let (mut here, mut there) = (found.session(), expected.session());
        for _ in 0..20 {
            let (name, tensor) = input(expected.as_ref(), &mut random);
            let inputs = [(name.as_str(), &tensor)];
            assert_eq!(here.run(&inputs), there.run(&inputs), "{version}");
        }
    }
}
