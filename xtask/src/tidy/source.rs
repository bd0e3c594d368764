//! Rules for Rust files.

use std::path::Path;

const LINES_MAX: usize = 600;
/// Where `unsafe` may stand: the architecture folders of the kernels, the threads that work on borrowed parts, and the mapping of
/// the plan cache.
const UNSAFE_FOLDERS: [&str; 5] = [
    "agent/cpu/src/x86_64",
    "agent/cpu/src/aarch64",
    "agent/cpu/src/arm",
    "agent/cpu/src/threads",
    "agent/infer/src/cache/mapping",
];

pub(super) fn check(file: &Path, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let name = file.display();
    let lines = text.lines().count();
    if lines > LINES_MAX {
        problems.push(format!("{name}: {lines} lines, at most {LINES_MAX}: split it along a seam"));
    }
    // What unit tests are for is said by the module that they test.
    if !text.starts_with("//!") && !file.ends_with("tests.rs") {
        problems.push(format!("{name}: must start by saying what it is for (//!)"));
    }
    let allowed = UNSAFE_FOLDERS.iter().any(|folder| file.starts_with(folder));
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let at = number + 1;
        if !allowed
            && (code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl"))
            && !code.contains('"')
        {
            problems.push(format!("{name}:{at}: unsafe outside the architecture folders"));
        }
        if code.contains("#[ignore") && !code.contains('"') {
            problems.push(format!("{name}:{at}: an ignored test"));
        }
        if line.contains("allow(")
            && line.contains("#[")
            && !line.contains("reason")
            && code.trim_end().ends_with(")]")
        {
            problems.push(format!("{name}:{at}: a lint exception without a reason"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_defect_is_named() {
        let long = format!("//! x\n{}", "\n".repeat(601));
        let cases = [
            ("a.rs", "fn f() {}", "must start"),
            ("a.rs", long.as_str(), "at most"),
            ("agent/serve/src/a.rs", "//! x\nunsafe { f() }", "unsafe outside"),
            ("a.rs", "//! x\n#[ignore]", "ignored"),
            ("a.rs", "//! x\n#[allow(dead_code)]", "without a reason"),
        ];
        for (file, text, expected) in cases {
            let problems = check(Path::new(file), text);
            assert!(problems.len() == 1 && problems[0].contains(expected), "{file}: {problems:?}");
        }
        assert!(check(Path::new("agent/cpu/src/x86_64/a.rs"), "//! x\nunsafe { f() }").is_empty());
    }
}
