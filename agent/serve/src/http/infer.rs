//! Inference.

use super::{App, body, error::ApiError, path::ModelPath};
use crate::{
    loaded::InferError,
    observer::{Observation, Observer, Outcome},
    oip::{
        excerpt,
        request::{self, InferRequest},
        response::{self, Encoded, InferResponse},
    },
    registry::{Answered, Serving},
};
use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use std::sync::{Arc, atomic::Ordering};
use whimbrel_infer::Tensor;

/// Says where the JSON head ends and binary tensors begin.
const HEAD_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// `POST /v2/models/{model}/infer`, `POST /v2/models/{model}/versions/{version}/infer`.
pub(crate) async fn infer(
    State(app): State<Arc<App>>,
    path: ModelPath,
    request: Request,
) -> Result<Response, ApiError> {
    let _in_flight = app.metrics.in_flight();
    handle(&app, &path, request).await
}

async fn handle(app: &Arc<App>, path: &ModelPath, request: Request) -> Result<Response, ApiError> {
    let rejected = |error: ApiError| {
        app.metrics.rejected(error.reason);
        error
    };
    let serving = path.find(app).map_err(rejected)?;
    let head_length = head_length(request.headers()).map_err(rejected)?;
    let held = body::read(app, request.into_body()).await.map_err(rejected)?;
    let sequence = app.requests.fetch_add(1, Ordering::Relaxed);
    let request_id = format!("{:016x}-{sequence}", app.start_id);
    let work = {
        let app = Arc::clone(app);
        move || {
            let request =
                request::parse(&held.bytes, head_length, &app.limits).map_err(ApiError::bad_request);
            // Not held while the model runs: the tensors have been made of it.
            drop(held);
            answer(&app, &serving, request.map_err(|e| count(&app, e))?, &request_id)
        }
    };
    let encoded = app.pool.run(app.limits.queue_wait_max, work).await.map_err(|e| rejected(e.into()))??;
    Ok(into_response(encoded))
}

fn count(app: &App, error: ApiError) -> ApiError {
    app.metrics.rejected(error.reason);
    error
}

fn head_length(headers: &HeaderMap) -> Result<Option<usize>, ApiError> {
    let encoded = headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity");
    if encoded {
        return Err(ApiError::bad_request("compressed bodies are not supported; send the request as it is"));
    }
    let Some(value) = headers.get(HEAD_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length
        .map(Some)
        .ok_or_else(|| ApiError::bad_request("Inference-Header-Content-Length is not a number of bytes"))
}

/// Runs the model. Blocks.
fn answer(
    app: &App,
    serving: &Serving,
    request: InferRequest,
    request_id: &str,
) -> Result<Encoded, ApiError> {
    let InferRequest { id, inputs, outputs, binary_outputs } = request;
    // Before the run: a request that names an output which does not exist must not cost one, nor count as one.
    let wanted = wanted(serving, outputs, binary_outputs).map_err(|e| count(app, e))?;
    let observer = Counting { app };
    let answered = serving.answer(inputs, &observer).map_err(|error| refused(app, error))?;
    let Answered { answer, version, fallback } = &answered;
    let version = version.to_string();
    let tensor = |name: &str| answer.outputs.iter().find(|(n, _)| n == name).map(|(_, tensor)| &**tensor);
    let outputs: Option<Vec<(&str, &Tensor, bool)>> =
        wanted.iter().map(|(name, binary)| Some((name.as_str(), tensor(name)?, *binary))).collect();
    let outputs = outputs.ok_or_else(|| {
        // Only where the fallback answered, and has other outputs than the version that was asked.
        ApiError::bad_request(format!("version {version} answered and lacks an output that was asked for"))
    })?;
    response::encode(&InferResponse {
        model_name: serving.primary().name().as_str(),
        model_version: &version,
        id: id.as_deref(),
        request_id,
        fallback: *fallback,
        outputs,
    })
    .map_err(ApiError::bad_request)
}

fn refused(app: &App, error: InferError) -> ApiError {
    let is_bad_input = error.is_bad_input();
    let error = ApiError::from(error);
    if is_bad_input { count(app, error) } else { error }
}

fn wanted(
    serving: &Serving,
    outputs: Option<Vec<(String, bool)>>,
    binary_outputs: bool,
) -> Result<Vec<(String, bool)>, ApiError> {
    let specs = serving.primary().outputs();
    // An empty list asks for all, as leaving it out does.
    let Some(outputs) = outputs.filter(|outputs| !outputs.is_empty()) else {
        return Ok(specs.iter().map(|spec| (spec.name.clone(), binary_outputs)).collect());
    };
    match outputs.iter().find(|(name, _)| !specs.iter().any(|spec| spec.name == *name)) {
        Some((name, _)) => Err(ApiError::bad_request(format!(
            "output {} is not one of model {}",
            excerpt(name),
            serving.primary().name()
        ))),
        None => Ok(outputs),
    }
}

fn into_response(encoded: Encoded) -> Response {
    let Encoded { body, head_length } = encoded;
    let mut response = Response::new(Body::from(body));
    let content_type = if head_length.is_some() { "application/octet-stream" } else { "application/json" };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(length) = head_length {
        response.headers_mut().insert(HEAD_LENGTH, HeaderValue::from(length));
    }
    response
}

/// Counts in the metrics what the observer is told.
struct Counting<'a> {
    app: &'a App,
}

impl Observer for Counting<'_> {
    fn observe(&self, observation: &Observation<'_>) {
        let outcome = match observation.outcome {
            Outcome::Ok => "ok",
            Outcome::Failed { kind } => kind,
        };
        let version = observation.version.to_string();
        self.app.metrics.answered(observation.model.as_str(), &version, outcome, observation.latency);
        self.app.observer.observe(observation);
    }
}
