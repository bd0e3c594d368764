//! Which model and version a path names.

use super::{App, error::ApiError};
use crate::{oip::excerpt, registry::Serving};
use axum::extract::{FromRequestParts, RawPathParams};
use http::{StatusCode, request::Parts};
use std::sync::Arc;
use whimbrel_wire::ModelName;

/// `{model}` and, where the route has it, `{version}`, as the client wrote them.
pub(crate) struct ModelPath {
    model: String,
    version: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for ModelPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| ApiError::bad_request("the path is not valid UTF-8"))?;
        let param = |wanted: &str| params.iter().find(|(name, _)| *name == wanted).map(|(_, v)| v.to_owned());
        Ok(Self { model: param("model").unwrap_or_default(), version: param("version") })
    }
}

impl ModelPath {
    /// What serves the model, where the version asked for is the one that does.
    pub(crate) fn find(&self, app: &App) -> Result<Arc<Serving>, ApiError> {
        let name = self.model.parse::<ModelName>().ok();
        let serving = name.and_then(|name| app.registry.get(&name)).ok_or_else(|| {
            let message = format!("no model {} is served", excerpt(&self.model));
            ApiError::new(StatusCode::NOT_FOUND, "unknown_model", message)
        })?;
        let (name, serves) = (serving.primary().name(), serving.primary().version());
        match &self.version {
            Some(version) if serves.to_string() != *version => {
                let message =
                    format!("version {} of model {name} is not served; {serves} is", excerpt(version));
                Err(ApiError::new(StatusCode::NOT_FOUND, "unknown_version", message))
            }
            _ => Ok(serving),
        }
    }
}
