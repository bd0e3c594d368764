//! What an implementation is given: a node, its inputs as tensors, and bounds.

use crate::{
    datatype::{Datatype, Element},
    graph::Node,
    limits::ImportLimits,
    tensor::{Tensor, element_count},
};

/// Most elementary steps of one node: a small file must not ask for hours.
const WORK_MAX: u64 = 200_000_000_000;

/// Outputs by place, or what is wrong.
pub(crate) type Answer = Result<Vec<Tensor>, String>;

/// One evaluation of a node.
pub(crate) struct Call<'a> {
    pub(crate) node: &'a Node,
    /// By place; `None` where an optional one is absent.
    pub(crate) inputs: Vec<Option<&'a Tensor>>,
    pub(crate) limits: &'a ImportLimits,
}

impl Call<'_> {
    pub(super) fn maybe(&self, index: usize) -> Option<&Tensor> {
        self.inputs.get(index).copied().flatten()
    }

    pub(super) fn input(&self, index: usize) -> Result<&Tensor, String> {
        self.maybe(index).ok_or_else(|| format!("input {index} is missing"))
    }

    /// The elements of an input as f64.
    pub(super) fn floats(&self, index: usize) -> Result<Vec<f64>, String> {
        floats(self.input(index)?)
    }

    /// The first element of an input, where it is there.
    pub(super) fn scalar(&self, index: usize) -> Result<Option<f64>, String> {
        let Some(tensor) = self.maybe(index) else { return Ok(None) };
        Ok(floats(tensor)?.first().copied())
    }

    /// The elements of an integer input, where it is there.
    pub(super) fn ints(&self, index: usize) -> Result<Option<Vec<i64>>, String> {
        self.maybe(index).map(integers).transpose()
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.node.attributes.int(name).unwrap_or(default)
    }

    pub(super) fn float(&self, name: &str, default: f32) -> f64 {
        f64::from(self.node.attributes.float(name).unwrap_or(default))
    }

    pub(super) fn text(&self, name: &str, default: &'static str) -> &str {
        self.node.attributes.text(name).unwrap_or(default)
    }

    /// The number of elements of an output, within the limits.
    pub(super) fn count(&self, shape: &[usize]) -> Result<usize, String> {
        let max = self.limits.tensor_elements_max;
        let fits = shape.len() <= self.limits.rank_max;
        element_count(shape)
            .filter(|n| *n <= max && fits)
            .ok_or_else(|| format!("an output of shape {shape:?}, at most {max} elements are accepted"))
    }

    /// Refuses more work than a run may take; factors are multiplied.
    pub(super) fn work(factors: &[usize]) -> Result<(), String> {
        let product = factors.iter().try_fold(1u64, |n, f| n.checked_mul(u64::try_from(*f).ok()?));
        match product {
            Some(steps) if steps <= WORK_MAX => Ok(()),
            _ => Err(format!("it would take {factors:?} steps, at most {WORK_MAX} are accepted")),
        }
    }
}

/// Elements as f64, from any numeric type.
pub(super) fn floats(tensor: &Tensor) -> Result<Vec<f64>, String> {
    tensor.to_f64s().map_err(text)
}

/// Elements of any integer type, or truth values.
#[allow(clippy::cast_possible_wrap, reason = "bits are kept: a tensor of the same type comes of them again")]
pub(super) fn integers(tensor: &Tensor) -> Result<Vec<i64>, String> {
    fn all<T: Element>(tensor: &Tensor, to: impl Fn(T) -> i64) -> Result<Vec<i64>, String> {
        Ok(tensor.values::<T>().map_err(text)?.map(to).collect())
    }
    match tensor.datatype() {
        Datatype::Bool => all::<bool>(tensor, i64::from),
        Datatype::Uint8 => all::<u8>(tensor, i64::from),
        Datatype::Uint16 => all::<u16>(tensor, i64::from),
        Datatype::Uint32 => all::<u32>(tensor, i64::from),
        Datatype::Uint64 => all::<u64>(tensor, |v| v as i64),
        Datatype::Int8 => all::<i8>(tensor, i64::from),
        Datatype::Int16 => all::<i16>(tensor, i64::from),
        Datatype::Int32 => all::<i32>(tensor, i64::from),
        Datatype::Int64 => all::<i64>(tensor, |v| v),
        other => Err(format!("a tensor of integers is {other}")),
    }
}

/// A tensor of this type; integers are cut off towards zero and saturate.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "that is what is documented")]
pub(super) fn from_floats(datatype: Datatype, shape: Vec<usize>, values: &[f64]) -> Result<Tensor, String> {
    fn all<T: Element>(shape: Vec<usize>, values: &[f64], to: impl Fn(f64) -> T) -> Result<Tensor, String> {
        Tensor::from_values(shape, &values.iter().map(|v| to(*v)).collect::<Vec<T>>()).map_err(text)
    }
    match datatype {
        Datatype::Bool => all(shape, values, |v| v != 0.0),
        Datatype::Uint8 => all(shape, values, |v| v as u8),
        Datatype::Uint16 => all(shape, values, |v| v as u16),
        Datatype::Uint32 => all(shape, values, |v| v as u32),
        Datatype::Uint64 => all(shape, values, |v| v as u64),
        Datatype::Int8 => all(shape, values, |v| v as i8),
        Datatype::Int16 => all(shape, values, |v| v as i16),
        Datatype::Int32 => all(shape, values, |v| v as i32),
        Datatype::Int64 => all(shape, values, |v| v as i64),
        Datatype::Fp16 => all(shape, values, half::f16::from_f64),
        Datatype::Fp32 => all(shape, values, |v| v as f32),
        Datatype::Fp64 => all(shape, values, |v| v),
        Datatype::Bytes => Err("numbers were expected, not BYTES".into()),
    }
}

/// A tensor of this integer type, of the lowest bits of each value.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "that is what is documented")]
pub(super) fn from_integers(datatype: Datatype, shape: Vec<usize>, values: &[i64]) -> Result<Tensor, String> {
    let size = datatype.size_bytes().ok_or("integers were expected, not BYTES")?;
    let bytes = values.iter().flat_map(|v| v.to_le_bytes().into_iter().take(size)).collect();
    Tensor::from_le_bytes(datatype, shape, bytes).map_err(text)
}

/// A tensor of elements of another, each by its place there; `fill` where there is none.
pub(super) fn picked(
    from: &Tensor,
    shape: Vec<usize>,
    places: impl Iterator<Item = Option<usize>>,
    fill: Option<&Tensor>,
) -> Result<Tensor, String> {
    if fill.is_some_and(|fill| fill.datatype() != from.datatype() || fill.is_empty()) {
        return Err(format!("what is filled in is not {}", from.datatype()));
    }
    let beyond = "an index is out of range";
    if let Some(strings) = from.as_strings() {
        let filled = fill.and_then(|fill| fill.as_strings()?.first().cloned()).unwrap_or_default();
        let one = |place: Option<usize>| match place {
            Some(place) => strings.get(place).cloned().ok_or(beyond),
            None => Ok(filled.clone()),
        };
        let picked = places.map(one).collect::<Result<_, _>>()?;
        return Tensor::from_strings(shape, picked).map_err(text);
    }
    let size = from.datatype().size_bytes().unwrap_or(1);
    let bytes = from.as_le_bytes().unwrap_or_default();
    let zeros = vec![0; size];
    let filled = fill.and_then(|fill| fill.as_le_bytes()?.get(..size)).unwrap_or(&zeros);
    let mut out = Vec::new();
    for place in places {
        out.extend_from_slice(match place {
            Some(place) => bytes.get(place * size..(place + 1) * size).ok_or(beyond)?,
            None => filled,
        });
    }
    Tensor::from_le_bytes(from.datatype(), shape, out).map_err(text)
}

pub(super) fn size(value: i64) -> Result<usize, String> {
    usize::try_from(value).map_err(|_| format!("a size is {value}"))
}

pub(super) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
