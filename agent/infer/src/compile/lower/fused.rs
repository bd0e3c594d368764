//! Products of matrices that lie transposed, scaled.

use super::{Form, Lower, Lowered, Placed, ValueId, input, output, pointwise::broadcasting};
use crate::{
    datatype::Datatype,
    plan::{Activation, BinaryKind, BufferId, Layout, MatMul, Operation},
    rules,
};

impl Lower<'_> {
    /// `FusedMatMul`: a transposition where one is asked for, a product, a factor.
    pub(super) fn fused_product(&mut self, index: usize) -> Lowered<bool> {
        let placed = self.placed(index);
        let (Some(a), Some(b), Some(out)) = (input(placed, 0), input(placed, 1), output(placed)) else {
            return Ok(false);
        };
        let attributes = &placed.node.attributes;
        let shape = self.shape(out).to_vec();
        let floats = [a, b, out].iter().all(|id| self.value(*id).datatype == Datatype::Fp32);
        let matrices = [a, b].iter().all(|id| self.shape(*id).len() >= 2 && !self.shape(*id).contains(&0));
        if !floats || !matrices || shape.len() < 2 {
            return Ok(false);
        }
        let sizes = |id: ValueId, transposed: bool| {
            let (stack, matrix) = self.shape(id).split_at(self.shape(id).len() - 2);
            let [rows, columns] = if transposed { [matrix[1], matrix[0]] } else { [matrix[0], matrix[1]] };
            (stack.to_vec(), rows, columns)
        };
        let [a_turned, b_turned] = ["transA", "transB"].map(|name| attributes.flag(name));
        let ((a_stack, m, k), (b_stack, _, n)) = (sizes(a, a_turned), sizes(b, b_turned));
        let Ok(batch) = rules::broadcast([a_stack.as_slice(), b_stack.as_slice()]) else { return Ok(false) };
        let batch: usize = batch.iter().product();
        let step = |stack: &[usize], item: usize| match stack.iter().product::<usize>() {
            1 => Some(0),
            count if count == batch => Some(item),
            _ => None,
        };
        let (Some(a_step), Some(b_step)) = (step(&a_stack, m * k), step(&b_stack, k * n)) else {
            return Ok(false);
        };
        let inputs = vec![self.turned(placed, a, a_turned)?, self.turned(placed, b, b_turned)?];
        let alpha = attributes.float("alpha").unwrap_or(1.0);
        let factor = if alpha == 1.0 { None } else { self.literal(&[alpha]) };
        let to = match factor {
            None => self.make(out, Form::plain()),
            Some(_) => self.scratch(Datatype::Fp32, shape.clone(), Layout::Rows),
        };
        let product = MatMul { batch, a_step, b_step, m, k, n };
        self.emit(Operation::MatMul(product), inputs, vec![to], &placed.node);
        if let Some(factor) = factor {
            let shapes = [shape.clone(), vec![1]];
            let scaled = broadcasting(BinaryKind::Mul, &shapes, &shape, Layout::Rows, Activation::None);
            let last = self.make(out, Form::plain());
            self.emit(Operation::Binary(scaled), vec![to, factor], vec![last], &placed.node);
        }
        Ok(true)
    }

    /// A stack of matrices, turned where that is asked for.
    fn turned(&mut self, placed: &Placed, id: ValueId, turn: bool) -> Lowered<BufferId> {
        let from = self.want(id, Form::plain())?;
        if !turn {
            return Ok(from);
        }
        let mut shape = self.shape(id).to_vec();
        let rank = shape.len();
        let sizes = vec![shape[..rank - 2].iter().product(), shape[rank - 2], shape[rank - 1]];
        shape.swap(rank - 2, rank - 1);
        let to = self.scratch(Datatype::Fp32, shape, Layout::Rows);
        self.emit(Operation::Transpose { sizes, order: vec![0, 2, 1] }, vec![from], vec![to], &placed.node);
        Ok(to)
    }
}
