//! Requests and responses of the Open Inference Protocol, as bytes.
//!
//! | module | holds |
//! |---|---|
//! | `request` | an inference request: JSON head, then binary tensors |
//! | `elements` | JSON arrays to tensors, without an intermediate tree |
//! | `binary` | tensors in the binary tensor data extension |
//! | `response` | an inference response |
//! | `metadata` | what the server and its models say of themselves |

pub(crate) mod binary;
pub(crate) mod elements;
pub(crate) mod metadata;
pub(crate) mod request;
pub(crate) mod response;

/// Cuts a text from outside, so that an error stays one readable line whatever came in.
pub(crate) fn excerpt(text: &str) -> String {
    format!("{:?}", text.chars().take(80).collect::<String>())
}
