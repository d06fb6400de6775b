//! Signing in, refreshing, signing out; devices and tickets.

use actors::users::SignedOut;
use axum::{
    Json as Answer,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use protocol::{CloseCode, DeviceId, ErrorCode, Millis, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    auth::{
        Credential, Identity,
        sign_ins::{RefreshError, Tokens},
    },
    rest::{
        Rest,
        audit::Act,
        extract::{Address, Json, MaybeJson, Path, SignedIn, Stranger, bearer},
        origin,
        problem::Problem,
        validate::Rules,
        views::{All, DeviceView, OwnProfile},
    },
};

/// The client that keeps its refresh token in a cookie.
const WEB: &str = "web";

/// The routes.
pub(crate) fn routes() -> OpenApiRouter<Rest> {
    OpenApiRouter::new()
        .routes(routes!(sign_in, list, sign_out_everywhere))
        .routes(routes!(refresh))
        .routes(routes!(sign_out_current))
        .routes(routes!(sign_out_device))
        .routes(routes!(ticket))
}

/// Who signs in.
#[derive(Deserialize, ToSchema)]
struct SignIn {
    /// The name, ignoring case.
    name: String,
    password: String,
    /// `web` keeps the refresh token in a cookie; others get it in the body.
    client: Option<String>,
    /// What this device is called in the list of devices.
    device_label: Option<String>,
}

/// A refresh token, unless a cookie holds it.
#[derive(Default, Deserialize, ToSchema)]
struct Refresh {
    refresh_token: Option<String>,
    /// As in signing in.
    client: Option<String>,
}

/// What a client holds after signing in.
#[derive(Serialize, ToSchema)]
pub(crate) struct Session {
    /// Who they are.
    user: OwnProfile,
    /// This sign-in.
    #[schema(value_type = String)]
    device: DeviceId,
    /// For `Authorization: Bearer` and `identify`.
    access_token: String,
    /// When the access token ends.
    expires_at: Millis,
    /// For the next refresh; not for `web`, whose cookie holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
}

/// A ticket for `?ticket=` on `/v1/socket`, or `identify`.
#[derive(Serialize, ToSchema)]
struct Ticket {
    /// Works once.
    ticket: String,
    /// When it ends.
    expires_at: Millis,
}

/// Sign in.
#[utoipa::path(post, path = "/v1/sessions", tag = "sessions", request_body = SignIn,
    responses((status = 200, body = Session)), security(()))]
async fn sign_in(
    State(rest): State<Rest>,
    Stranger(address): Stranger,
    headers: HeaderMap,
    Json(wish): Json<SignIn>,
) -> Result<Response, Problem> {
    let label = Rules::label(wish.device_label.as_deref(), wish.client.as_deref());
    let web = wants_cookie(&rest, &headers, wish.client.as_deref())?;
    // Whatever was typed may be a password in the wrong field: only what could be a name is noted.
    let mut rules = Rules::default();
    let name = rules.user_name(&wish.name);
    let noted = if rules.done().is_ok() { name.clone() } else { "?".into() };
    match rest.auth.sign_in(&name, &wish.password, &label, address).await {
        Ok(tokens) => {
            let act = Act::by(tokens.user.user, "session.created").on(tokens.device).from(address);
            rest.note(act.saying(label)).await;
            Ok(session(&rest, &headers, StatusCode::OK, tokens, web))
        }
        Err(refusal) => {
            // Not those that nobody looked at: they come by the thousand.
            if matches!(refusal.code, ErrorCode::Unauthenticated | ErrorCode::Disabled) {
                let act = Act::by_nobody("session.refused").on(noted).from(address);
                rest.note(act.saying(format!("{:?}", refusal.code))).await;
            }
            Err(refusal.into())
        }
    }
}

/// Get a new access token and the successor of the refresh token.
#[utoipa::path(post, path = "/v1/sessions/refresh", tag = "sessions", request_body = Refresh,
    responses((status = 200, body = Session)), security(("refresh_cookie" = []), ()))]
async fn refresh(
    State(rest): State<Rest>,
    Address(address): Address,
    headers: HeaderMap,
    MaybeJson(wish): MaybeJson<Refresh>,
) -> Result<Response, Problem> {
    let (token, by_cookie) = refresh_token(&rest, &headers, wish.refresh_token)?;
    // A token that came in a cookie stays out of what scripts can read.
    let web = by_cookie || wants_cookie(&rest, &headers, wish.client.as_deref())?;
    match rest.auth.refresh(&token).await {
        Ok(tokens) => Ok(session(&rest, &headers, StatusCode::OK, tokens, web)),
        Err(error) => {
            let problem = refused(&rest, error, address).await;
            let lost = by_cookie && problem.code() == ErrorCode::Unauthenticated;
            let mut response = problem.into_response();
            if lost {
                response.headers_mut().append(header::SET_COOKIE, origin::forget(&headers));
            }
            Ok(response)
        }
    }
}

/// Sign out this device. Without an access token the refresh token says which.
#[utoipa::path(delete, path = "/v1/sessions/current", tag = "sessions", request_body = Option<Refresh>,
    responses((status = 204)), security(("access_token" = []), ("refresh_cookie" = []), ()))]
async fn sign_out_current(
    State(rest): State<Rest>,
    Address(address): Address,
    headers: HeaderMap,
    MaybeJson(wish): MaybeJson<Refresh>,
) -> Result<Response, Problem> {
    let shown = match bearer(&headers) {
        Some(token) => rest.auth.identify(Credential::Token(token)).await.ok(),
        None => None,
    };
    let (user, device) = match shown {
        Some(Identity { user, device, .. }) => {
            rest.store.end_sign_in(device).await?;
            (user, device)
        }
        None => {
            let (token, _) = refresh_token(&rest, &headers, wish.refresh_token)?;
            match rest.auth.end_by_token(&token).await {
                Ok(ended) => ended,
                Err(error) => return Err(refused(&rest, error, address).await),
            }
        }
    };
    rest.users.sign_out(user, SignedOut::Device(device), CloseCode::SignedOut);
    rest.note(Act::by(user, "session.ended").on(device).from(address)).await;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, origin::forget(&headers))]).into_response())
}

/// Sign out everywhere.
#[utoipa::path(delete, path = "/v1/sessions", tag = "sessions", responses((status = 204)))]
async fn sign_out_everywhere(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Address(address): Address,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    rest.store.end_sign_ins(who.user, None).await?;
    rest.users.sign_out(who.user, SignedOut::AllExcept(None), CloseCode::SignedOut);
    rest.note(Act::by(who.user, "session.all_ended").on(who.user).from(address)).await;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, origin::forget(&headers))]).into_response())
}

/// List the devices that are signed in.
#[utoipa::path(get, path = "/v1/sessions", tag = "sessions", responses((status = 200, body = All<DeviceView>)))]
async fn list(State(rest): State<Rest>, SignedIn(who): SignedIn) -> Result<Answer<All<DeviceView>>, Problem> {
    let now = rest.clock.now();
    let sign_ins = rest.store.sign_ins(who.user).await?;
    let standing = sign_ins.into_iter().filter(|sign_in| sign_in.expires_at > now);
    Ok(Answer(All { items: standing.map(|sign_in| DeviceView::new(sign_in, who.device)).collect() }))
}

/// Sign out another device.
#[utoipa::path(delete, path = "/v1/sessions/{device}", tag = "sessions",
    params(("device" = String, Path)), responses((status = 204)))]
async fn sign_out_device(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Address(address): Address,
    Path(device): Path<DeviceId>,
) -> Result<StatusCode, Problem> {
    let own = rest.store.sign_in(device).await?.is_some_and(|sign_in| sign_in.user == who.user);
    if !own || !rest.store.end_sign_in(device).await? {
        return Err(Problem::new(ErrorCode::NotFound, "no such device"));
    }
    rest.users.sign_out(who.user, SignedOut::Device(device), CloseCode::SignedOut);
    rest.note(Act::by(who.user, "session.ended").on(device).from(address)).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Get a ticket for a socket.
#[utoipa::path(post, path = "/v1/tickets", tag = "sessions", responses((status = 201, body = Ticket)))]
async fn ticket(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
) -> Result<(StatusCode, Answer<Ticket>), Problem> {
    let (ticket, expires_at) = rest.auth.ticket(who).await?;
    Ok((StatusCode::CREATED, Answer(Ticket { ticket, expires_at })))
}

/// The answer to whoever signed in.
pub(crate) fn session(
    rest: &Rest,
    headers: &HeaderMap,
    status: StatusCode,
    tokens: Tokens,
    web: bool,
) -> Response {
    let lifetime = tokens.refresh_expires_at.saturating_sub(rest.clock.now());
    let cookie = web.then(|| origin::keep(headers, &tokens.refresh_token, lifetime));
    let body = Session {
        device: tokens.device,
        access_token: tokens.access_token,
        expires_at: tokens.access_expires_at,
        refresh_token: (!web).then_some(tokens.refresh_token),
        user: tokens.user.into(),
    };
    let mut response = (status, Answer(body)).into_response();
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Whether the refresh token goes into a cookie.
pub(crate) fn wants_cookie(rest: &Rest, headers: &HeaderMap, client: Option<&str>) -> Result<bool, Problem> {
    let web = client == Some(WEB);
    if web {
        origin::refuse_foreign_page(headers, &rest.settings)?;
    }
    Ok(web)
}

/// The token of the body or the cookie, and whether it was the cookie's, which counts only from a page of ours.
fn refresh_token(rest: &Rest, headers: &HeaderMap, body: Option<String>) -> Result<(String, bool), Problem> {
    if let Some(token) = body {
        return Ok((token, false));
    }
    let Some(token) = origin::cookie(headers) else {
        return Err(Problem::new(ErrorCode::Unauthenticated, "a refresh token is missing"));
    };
    origin::require_own_page(headers, &rest.settings)?;
    Ok((token.to_owned(), true))
}

/// What follows when a refresh token is not taken.
async fn refused(rest: &Rest, error: RefreshError, address: std::net::IpAddr) -> Problem {
    match error {
        RefreshError::Refused(refusal) => refusal.into(),
        RefreshError::Reused { user, device } => {
            close_reused(rest, user, device);
            rest.note(Act::by_nobody("session.token_reused").on(device).from(address)).await;
            Problem::new(ErrorCode::Unauthenticated, "this refresh token was used before: sign in again")
        }
    }
}

fn close_reused(rest: &Rest, user: UserId, device: DeviceId) {
    tracing::warn!(%user, %device, "an old refresh token was shown: the sign-in is ended");
    rest.users.sign_out(user, SignedOut::Device(device), CloseCode::SignedOut);
}
