//! How the node is: for orchestrators and load balancers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::rest::Rest;

/// What the node says of itself. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    started: AtomicBool,
    ready: AtomicBool,
}

impl Health {
    /// Starting has ended (well), or not yet.
    pub fn set_started(&self, started: bool) {
        self.0.started.store(started, Ordering::Relaxed);
    }

    /// The node takes work; not while it starts, drains, or has lost its store.
    pub fn set_ready(&self, ready: bool) {
        self.0.ready.store(ready, Ordering::Relaxed);
    }

    /// Whether starting has ended.
    pub fn is_started(&self) -> bool {
        self.0.started.load(Ordering::Relaxed)
    }

    /// Whether the node takes work.
    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Relaxed)
    }
}

/// The routes.
pub(crate) fn routes() -> OpenApiRouter<Rest> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready)).routes(routes!(started))
}

/// The process answers.
#[utoipa::path(get, path = "/healthz/live", tag = "health", responses((status = 200, description = "It does")))]
async fn live() -> Response {
    answer(true)
}

/// The node takes work.
#[utoipa::path(get, path = "/healthz/ready", tag = "health",
    responses((status = 200, description = "It does"), (status = 503, description = "Not now")))]
async fn ready(State(rest): State<Rest>) -> Response {
    answer(rest.health.is_ready())
}

/// The node has started.
#[utoipa::path(get, path = "/healthz/started", tag = "health",
    responses((status = 200, description = "It has"), (status = 503, description = "Not yet")))]
async fn started(State(rest): State<Rest>) -> Response {
    answer(rest.health.is_started())
}

fn answer(well: bool) -> Response {
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(serde_json::json!({ "ok": well }))).into_response()
}
