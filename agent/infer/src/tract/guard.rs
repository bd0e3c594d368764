//! Panics inside tract become errors.

use std::panic::{AssertUnwindSafe, catch_unwind};
use tract_onnx::prelude::TractResult;

/// Longest error text taken over from tract: its errors may print whole nodes.
const TEXT_CHARS_MAX: usize = 600;

/// Runs `work`, and turns its error or panic into one line of text.
///
/// tract indexes and unwraps on what a graph claims about itself (an output that no node makes, a missing attribute,
/// an axis out of range), so that a file which passes every check here may still make it panic. A device must not stop
/// for that. `AssertUnwindSafe` is right because every caller throws away what `work` may have left half changed: the
/// model under construction, or the state of the run.
pub(crate) fn guarded<T>(work: impl FnOnce() -> TractResult<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(one_line(&format!("{error:#}"))),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(one_line(&format!("tract panicked: {text}")))
        }
    }
}

/// The first characters of a text, line breaks replaced.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_and_long_errors_become_one_line() {
        let error = guarded::<()>(|| panic!("index\nout of range")).expect_err("panicked");
        assert_eq!(error, "tract panicked: index out of range");
        let long = guarded::<()>(|| Err(tract_onnx::prelude::TractError::msg("x\n".repeat(5000))));
        let error = long.expect_err("failed");
        assert!(error.len() <= TEXT_CHARS_MAX && !error.contains('\n'));
    }
}
