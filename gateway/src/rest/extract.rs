//! What handlers take from a request, and how they refuse what they can't.

use std::{convert::Infallible, net::IpAddr};

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, rejection::BytesRejection},
};
use http::{HeaderMap, StatusCode, header, request::Parts};
use protocol::ErrorCode;
use serde::de::DeserializeOwned;

use crate::{
    ClientAddress,
    auth::{Identity, sign_ins::network},
    rest::{Rest, problem::Problem},
};

/// A JSON body. The content type has to say so.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Rest> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, rest: &Rest) -> Result<Self, Problem> {
        let is_json = says_json(request.headers());
        let bytes = Bytes::from_request(request, rest).await.map_err(unreadable)?;
        if !is_json {
            return Err(not_json());
        }
        parse(&bytes).map(Self)
    }
}

/// A JSON body that may be left out altogether.
pub(crate) struct MaybeJson<T>(pub(crate) T);

impl<T: DeserializeOwned + Default> FromRequest<Rest> for MaybeJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, rest: &Rest) -> Result<Self, Problem> {
        let is_json = says_json(request.headers());
        let bytes = Bytes::from_request(request, rest).await.map_err(unreadable)?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        if !is_json {
            return Err(not_json());
        }
        parse(&bytes).map(Self)
    }
}

/// Whether the request declares a JSON body. Pages of other origins can't without asking first (CORS).
pub(crate) fn says_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// The refusal of a body that is not declared as JSON.
pub(crate) fn not_json() -> Problem {
    Problem::new(ErrorCode::Invalid, "the content type has to be application/json")
        .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| Problem::new(ErrorCode::Invalid, error.to_string()))
}

fn unreadable(rejection: BytesRejection) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Problem::new(ErrorCode::TooLarge, "the body is larger than 64 KiB");
    }
    Problem::new(ErrorCode::Invalid, "the body can't be read")
}

/// What the path names.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Rest> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, rest: &Rest) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, rest).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(Problem::new(ErrorCode::Invalid, rejection.body_text())),
        }
    }
}

/// What the query asks for.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Rest> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, rest: &Rest) -> Result<Self, Problem> {
        match axum::extract::Query::from_request_parts(parts, rest).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(Problem::new(ErrorCode::Invalid, rejection.body_text())),
        }
    }
}

/// Who asks: somebody signed in. Put there by [`crate::rest::guard`] for every route that the list of routes does not
/// open to others.
pub(crate) struct SignedIn(pub(crate) Identity);

impl FromRequestParts<Rest> for SignedIn {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Rest) -> Result<Self, Problem> {
        let identity = parts.extensions.get::<Identity>().copied();
        identity.map(Self).ok_or_else(|| Problem::new(ErrorCode::Unauthenticated, "sign in first"))
    }
}

/// Where the client is.
pub(crate) struct Address(pub(crate) IpAddr);

impl FromRequestParts<Rest> for Address {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Rest) -> Result<Self, Infallible> {
        Ok(Self(address(&parts.extensions)))
    }
}

/// Somebody who is not signed in and asks for something that costs: at a stranger's rate.
pub(crate) struct Stranger(pub(crate) IpAddr);

impl FromRequestParts<Rest> for Stranger {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, rest: &Rest) -> Result<Self, Problem> {
        let address = address(&parts.extensions);
        rest.rates.strangers.take(&network(address))?;
        Ok(Self(address))
    }
}

/// The client's address, as the listener told it; requests without one (there are none) share one.
pub(crate) fn address(extensions: &http::Extensions) -> IpAddr {
    extensions.get::<ClientAddress>().map_or(IpAddr::from([0, 0, 0, 0]), |address| address.0)
}

/// The token of an `Authorization: Bearer` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
