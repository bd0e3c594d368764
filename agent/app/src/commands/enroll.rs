//! `enroll`: joins a fleet.

use crate::{
    cli::EnrollArgs,
    config::server_url,
    enroll::{Enrolment, enroll},
    failure::Failure,
    platform::host_name,
};
use std::{fs::File, io::Read, path::Path};
use whimbrel_wire::{DeviceId, api::EnrollToken};

/// Largest accepted token file.
const TOKEN_BYTES_MAX: u64 = 4096;
const ATTEMPTED: &str = "enrolling";

/// Runs the command.
///
/// # Errors
/// An argument is not valid; see [`enroll`].
pub(crate) async fn run(args: &EnrollArgs) -> Result<(), Failure> {
    let state_dir = args.config.load()?.config.device.state_dir;
    let server = server_url(&args.server).ok_or_else(|| {
        Failure::usage(ATTEMPTED, format!("--server {}: expected https://HOST:PORT", args.server))
    })?;
    let token: EnrollToken = token_text(args)?
        .trim()
        .parse()
        .map_err(|e| Failure::usage(ATTEMPTED, e).hint("`whimbrel enroll create` makes one"))?;
    let device = match &args.device {
        Some(device) => device.clone(),
        None => device_of_host()?,
    };
    let (mqtt_port, force) = (args.mqtt_port, args.force);
    let membership =
        enroll(&Enrolment { server, token, device, mqtt_port, state_dir: state_dir.clone(), force }).await?;
    println!("enrolled: {} in tenant {} at {}", membership.device, membership.tenant, membership.server);
    println!("state: {}", state_dir.display());
    Ok(())
}

fn token_text(args: &EnrollArgs) -> Result<String, Failure> {
    match (&args.token, &args.token_file) {
        (Some(token), _) => Ok(token.clone()),
        (None, Some(path)) => read(path).map_err(|e| {
            Failure::usage(ATTEMPTED, format!("reading the token from {}: {e}", path.display()))
        }),
        (None, None) => Err(Failure::usage(ATTEMPTED, "no token was given")),
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
    } else {
        File::open(path)?.take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
    }
    Ok(text)
}

fn device_of_host() -> Result<DeviceId, Failure> {
    let name = host_name().unwrap_or_default().to_lowercase();
    name.parse().map_err(|e| {
        Failure::usage(ATTEMPTED, format!("the host's name is no device id: {e}"))
            .hint("name one with --device")
    })
}
