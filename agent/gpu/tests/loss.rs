//! What is left when the device goes. A program of its own: the tests of one share a device.
#![allow(clippy::expect_used, reason = "a test fails by a panic that says why")]

mod common;

use common::{GPU, engines};
use std::path::PathBuf;
use whimbrel_infer::{Backend, LoadOptions, Source, Tensor, program};

#[test]
fn the_processor_stands_in_for_a_lost_device_and_the_next_load_opens_it_again() {
    let Some((engine, cpu)) = engines() else { return };
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits/v2/model.onnx");
    let onnx = std::fs::read(path).expect("an example of the project");
    let options = LoadOptions::default();
    let load = |engine| program::load(engine, &Source::of_bytes(onnx.clone()), &options).expect("loads");
    let (model, model_of_cpu) =
        (load(engine), program::load(cpu, &Source::of_bytes(onnx.clone()), &options).expect("loads"));
    let info = &model.inputs()[0];
    let shape: Vec<usize> = info.shape.iter().map(|size| size.unwrap_or(1)).collect();
    let values = vec![3.0f32; shape.iter().product()];
    let tensor = Tensor::from_values(shape, &values).expect("as many values as the shape has");
    let inputs = [(info.name.as_str(), &tensor)];
    let expected = model_of_cpu.session().run(&inputs);
    let mut session = model.session();
    assert_eq!(session.run(&inputs), expected);
    GPU.engine(&options).expect("the same device").lose_device();
    for mut session in [session, model.session()] {
        for _ in 0..3 {
            assert_eq!(session.run(&inputs), expected, "from the processor");
        }
    }
    let again = GPU.load(&onnx, &options).expect("loads on a new device");
    assert_eq!(again.session().run(&inputs), expected);
}
