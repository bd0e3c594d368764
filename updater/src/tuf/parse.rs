//! JSON from outside: bounded before it is parsed.

use serde_json::Value;

/// Deepest accepted nesting.
pub const DEPTH_MAX: usize = 32;
/// Most values accepted in one file.
pub const ITEMS_MAX: usize = 300_000;

/// Parses one JSON value within the limits. The size must have been checked by whoever read the bytes.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, String> {
    scan(bytes)?;
    serde_json::from_slice(bytes).map_err(|e| format!("not JSON: {e}"))
}

/// Bounds nesting and the number of values without building anything. What is not JSON at all is left to the parser.
fn scan(bytes: &[u8]) -> Result<(), String> {
    let (mut depth, mut items) = (0usize, 1usize);
    let mut in_string = false;
    let mut escaped = false;
    for &byte in bytes {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                items += 1;
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => items += 1,
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(format!("nested deeper than the {DEPTH_MAX} levels accepted"));
        }
        if items > ITEMS_MAX {
            return Err(format!("more than the {ITEMS_MAX} values accepted"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_and_count_are_bounded_before_parsing() {
        let deep = "[".repeat(DEPTH_MAX + 1);
        assert!(parse(deep.as_bytes()).expect_err("too deep").contains("levels"));
        let many = format!("[{}0]", "0,".repeat(ITEMS_MAX));
        assert!(parse(many.as_bytes()).expect_err("too many").contains("values"));
    }

    #[test]
    fn brackets_and_commas_in_strings_do_not_count() {
        let text = format!("\"{}\\\"{}\"", "[".repeat(100), ",".repeat(10));
        assert!(parse(text.as_bytes()).is_ok());
        assert!(parse(b"{\"a\": 1").is_err());
        assert!(parse(b"<html>").is_err());
    }
}
