//! REST: what is not live. Accounts, rooms, members, history; one file per concern.
//!
//! In reading order:
//!
//! * [`routes`]: all routes, and who may use them;
//! * [`guard`] and [`mod@rates`]: what happens around every request;
//! * [`extract`], [`validate`]: what handlers take in; [`views`], [`problem`]: what they give out;
//! * [`accounts`], [`sessions`] (with [`origin`]), [`users`];
//! * [`rooms`] (with [`access`]), [`members`], [`entries`], [`invites`];
//! * [`documents`], [`health`], [`audit`].
//!
//! ```text
//!   request ─▶ headers ─ CORS ─ rate by address ─ deadline ─▶ route ─ who is it? rate by user ─▶ handler
//!                                                                           store · rooms · users ◀──┘
//! ```

use std::{ops::Deref, sync::Arc};

use actors::{Chance, Clock, Rooms, Users};
use axum::{
    Router,
    body::Bytes,
    extract::DefaultBodyLimit,
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use protocol::{ErrorCode, limits};
use store::Store;
use tokio_util::task::TaskTracker;
use tower_http::cors::CorsLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use self::{
    documents::Api,
    problem::Problem,
    rates::{Rate, Rates},
};
use crate::{auth::Auth, web};

mod access;
mod accounts;
mod audit;
mod documents;
mod entries;
mod extract;
mod guard;
pub mod health;
mod invites;
mod members;
mod origin;
mod problem;
pub mod rates;
mod rooms;
pub mod routes;
mod schema;
mod sessions;
pub mod settings;
mod users;
mod validate;
mod views;

pub use health::Health;
pub use settings::RestSettings;

/// What REST is made of.
#[derive(Clone)]
pub struct RestParts {
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// Every room.
    pub rooms: Rooms,
    /// Every connected user.
    pub users: Users,
    /// Who somebody is.
    pub auth: Arc<Auth>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub chance: Arc<dyn Chance>,
    /// How the node is; the node sets it.
    pub health: Health,
    /// Requests that change something run here; the node waits for them when it stops.
    pub tasks: TaskTracker,
    /// What the operator chose.
    pub settings: RestSettings,
}

/// What all requests share.
pub(crate) struct Shared {
    parts: RestParts,
    rates: Rates,
    openapi: Bytes,
}

/// The state of handlers.
pub(crate) type Rest = Arc<Shared>;

impl Deref for Shared {
    type Target = RestParts;

    fn deref(&self) -> &RestParts {
        &self.parts
    }
}

/// All of REST and the web client, for the listener.
pub fn router(parts: RestParts) -> Router {
    let (routes, api) = OpenApiRouter::with_openapi(Api::openapi())
        .merge(health::routes())
        .merge(documents::routes())
        .merge(accounts::routes())
        .merge(sessions::routes())
        .merge(users::routes())
        .merge(rooms::routes())
        .merge(members::routes())
        .merge(entries::routes())
        .merge(invites::routes())
        .split_for_parts();
    let api = documents::with_refusals(api);
    let openapi = serde_json::to_vec(&api).expect("the document holds texts and numbers").into();
    let cors = cors(&parts.settings);
    let rest: Rest = Arc::new(Shared { rates: rates(&parts), parts, openapi });
    let routes = routes
        .route_layer(from_fn_with_state(Arc::clone(&rest), guard::authenticate))
        .route_layer(from_fn(guard::observe))
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(limits::FRAME_BYTES))
        .layer(from_fn_with_state(Arc::clone(&rest), guard::finish))
        .layer(from_fn_with_state(Arc::clone(&rest), guard::throttle))
        .fallback(elsewhere);
    let routes = match cors {
        Some(cors) => routes.layer(cors),
        None => routes,
    };
    routes.layer(axum::middleware::map_response(harden)).with_state(rest)
}

fn rates(parts: &RestParts) -> Rates {
    let rate = |rate| Rate::new(rate, Arc::clone(&parts.clock));
    Rates {
        addresses: rate(parts.settings.per_address),
        strangers: rate(parts.settings.per_stranger),
        users: rate(parts.settings.per_user),
    }
}

/// Which pages of other origins may read answers. None unless the operator names them.
fn cors(settings: &RestSettings) -> Option<CorsLayer> {
    let origins: Vec<_> =
        settings.allowed_origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    (!origins.is_empty()).then(|| {
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods(methods)
            .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
            .expose_headers([header::RETRY_AFTER])
            .allow_credentials(true)
    })
}

/// Whatever is no route: a file of the web client, or nothing.
async fn elsewhere(method: Method, uri: http::Uri, headers: http::HeaderMap) -> Response {
    let path = uri.path();
    let is_api = ["/v1/", "/healthz/", "/.well-known/"].iter().any(|root| path.starts_with(root));
    if is_api || path == "/v1" {
        return Problem::new(ErrorCode::NotFound, "no such path").into_response();
    }
    if !matches!(method, Method::GET | Method::HEAD) {
        return no_such_method().await;
    }
    web::serve(path, &headers)
        .unwrap_or_else(|| Problem::new(ErrorCode::NotFound, "no such page").into_response())
}

async fn no_such_method() -> Response {
    let problem = Problem::new(ErrorCode::Unsupported, "not with this method");
    problem.with_status(StatusCode::METHOD_NOT_ALLOWED).into_response()
}

/// Headers that make browsers careful, on every answer that does not bring its own.
async fn harden(mut response: Response) -> Response {
    const HEADERS: [(HeaderName, &str); 6] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
