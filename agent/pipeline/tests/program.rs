//! Programs are checked when they are made, and then do what was checked.
#![allow(clippy::expect_used, reason = "helpers of tests")]

use proptest::prelude::*;
use whimbrel_infer::{Datatype, Tensor, TensorInfo};
use whimbrel_pipeline::{CompileError, Environment, Interface, Program, datatype, spec_of};
use whimbrel_wire::{
    manifest::{self, TensorSpec},
    pipeline::{Op, Pipeline, Step},
};

fn spec(name: &str, datatype: manifest::Datatype, shape: &[i64]) -> TensorSpec {
    TensorSpec { name: name.into(), datatype, shape: shape.to_vec() }
}

fn info(name: &str, shape: &[usize]) -> TensorInfo {
    TensorInfo {
        name: name.into(),
        datatype: Datatype::Fp32,
        shape: shape.iter().copied().map(Some).collect(),
    }
}

fn step(from: &str, to: &str, op: Op) -> Step {
    Step { from: from.into(), to: to.into(), op }
}

/// A classifier of four pixels into three classes: bytes in, label and score out.
struct Case {
    pipeline: Pipeline,
    labels: Vec<String>,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    model_inputs: Vec<TensorInfo>,
    model_outputs: Vec<TensorInfo>,
}

impl Case {
    fn new() -> Self {
        Self {
            pipeline: Pipeline {
                pre: vec![
                    step("pixels", "scaled", Op::Scale { multiply: 0.5, add: -1.0 }),
                    step("scaled", "image", Op::Reshape { shape: vec![1, -1] }),
                ],
                post: vec![
                    step("logits", "scores", Op::Softmax {}),
                    step("scores", "label", Op::TopKLabels { k: 1 }),
                    step("scores", "score", Op::TopKValues { k: 1 }),
                ],
            },
            labels: ["a", "b", "c"].map(String::from).to_vec(),
            inputs: vec![spec("pixels", manifest::Datatype::Uint8, &[2, 2])],
            outputs: vec![
                spec("label", manifest::Datatype::Bytes, &[1, 1]),
                spec("score", manifest::Datatype::Fp32, &[-1, 1]),
            ],
            model_inputs: vec![info("image", &[1, 4])],
            model_outputs: vec![info("logits", &[1, 3])],
        }
    }

    fn compile(&self) -> Result<Program, CompileError> {
        let interface = Interface {
            inputs: &self.inputs,
            outputs: &self.outputs,
            model_inputs: &self.model_inputs,
            model_outputs: &self.model_outputs,
        };
        Program::compile(&self.pipeline, &self.labels, &interface)
    }
}

#[test]
fn steps_run_in_order_around_the_model() {
    let program = Case::new().compile().expect("fits");
    let pixels = Tensor::from_values(vec![2, 2], &[0u8, 51, 102, 255]).expect("valid");
    let mut environment: Environment = [("pixels", pixels)].into_iter().collect();
    program.run_pre(&mut environment).expect("runs");
    let image = environment.get("image").expect("made");
    assert_eq!((image.shape(), image.datatype()), (&[1, 4][..], Datatype::Fp32));
    assert_eq!(image.to_f32s().expect("numbers"), [-1.0, 24.5, 50.0, 126.5]);

    environment.insert("logits", Tensor::from_values(vec![1, 3], &[0.0f32, 2.0, 2.0]).expect("valid"));
    program.run_post(&mut environment).expect("runs");
    assert_eq!(environment.get("label").expect("made").as_strings(), Some(&[b"b".to_vec()][..]));
    let score = environment.get("score").expect("made").to_f32s().expect("numbers")[0];
    assert!((score - 0.468_31).abs() < 1e-4, "{score}");
    assert_eq!(environment.iter().count(), 7);
}

#[test]
fn everything_that_does_not_fit_is_found_when_it_is_made() {
    type Change = fn(&mut Case);
    let defects: [(&str, Change); 18] = [
        ("a step reads a name that nobody makes", |c| c.pipeline.pre[0].from = "nothing".into()),
        ("a step reads what comes later", |c| c.pipeline.pre[0].from = "logits".into()),
        ("a step writes no name", |c| c.pipeline.pre[0].to = String::new()),
        ("the model's input is not made", |c| c.pipeline.pre[1].to = "picture".into()),
        ("the model's input has another type", |c| c.pipeline.pre[1].from = "pixels".into()),
        ("the model's input has another rank", |c| c.pipeline.pre[1].op = Op::Reshape { shape: vec![-1] }),
        ("the elements do not fill the shape", |c| c.pipeline.pre[1].op = Op::Reshape { shape: vec![3, -1] }),
        ("two sizes are to be computed", |c| c.pipeline.pre[1].op = Op::Reshape { shape: vec![-1, -1] }),
        ("a size is 0", |c| c.pipeline.pre[1].op = Op::Reshape { shape: vec![0, -1] }),
        ("a size overflows", |c| c.pipeline.pre[1].op = Op::Reshape { shape: vec![i64::MAX, i64::MAX, 4] }),
        ("a factor is not finite", |c| c.pipeline.pre[0].op = Op::Scale { multiply: f32::NAN, add: 0.0 }),
        ("the limits are upside down", |c| c.pipeline.pre[0].op = Op::Clamp { min: 1.0, max: 0.0 }),
        ("k is 0", |c| c.pipeline.post[1].op = Op::TopKLabels { k: 0 }),
        ("k is more than there are classes", |c| c.pipeline.post[2].op = Op::TopKValues { k: 4 }),
        ("a label is missing", |c| c.labels.truncate(2)),
        ("an output is not made", |c| c.outputs[0].name = "answer".into()),
        ("an output has another type", |c| c.outputs[0].datatype = manifest::Datatype::Int64),
        ("an output has another shape", |c| c.outputs[1].shape = vec![1, 2]),
    ];
    for (defect, change) in defects {
        let mut case = Case::new();
        change(&mut case);
        let error = case.compile().expect_err(defect);
        assert!(!error.to_string().is_empty(), "{defect}");
    }
    let mut many = Case::new();
    many.pipeline.post = vec![step("logits", "logits", Op::Softmax {}); 33];
    assert!(matches!(many.compile(), Err(CompileError::TooManySteps { stage: "post", found: 33 })));
}

#[test]
fn numbers_are_not_computed_from_strings() {
    let mut case = Case::new();
    case.inputs[0].datatype = manifest::Datatype::Bytes;
    assert!(matches!(case.compile(), Err(CompileError::Step { stage: "pre", number: 1, .. })));
}

#[test]
fn without_labels_the_indices_are_answered() {
    let mut case = Case::new();
    case.labels.clear();
    case.outputs[0].datatype = manifest::Datatype::Int64;
    assert!(case.compile().is_ok());
}

#[test]
fn a_request_whose_size_was_left_open_can_still_fail() {
    let mut case = Case::new();
    case.inputs[0].shape = vec![-1];
    case.pipeline.pre[1].op = Op::Reshape { shape: vec![1, 4] };
    let program = case.compile().expect("fits");
    let pixels = Tensor::from_values(vec![3], &[1u8, 2, 3]).expect("valid");
    let mut environment: Environment = [("pixels", pixels)].into_iter().collect();
    let error = program.run_pre(&mut environment).expect_err("3 elements");
    assert!(error.to_string().starts_with("pre step 2 (reshape"), "{error}");
    assert!(program.run_post(&mut Environment::default()).is_err());
}

#[test]
fn element_types_keep_their_names() {
    for d in Datatype::ALL {
        let info = TensorInfo { name: "x".into(), datatype: *d, shape: vec![None, Some(3)] };
        let spec = spec_of(&info);
        assert_eq!(datatype(spec.datatype), *d);
        assert_eq!(spec.shape, [-1, 3]);
    }
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (-10f32..10.0, -10f32..10.0).prop_map(|(multiply, add)| Op::Scale { multiply, add }),
        (-10f32..10.0, -10f32..10.0).prop_map(|(min, max)| Op::Clamp { min, max }),
        proptest::collection::vec(-1i64..7, 0..4).prop_map(|shape| Op::Reshape { shape }),
        Just(Op::Softmax {}),
        (0u32..6).prop_map(|k| Op::TopKLabels { k }),
        (0u32..6).prop_map(|k| Op::TopKValues { k }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// What was accepted with all sizes known runs, and gives the types and shapes that were foreseen.
    #[test]
    fn a_program_that_was_accepted_runs(
        rows in 1usize..4,
        cols in 1usize..6,
        ops in proptest::collection::vec((any_op(), 0usize..3, 0usize..3), 0..6),
        with_labels: bool,
    ) {
        let names = ["x", "y", "z"];
        let pre: Vec<Step> = ops.into_iter().map(|(op, from, to)| step(names[from], names[to], op)).collect();
        let labels: Vec<String> = if with_labels { (0..cols).map(|i| i.to_string()).collect() } else { vec![] };
        let inputs = [spec("x", manifest::Datatype::Fp32, &[rows as i64, cols as i64])];
        let interface = Interface { inputs: &inputs, outputs: &[], model_inputs: &[], model_outputs: &[] };
        let pipeline = Pipeline { pre, post: vec![] };
        let Ok(program) = Program::compile(&pipeline, &labels, &interface) else { return Ok(()) };
        let values: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
        let x = Tensor::from_values(vec![rows, cols], &values).expect("valid");
        let mut environment: Environment = [("x", x)].into_iter().collect();
        program.run_pre(&mut environment).expect("was accepted");
        // What a run makes is what outputs may be declared as, and nothing else.
        for (name, tensor) in environment.iter() {
            let shape = tensor.shape().iter().copied().map(Some).collect();
            let mut outputs = [spec_of(&TensorInfo { name: name.into(), datatype: tensor.datatype(), shape })];
            let made = Program::compile(&pipeline, &labels, &Interface { outputs: &outputs, ..interface });
            prop_assert!(made.is_ok());
            outputs[0].shape.push(1);
            let other = Program::compile(&pipeline, &labels, &Interface { outputs: &outputs, ..interface });
            prop_assert!(other.is_err());
        }
    }
}
