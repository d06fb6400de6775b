//! Requests: what is not live. One connection a request, so that a restart of the server is no special case.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use protocol::{DeviceId, Entry, RoomId, Seq, UserId, limits, server::Page};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::net::Server;

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(30);

/// Requests to one server as one user, or as nobody. Cheap to clone.
#[derive(Clone)]
pub struct Rest {
    server: Server,
    session: Option<SignedIn>,
    token: Option<String>,
}

impl std::fmt::Debug for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rest")
            .field("server", &self.server)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// A sign-in.
#[derive(Clone, Deserialize)]
pub struct SignedIn {
    /// Who.
    pub user: Person,
    /// The sign-in's id.
    pub device: DeviceId,
    /// For requests and sockets.
    pub access_token: String,
    /// For the next access token.
    pub refresh_token: Option<String>,
}

impl std::fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignedIn").field("user", &self.user.id).finish_non_exhaustive()
    }
}

/// Somebody.
#[derive(Debug, Clone, Deserialize)]
pub struct Person {
    /// Their id.
    pub id: UserId,
    /// Their name.
    pub name: String,
}

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body; null if it was empty, a string if it was not JSON.
    pub body: Value,
}

impl Answer {
    /// The body, if the status says that the request was carried out.
    ///
    /// # Errors
    /// When it says something else, or the body has another shape.
    pub fn parse<T: DeserializeOwned>(self) -> Result<T> {
        if !(200..300).contains(&self.status) {
            bail!("status {}: {}", self.status, self.body);
        }
        serde_json::from_value(self.body).context("unexpected answer")
    }

    /// The error code of a refused request.
    pub fn code(&self) -> Option<&str> {
        self.body.get("code")?.as_str()
    }
}

impl Rest {
    /// As nobody.
    pub fn new(server: Server) -> Self {
        Self { server, session: None, token: None }
    }

    /// As whoever this bearer token stands for.
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Where requests go.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Who asks.
    ///
    /// # Panics
    /// As nobody.
    pub fn session(&self) -> &SignedIn {
        self.session.as_ref().expect("the caller has signed in")
    }

    /// Makes an account and signs in.
    ///
    /// # Errors
    /// When the server refuses or is not there; as everywhere here.
    pub async fn register(&self, name: &str, password: &str) -> Result<Self> {
        self.enter("/v1/accounts", json!({ "name": name, "password": password, "client": "cli" })).await
    }

    /// Signs in.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn sign_in(&self, name: &str, password: &str) -> Result<Self> {
        self.enter("/v1/sessions", json!({ "name": name, "password": password, "client": "cli" })).await
    }

    /// A fresh access token for the same sign-in.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn refresh(&self) -> Result<Self> {
        let token = self.session().refresh_token.as_deref().context("no refresh token")?;
        self.enter("/v1/sessions/refresh", json!({ "refresh_token": token, "client": "cli" })).await
    }

    async fn enter(&self, path: &str, body: Value) -> Result<Self> {
        let nobody = Self::new(self.server.clone());
        let session: SignedIn = nobody.call(Method::POST, path, Some(body)).await?.parse()?;
        let token = Some(session.access_token.clone());
        Ok(Self { session: Some(session), token, ..nobody })
    }

    /// Makes a public room.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn create_room(&self, name: &str) -> Result<RoomId> {
        #[derive(Deserialize)]
        struct Room {
            id: RoomId,
        }
        let body = json!({ "name": name, "visibility": "public" });
        let room: Room = self.call(Method::POST, "/v1/rooms", Some(body)).await?.parse()?;
        Ok(room.id)
    }

    /// Joins a room.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn join(&self, room: RoomId) -> Result<()> {
        let _: Value =
            self.call(Method::POST, &format!("/v1/rooms/{room}/join"), Some(json!({}))).await?.parse()?;
        Ok(())
    }

    /// A page of a room's log above `after`.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn page_after(&self, room: RoomId, after: Seq) -> Result<Page> {
        let path = format!("/v1/rooms/{room}/entries?after={after}&limit={}", limits::PAGE_ENTRIES);
        self.call(Method::GET, &path, None).await?.parse()
    }

    /// A room's log from its beginning.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn log(&self, room: RoomId) -> Result<Vec<Entry>> {
        let mut log: Vec<Entry> = Vec::new();
        loop {
            let page = self.page_after(room, log.last().map_or(0, |last| last.seq)).await?;
            let is_last = page.entries.last().is_none_or(|last| last.seq >= page.head);
            log.extend(page.entries);
            if is_last {
                return Ok(log);
            }
        }
    }

    /// Any request.
    ///
    /// # Errors
    /// When there is no answer; an answer that says no is no error.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer> {
        let what = format!("{method} {}", path.split('?').next().unwrap_or_default());
        timeout(ANSWER, self.exchange(method, path, body))
            .await
            .with_context(|| format!("{what}: no answer in time"))?
            .with_context(|| format!("{what} failed"))
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer> {
        let stream = self.server.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut request = Request::builder().method(method).uri(path).header("host", self.server.authority());
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let exchange = async move {
            let response = sender.send_request(request.body(Full::new(body))?).await?;
            let status = response.status().as_u16();
            let bytes = response.into_body().collect().await?.to_bytes();
            anyhow::Ok((status, bytes))
        };
        // The connection ends with the exchange, which drops its only sender.
        let (exchanged, _) = tokio::join!(exchange, connection);
        let (status, bytes) = exchanged?;
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).unwrap_or_else(|_| text())
        };
        Ok(Answer { status, body })
    }
}

pub use hyper::Method as HttpMethod;
