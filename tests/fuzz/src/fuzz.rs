//! One target under libFuzzer: `FUZZ_TARGET=NAME fuzz CORPUS… -max_total_time=…`. Started by `cargo xtask fuzz`.

#![no_main]

use std::sync::LazyLock;
use whimbrel_fuzz::target;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    target(&name).unwrap_or_else(|| {
        eprintln!("error: fuzzing: FUZZ_TARGET={name:?} names no target");
        std::process::exit(2)
    })
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET(bytes));
