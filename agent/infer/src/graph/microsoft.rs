//! Fused operators of Microsoft's domain, as the operators that they stand for.

use tract_onnx::pb::{AttributeProto, NodeProto, attribute_proto::AttributeType};

/// A node as what it stands for: itself, where it is no fused operator or asks for what only that has.
pub(super) fn expand(node: NodeProto) -> Vec<NodeProto> {
    if node.domain != "com.microsoft" {
        return vec![node];
    }
    match node.op_type.as_str() {
        "SkipLayerNormalization" => skip_layer_normalization(node),
        "FastGelu" | "BiasGelu" => gelu(node),
        _ => vec![node],
    }
}

fn part(of: &NodeProto, op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op.to_owned(),
        name: of.name.clone(),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

fn given(node: &NodeProto, index: usize) -> Option<&str> {
    node.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
}

/// A sum with what was skipped, and with a bias where there is one, normalised along the last axis.
fn skip_layer_normalization(node: NodeProto) -> Vec<NodeProto> {
    let wants_moments = node.output.iter().skip(1).take(2).any(|name| !name.is_empty());
    let (Some(x), Some(skip), Some(gamma), Some(out)) =
        (given(&node, 0), given(&node, 1), given(&node, 2), node.output.first())
    else {
        return vec![node];
    };
    if wants_moments {
        return vec![node];
    }
    let sum = match node.output.get(3) {
        Some(name) if !name.is_empty() => name.clone(),
        _ => format!("{out} (sum)"),
    };
    let mut nodes = Vec::new();
    match given(&node, 4) {
        Some(bias) => {
            let half = format!("{out} (input and skip)");
            nodes.push(part(&node, "Add", &[x, skip], &half));
            nodes.push(part(&node, "Add", &[&half, bias], &sum));
        }
        None => nodes.push(part(&node, "Add", &[x, skip], &sum)),
    }
    let inputs: Vec<&str> =
        [Some(sum.as_str()), Some(gamma), given(&node, 3)].into_iter().flatten().collect();
    let mut normalise = part(&node, "LayerNormalization", &inputs, out);
    normalise.attribute = node.attribute.iter().filter(|a| a.name == "epsilon").cloned().collect();
    normalise.attribute.push(AttributeProto {
        name: "axis".into(),
        r#type: AttributeType::Int as i32,
        i: -1,
        ..AttributeProto::default()
    });
    if normalise.attribute.len() == 1 {
        normalise.attribute.push(AttributeProto {
            name: "epsilon".into(),
            r#type: AttributeType::Float as i32,
            f: 1e-12,
            ..AttributeProto::default()
        });
    }
    nodes.push(normalise);
    nodes
}

/// The bias of a Gelu as a sum before it.
fn gelu(node: NodeProto) -> Vec<NodeProto> {
    let (Some(x), Some(bias), Some(out)) = (given(&node, 0), given(&node, 1), node.output.first()) else {
        return vec![node];
    };
    let sum = format!("{out} (sum)");
    let add = part(&node, "Add", &[x, bias], &sum);
    let op = if node.op_type == "BiasGelu" { "Gelu" } else { "FastGelu" };
    let mut gelu = part(&node, op, &[&sum], out);
    gelu.domain.clone_from(&node.domain);
    vec![add, gelu]
}
