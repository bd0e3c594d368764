//! An inference response.

use super::binary;
use half::f16;
use serde::{Serialize, Serializer, ser::Error as _};
use whimbrel_infer::{Datatype, Element, Tensor};

/// What a response says.
pub(crate) struct InferResponse<'a> {
    pub(crate) model_name: &'a str,
    pub(crate) model_version: &'a str,
    pub(crate) id: Option<&'a str>,
    pub(crate) request_id: &'a str,
    pub(crate) fallback: bool,
    /// Name, tensor, and whether it goes into the binary part.
    pub(crate) outputs: Vec<(&'a str, &'a Tensor, bool)>,
}

/// A response as bytes.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// The JSON head, then the binary tensors.
    pub(crate) body: Vec<u8>,
    /// Length of the head, where binary tensors follow.
    pub(crate) head_length: Option<usize>,
}

#[derive(Serialize)]
struct Head<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    parameters: HeadParameters<'a>,
    outputs: Vec<OutputHead<'a>>,
}

#[derive(Serialize)]
struct HeadParameters<'a> {
    request_id: &'a str,
    fallback: bool,
}

#[derive(Serialize)]
struct OutputHead<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<OutputParameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Elements<'a>>,
}

#[derive(Serialize)]
struct OutputParameters {
    binary_data_size: usize,
}

/// Writes a response.
///
/// # Errors
/// An output cannot be written in the form asked for, in words.
pub(crate) fn encode(response: &InferResponse<'_>) -> Result<Encoded, String> {
    let mut tail = Vec::new();
    let mut outputs = Vec::with_capacity(response.outputs.len());
    for (name, tensor, in_binary) in &response.outputs {
        let parameters = if *in_binary {
            Some(OutputParameters { binary_data_size: binary::write(tensor, &mut tail)? })
        } else {
            None
        };
        let data = (!in_binary).then_some(Elements(tensor));
        let (datatype, shape) = (tensor.datatype().as_str(), tensor.shape());
        outputs.push(OutputHead { name, datatype, shape, parameters, data });
    }
    let any_binary = response.outputs.iter().any(|(_, _, in_binary)| *in_binary);
    let head = Head {
        model_name: response.model_name,
        model_version: response.model_version,
        id: response.id,
        parameters: HeadParameters { request_id: response.request_id, fallback: response.fallback },
        outputs,
    };
    let mut body = serde_json::to_vec(&head).map_err(|e| e.to_string())?;
    let head_length = any_binary.then_some(body.len());
    body.append(&mut tail);
    Ok(Encoded { body, head_length })
}

/// The elements as a flat JSON array.
struct Elements<'a>(&'a Tensor);

impl Serialize for Elements<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        fn fixed<T: Element + Serialize, S: Serializer>(tensor: &Tensor, s: S) -> Result<S::Ok, S::Error> {
            s.collect_seq(tensor.values::<T>().map_err(S::Error::custom)?)
        }
        let tensor = self.0;
        match tensor.datatype() {
            Datatype::Bool => fixed::<bool, S>(tensor, s),
            Datatype::Uint8 => fixed::<u8, S>(tensor, s),
            Datatype::Uint16 => fixed::<u16, S>(tensor, s),
            Datatype::Uint32 => fixed::<u32, S>(tensor, s),
            Datatype::Uint64 => fixed::<u64, S>(tensor, s),
            Datatype::Int8 => fixed::<i8, S>(tensor, s),
            Datatype::Int16 => fixed::<i16, S>(tensor, s),
            Datatype::Int32 => fixed::<i32, S>(tensor, s),
            Datatype::Int64 => fixed::<i64, S>(tensor, s),
            Datatype::Fp16 => {
                s.collect_seq(tensor.values::<f16>().map_err(S::Error::custom)?.map(f16::to_f32))
            }
            Datatype::Fp32 => fixed::<f32, S>(tensor, s),
            Datatype::Fp64 => fixed::<f64, S>(tensor, s),
            Datatype::Bytes => {
                let strings: Result<Vec<&str>, _> =
                    tensor.as_strings().unwrap_or_default().iter().map(|s| std::str::from_utf8(s)).collect();
                let strings =
                    strings.map_err(|_| S::Error::custom("a string is not UTF-8; ask for binary data"))?;
                s.collect_seq(strings)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(outputs: Vec<(&str, &Tensor, bool)>) -> Result<Encoded, String> {
        encode(&InferResponse {
            model_name: "m",
            model_version: "1.0.0",
            id: None,
            request_id: "r-1",
            fallback: false,
            outputs,
        })
    }

    #[test]
    fn json_holds_every_element_type() {
        let tensors = [
            Tensor::from_values(vec![2], &[true, false]),
            Tensor::from_values(vec![1], &[u64::MAX]),
            Tensor::from_values(vec![1], &[i64::MIN]),
            Tensor::from_values(vec![1], &[f16::from_f32(0.5)]),
            Tensor::from_values(vec![1, 2], &[0.1f32, -2.0]),
            Tensor::from_values(vec![1], &[0.1f64]),
            Tensor::from_strings(vec![1], vec!["\u{e9}\"".into()]),
        ]
        .map(|t| t.expect("valid"));
        let outputs = tensors.iter().map(|t| ("y", t, false)).collect();
        let text = String::from_utf8(encoded(outputs).expect("encodes").body).expect("text");
        for part in [
            r#""data":[true,false]"#,
            r#""data":[18446744073709551615]"#,
            r#""data":[-9223372036854775808]"#,
            r#""data":[0.5]"#,
            r#""shape":[1,2],"data":[0.1,-2.0]"#,
            r#""data":["é\""]"#,
            r#""parameters":{"request_id":"r-1","fallback":false}"#,
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn binary_follows_the_head_in_order() {
        let a = Tensor::from_values(vec![1], &[1u8]).expect("valid");
        let b = Tensor::from_strings(vec![1], vec![b"xy".to_vec()]).expect("valid");
        let out = encoded(vec![("a", &a, true), ("j", &a, false), ("b", &b, true)]).expect("encodes");
        let length = out.head_length.expect("binary follows");
        assert_eq!(&out.body[length..], b"\x01\x02\0\0\0xy");
        let head: serde_json::Value = serde_json::from_slice(&out.body[..length]).expect("JSON");
        assert_eq!(head["outputs"][2]["parameters"]["binary_data_size"], 6);
        assert!(head["outputs"][0].get("data").is_none());
        assert_eq!(head["outputs"][1]["data"][0], 1);
    }

    #[test]
    fn bytes_that_are_no_text_must_be_asked_for_in_binary() {
        let tensor = Tensor::from_strings(vec![1], vec![vec![0xff]]).expect("valid");
        assert!(encoded(vec![("y", &tensor, false)]).expect_err("not text").contains("binary"));
        assert!(encoded(vec![("y", &tensor, true)]).is_ok());
    }
}
