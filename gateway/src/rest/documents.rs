//! What describes this server to machines: the OpenAPI and AsyncAPI documents and the keys that sign tokens.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::header;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self, ContentBuilder, Ref, ResponseBuilder,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::rest::{Rest, origin, problem};

const ASYNCAPI: &str = include_str!("../../../docs/asyncapi.yaml");

/// The routes.
pub(crate) fn routes() -> OpenApiRouter<Rest> {
    OpenApiRouter::new().routes(routes!(openapi_json)).routes(routes!(asyncapi)).routes(routes!(jwks))
}

/// The frame of the document; the routes fill it.
#[derive(OpenApi)]
#[openapi(
    info(title = "Rookery", description = "The REST API of Rookery. What is live is described by /v1/asyncapi.yaml.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")),
    components(schemas(problem::Details)),
    security(("access_token" = [])),
    modifiers(&Schemes),
    tags(
        (name = "accounts", description = "People and their accounts"),
        (name = "sessions", description = "Signing in and out"),
        (name = "users", description = "Other people"),
        (name = "rooms", description = "Rooms"),
        (name = "members", description = "Members of rooms"),
        (name = "entries", description = "What is said in rooms"),
        (name = "invites", description = "Invitations by link"),
        (name = "documents", description = "What describes this server"),
        (name = "health", description = "How this node is"),
    )
)]
pub(crate) struct Api;

struct Schemes;

impl Modify for Schemes {
    fn modify(&self, api: &mut openapi::OpenApi) {
        let components = api.components.get_or_insert_default();
        let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        components.add_security_scheme("access_token", SecurityScheme::Http(token));
        let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new(origin::COOKIE)));
        components.add_security_scheme("refresh_cookie", cookie);
    }
}

/// Adds to every operation how it says no.
pub(crate) fn with_refusals(mut api: openapi::OpenApi) -> openapi::OpenApi {
    for item in api.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
            let refusal = ResponseBuilder::new()
                .description("A refusal; `code` says why")
                .content("application/problem+json", content)
                .build();
            operation.responses.responses.insert("default".into(), refusal.into());
        }
    }
    api
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "documents", responses((status = 200)), security(()))]
async fn openapi_json(State(rest): State<Rest>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], rest.openapi.clone()).into_response()
}

/// The socket's document.
#[utoipa::path(get, path = "/v1/asyncapi.yaml", tag = "documents", responses((status = 200)), security(()))]
async fn asyncapi() -> Response {
    ([(header::CONTENT_TYPE, "application/yaml")], ASYNCAPI).into_response()
}

/// The keys that sign access tokens.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "documents", responses((status = 200)), security(()))]
async fn jwks(State(rest): State<Rest>) -> Json<serde_json::Value> {
    Json(rest.auth.jwks())
}
