//! Activations written as several nodes: a value times a function of itself.

use super::{Lower, ValueId, input, output};
use crate::plan::Unary;

impl Lower<'_> {
    /// The activation that two nodes reading a value begin, all the nodes it is made of, and its result.
    pub(super) fn gated(&self, id: ValueId) -> Option<(Unary, Vec<usize>, ValueId)> {
        let [first, second] = self.readers[id.0].as_slice() else { return None };
        if self.answered[id.0] {
            return None;
        }
        let is_product = |index: usize| self.placed(index).node.op == "Mul";
        let (gate, product) = match (is_product(*first), is_product(*second)) {
            (false, true) => (*first, *second),
            (true, false) => (*second, *first),
            _ => return None,
        };
        match self.placed(gate).node.op.as_str() {
            "Sigmoid" => self.silu(gate, product),
            "Add" => self.hard_swish(id, gate, product),
            _ => None,
        }
    }

    /// `x * sigmoid(x)`.
    fn silu(&self, sigmoid: usize, product: usize) -> Option<(Unary, Vec<usize>, ValueId)> {
        self.alone_into(sigmoid, product)?;
        Some((Unary::Silu, vec![sigmoid, product], output(self.placed(product))?))
    }

    /// `x * clip(x + 3, 0, 6) / 6`.
    fn hard_swish(&self, x: ValueId, add: usize, product: usize) -> Option<(Unary, Vec<usize>, ValueId)> {
        let clip = self.only_reader(output(self.placed(add))?)?;
        let division = self.only_reader(output(self.placed(product))?)?;
        self.alone_into(clip, product)?;
        let numbers = self.number_beside(add, x)? == 3.0
            && self.clip_bounds(self.placed(clip)) == Some((0.0, 6.0))
            && self.placed(division).node.op == "Div"
            && input(self.placed(division), 0) == output(self.placed(product))
            && self.number_beside(division, output(self.placed(product))?)? == 6.0;
        let last = output(self.placed(division))?;
        numbers.then(|| (Unary::HardSwish, vec![add, clip, product, division], last))
    }

    /// Whether all that a node makes goes into another.
    fn alone_into(&self, node: usize, into: usize) -> Option<()> {
        let made = output(self.placed(node))?;
        let reads = self.placed(into).inputs.contains(&Some(made));
        (self.only_reader(made) == Some(into) && reads).then_some(())
    }

    /// The single constant number that a node takes beside a value, where its result has that value's shape.
    fn number_beside(&self, node: usize, value: ValueId) -> Option<f32> {
        let placed = self.placed(node);
        let (a, b) = (input(placed, 0)?, input(placed, 1)?);
        let other = if a == value { b } else { a };
        let same = self.shape(output(placed)?) == self.shape(value);
        match self.floats(other)?.as_slice() {
            [one] if same && (a == value || b == value) => Some(*one),
            _ => None,
        }
    }
}
