//! Making an account, and what people change about their own.

use actors::users::SignedOut;
use axum::{Json as Answer, extract::State, response::Response};
use http::{HeaderMap, StatusCode};
use protocol::{CloseCode, ErrorCode, UserId};
use serde::Deserialize;
use store::accounts::{NewUser, ProfileChange, UserRecord};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::rest::{
    Rest,
    audit::Act,
    extract::{Address, Json, SignedIn, Stranger},
    problem::{FieldProblem, Problem},
    sessions::{Session, session, wants_cookie},
    validate::Rules,
    views::OwnProfile,
};

/// Avatars' first colours: the new account's id picks one. Dark enough for white text.
const COLOURS: [&str; 8] =
    ["#b3261e", "#8c4a00", "#5d6200", "#1f6b2c", "#006a6a", "#0061a4", "#4f4cb0", "#8a3d93"];

/// The routes.
pub(crate) fn routes() -> OpenApiRouter<Rest> {
    OpenApiRouter::new().routes(routes!(create)).routes(routes!(me, change)).routes(routes!(change_password))
}

/// Who wants an account.
#[derive(Deserialize, ToSchema)]
struct NewAccount {
    /// 3 to 32 of a to z, 0 to 9, `_`, `.`, `-`; case is ignored.
    name: String,
    /// 8 to 256 bytes.
    password: String,
    email: Option<String>,
    full_name: Option<String>,
    /// `web` keeps the refresh token in a cookie; others get it in the body.
    client: Option<String>,
    /// What this device is called in the list of devices.
    device_label: Option<String>,
}

/// What changes; the rest stays.
#[derive(Deserialize, ToSchema)]
struct Change {
    display_name: Option<String>,
    /// Empty takes it away.
    full_name: Option<String>,
    /// `#rrggbb`.
    colour: Option<String>,
}

/// A new password.
#[derive(Deserialize, ToSchema)]
struct NewPassword {
    old_password: String,
    /// 8 to 256 bytes.
    new_password: String,
}

/// Make an account and sign in.
#[utoipa::path(post, path = "/v1/accounts", tag = "accounts", request_body = NewAccount,
    responses((status = 201, body = Session)), security(()))]
async fn create(
    State(rest): State<Rest>,
    Stranger(address): Stranger,
    headers: HeaderMap,
    Json(wish): Json<NewAccount>,
) -> Result<Response, Problem> {
    let web = wants_cookie(&rest, &headers, wish.client.as_deref())?;
    let label = Rules::label(wish.device_label.as_deref(), wish.client.as_deref());
    let user = account(&rest, &wish).await?;
    match rest.store.create_user(&user).await? {
        NewUser::Created => {}
        NewUser::NameTaken => return Err(taken("name", "the name is in use")),
        NewUser::EmailTaken => return Err(taken("email", "the address is in use")),
    }
    rest.note(Act::by(user.user, "account.created").on(user.user).from(address)).await;
    let tokens = rest.auth.open(user, &label).await?;
    Ok(session(&rest, &headers, StatusCode::CREATED, tokens, web))
}

async fn account(rest: &Rest, wish: &NewAccount) -> Result<UserRecord, Problem> {
    let mut rules = Rules::default();
    let name = rules.user_name(&wish.name);
    rules.password("password", &wish.password);
    let email = wish.email.as_deref().filter(|email| !email.is_empty()).map(|email| rules.email(email));
    let full_name = wish.full_name.as_deref().map(|name| rules.full_name(name));
    rules.done()?;
    let password_hash = rest.auth.hash_password(&wish.password).await?;
    let id = rest.chance.bits();
    Ok(UserRecord {
        user: UserId::from_u128(id),
        display_name: name.clone(),
        name,
        full_name: full_name.filter(|name| !name.is_empty()),
        email,
        colour: COLOURS[id as usize % COLOURS.len()].to_owned(),
        password_hash,
        disabled: false,
        created_at: rest.clock.now(),
    })
}

fn taken(field: &'static str, message: &'static str) -> Problem {
    Problem::new(ErrorCode::Taken, message).with_fields(vec![FieldProblem { field, message: message.into() }])
}

/// One's own profile.
#[utoipa::path(get, path = "/v1/me", tag = "accounts", responses((status = 200, body = OwnProfile)))]
async fn me(State(rest): State<Rest>, SignedIn(who): SignedIn) -> Result<Answer<OwnProfile>, Problem> {
    Ok(Answer(own(&rest, who.user).await?.into()))
}

/// Change one's profile.
#[utoipa::path(patch, path = "/v1/me", tag = "accounts", request_body = Change,
    responses((status = 200, body = OwnProfile)))]
async fn change(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Json(wish): Json<Change>,
) -> Result<Answer<OwnProfile>, Problem> {
    let mut rules = Rules::default();
    let change = ProfileChange {
        display_name: wish.display_name.map(|name| rules.display_name(&name)),
        full_name: wish.full_name.map(|name| rules.full_name(&name)),
        colour: wish.colour.map(|colour| rules.colour(&colour)),
    };
    rules.done()?;
    let user = rest.store.update_profile(who.user, &change).await?;
    user.map(|user| Answer(user.into())).ok_or_else(gone)
}

/// Change one's password. All other devices are signed out.
#[utoipa::path(put, path = "/v1/me/password", tag = "accounts", request_body = NewPassword,
    responses((status = 204)))]
async fn change_password(
    State(rest): State<Rest>,
    SignedIn(who): SignedIn,
    Address(address): Address,
    Json(wish): Json<NewPassword>,
) -> Result<StatusCode, Problem> {
    let mut rules = Rules::default();
    rules.password("new_password", &wish.new_password);
    rules.done()?;
    let user = own(&rest, who.user).await?;
    rest.auth.check_password(&user, &wish.old_password, address).await?;
    let hash = rest.auth.hash_password(&wish.new_password).await?;
    if !rest.store.set_password(who.user, &hash).await? {
        return Err(gone());
    }
    rest.store.end_sign_ins(who.user, Some(who.device)).await?;
    rest.users.sign_out(who.user, SignedOut::AllExcept(Some(who.device)), CloseCode::SignedOut);
    rest.note(Act::by(who.user, "account.password_changed").on(who.user).from(address)).await;
    Ok(StatusCode::NO_CONTENT)
}

async fn own(rest: &Rest, user: UserId) -> Result<UserRecord, Problem> {
    rest.store.user(user).await?.ok_or_else(gone)
}

fn gone() -> Problem {
    Problem::new(ErrorCode::Unauthenticated, "the account is gone")
}
