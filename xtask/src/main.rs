//! Project tasks: `cargo xtask demo | test | emulate | miri | bench | fuzz | tidy | dist`.
//!
//! Kept light, since it is built before everything else: it starts other programs and reads their output.

mod bench;
mod command;
mod demo;
mod dist;
mod emulate;
mod fuzz;
mod miri;
mod python;
mod target;
mod test;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask TASK

  demo [--once] [--json] …   builds the programs and runs the whole path on this machine (`whimbrel demo --help`)
  test [FILTER]              every test, on real components that it installs and starts itself
  emulate [aarch64|armv7]    the kernels' tests on other architectures, under qemu
  miri [FILTER]              int8 kernels and threads under Miri, on a nightly toolchain that it installs
  bench [NAME] [--json] …    published figures, each beside its peer in the same run:
                             cpu     inference beside ONNX Runtime, OpenVINO and LiteRT: time, loading, memory, outputs
                             update  transfer, memory, resume, delta, power cuts, kills
                             of cpu: [--models PART,…] [--threads 1,2] [--isa avx2,native] [--rounds N] [--quick]
                             [--agent PROGRAM] [--write-docs] [--profile]
  fuzz [TARGET] [--seconds N] [--keep]
                             tests/fuzz under libFuzzer; --keep adds what reaches further to the corpora
  tidy                       layout, arrows between crates, style rules, board descriptions, links in docs
  dist [--target NAME]       a release archive for one of targets/ (default: this machine's)
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = match args.split_first() {
        Some((task, rest)) => (task.as_str(), rest),
        None => ("", &[][..]),
    };
    let result = match task {
        "demo" => demo::run(rest),
        "test" => test::run(rest),
        "emulate" => emulate::run(rest),
        "miri" => miri::run(rest),
        "bench" => bench::run(rest),
        "fuzz" => fuzz::run(rest),
        "tidy" => tidy::run(),
        "dist" => dist::run(rest),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        other => {
            eprintln!("error: reading the task: {other:?} is none\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(code) => code,
        Err(e) => {
            eprintln!("error: cargo xtask {task}: {e:#}");
            ExitCode::FAILURE
        }
    }
}
