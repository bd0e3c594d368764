//! What a run answers.
#![allow(clippy::expect_used, reason = "helpers of tests")]

mod common;

use common::{FLOAT, Size, fixed, floats, graph, load, node, onnx, value};
use half::f16;
use std::sync::Arc;
use tract_onnx::pb::{AttributeProto, NodeProto, TypeProto, attribute_proto::AttributeType};
use whimbrel_infer::{Model, RunError, Tensor};

fn run(model: &Arc<dyn Model>, inputs: &[(&str, &Tensor)]) -> Result<Vec<(String, Tensor)>, RunError> {
    model.session().run(inputs)
}

fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_values(shape.to_vec(), values).expect("valid")
}

/// `y = x * w` for x of [batch, 2], `w` summing its two elements.
fn sum_model() -> Arc<dyn Model> {
    let sizes = || [Size::Named("batch"), Size::Fixed(2)];
    load(&onnx(graph(
        vec![value("x", FLOAT, &sizes())],
        vec![floats("w", &[2, 1], &[1.0, 1.0])],
        vec![node("MatMul", &["x", "w"], &["y"])],
        vec![value("y", FLOAT, &[Size::Named("batch"), Size::Fixed(1)])],
    )))
    .expect("loads")
}

#[test]
fn every_element_type_goes_through() {
    let tensors = [
        (1, f32s(&[2], &[1.5, -2.0])),
        (2, Tensor::from_values(vec![2], &[1u8, 255]).expect("valid")),
        (3, Tensor::from_values(vec![2], &[1i8, -128]).expect("valid")),
        (4, Tensor::from_values(vec![2], &[1u16, 65535]).expect("valid")),
        (5, Tensor::from_values(vec![2], &[1i16, -3]).expect("valid")),
        (6, Tensor::from_values(vec![2], &[1i32, -3]).expect("valid")),
        (7, Tensor::from_values(vec![2], &[1i64, i64::MIN]).expect("valid")),
        (8, Tensor::from_strings(vec![2], vec![b"a".to_vec(), "\u{e9}".into()]).expect("valid")),
        (9, Tensor::from_values(vec![2], &[true, false]).expect("valid")),
        (10, Tensor::from_values(vec![2], &[f16::from_f32(0.5), f16::ZERO]).expect("valid")),
        (11, Tensor::from_values(vec![2], &[1.5f64, -2.0]).expect("valid")),
        (12, Tensor::from_values(vec![2], &[1u32, u32::MAX]).expect("valid")),
        (13, Tensor::from_values(vec![2], &[1u64, u64::MAX]).expect("valid")),
    ];
    for (elem_type, tensor) in tensors {
        let model = load(&onnx(graph(
            vec![fixed("x", elem_type, &[2])],
            vec![],
            vec![node("Identity", &["x"], &["y"])],
            vec![fixed("y", elem_type, &[2])],
        )))
        .unwrap_or_else(|e| panic!("{}: {e}", tensor.datatype()));
        assert_eq!(model.inputs()[0].datatype, tensor.datatype());
        assert_eq!(model.outputs()[0].datatype, tensor.datatype());
        let outputs = run(&model, &[("x", &tensor)]).unwrap_or_else(|e| panic!("{}: {e}", tensor.datatype()));
        assert_eq!(outputs, [("y".to_owned(), tensor)]);
    }
}

#[test]
fn free_sizes_take_any_number_and_sessions_keep_up() {
    let model = sum_model();
    let mut session = model.session();
    // More shapes than plans are kept, back and forth.
    for batch in (1..=12).chain([1, 12, 3, 3]) {
        let values: Vec<f32> = (0..batch * 2).map(|i| i as f32).collect();
        let outputs = session.run(&[("x", &f32s(&[batch, 2], &values))]).expect("runs");
        let expected: Vec<f32> = (0..batch).map(|i| (4 * i + 1) as f32).collect();
        assert_eq!(outputs[0].1, f32s(&[batch, 1], &expected));
    }
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let model = sum_model();
    let wrong_type = Tensor::from_values(vec![1, 2], &[1i32, 2]).expect("valid");
    let cases: [(&[(&str, &Tensor)], &str); 5] = [
        (&[], "missing"),
        (&[("z", &f32s(&[1, 2], &[0.0; 2]))], "missing"),
        (&[("x", &wrong_type)], "INT32"),
        (&[("x", &f32s(&[1, 3], &[0.0; 3]))], "[-1, 2]"),
        (&[("x", &f32s(&[2], &[0.0; 2]))], "[-1, 2]"),
    ];
    for (inputs, expected) in cases {
        let error = run(&model, inputs).expect_err("must fail");
        assert!(error.is_bad_input() && error.kind() == "bad_input");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn sizes_of_one_name_must_agree() {
    let model = load(&onnx(graph(
        vec![value("a", FLOAT, &[Size::Named("n")]), value("b", FLOAT, &[Size::Named("n")])],
        vec![],
        vec![node("Add", &["a", "b"], &["y"])],
        vec![value("y", FLOAT, &[Size::Named("n")])],
    )))
    .expect("loads");
    let (two, three) = (f32s(&[2], &[1.0; 2]), f32s(&[3], &[1.0; 3]));
    assert!(run(&model, &[("a", &two), ("b", &two)]).is_ok());
    let error = run(&model, &[("a", &two), ("b", &three)]).expect_err("must fail");
    assert!(matches!(error, RunError::Shape { .. }), "{error}");
}

#[test]
fn an_answer_that_is_not_finite_is_an_error_and_the_session_goes_on() {
    let model = load(&onnx(graph(
        vec![fixed("x", FLOAT, &[1])],
        vec![],
        vec![node("Sqrt", &["x"], &["y"])],
        vec![fixed("y", FLOAT, &[1])],
    )))
    .expect("loads");
    let mut session = model.session();
    let error = session.run(&[("x", &f32s(&[1], &[-1.0]))]).expect_err("NaN");
    assert_eq!(error, RunError::NonFinite { output: "y".into() });
    assert_eq!(error.kind(), "non_finite");
    assert_eq!(session.run(&[("x", &f32s(&[1], &[4.0]))]).expect("runs")[0].1, f32s(&[1], &[2.0]));
}

#[test]
fn a_string_that_is_not_text_is_the_requests_fault() {
    let model = load(&onnx(graph(
        vec![fixed("x", 8, &[1])],
        vec![],
        vec![node("Identity", &["x"], &["y"])],
        vec![fixed("y", 8, &[1])],
    )))
    .expect("loads");
    let bytes = Tensor::from_strings(vec![1], vec![vec![0xff]]).expect("valid");
    let error = run(&model, &[("x", &bytes)]).expect_err("must fail");
    assert!(error.is_bad_input(), "{error}");
}

fn with_axis(op: &str, input: &str, output: &str, axis: i64) -> NodeProto {
    let axis = AttributeProto {
        name: "axis".into(),
        r#type: AttributeType::Int as i32,
        i: axis,
        ..AttributeProto::default()
    };
    NodeProto { attribute: vec![axis], ..node(op, &[input], &[output]) }
}

#[test]
fn softmax_between_quantised_tensors_is_that_of_its_row() {
    let int8 = |name: &str, zero_point: i32| {
        let mut tensor = floats(name, &[], &[]);
        (tensor.data_type, tensor.int32_data) = (3, vec![zero_point]);
        tensor
    };
    let scales =
        [floats("s1", &[], &[0.125]), int8("z1", 5), floats("s2", &[], &[1.0 / 256.0]), int8("z2", -128)];
    let model = load(&onnx(graph(
        vec![fixed("x", FLOAT, &[2, 3])],
        scales.to_vec(),
        vec![
            node("QuantizeLinear", &["x", "s1", "z1"], &["q"]),
            node("DequantizeLinear", &["q", "s1", "z1"], &["d"]),
            with_axis("Softmax", "d", "p", -1),
            node("QuantizeLinear", &["p", "s2", "z2"], &["r"]),
            node("DequantizeLinear", &["r", "s2", "z2"], &["y"]),
        ],
        vec![fixed("y", FLOAT, &[2, 3])],
    )))
    .expect("loads");
    let x = f32s(&[2, 3], &[1.0, 2.0, 3.0, 0.0, 0.0, -1.0]);
    let answer = run(&model, &[("x", &x)]).expect("runs")[0].1.to_f32s().expect("floats");
    let exact = [0.0900, 0.2447, 0.6652, 0.4223, 0.4223, 0.1554];
    for (got, exact) in answer.iter().zip(exact) {
        assert!((got - exact).abs() <= 1.0 / 256.0, "{answer:?} for {exact:?}");
    }
}

#[test]
fn an_index_out_of_range_is_an_error() {
    let model = load(&onnx(graph(
        vec![fixed("i", 7, &[1])],
        vec![floats("w", &[2], &[5.0, 6.0])],
        vec![node("Gather", &["w", "i"], &["y"])],
        vec![fixed("y", FLOAT, &[1])],
    )))
    .expect("loads");
    let mut session = model.session();
    let index = |i: i64| Tensor::from_values(vec![1], &[i]).expect("valid");
    let error = session.run(&[("i", &index(7))]).expect_err("must fail");
    assert_eq!(error.kind(), "run_failed");
    assert_eq!(session.run(&[("i", &index(1))]).expect("runs")[0].1, f32s(&[1], &[6.0]));
}

#[test]
fn an_input_without_a_declared_shape_takes_any() {
    let mut g = graph(
        vec![fixed("x", FLOAT, &[1])],
        vec![],
        vec![node("Relu", &["x"], &["y"])],
        vec![fixed("y", FLOAT, &[1])],
    );
    if let Some(TypeProto { value: Some(tract_onnx::pb::type_proto::Value::TensorType(t)), .. }) =
        &mut g.input[0].r#type
    {
        t.shape = None;
    }
    let model = load(&onnx(g)).expect("loads");
    for shape in [vec![1], vec![2, 1]] {
        let outputs = run(&model, &[("x", &f32s(&shape, &vec![-1.0; shape[0]]))]).expect("runs");
        assert_eq!(outputs[0].1.shape(), shape);
    }
}

#[test]
fn the_digits_example_loads_and_answers() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/digits/v1/model.onnx");
    let model = load(&std::fs::read(path).expect("part of the tree")).expect("loads");
    assert_eq!(model.inputs()[0].to_string(), "image FP32 [1, 1, 8, 8]");
    assert_eq!(model.outputs()[0].to_string(), "logits FP32 [1, 10]");
    assert!(model.macs().is_some_and(|n| n > 1000));
    let outputs = run(&model, &[("image", &f32s(&[1, 1, 8, 8], &[0.5; 64]))]).expect("runs");
    assert_eq!(outputs[0].1.shape(), [1, 10]);
}
