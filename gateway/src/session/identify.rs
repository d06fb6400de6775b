//! Who opened a socket. Until that is known, the socket can do nothing and holds almost nothing.

use actors::session::Refusal;
use async_trait::async_trait;
use protocol::{ClientFrame, CloseCode, ErrorCode, ServerFrame, client::Identify, limits, server};

use super::socket::{Ending, Event, Socket};
use crate::{
    auth::{Auth, Credential, Identity},
    limits::Permit,
};

/// Control frames that a client may send before it says who it is.
const EARLY_CONTROLS: usize = 8;

/// Who judges credentials.
#[async_trait]
pub trait Identifier: Send + Sync + 'static {
    /// Who shows this.
    ///
    /// # Errors
    /// `unauthenticated`, `expired`, `disabled`, or `unavailable` when nobody can say.
    async fn identify(&self, credential: Credential<'_>) -> Result<Identity, ErrorCode>;
}

#[async_trait]
impl Identifier for Auth {
    async fn identify(&self, credential: Credential<'_>) -> Result<Identity, ErrorCode> {
        Self::identify(self, credential).await
    }
}

/// A socket that nobody has answered for. Identification consumes it.
pub(super) struct Unidentified {
    pub(super) socket: Box<Socket>,
    /// From the upgrade's address; never logged.
    pub(super) ticket: Option<String>,
    /// One of the sockets that an address may have in this state.
    pub(super) permit: Permit,
}

/// A socket whose client is known, and what it asked for.
pub(super) struct Known {
    pub(super) socket: Box<Socket>,
    pub(super) identity: Identity,
    pub(super) asked: Identify,
}

/// A socket that came to nothing.
pub(super) type Refused = (Box<Socket>, Ending);

impl Unidentified {
    /// Reads the first frame and judges it.
    ///
    /// # Errors
    /// Why the socket is to be closed. What the client should know was said.
    pub(super) async fn identify(mut self, judge: &dyn Identifier) -> Result<Known, Refused> {
        let deadline = self.socket.settings().identify_timeout;
        let told = tokio::time::timeout(deadline, self.introduction(judge)).await;
        match told.unwrap_or(Err(Ending::Close(CloseCode::IdentifyTimeout))) {
            Ok((identity, asked)) => {
                drop(self.permit);
                Ok(Known { socket: self.socket, identity, asked })
            }
            Err(ending) => Err((self.socket, ending)),
        }
    }

    async fn introduction(&mut self, judge: &dyn Identifier) -> Result<(Identity, Identify), Ending> {
        let asked = self.first_frame().await?;
        if asked.resume.len() > limits::RESUME_ROOMS {
            let message = format!("at most {} rooms are resumed at once", limits::RESUME_ROOMS);
            self.refuse(asked.id, ErrorCode::TooMany, message);
            return Err(Ending::Close(CloseCode::ProtocolError));
        }
        match self.judge(&asked, judge).await {
            Ok(identity) => Ok((identity, asked)),
            Err(code) => {
                self.refuse(asked.id, code, "the credentials were refused".to_owned());
                Err(Ending::Close(close_code(code)))
            }
        }
    }

    /// Nothing but an `identify` may come first.
    async fn first_frame(&mut self) -> Result<Identify, Ending> {
        let mut controls = 0;
        loop {
            match self.socket.next().await {
                Event::Frame(Ok(ClientFrame::Identify(asked))) => return Ok(asked),
                Event::Frame(_) => return Err(Ending::Close(CloseCode::ProtocolError)),
                Event::Control if controls < EARLY_CONTROLS => controls += 1,
                Event::Control => return Err(Ending::Close(CloseCode::Flood)),
                Event::Stop(_) => return Err(Ending::Close(CloseCode::GoingAway)),
                Event::Ended(ending) => return Err(ending),
                Event::Tick | Event::Notice(_) => {}
            }
        }
    }

    async fn judge(&self, asked: &Identify, judge: &dyn Identifier) -> Result<Identity, ErrorCode> {
        let credential = match (&asked.token, &asked.ticket, &self.ticket) {
            (Some(token), _, _) => Credential::Token(token),
            (None, Some(ticket), _) | (None, None, Some(ticket)) => Credential::Ticket(ticket),
            (None, None, None) => return Err(ErrorCode::Unauthenticated),
        };
        let (Credential::Token(text) | Credential::Ticket(text)) = credential;
        if text.len() > limits::TOKEN_BYTES {
            return Err(ErrorCode::Unauthenticated);
        }
        judge.identify(credential).await
    }

    fn refuse(&self, id: Option<u64>, code: ErrorCode, message: String) {
        self.socket.say(&error(id, None, Refusal::new(code, message)));
    }
}

/// The `error` frame of a refusal.
pub(super) fn error(id: Option<u64>, room: Option<protocol::RoomId>, refusal: Refusal) -> ServerFrame {
    let Refusal { code, message, retry_after_ms, .. } = refusal;
    ServerFrame::Error(server::Error { id, code, message, room, retry_after_ms })
}

/// How a socket ends whose client was not accepted.
pub(super) fn close_code(code: ErrorCode) -> CloseCode {
    match code {
        ErrorCode::Expired => CloseCode::TokenExpired,
        ErrorCode::Disabled => CloseCode::Disabled,
        ErrorCode::TooMany => CloseCode::TooManyConnections,
        ErrorCode::Overloaded | ErrorCode::Unavailable | ErrorCode::RateLimited => CloseCode::Overloaded,
        ErrorCode::Internal => CloseCode::Internal,
        _ => CloseCode::Unauthenticated,
    }
}
