//! Recurrent layers.

use super::{Rule, Views, need};
use crate::graph::Node;

pub(super) fn infer(node: &Node, inputs: &Views) -> Result<Rule, String> {
    let outputs = match node.op.as_str() {
        "LSTM" | "com.microsoft.DynamicQuantizeLSTM" => 3,
        "GRU" | "RNN" => 2,
        _ => return Ok(Rule::Unknown),
    };
    let (x, r) = (need(inputs, 0)?, need(inputs, 2)?);
    let ([first, second, _], [directions, gates, columns]) = (x.shape.as_slice(), r.shape.as_slice()) else {
        return Err(format!("shapes {:?} and {:?} are not those of a recurrent layer", x.shape, r.shape));
    };
    // Quantised weights lie transposed.
    let own = if node.op.starts_with("com.") { *gates } else { *columns };
    let hidden = match node.attributes.int("hidden_size") {
        Some(size) => usize::try_from(size).map_err(|_| format!("hidden_size is {size}"))?,
        None => own,
    };
    if hidden != own {
        return Err(format!("hidden_size is {hidden}, its weights have {own}"));
    }
    let directions = *directions;
    let shapes = if node.attributes.flag("layout") {
        [vec![*first, *second, directions, hidden], vec![*first, directions, hidden]]
    } else {
        [vec![*first, directions, *second, hidden], vec![directions, *second, hidden]]
    };
    let [all, last] = shapes;
    let types = [all, last.clone(), last].into_iter().take(outputs);
    Ok(Rule::Typed(types.map(|shape| (x.datatype, shape)).collect()))
}
