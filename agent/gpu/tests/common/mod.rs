//! A GPU for tests, or a word about how to get one.
#![allow(dead_code, unreachable_pub, reason = "each test takes what it needs")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by a panic that says why")]

use std::{
    io::Write,
    sync::{Arc, Once},
};
use whimbrel_cpu::CpuEngine;
use whimbrel_gpu::{Gpu, GpuEngine, HOW_TO_GET_ADAPTER, NO_ADAPTER};
use whimbrel_infer::{
    Datatype, Engine, LoadError, LoadOptions, Tensor,
    plan::{ALIGNMENT_BYTES, Buffer, BufferId, Layout, Operation, Place, Plan, SLACK_BYTES, Step},
};

/// All tests of a program share one device.
pub static GPU: Gpu<CpuEngine> = Gpu::new(CpuEngine::new);

/// The same, asked for nothing that not every device has.
static PLAIN: Gpu<CpuEngine> = Gpu::plain(CpuEngine::new);

/// Set where a GPU must be there, so that nothing is passed over.
const REQUIRED: &str = "WHIMBREL_GPU_REQUIRED";

/// Engines to compare, or nothing where no adapter is there: then it says so, even where tests are quiet.
pub fn engines() -> Option<(GpuEngine<CpuEngine>, CpuEngine)> {
    static TOLD: Once = Once::new();
    match GPU.engine(&LoadOptions::default()) {
        Ok(engine) => Some((engine, CpuEngine::new(&LoadOptions::default()).expect("a processor"))),
        Err(LoadError::UnsupportedBackend { .. }) => {
            assert!(std::env::var_os(REQUIRED).is_none(), "{REQUIRED} is set, but {NO_ADAPTER}");
            TOLD.call_once(|| {
                let _ = writeln!(
                    std::io::stderr(),
                    "SKIPPED, tests of the GPU: {NO_ADAPTER}; {HOW_TO_GET_ADAPTER}"
                );
            });
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// A buffer of a plan under construction.
#[derive(Debug, Clone)]
pub struct Value {
    pub datatype: Datatype,
    pub shape: Vec<usize>,
    pub layout: Layout,
}

impl Value {
    pub fn new(datatype: Datatype, shape: &[usize], layout: Layout) -> Self {
        Self { datatype, shape: shape.to_vec(), layout }
    }

    pub fn bytes(shape: &[usize]) -> Self {
        Self::new(Datatype::Uint8, shape, Layout::ChannelsLast)
    }

    pub fn floats(shape: &[usize]) -> Self {
        Self::new(Datatype::Fp32, shape, Layout::ChannelsLast)
    }
}

/// A plan of one operation.
pub fn plan(operation: Operation, inputs: &[Value], output: &Value) -> Plan {
    let mut arena_bytes = 0;
    let mut buffers = Vec::new();
    for value in inputs.iter().chain([output]) {
        let Value { datatype, shape, layout } = value.clone();
        let buffer = Buffer { datatype, shape, layout, place: Place::Arena(arena_bytes) };
        arena_bytes += buffer.size_bytes().next_multiple_of(ALIGNMENT_BYTES) + SLACK_BYTES;
        buffers.push(buffer);
    }
    let ids: Vec<BufferId> = (0..inputs.len()).map(BufferId).collect();
    let outputs = vec![BufferId(inputs.len())];
    let step = Step {
        operation,
        inputs: ids.clone(),
        outputs: outputs.clone(),
        name: "one".into(),
        operators: Vec::new(),
    };
    Plan { buffers, steps: vec![step], inputs: ids, outputs, arena_bytes, outside: 0 }
}

/// What the GPU answers, all of it by kernels. It is asked once more with nothing that not every device has.
pub fn answer_by_kernels(engine: &GpuEngine<CpuEngine>, plan: &Plan, inputs: &[Tensor]) -> Vec<Tensor> {
    let by_this = by_kernels(engine, plan, inputs);
    let by_any = by_kernels(&PLAIN.engine(&LoadOptions::default()).expect("as the other"), plan, inputs);
    let bits = |tensors: &[Tensor]| tensors[0].as_le_bytes().expect("numbers").to_vec();
    if plan.buffer(plan.outputs[0]).datatype == Datatype::Fp32 {
        assert_near(&by_any, &by_this, 1e-5, "with what any device has");
    } else {
        assert_eq!(bits(&by_any), bits(&by_this), "with what any device has");
    }
    by_this
}

fn by_kernels(engine: &GpuEngine<CpuEngine>, plan: &Plan, inputs: &[Tensor]) -> Vec<Tensor> {
    let prepared = engine.prepare(plan.clone()).expect("made ready");
    assert!(others(engine, &prepared).is_empty(), "no kernel does {:?}", plan.steps[0].operation);
    answer(engine, plan, inputs)
}

/// The names of steps that the other engine runs.
pub fn others<E: Engine>(engine: &E, prepared: &E::Prepared) -> Vec<String> {
    let layers = engine.layers(prepared).iter();
    layers.filter(|layer| layer.fallback.is_some()).map(|layer| layer.name.clone()).collect()
}

/// What an engine answers, twice the same.
pub fn answer<E: Engine>(engine: &E, plan: &Plan, inputs: &[Tensor]) -> Vec<Tensor> {
    let prepared = Arc::new(engine.prepare(plan.clone()).expect("made ready"));
    let mut state = engine.state(&prepared);
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    let first = engine.run(&prepared, &mut state, &inputs).expect("runs");
    let second = engine.run(&prepared, &mut state, &inputs).expect("runs again");
    assert_eq!(first, second, "a second run answers the same");
    first
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub fn between(&mut self, least: usize, most: usize) -> usize {
        least + self.below(most - least + 1)
    }

    pub fn flag(&mut self) -> bool {
        self.next() & 1 == 1
    }

    pub fn one_of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }

    /// From -1 to 1.
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 8_388_608.0 - 1.0
    }

    /// Bytes: random ones, or all the same extreme.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        match self.below(5) {
            0 => vec![0; count],
            1 => vec![255; count],
            _ => (0..count).map(|_| self.next() as u8).collect(),
        }
    }

    pub fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.unit() * 4.0).collect()
    }

    pub fn tensor(&mut self, value: &Value) -> Tensor {
        let count = value.shape.iter().product();
        match value.datatype {
            Datatype::Fp32 => Tensor::from_values(value.shape.clone(), &self.floats(count)),
            datatype => {
                let bytes = self.bytes(count * datatype.size_bytes().expect("a size"));
                Tensor::from_le_bytes(datatype, value.shape.clone(), bytes)
            }
        }
        .expect("as many elements as the shape has")
    }
}

/// Asserts that floats agree, as a part of the largest of them.
pub fn assert_near(found: &[Tensor], expected: &[Tensor], tolerance: f32, what: &str) {
    for (found, expected) in found.iter().zip(expected) {
        let (found, expected) = (found.to_f32s().expect("numbers"), expected.to_f32s().expect("numbers"));
        let largest = expected.iter().fold(1e-6f32, |most, value| most.max(value.abs()));
        for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let off = (found - expected).abs() / largest;
            assert!(off <= tolerance, "{what}: element {at} is {found}, on the processor {expected}");
        }
    }
}
