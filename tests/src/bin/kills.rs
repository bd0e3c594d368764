//! `kills [N] [SEED]`: kills a real agent N times (500 by default) and prints what held, as JSON. The programs must have been built,
//! and `WHIMBREL_BIN_DIR` say where. Exit code 1 when something did not hold.

#![allow(clippy::expect_used, reason = "a check fails by a panic that says why")]

use std::process::ExitCode;

fn main() -> ExitCode {
    let number = |at: usize, or: u64| std::env::args().nth(at).map_or(or, |n| n.parse().expect("a number"));
    let dir = tempfile::tempdir().expect("a folder for the run");
    let kills = u32::try_from(number(1, 500)).expect("a small number");
    let result = whimbrel_tests::kill_again_and_again(dir.path(), kills, number(2, 1));
    println!("{}", result.to_json());
    ExitCode::from(u8::from(!result.violations.is_empty()))
}
