//! Keeps tract from making softmax wrong in quantised models.
//!
//! tract 0.23.9 replaces a chain of elementwise operators between DequantizeLinear and QuantizeLinear with a table of
//! its 256 results, and takes an operator for elementwise when each of its output axes comes from the same input axis.
//! Its softmax says so of itself, though every element depends on its whole row: the table then answers the same
//! number for everything. Here softmax stands behind an operator that tells the truth about its axes.

use tract_onnx::{
    prelude::{TractResult, TypedModel},
    tract_core::ops::nn::Softmax,
    tract_hir::internal::{
        AxesMapping, Axis, AxisChangeConsequence, AxisOp, EvalContext, EvalOp, InOut, Op, StaticName, TValue,
        TVec, TypedFact, TypedOp,
    },
    tract_hir::tract_core::model::TypedNode,
};

/// Puts every softmax of the graph behind [`RowSoftmax`].
pub(crate) fn declare_axes(model: &mut TypedModel) {
    for node in model.nodes_mut() {
        if let Some(softmax) = node.op_as::<Softmax>() {
            node.op = Box::new(RowSoftmax(softmax.clone()));
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct RowSoftmax(Softmax);

impl Op for RowSoftmax {
    fn name(&self) -> StaticName {
        self.0.name()
    }
    fn as_typed(&self) -> Option<&dyn TypedOp> {
        Some(self)
    }
}

impl EvalOp for RowSoftmax {
    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.0.eval(ctx, inputs)
    }
    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        self.0.eval_out_of_plan(inputs)
    }
}

impl TypedOp for RowSoftmax {
    fn as_op(&self) -> &dyn Op {
        self
    }
    fn as_op_mut(&mut self) -> &mut dyn Op {
        self
    }
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.0.output_facts(inputs)
    }

    fn axes_mapping(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        let mut names = 'a'..;
        let mut axes = Vec::new();
        for index in 0..inputs.first().map_or(0, |fact| fact.rank()) {
            let mut axis = || names.next().map(|name| Axis::new(name, inputs.len(), outputs.len()));
            if self.0.axes.contains(&index) {
                axes.extend(axis().map(|a| a.input(0, index)));
                axes.extend(axis().map(|a| a.output(0, index)));
            } else {
                axes.extend(axis().map(|a| a.input(0, index).output(0, index)));
            }
        }
        AxesMapping::new(1, 1, axes)
    }

    fn change_axes(
        &self,
        model: &TypedModel,
        node: &TypedNode,
        _: InOut,
        change: &AxisOp,
    ) -> TractResult<Option<AxisChangeConsequence>> {
        let axes: Option<TVec<usize>> = self.0.axes.iter().map(|axis| change.transform_axis(*axis)).collect();
        Ok(axes.map(|axes| {
            let op = Box::new(Self(Softmax { axes, ..self.0.clone() }));
            AxisChangeConsequence::new(model, node, Some(op), change)
        }))
    }
}
