//! How REST says no: problem+json (RFC 9457) with the codes that frames use.

use std::borrow::Cow;

use actors::session::Refusal;
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use protocol::{ErrorCode, Seq};
use serde::Serialize;
use store::StoreError;
use utoipa::ToSchema;

use crate::auth::store_failed;

/// A refused request.
#[derive(Debug, Clone)]
pub(crate) struct Problem(Box<Details>);

/// The body of a refusal.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Details {
    /// Always `about:blank`: `code` says what happened.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The code in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What happened; the codes are those of frames.
    #[schema(value_type = String, example = "not_a_member")]
    code: ErrorCode,
    /// For people.
    detail: Cow<'static, str>,
    /// When to try again, in milliseconds; also told as `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    /// What is wrong with which field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<FieldProblem>,
    /// With `out_of_order`: where the counter stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<u64>,
    /// With `stored`: where it is, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<Seq>,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldProblem {
    /// Its name in the request.
    pub(crate) field: &'static str,
    /// For people.
    pub(crate) message: Cow<'static, str>,
}

impl Problem {
    /// A refusal.
    pub(crate) fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Details {
            kind: "about:blank",
            title: title(code),
            status: code.http_status(),
            code,
            detail: detail.into(),
            retry_after_ms: None,
            fields: Vec::new(),
            expected: None,
            seq: None,
        }))
    }

    /// Fields that break rules.
    pub(crate) fn fields(fields: Vec<FieldProblem>) -> Self {
        Self::new(ErrorCode::Invalid, "some fields are not as they have to be").with_fields(fields)
    }

    /// One field that breaks a rule.
    pub(crate) fn field(field: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::fields(vec![FieldProblem { field, message: message.into() }])
    }

    /// With the fields that it is about.
    pub(crate) fn with_fields(mut self, fields: Vec<FieldProblem>) -> Self {
        self.0.fields = fields;
        self
    }

    /// With advice when to try again.
    pub(crate) fn retry_after(mut self, millis: u64) -> Self {
        self.0.retry_after_ms = Some(millis);
        self
    }

    /// With a status that HTTP has a word for and the codes do not.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = status.as_u16();
        self
    }

    /// What happened.
    pub(crate) fn code(&self) -> ErrorCode {
        self.0.code
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let mut problem = Self::new(refusal.code, refusal.message);
        problem.0.retry_after_ms = refusal.retry_after_ms;
        problem.0.expected = refusal.expected;
        problem.0.seq = refusal.seq;
        problem
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        store_failed(error).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let seconds = self.0.retry_after_ms.map(|millis| millis.div_ceil(1000).max(1));
        let mut response = (status, Json(*self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn title(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Invalid => "Invalid request",
        ErrorCode::Unsupported => "Unsupported",
        ErrorCode::Unauthenticated => "Not signed in",
        ErrorCode::Expired => "Token expired",
        ErrorCode::Forbidden => "Not allowed",
        ErrorCode::NotFound => "Not found",
        ErrorCode::NotAMember => "Not a member",
        ErrorCode::Banned => "Banned",
        ErrorCode::Muted => "Muted",
        ErrorCode::Blocked => "Blocked",
        ErrorCode::Disabled => "Account disabled",
        ErrorCode::Taken => "In use",
        ErrorCode::Conflict => "Conflict",
        ErrorCode::OutOfOrder => "Out of order",
        ErrorCode::Stored => "Already stored",
        ErrorCode::Unknown => "Outcome unknown",
        ErrorCode::RateLimited => "Too many requests",
        ErrorCode::Overloaded => "Overloaded",
        ErrorCode::TooLarge => "Too large",
        ErrorCode::TooMany => "Too many",
        ErrorCode::InviteInvalid => "Invitation not valid",
        ErrorCode::Unavailable => "Unavailable",
        _ => "Internal error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_title_of_its_own() {
        let titles: std::collections::HashSet<_> = ErrorCode::ALL.iter().map(|code| title(*code)).collect();
        assert_eq!(titles.len(), ErrorCode::ALL.len());
    }

    #[test]
    fn the_header_rounds_the_wait_up_to_whole_seconds() {
        for (millis, seconds) in [(1, "1"), (1_000, "1"), (1_001, "2"), (0, "1")] {
            let response = Problem::new(ErrorCode::RateLimited, "").retry_after(millis).into_response();
            assert_eq!(response.headers()[header::RETRY_AFTER], seconds);
        }
    }
}
