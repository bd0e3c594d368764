//! Steps without a kernel, on the other engine between submissions, over the same arena.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by a panic that says why")]

mod common;

use std::sync::Arc;

use common::{Random, Value, answer, assert_near, engines};
use whimbrel_infer::{
    Datatype, Engine, Tensor,
    plan::{Activation, Binary, BinaryKind, Buffer, BufferId, Layout, Operation, Place, Plan, Step, Unary},
};

/// Elements of every tensor: not whole vectors of anything.
const COUNT: usize = 37;

/// Bytes that each tensor has in the arena.
const ROOM: usize = 256;

fn step(operation: Operation, inputs: &[usize], output: usize) -> Step {
    Step {
        operation,
        inputs: inputs.iter().copied().map(BufferId).collect(),
        outputs: vec![BufferId(output)],
        name: format!("to {output}"),
        operators: vec!["Op".into()],
    }
}

fn binary(kind: BinaryKind) -> Operation {
    Operation::Binary(Binary {
        kind,
        sizes: vec![COUNT],
        a_strides: vec![1],
        b_strides: vec![1],
        activation: Activation::None,
    })
}

/// Powers, for which there is no kernel, first, last, in between, and two in a row; buffers at the places of dead ones.
fn mixed() -> Plan {
    let constant = Tensor::from_values(vec![COUNT], &[0.5f32; COUNT]).expect("one axis");
    let arena = |slot: usize| Place::Arena(slot * ROOM);
    let places = [
        arena(0),
        Place::Constant(constant.into()),
        arena(1),
        arena(2),
        arena(3),
        arena(0),
        arena(1),
        arena(2),
        // A view of the one before.
        arena(2),
        arena(3),
    ];
    let buffer = |place| Buffer { datatype: Datatype::Fp32, shape: vec![COUNT], layout: Layout::Rows, place };
    let power = || binary(BinaryKind::Pow);
    Plan {
        buffers: places.into_iter().map(buffer).collect(),
        steps: vec![
            step(power(), &[0, 1], 2),
            step(binary(BinaryKind::Add), &[2, 1], 3),
            step(Operation::Unary(Unary::Abs), &[0], 4),
            step(power(), &[3, 4], 5),
            step(power(), &[5, 1], 6),
            step(binary(BinaryKind::Add), &[5, 6], 7),
            step(power(), &[8, 1], 9),
        ],
        inputs: vec![BufferId(0)],
        outputs: vec![BufferId(9), BufferId(8), BufferId(1)],
        arena_bytes: 4 * ROOM,
        outside: 0,
    }
}

#[test]
fn plans_of_both_engines_answer_as_on_the_processor() {
    let Some((gpu, cpu)) = engines() else { return };
    let plan = mixed();
    let prepared = gpu.prepare(plan.clone()).expect("made ready");
    assert_eq!(common::others(&gpu, &prepared), ["to 2", "to 5", "to 6", "to 9"]);
    assert_eq!(gpu.layers(&prepared).len(), plan.steps.len());
    let prepared = Arc::new(prepared);
    let (mut state, mut times) = (gpu.state(&prepared), Vec::new());
    let ones = Tensor::from_values(vec![COUNT], &[1.0f32; COUNT]).expect("one axis");
    let plain = gpu.run(&prepared, &mut state, &[&ones]).expect("runs");
    assert_eq!(gpu.run_timed(&prepared, &mut state, &[&ones], &mut times).expect("runs"), plain);
    assert_eq!(times.len(), plan.steps.len());
    for seed in 0..3 {
        let values: Vec<f32> = Random(seed).floats(COUNT).iter().map(|value| value.abs()).collect();
        let inputs = [Tensor::from_values(vec![COUNT], &values).expect("one axis")];
        assert_near(&answer(&gpu, &plan, &inputs), &answer(&cpu, &plan, &inputs), 1e-6, "a mixed plan");
    }
}

#[test]
fn a_plan_without_any_kernel_runs_on_the_other_engine() {
    let Some((gpu, cpu)) = engines() else { return };
    let value = Value::floats(&[COUNT]);
    let plan = common::plan(binary(BinaryKind::Pow), &[value.clone(), value.clone()], &value);
    let mut random = Random(4);
    let inputs = [random.tensor(&value), random.tensor(&value)];
    let bits = |tensors: &[Tensor]| tensors[0].as_le_bytes().expect("numbers").to_vec();
    let (found, expected) = (once(&gpu, &plan, &inputs), once(&cpu, &plan, &inputs));
    assert_eq!(bits(&found), bits(&expected));
}

/// One run: powers of negative numbers are none, so that answers are compared by their bits.
fn once<E: Engine>(engine: &E, plan: &Plan, inputs: &[Tensor]) -> Vec<Tensor> {
    let prepared = Arc::new(engine.prepare(plan.clone()).expect("made ready"));
    let mut state = engine.state(&prepared);
    engine.run(&prepared, &mut state, &inputs.iter().collect::<Vec<_>>()).expect("runs")
}

#[test]
fn several_sessions_run_at_a_time() {
    let Some((gpu, cpu)) = engines() else { return };
    let plan = mixed();
    let values: Vec<f32> = (0..COUNT).map(|at| at as f32 / 9.0).collect();
    let inputs = [Tensor::from_values(vec![COUNT], &values).expect("one axis")];
    let expected = answer(&cpu, &plan, &inputs);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    assert_near(&answer(&gpu, &plan, &inputs), &expected, 1e-6, "beside others");
                }
            });
        }
    });
}
