//! Outputs of a model whose smallest inputs make no sense: a network for images may have nothing left of one pixel.

use super::{Engine, drive::Program};
use crate::{
    binding::Binding,
    compile::straight::{End, Environment, Ready, straighten},
    datatype::Datatype,
};

/// Sizes tried for all that are free.
const SIZES: [usize; 3] = [16, 64, 320];

/// Names, types and shapes of the outputs for the first of some larger sizes that makes sense and leaves nothing to a run.
pub(super) fn outputs<E: Engine>(
    program: &Program<E>,
    binding: &Binding,
) -> Option<Vec<(String, Datatype, Vec<usize>)>> {
    let model = program.model().ok()?;
    SIZES.iter().find_map(|size| {
        let mut environment = Environment::default();
        for info in &binding.inputs {
            let shape = info.shape.iter().map(|fixed| fixed.unwrap_or(*size)).collect();
            environment.ready.insert(info.name.clone(), Ready::Live(info.datatype, shape));
        }
        let list = straighten(model, &model.graph, &environment, &program.limits).ok()?;
        let output = |id: &crate::compile::straight::ValueId| {
            let value = &list.values[id.0];
            (value.name.clone(), value.datatype, value.shape.clone())
        };
        matches!(list.end, End::Done).then(|| list.outputs.iter().map(output).collect())
    })
}
