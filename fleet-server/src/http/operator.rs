//! The JSON API for operators.

use super::{
    Shared,
    extract::{DeviceOperator, Json, Raw, Releaser, Viewer},
};
use crate::{
    rollout::Command,
    service::{Fault, INDEX_BYTES_MAX, STORED_CHUNK_BYTES_MAX},
};
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde_json::json;
use std::str::FromStr;
use whimbrel_wire::{
    DeviceId, Digest,
    api::{Hashes, NewRollout, NewToken},
};

/// Largest root or targets metadata.
const METADATA_BYTES_MAX: usize = 5_000_000;

pub(crate) async fn create_token(
    State(state): State<Shared>,
    by: DeviceOperator,
    Json(new): Json<NewToken>,
) -> Result<Response, Fault> {
    Ok((StatusCode::CREATED, axum::Json(state.fleet.create_token(&new, &by.0).await?)).into_response())
}

pub(crate) async fn devices(State(state): State<Shared>, _: Viewer) -> Result<Response, Fault> {
    let views: Vec<_> = state.fleet.devices().await?.into_iter().map(|d| d.view).collect();
    Ok(axum::Json(json!({ "devices": views })).into_response())
}

pub(crate) async fn device(
    State(state): State<Shared>,
    _: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Fault> {
    Ok(axum::Json(state.fleet.device(parse::<DeviceId>("device", &id)?).await?.view).into_response())
}

pub(crate) async fn revoke(
    State(state): State<Shared>,
    by: DeviceOperator,
    Path(id): Path<String>,
) -> Result<StatusCode, Fault> {
    state.fleet.revoke(parse("device", &id)?, &by.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn repository(State(state): State<Shared>, _: Viewer) -> Result<Response, Fault> {
    Ok(axum::Json(state.fleet.repository().await?).into_response())
}

pub(crate) async fn put_root(
    State(state): State<Shared>,
    by: Releaser,
    Raw(bytes): Raw<METADATA_BYTES_MAX>,
) -> Result<StatusCode, Fault> {
    state.fleet.put_root(&bytes, &by.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn put_targets(
    State(state): State<Shared>,
    by: Releaser,
    Raw(bytes): Raw<METADATA_BYTES_MAX>,
) -> Result<StatusCode, Fault> {
    state.fleet.put_targets(&bytes, &by.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/v1/repository/delegated/{ROLE}.json`, the role's name percent-encoded as in the name of its file.
pub(crate) async fn put_delegated(
    State(state): State<Shared>,
    by: Releaser,
    Path(file): Path<String>,
    Raw(bytes): Raw<METADATA_BYTES_MAX>,
) -> Result<StatusCode, Fault> {
    let role = file.strip_suffix(".json").ok_or_else(|| Fault::not_found("a role's file ends in .json"))?;
    state.fleet.put_delegated(role, &bytes, &by.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn put_target(
    State(state): State<Shared>,
    _: Releaser,
    Path(hash): Path<String>,
    Raw(bytes): Raw<INDEX_BYTES_MAX>,
) -> Result<StatusCode, Fault> {
    state.fleet.put_target(parse::<Digest>("hash", &hash)?, bytes).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn put_chunk(
    State(state): State<Shared>,
    _: Releaser,
    Path(hash): Path<String>,
    Raw(bytes): Raw<STORED_CHUNK_BYTES_MAX>,
) -> Result<StatusCode, Fault> {
    state.fleet.put_chunk(parse::<Digest>("hash", &hash)?, bytes).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn missing_chunks(
    State(state): State<Shared>,
    _: Releaser,
    Json(asked): Json<Hashes>,
) -> Result<Response, Fault> {
    let hashes = state.fleet.missing_chunks(asked.hashes).await?;
    Ok(axum::Json(Hashes { hashes }).into_response())
}

pub(crate) async fn models(State(state): State<Shared>, _: Viewer) -> Result<Response, Fault> {
    Ok(axum::Json(json!({ "models": state.fleet.models().await? })).into_response())
}

pub(crate) async fn start_rollout(
    State(state): State<Shared>,
    by: Releaser,
    Json(new): Json<NewRollout>,
) -> Result<Response, Fault> {
    Ok((StatusCode::CREATED, axum::Json(state.fleet.start_rollout(&new, &by.0).await?)).into_response())
}

/// A question, though it has a body: whoever may look may ask.
pub(crate) async fn plan_rollout(
    State(state): State<Shared>,
    _: Viewer,
    Json(new): Json<NewRollout>,
) -> Result<Response, Fault> {
    Ok(axum::Json(state.fleet.plan_rollout(&new).await?).into_response())
}

pub(crate) async fn rollouts(State(state): State<Shared>, _: Viewer) -> Result<Response, Fault> {
    Ok(axum::Json(json!({ "rollouts": state.fleet.rollouts().await? })).into_response())
}

pub(crate) async fn rollout(
    State(state): State<Shared>,
    _: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Fault> {
    Ok(axum::Json(state.fleet.rollout(&id).await?).into_response())
}

pub(crate) async fn command(
    State(state): State<Shared>,
    by: Releaser,
    Path((id, what)): Path<(String, String)>,
) -> Result<Response, Fault> {
    let command = command_named(&what)?;
    Ok(axum::Json(state.fleet.command(&id, command, &by.0).await?).into_response())
}

pub(crate) async fn telemetry(State(state): State<Shared>, _: Viewer) -> Result<Response, Fault> {
    Ok(axum::Json(json!({ "summary": state.fleet.telemetry().await? })).into_response())
}

/// The command at the end of a path.
pub(crate) fn command_named(what: &str) -> Result<Command, Fault> {
    match what {
        "pause" => Ok(Command::Pause),
        "resume" => Ok(Command::Resume),
        "abort" => Ok(Command::Abort),
        "rollback" => Ok(Command::RollBack),
        _ => Err(Fault::not_found("a rollout knows pause, resume, abort and rollback")),
    }
}

fn parse<T: FromStr>(what: &str, text: &str) -> Result<T, Fault>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|e| Fault::invalid(format!("{what}: {e}")))
}
