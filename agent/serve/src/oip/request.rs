//! An inference request: a JSON head, then the binary tensors that it announces.

use super::{binary, elements, excerpt};
use crate::config::Limits;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::HashSet};
use whimbrel_infer::{Datatype, Tensor, element_count};
use whimbrel_wire::manifest::{RANK_MAX, TENSORS_MAX};

/// Longest request id that is given back.
const ID_BYTES_MAX: usize = 256;

/// A request, checked as far as that is possible without knowing the model.
#[derive(Debug, PartialEq)]
pub(crate) struct InferRequest {
    /// Given back in the response.
    pub(crate) id: Option<String>,
    /// By name, in the request's order.
    pub(crate) inputs: Vec<(String, Tensor)>,
    /// The outputs asked for and whether in binary; `None` for all.
    pub(crate) outputs: Option<Vec<(String, bool)>>,
    /// Whether outputs come in binary where `outputs` does not say.
    pub(crate) binary_outputs: bool,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(default)]
    parameters: Option<Parameters>,
    #[serde(borrow)]
    inputs: Vec<InputHead<'a>>,
    #[serde(borrow, default)]
    outputs: Option<Vec<OutputHead<'a>>>,
}

#[derive(Deserialize)]
struct InputHead<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    shape: Vec<i64>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    #[serde(default)]
    parameters: Option<Parameters>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct OutputHead<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    parameters: Option<Parameters>,
}

/// The parameters that mean something here; others are ignored, as the protocol asks.
#[derive(Deserialize, Default)]
struct Parameters {
    binary_data_size: Option<u64>,
    binary_data: Option<bool>,
    binary_data_output: Option<bool>,
    shared_memory_region: Option<serde::de::IgnoredAny>,
    classification: Option<serde::de::IgnoredAny>,
}

impl Parameters {
    fn refuse_unsupported(&self) -> Result<(), String> {
        let unsupported = [
            ("shared_memory_region", self.shared_memory_region.is_some()),
            ("classification", self.classification.is_some()),
        ];
        match unsupported.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(format!("parameter {name} is not supported by this server")),
            None => Ok(()),
        }
    }
}

/// Reads a request. `head_length` is the value of `Inference-Header-Content-Length`, where the request has one.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn parse(
    body: &[u8],
    head_length: Option<usize>,
    limits: &Limits,
) -> Result<InferRequest, String> {
    let (head, mut tail) = match head_length {
        None => (body, &[][..]),
        Some(length) => body.split_at_checked(length).ok_or_else(|| {
            format!("Inference-Header-Content-Length is {length} and the body has {} bytes", body.len())
        })?,
    };
    let head: Head<'_> =
        serde_json::from_slice(head).map_err(|e| format!("the request is not valid: {}", cut(&e)))?;
    let parameters = head.parameters.unwrap_or_default();
    parameters.refuse_unsupported()?;
    if head.inputs.len() > TENSORS_MAX || head.outputs.as_ref().is_some_and(|o| o.len() > TENSORS_MAX) {
        return Err(format!("at most {TENSORS_MAX} inputs and outputs are accepted"));
    }
    let id = head.id.map(Cow::into_owned);
    if id.as_ref().is_some_and(|id| id.len() > ID_BYTES_MAX) {
        return Err(format!("the id has more than {ID_BYTES_MAX} bytes"));
    }
    let mut inputs = Vec::with_capacity(head.inputs.len());
    for input in head.inputs {
        let name = input.name.clone().into_owned();
        let tensor =
            read_input(input, &mut tail, limits).map_err(|why| format!("input {}: {why}", excerpt(&name)))?;
        inputs.push((name, tensor));
    }
    if !tail.is_empty() {
        return Err(format!("{} bytes follow the last binary tensor", tail.len()));
    }
    let binary_outputs = parameters.binary_data_output.unwrap_or(false);
    let outputs = head.outputs.map(|outputs| requested(outputs, binary_outputs)).transpose()?;
    Ok(InferRequest { id, inputs, outputs, binary_outputs })
}

/// An error of the JSON parser may repeat what it found.
fn cut(error: &serde_json::Error) -> String {
    error.to_string().chars().take(200).collect()
}

fn read_input(input: InputHead<'_>, tail: &mut &[u8], limits: &Limits) -> Result<Tensor, String> {
    let parameters = input.parameters.unwrap_or_default();
    parameters.refuse_unsupported()?;
    let datatype: Datatype =
        input.datatype.parse().map_err(|e| format!("datatype {}: {e}", excerpt(&input.datatype)))?;
    let shape = read_shape(&input.shape, limits)?;
    match (parameters.binary_data_size, input.data) {
        (Some(_), Some(_)) => Err("it has both data and binary_data_size".into()),
        (None, None) => Err("it has neither data nor binary_data_size".into()),
        (None, Some(json)) => elements::read(datatype, shape, json.get()),
        (Some(size), None) => {
            let parts = usize::try_from(size).ok().and_then(|size| tail.split_at_checked(size));
            let (bytes, rest) = parts
                .ok_or_else(|| format!("binary_data_size is {size} and {} bytes are left", tail.len()))?;
            *tail = rest;
            binary::read(datatype, shape, bytes)
        }
    }
}

fn read_shape(shape: &[i64], limits: &Limits) -> Result<Vec<usize>, String> {
    if shape.len() > RANK_MAX {
        return Err(format!("the shape has {} sizes, at most {RANK_MAX} are accepted", shape.len()));
    }
    let sizes: Option<Vec<usize>> = shape.iter().map(|d| usize::try_from(*d).ok()).collect();
    let sizes = sizes.ok_or_else(|| format!("the shape is {shape:?}, expected sizes of 0 or more"))?;
    let max = limits.tensor_elements_max;
    match element_count(&sizes) {
        Some(count) if count <= max => Ok(sizes),
        _ => Err(format!("the shape {shape:?} has more than {max} elements")),
    }
}

fn requested(outputs: Vec<OutputHead<'_>>, binary_outputs: bool) -> Result<Vec<(String, bool)>, String> {
    let mut seen = HashSet::new();
    let mut requested = Vec::with_capacity(outputs.len());
    for output in outputs {
        let name = output.name.into_owned();
        let parameters = output.parameters.unwrap_or_default();
        parameters.refuse_unsupported().map_err(|why| format!("output {}: {why}", excerpt(&name)))?;
        if !seen.insert(name.clone()) {
            return Err(format!("output {} is asked for twice", excerpt(&name)));
        }
        requested.push((name, parameters.binary_data.unwrap_or(binary_outputs)));
    }
    Ok(requested)
}
