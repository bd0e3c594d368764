//! Asks a model on the agent which digit an image shows, over TCP or over the agent's Unix socket.
//!
//! Exits with 0 after an answer, 1 when the agent could not be reached or refused, 2 on bad usage or a bad image file.

mod agent;
mod image;

use agent::{Agent, Answer};
use clap::Parser;
use image::Image;
use serde_json::json;
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// Asks a model on the agent which digit an image shows.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where the agent listens: http://HOST:PORT or unix:PATH
    #[arg(long, value_name = "URL", default_value = "unix:/run/whimbrel/agent.sock")]
    url: Agent,
    /// The model's name
    #[arg(long, default_value = "digits", value_parser = agent::model_name)]
    model: String,
    /// An .npz file with `pixels`, `[N, 1, 8, 8]`, and `labels`, `[N]`
    #[arg(long, value_name = "NPZ", default_value = "examples/digits/heldout.npz")]
    images: PathBuf,
    /// Which image of it
    #[arg(long, value_name = "I", default_value_t = 0)]
    index: u64,
    /// Seconds to wait for the answer
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let image = match image::read(&arguments.images, arguments.index) {
        Ok(image) => image,
        Err(error) => {
            return fail(&error, "name a file and an index with --images and --index", 2, arguments.json);
        }
    };
    let timeout = Duration::from_secs(arguments.timeout);
    match arguments.url.classify(&arguments.model, &image.pixels, timeout).await {
        Ok(answer) => {
            print(&arguments, &image, &answer);
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, "is whimbrel-agent serving that model there?", 1, arguments.json),
    }
}

fn print(arguments: &Arguments, image: &Image, answer: &Answer) {
    if arguments.json {
        let report = json!({
            "index": arguments.index,
            "expected": image.label.to_string(),
            "label": answer.label,
            "score": answer.score,
            "model_version": answer.model_version,
            "fallback": answer.fallback,
        });
        println!("{report}");
        return;
    }
    let version = answer.model_version.as_deref().unwrap_or("unknown");
    let note = if answer.fallback { " (answered by the previous version)" } else { "" };
    println!(
        "image {}: {:?} with score {:.4}, expected \"{}\", version {version}{note}",
        arguments.index, answer.label, answer.score, image.label
    );
}

fn fail(error: &anyhow::Error, hint: &str, exit_code: u8, json: bool) -> ExitCode {
    if json {
        eprintln!("{}", json!({ "error": format!("{error:#}"), "hint": hint, "exit_code": exit_code }));
    } else {
        eprintln!("error: {error:#}\nhint: {hint}");
    }
    ExitCode::from(exit_code)
}
