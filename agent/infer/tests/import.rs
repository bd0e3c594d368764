//! What is imported, and what is refused before it costs anything.
#![allow(clippy::expect_used, reason = "helpers of tests")]

mod common;

use common::{
    FLOAT, INT64, Size, fixed, floats, graph, int64s, load, node, onnx, refusal, tensor_attribute, value,
};
use proptest::prelude::*;
use tract_onnx::pb::{
    AttributeProto, GraphProto, StringStringEntryProto, TensorProto, attribute_proto::AttributeType,
};
use whimbrel_infer::{ImportLimits, LoadError, LoadOptions, RunError, Tensor, load_file, tract};

fn relu() -> GraphProto {
    graph(
        vec![fixed("x", FLOAT, &[1, 2])],
        vec![],
        vec![node("Relu", &["x"], &["y"])],
        vec![fixed("y", FLOAT, &[1, 2])],
    )
}

#[test]
fn a_weight_that_declares_more_than_it_holds_is_refused_before_it_is_made() {
    for dims in [vec![1 << 40], vec![1 << 32, 1 << 32], vec![-1], vec![1 << 20], vec![3]] {
        let mut g = relu();
        g.initializer.push(TensorProto { dims, ..floats("w", &[], &[1.0, 2.0]) });
        let error = refusal(g);
        assert!(
            matches!(error, LoadError::TooLarge { .. } | LoadError::Malformed { .. }),
            "unexpected: {error}"
        );
    }
    let mut g = relu();
    g.initializer.push(TensorProto { raw_data: vec![0; 7], float_data: vec![], ..floats("w", &[2], &[]) });
    assert!(matches!(refusal(g), LoadError::Malformed { .. }));
}

#[test]
fn weights_in_another_file_are_refused() {
    let mut g = relu();
    let location = StringStringEntryProto { key: "location".into(), value: "../../etc/passwd".into() };
    g.initializer.push(TensorProto { external_data: vec![location], ..floats("w", &[1], &[]) });
    let error = refusal(g);
    assert!(matches!(&error, LoadError::ExternalData { tensor } if tensor == "w"), "unexpected: {error}");
    assert!(error.is_unsupported());
}

#[test]
fn an_unknown_operator_is_named_even_inside_a_subgraph() {
    let mut unknown = node("QLinearAdd", &["x"], &["y"]);
    unknown.domain = "com.microsoft".into();
    let mut g = relu();
    g.node = vec![unknown.clone()];
    let error = refusal(g);
    assert!(error.is_unsupported());
    assert!(error.to_string().contains("com.microsoft.QLinearAdd"), "{error}");

    let mut outer = node("If", &["x"], &["y"]);
    outer.attribute = vec![AttributeProto {
        name: "then_branch".into(),
        r#type: AttributeType::Graph as i32,
        g: Some(GraphProto { node: vec![unknown], ..GraphProto::default() }),
        ..AttributeProto::default()
    }];
    let mut g = relu();
    g.node = vec![outer];
    assert!(matches!(refusal(g), LoadError::UnsupportedOperator { .. }));
}

#[test]
fn element_types_without_a_name_in_the_protocol_are_refused() {
    for elem_type in [14, 16, 17, 22, 99, -1] {
        let mut g = relu();
        g.input = vec![fixed("x", elem_type, &[1])];
        assert!(matches!(refusal(g), LoadError::UnsupportedDatatype { .. }), "accepted {elem_type}");
    }
}

#[test]
fn constants_are_not_computed_beyond_the_limits() {
    // 4 TB out of one element.
    let mut expand = relu();
    expand.initializer = vec![floats("one", &[1], &[1.0]), int64s("shape", &[1 << 20, 1 << 20])];
    expand.node = vec![
        node("Expand", &["one", "shape"], &["big"]),
        node("ReduceSum", &["big"], &["sum"]),
        node("Add", &["x", "sum"], &["y"]),
    ];
    // The same, by an operator that fills.
    let mut fill = relu();
    fill.initializer = vec![int64s("shape", &[1 << 20, 1 << 20])];
    let mut constant = node("ConstantOfShape", &["shape"], &["big"]);
    constant.attribute = vec![tensor_attribute("value", floats("", &[1], &[1.0]))];
    fill.node = vec![constant, node("ReduceSum", &["big"], &["sum"]), node("Add", &["x", "sum"], &["y"])];
    // The same, by an outer product of two small constants.
    let mut outer = relu();
    let column = vec![1.0; 100_000];
    outer.initializer = vec![floats("a", &[100_000, 1], &column), floats("b", &[1, 100_000], &column)];
    outer.node = vec![
        node("MatMul", &["a", "b"], &["big"]),
        node("ReduceSum", &["big"], &["sum"]),
        node("Add", &["x", "sum"], &["y"]),
    ];
    for g in [expand, fill, outer] {
        let error = refusal(g);
        assert!(error.to_string().contains("at most"), "{error}");
    }
}

#[test]
fn a_run_that_would_need_too_much_is_refused() {
    let mut g = relu();
    g.input = vec![fixed("x", FLOAT, &[1 << 15, 1])];
    g.node = vec![node("Transpose", &["x"], &["t"]), node("MatMul", &["x", "t"], &["y"])];
    g.output = vec![fixed("y", FLOAT, &[1 << 15, 1 << 15])];
    let error = refusal(g);
    assert!(error.to_string().contains("at most"), "{error}");
}

#[test]
fn graphs_that_contradict_themselves_become_errors() {
    let mut no_such_output = relu();
    no_such_output.output = vec![fixed("nobody makes this", FLOAT, &[1])];
    let mut no_such_input = relu();
    no_such_input.node = vec![node("Relu", &["nobody makes this"], &["y"])];
    let mut circle = relu();
    circle.node =
        vec![node("Add", &["x", "b"], &["a"]), node("Relu", &["a"], &["b"]), node("Relu", &["b"], &["y"])];
    let mut too_few_inputs = relu();
    too_few_inputs.node = vec![node("Conv", &["x"], &["y"])];
    let mut no_outputs = relu();
    no_outputs.output.clear();
    let mut twice = relu();
    twice.input.push(fixed("x", FLOAT, &[1, 2]));
    let mut huge_input = relu();
    huge_input.input = vec![fixed("x", FLOAT, &[1 << 40])];
    for (defect, g) in [
        ("no_such_output", no_such_output),
        ("no_such_input", no_such_input),
        ("circle", circle),
        ("too_few_inputs", too_few_inputs),
        ("no_outputs", no_outputs),
        ("twice", twice),
        ("huge_input", huge_input),
    ] {
        let error = load(&onnx(g)).err().unwrap_or_else(|| panic!("accepted {defect}"));
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn limits_hold() {
    let bytes = onnx(relu());
    let tract = tract();
    let with =
        |limits: ImportLimits| tract.load(&bytes, &LoadOptions { limits, ..LoadOptions::default() }).err();
    let default = ImportLimits::default;
    for limits in [
        ImportLimits { file_size_bytes_max: bytes.len() - 1, ..default() },
        ImportLimits { messages_max: 3, ..default() },
        ImportLimits { nodes_max: 0, ..default() },
        ImportLimits { rank_max: 1, ..default() },
        ImportLimits { tensor_elements_max: 1, ..default() },
        ImportLimits { tensors_max: 0, ..default() },
    ] {
        let error = with(limits.clone()).expect("must be refused");
        assert!(matches!(error, LoadError::TooLarge { .. }), "{limits:?}: {error}");
    }
    assert!(with(default()).is_none());
    let little = with(ImportLimits { memory_bytes_max: 100, ..default() }).expect("must be refused");
    assert!(matches!(&little, LoadError::Memory(error) if error.budget_bytes == 100), "{little}");
    let little = ImportLimits { input_bytes_max: 7, ..default() };
    let model = tract.load(&bytes, &LoadOptions { limits: little, ..LoadOptions::default() }).expect("loads");
    let shape: Vec<usize> = model.inputs()[0].shape.iter().map(|size| size.unwrap_or(1)).collect();
    let count = shape.iter().product::<usize>();
    let tensor = Tensor::from_values(shape, &vec![1f32; count]).expect("fits");
    let name = model.inputs()[0].name.clone();
    let error = model.session().run(&[(name.as_str(), &tensor)]).expect_err("must be refused");
    assert_eq!(error, RunError::InputTooLarge { input: name, found: 4 * count, max: 7 });
    assert!(error.is_bad_input());
}

#[test]
fn files_are_read_only_as_far_as_the_limit() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("m.onnx");
    let tract = tract();
    let missing = load_file(tract, &path, &LoadOptions::default()).err().expect("must fail");
    assert!(matches!(missing, LoadError::Read { .. }));
    std::fs::write(&path, onnx(relu())).expect("written");
    assert!(load_file(tract, &path, &LoadOptions::default()).is_ok());
    let limits = ImportLimits { file_size_bytes_max: 10, ..ImportLimits::default() };
    let large =
        load_file(tract, &path, &LoadOptions { limits, ..LoadOptions::default() }).err().expect("must fail");
    assert!(matches!(large, LoadError::TooLarge { .. }));
}

#[test]
fn notes_that_contradict_the_operators_are_ignored() {
    let mut g = relu();
    g.node = vec![node("Relu", &["x"], &["h"]), node("Relu", &["h"], &["y"])];
    g.value_info = vec![fixed("h", FLOAT, &[7, 7])];
    g.output = vec![fixed("y", INT64, &[9])];
    let model = load(&onnx(g)).expect("loads");
    assert_eq!(model.outputs()[0].to_string(), "y FP32 [1, 2]");
}

#[test]
fn sizes_that_the_file_leaves_open_stay_open() {
    let mut g = relu();
    g.input = vec![value("x", FLOAT, &[Size::Named("batch"), Size::Fixed(2)])];
    g.output = vec![value("y", FLOAT, &[Size::Named("batch"), Size::Fixed(2)])];
    let model = load(&onnx(g)).expect("loads");
    assert_eq!(model.inputs()[0].to_string(), "x FP32 [-1, 2]");
    assert_eq!(model.outputs()[0].to_string(), "y FP32 [-1, 2]");
    assert_eq!(model.macs(), None);
}

#[test]
fn multiplications_are_counted() {
    let mut g = relu();
    g.initializer = vec![floats("w", &[2, 3], &[1.0; 6])];
    g.node = vec![node("MatMul", &["x", "w"], &["y"])];
    g.output = vec![fixed("y", FLOAT, &[1, 3])];
    assert_eq!(load(&onnx(g)).expect("loads").macs(), Some(6));
}

/// A file with most of what a real one has: weights, several operators, an output that depends on all.
fn sample() -> Vec<u8> {
    let mut g = relu();
    g.initializer = vec![floats("w", &[2, 3], &[0.5; 6]), floats("b", &[3], &[1.0; 3]), int64s("s", &[3, 1])];
    g.node = vec![
        node("Gemm", &["x", "w", "b"], &["h"]),
        node("Relu", &["h"], &["r"]),
        node("Reshape", &["r", "s"], &["y"]),
    ];
    g.output = vec![fixed("y", FLOAT, &[3, 1])];
    onnx(g)
}

#[test]
fn every_truncation_is_answered() {
    let bytes = sample();
    assert!(load(&bytes).is_ok());
    for len in 0..bytes.len() {
        // Cut between two fields of the outermost message, it may still be a model.
        let _ = load(&bytes[..len]);
    }
    assert!(load(&bytes[..bytes.len() / 2]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_files_are_answered(flips in proptest::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4)) {
        let mut bytes = sample();
        for (index, mask) in flips {
            let at = index.index(bytes.len());
            bytes[at] ^= mask;
        }
        if let Ok(model) = load(&bytes) {
            let inputs: Vec<(String, Tensor)> = model
                .inputs()
                .iter()
                .filter_map(|i| {
                    let shape: Vec<usize> = i.shape.iter().map(|d| d.unwrap_or(1)).collect();
                    let len = i.datatype.size_bytes()?.checked_mul(shape.iter().product())?;
                    Some((i.name.clone(), Tensor::from_le_bytes(i.datatype, shape, vec![0; len.min(1 << 20)]).ok()?))
                })
                .collect();
            let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
            let _ = model.session().run(&inputs);
        }
    }
}
