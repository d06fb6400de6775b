//! Whether an upgrade is one, and may be made from where it comes.

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use protocol::Encoding;
use tokio_tungstenite::tungstenite::handshake::server::create_response;

use crate::SocketSettings;

/// An upgrade that may be made.
#[derive(Debug)]
pub(super) struct Upgrade {
    pub(super) response: Response<()>,
    pub(super) encoding: Encoding,
    /// Never logged.
    pub(super) ticket: Option<String>,
}

/// Why an upgrade is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) StatusCode, pub(super) &'static str);

impl Refusal {
    pub(super) fn response(self) -> Response<Body> {
        let Self(status, why) = self;
        let mut response = Response::new(Body::from(why));
        *response.status_mut() = status;
        if status == StatusCode::UPGRADE_REQUIRED {
            response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    }
}

/// Judges a request for an upgrade.
pub(super) fn judge(request: &Request<()>, settings: &SocketSettings) -> Result<Upgrade, Refusal> {
    let headers = request.headers();
    if !is_welcome_origin(headers, settings) {
        return Err(Refusal(StatusCode::FORBIDDEN, "this origin may not open sockets here"));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version != "13") {
        return Err(Refusal(StatusCode::UPGRADE_REQUIRED, "this server speaks version 13"));
    }
    let mut response = create_response(request)
        .map_err(|_| Refusal(StatusCode::BAD_REQUEST, "not a WebSocket handshake"))?;
    let (encoding, answer) = negotiate(headers)
        .ok_or(Refusal(StatusCode::BAD_REQUEST, "none of these subprotocols is spoken here"))?;
    if let Some(answer) = answer {
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(answer));
    }
    Ok(Upgrade { response, encoding, ticket: ticket(request) })
}

/// The encoding, and the subprotocol to answer with. Who asks for none is given JSON; who asks only for unknown ones is
/// refused, for no answer would be understood.
fn negotiate(headers: &HeaderMap) -> Option<(Encoding, Option<&'static str>)> {
    let mut asked = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().peekable();
    if asked.peek().is_none() {
        return Some((Encoding::Json, None));
    }
    let mut names = asked.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    let encoding = names.find_map(|name| Encoding::from_subprotocol(name.trim()))?;
    Some((encoding, Some(encoding.subprotocol())))
}

/// Browsers send an origin always, other clients never. No cookie speaks for a socket, so a missing one is no danger; a
/// foreign page is kept out because a ticket may be in its hands.
fn is_welcome_origin(headers: &HeaderMap, settings: &SocketSettings) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    if origins.next().is_some() {
        return false;
    }
    settings.origins.iter().any(|allowed| allowed == origin) || is_same_origin(origin, headers, settings)
}

/// Whether the page is of the host that it connects to. A proxy may have taken the TLS off, so plain HTTP does not tell
/// which scheme the page saw.
fn is_same_origin(origin: &str, headers: &HeaderMap, settings: &SocketSettings) -> bool {
    let (scheme, default_port, authority) = match origin.split_once("://") {
        Some(("https", authority)) => ("https", ":443", authority),
        Some(("http", authority)) => ("http", ":80", authority),
        Some(_) | None => return false,
    };
    if settings.tls.is_some() && scheme != "https" {
        return false;
    }
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    let host = host.strip_suffix(default_port).unwrap_or(host);
    !authority.is_empty() && authority.eq_ignore_ascii_case(host)
}

fn ticket(request: &Request<()>) -> Option<String> {
    let pairs = request.uri().query()?.split('&');
    let ticket = pairs.filter_map(|pair| pair.strip_prefix("ticket=")).next()?;
    Some(ticket.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder()
            .uri("/v1/socket?x=1&ticket=abc")
            .header("host", "chat.example")
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        if !headers.iter().any(|(name, _)| *name == "sec-websocket-version") {
            request = request.header("sec-websocket-version", "13");
        }
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
    }

    fn settings() -> SocketSettings {
        SocketSettings { origins: vec!["https://app.example".to_owned()], ..SocketSettings::default() }
    }

    fn status(headers: &[(&str, &str)]) -> StatusCode {
        match judge(&request(headers), &settings()) {
            Ok(upgrade) => upgrade.response.status(),
            Err(refusal) => refusal.response().status(),
        }
    }

    #[test]
    fn an_upgrade_is_answered_with_its_key_and_keeps_the_ticket() {
        let upgrade = judge(&request(&[]), &settings()).unwrap();
        assert_eq!(upgrade.response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(upgrade.encoding, Encoding::Json);
        assert_eq!(upgrade.ticket.as_deref(), Some("abc"));
        assert!(!upgrade.response.headers().contains_key("sec-websocket-protocol"));
    }

    #[test]
    fn the_first_known_subprotocol_is_chosen() {
        let asked = [
            ("sec-websocket-protocol", "graphql-ws, rookery.v1.msgpack"),
            ("sec-websocket-protocol", "rookery.v1.json"),
        ];
        let upgrade = judge(&request(&asked), &settings()).unwrap();
        assert_eq!(upgrade.encoding, Encoding::MessagePack);
        assert_eq!(upgrade.response.headers()["sec-websocket-protocol"], "rookery.v1.msgpack");
        assert_eq!(status(&[("sec-websocket-protocol", "rookery.v9.json")]), 400);
    }

    #[test]
    fn only_pages_of_this_host_and_of_the_list_may_open_sockets() {
        for welcome in
            ["https://chat.example", "http://chat.example", "https://app.example", "https://CHAT.example"]
        {
            assert_eq!(status(&[("origin", welcome)]), 101, "{welcome}");
        }
        for foreign in [
            "null",
            "",
            "https://",
            "https://evil.example",
            "https://app.example.evil.example",
            "https://chat.example:8443",
            "https://chat.example.evil.example",
            "ftp://chat.example",
        ] {
            assert_eq!(status(&[("origin", foreign)]), 403, "{foreign}");
        }
        assert_eq!(status(&[("origin", "https://chat.example"), ("origin", "https://evil.example")]), 403);
    }

    #[test]
    fn behind_tls_of_its_own_a_plain_page_is_foreign() {
        let files = crate::TlsFiles { certificate: "c".into(), key: "k".into() };
        let settings = SocketSettings { tls: Some(files), ..settings() };
        assert!(judge(&request(&[("origin", "https://chat.example")]), &settings).is_ok());
        assert!(judge(&request(&[("origin", "http://chat.example")]), &settings).is_err());
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        assert_eq!(status(&[("sec-websocket-version", "8")]), 426);
        let mut plain = request(&[]);
        plain.headers_mut().remove("upgrade");
        assert_eq!(judge(&plain, &settings()).unwrap_err().0, 400);
    }
}
