//! `doctor`: checks this device, and says what to do about what is wrong.
//!
//! | module | holds |
//! |---|---|
//! | [`machine`] | processor, backends, GPUs |
//! | [`kernels`] | what models run on: kernels, threads, memory |
//! | [`state`] | state folder, clock, enrolment |
//! | [`network`] | sockets of the agent, the fleet server |
//! | [`report`] | what a check says |

mod kernels;
mod machine;
mod network;
mod report;
mod state;

use crate::{
    cli::DoctorArgs,
    config::{Loaded, Sources, load},
    failure::Failure,
    identity::Identity,
    platform::platform,
};
use kernels::Kernels;
use report::{Check, Report};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// Runs the command.
///
/// # Errors
/// A check fails.
pub(crate) fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let (config, loaded) = configuration(args);
    let mut checks = vec![config];
    let backend = &loaded.config.serve.backend;
    checks.extend(machine::checks(backend));
    let kernels = Kernels::here(machine::features());
    checks.push(kernels.check(backend));
    checks.push(kernels::threads(&loaded.config.models));
    checks.push(kernels::memory(&loaded.config.models));
    let state_dir = &loaded.config.device.state_dir;
    checks.extend(state::checks(state_dir, OffsetDateTime::now_utc()));
    checks.extend(network::sockets(&loaded.config.serve));
    // What is wrong with the identity is told above.
    if let Ok(Some(identity)) = Identity::load(state_dir) {
        checks.push(network::server(&identity, &loaded.config.server));
    }
    let report = Report { platform: platform(), kernels, gpus: machine::gpus(), checks };
    if args.json {
        println!("{}", report.json().map_err(|e| Failure::failed("writing the report", e))?);
    } else {
        print!("{}", report.text());
    }
    match report.failed() {
        0 => Ok(()),
        n => Err(Failure::failed(
            "checking this device",
            format!("{n} of {} checks failed", report.checks.len()),
        )),
    }
}

/// The configuration; the defaults where it is not valid, so that the other checks can go on.
fn configuration(args: &DoctorArgs) -> (Check, Loaded) {
    match load(&args.config.sources()) {
        Ok(loaded) => {
            let detail = match loaded.files.as_slice() {
                [] => "defaults, no file".to_owned(),
                files => list(files),
            };
            let set = loaded.shown.iter().filter(|s| s.origin != crate::config::Origin::Default).count();
            (Check::ok("configuration", format!("{detail}; {set} values are not the default")), loaded)
        }
        Err(error) => {
            let check = Check::fail("configuration", error.to_string())
                .hint("the checks below are about the defaults; `whimbrel-agent config check` looks again");
            (check, defaults(args.config.state_dir.as_deref()))
        }
    }
}

fn defaults(state_dir: Option<&Path>) -> Loaded {
    let nothing = Sources::new(Path::new(""), None, []);
    let with_flag = load(&nothing.path_flag("--state-dir", ("device", "state_dir"), state_dir));
    #[allow(clippy::expect_used, reason = "a test shows that the defaults are valid")]
    with_flag.or_else(|_| load(&Sources::new(Path::new(""), None, []))).expect("the defaults are valid")
}

fn list(files: &[PathBuf]) -> String {
    files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_valid_configuration_the_defaults_are_checked() {
        assert_eq!(defaults(Some(Path::new("/x"))).config.device.state_dir, Path::new("/x"));
        assert_eq!(defaults(None).config.device.state_dir, Path::new("/var/lib/whimbrel"));
    }
}
