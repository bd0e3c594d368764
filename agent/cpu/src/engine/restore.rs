//! Layers whose weights were packed before, and what is kept of layers for that.

use super::layer::{self, Layer, fused};
use crate::{fconv, isa::Isa, packed::Packed, qconv};
use std::sync::Arc;
use whimbrel_infer::{
    Datatype,
    cache::{Blob, Part, Piece},
    plan::{self, Operation, Plan, QConvOutput, Step},
};

/// Numbers and packed parts.
type Parts = (Vec<u64>, Vec<Packed>);

/// What was packed for a layer.
pub(super) fn packed(layer: &Layer) -> Vec<Piece<Part>> {
    let parts = match layer {
        Layer::QConv { conv, .. } | Layer::DynamicConv { conv, .. } => vec![wide(conv.parts())],
        Layer::Conv { conv, .. } => vec![conv.parts()],
        Layer::Recurrent(layer) => layer.parts(),
        _ => Vec::new(),
    };
    let part = |packed: Packed| -> Part { Arc::new(packed) };
    let piece = |(numbers, parts): Parts| Piece { numbers, parts: parts.into_iter().map(part).collect() };
    parts.into_iter().map(piece).collect()
}

/// A layer of what was packed; `None` where that does not fit the step.
pub(super) fn restored(isa: Isa, plan: &Plan, step: &Step, pieces: &[Piece<Blob>]) -> Option<Layer> {
    let parts = |piece: &Piece<Blob>| -> Parts {
        (piece.numbers.clone(), piece.parts.iter().cloned().map(Packed::mapped).collect())
    };
    let one = || <&[Piece<Blob>; 1]>::try_from(pieces).ok().map(|[piece]| parts(piece));
    let into = || step.outputs.first().map(|id| plan.buffer(*id).datatype);
    match &step.operation {
        Operation::QConv(conv) => {
            let conv = qconv(isa, conv, one()?, into()?)?;
            Some(Layer::QConv { conv, into: into()? })
        }
        Operation::DynamicConv(conv) => {
            let conv =
                qconv(isa, conv, one()?, into()?).filter(|conv| conv.makes_floats() || conv.makes_sums())?;
            Some(Layer::DynamicConv { conv, into: into()? })
        }
        Operation::Conv(conv) => {
            let (activation, after) = fused(conv.activation);
            let (numbers, parts) = one()?;
            let layer = fconv::Conv::from_parts(isa, &numbers, parts)?;
            let fits = *layer.geometry() == conv.geometry
                && layer.activation() == activation
                && layer.adds_residual() == conv.residual;
            fits.then(|| Layer::Conv { conv: Box::new(layer), after })
        }
        Operation::Recurrent(layer) => {
            let parts = pieces.iter().map(parts).collect();
            let layer = super::recurrent::Layer::from_parts(isa, layer, layer::unary, parts)?;
            Some(Layer::Recurrent(Box::new(layer)))
        }
        _ if pieces.is_empty() => Layer::new(isa, plan, step).ok(),
        _ => None,
    }
}

fn qconv(isa: Isa, conv: &plan::QConv, (numbers, parts): Parts, into: Datatype) -> Option<Box<qconv::QConv>> {
    let numbers = numbers.into_iter().map(u32::try_from).collect::<Result<Vec<_>, _>>().ok()?;
    let layer = qconv::QConv::from_parts(isa, &numbers, &parts)?;
    let (sums, floats) = (layer.makes_sums(), layer.makes_floats());
    let kind = match &conv.output {
        QConvOutput::Bytes { residual, .. } => {
            !sums && !floats && into.size_bytes() == Some(1) && layer.adds_residual() == residual.is_some()
        }
        QConvOutput::Sums => sums && into == Datatype::Int32,
        QConvOutput::Floats { .. } => floats && into == Datatype::Fp32,
    };
    (kind && *layer.geometry() == conv.geometry).then(|| Box::new(layer))
}

fn wide((numbers, parts): (Vec<u32>, Vec<Packed>)) -> Parts {
    (numbers.into_iter().map(u64::from).collect(), parts)
}
