//! Tensors to tract and back.

use crate::{
    datatype::{Datatype, Element},
    tensor::{Tensor, TensorError},
};
use half::f16;
use tract_onnx::{
    pb::{TypeProto, tensor_proto::DataType, type_proto},
    prelude::{Datum, DatumType, TDim, Tensor as TractTensor, TractResult, tract_ndarray::ArrayD},
};

/// The element type that tract computes with.
pub(crate) const fn datum_type(datatype: Datatype) -> DatumType {
    match datatype {
        Datatype::Bool => DatumType::Bool,
        Datatype::Uint8 => DatumType::U8,
        Datatype::Uint16 => DatumType::U16,
        Datatype::Uint32 => DatumType::U32,
        Datatype::Uint64 => DatumType::U64,
        Datatype::Int8 => DatumType::I8,
        Datatype::Int16 => DatumType::I16,
        Datatype::Int32 => DatumType::I32,
        Datatype::Int64 => DatumType::I64,
        Datatype::Fp16 => DatumType::F16,
        Datatype::Fp32 => DatumType::F32,
        Datatype::Fp64 => DatumType::F64,
        Datatype::Bytes => DatumType::String,
    }
}

/// The element type that an answer of tract's has; tract's symbolic dimensions are 64-bit integers to everyone else.
pub(crate) fn datatype(datum: DatumType) -> Option<Datatype> {
    Some(match datum.unquantized() {
        DatumType::Bool => Datatype::Bool,
        DatumType::U8 => Datatype::Uint8,
        DatumType::U16 => Datatype::Uint16,
        DatumType::U32 => Datatype::Uint32,
        DatumType::U64 => Datatype::Uint64,
        DatumType::I8 => Datatype::Int8,
        DatumType::I16 => Datatype::Int16,
        DatumType::I32 => Datatype::Int32,
        DatumType::I64 | DatumType::TDim => Datatype::Int64,
        DatumType::F16 => Datatype::Fp16,
        DatumType::F32 => Datatype::Fp32,
        DatumType::F64 => Datatype::Fp64,
        DatumType::String => Datatype::Bytes,
        _ => return None,
    })
}

/// The element type that an ONNX file declares; the error is its name there.
pub(crate) fn declared(proto: Option<&TypeProto>) -> Result<(Datatype, &type_proto::Tensor), String> {
    let Some(type_proto::Value::TensorType(tensor)) = proto.and_then(|t| t.value.as_ref()) else {
        return Err("none, or not a tensor's".into());
    };
    let onnx = DataType::try_from(tensor.elem_type).map_err(|_| tensor.elem_type.to_string())?;
    let datum = DatumType::try_from(onnx).map_err(|_| onnx.as_str_name().to_owned())?;
    Ok((datatype(datum).ok_or_else(|| onnx.as_str_name().to_owned())?, tensor))
}

/// Makes a tract tensor; the error says what is wrong with the elements.
pub(crate) fn to_tract(tensor: &Tensor) -> Result<TractTensor, String> {
    match tensor.datatype() {
        Datatype::Bool => fixed::<bool>(tensor),
        Datatype::Uint8 => fixed::<u8>(tensor),
        Datatype::Uint16 => fixed::<u16>(tensor),
        Datatype::Uint32 => fixed::<u32>(tensor),
        Datatype::Uint64 => fixed::<u64>(tensor),
        Datatype::Int8 => fixed::<i8>(tensor),
        Datatype::Int16 => fixed::<i16>(tensor),
        Datatype::Int32 => fixed::<i32>(tensor),
        Datatype::Int64 => fixed::<i64>(tensor),
        Datatype::Fp16 => fixed::<f16>(tensor),
        Datatype::Fp32 => fixed::<f32>(tensor),
        Datatype::Fp64 => fixed::<f64>(tensor),
        Datatype::Bytes => strings(tensor),
    }
}

fn fixed<T: Element + Datum>(tensor: &Tensor) -> Result<TractTensor, String> {
    let values: Vec<T> = tensor.values::<T>().map_err(|e| e.to_string())?.collect();
    TractTensor::from_shape(tensor.shape(), &values).map_err(|e| e.to_string())
}

fn strings(tensor: &Tensor) -> Result<TractTensor, String> {
    let strings: Vec<String> = tensor
        .as_strings()
        .unwrap_or_default()
        .iter()
        .map(|s| String::from_utf8(s.clone()).map_err(|_| "a string is not valid UTF-8".to_owned()))
        .collect::<Result<_, _>>()?;
    ArrayD::from_shape_vec(tensor.shape(), strings).map(TractTensor::from).map_err(|e| e.to_string())
}

/// Why an answer was not taken over.
pub(crate) enum FromTract {
    /// tract's own access to the elements failed.
    Access(String),
    /// Elements and shape do not make a tensor.
    Tensor(TensorError),
}

/// Takes over an answer of tract's.
pub(crate) fn from_tract(tensor: &TractTensor) -> Result<Tensor, FromTract> {
    let access = |e: tract_onnx::prelude::TractError| FromTract::Access(e.to_string());
    let datum = tensor.datum_type();
    let Some(datatype) = datatype(datum) else {
        return Err(FromTract::Access(format!("element type {datum:?} is not known")));
    };
    let plain = if datum == TDim::datum_type() || datum.is_quantized() {
        tensor.cast_to_dt(datum_type(datatype)).map_err(access)?
    } else {
        std::borrow::Cow::Borrowed(tensor)
    };
    match datatype {
        Datatype::Bool => values::<bool>(&plain),
        Datatype::Uint8 => values::<u8>(&plain),
        Datatype::Uint16 => values::<u16>(&plain),
        Datatype::Uint32 => values::<u32>(&plain),
        Datatype::Uint64 => values::<u64>(&plain),
        Datatype::Int8 => values::<i8>(&plain),
        Datatype::Int16 => values::<i16>(&plain),
        Datatype::Int32 => values::<i32>(&plain),
        Datatype::Int64 => values::<i64>(&plain),
        Datatype::Fp16 => values::<f16>(&plain),
        Datatype::Fp32 => values::<f32>(&plain),
        Datatype::Fp64 => values::<f64>(&plain),
        Datatype::Bytes => {
            let strings = slice::<String>(&plain).map_err(access)?;
            let strings = strings.iter().map(|s| s.clone().into_bytes()).collect();
            Tensor::from_strings(plain.shape().to_vec(), strings).map_err(FromTract::Tensor)
        }
    }
}

fn values<T: Element + Datum>(tensor: &TractTensor) -> Result<Tensor, FromTract> {
    let values = slice::<T>(tensor).map_err(|e| FromTract::Access(e.to_string()))?;
    Tensor::from_values(tensor.shape().to_vec(), values).map_err(FromTract::Tensor)
}

fn slice<T: Datum>(tensor: &TractTensor) -> TractResult<&[T]> {
    tensor.try_as_plain_ram()?.as_slice::<T>()
}
