//! Which pages may use the refresh cookie, and what that cookie looks like.

use http::{HeaderMap, HeaderValue, header};
use protocol::{ErrorCode, Millis};

use crate::rest::{
    extract::{not_json, says_json},
    problem::Problem,
    settings::RestSettings,
};

/// The cookie with the refresh token of a web sign-in.
pub(crate) const COOKIE: &str = "rookery_refresh";
/// The only paths that see it.
const COOKIE_PATH: &str = "/v1/sessions";

/// The refresh token of the cookie, where there is one.
pub(crate) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE && !value.is_empty()).then_some(value))
}

/// The header that keeps `token` for `lifetime_ms`.
pub(crate) fn keep(headers: &HeaderMap, token: &str, lifetime_ms: Millis) -> HeaderValue {
    set(headers, token, lifetime_ms / 1000)
}

/// The header that takes the cookie away.
pub(crate) fn forget(headers: &HeaderMap) -> HeaderValue {
    set(headers, "", 0)
}

fn set(headers: &HeaderMap, token: &str, seconds: u64) -> HeaderValue {
    // Browsers keep no Secure cookie that came over plain HTTP, except from themselves, and not all do that.
    let secure = if is_loopback(host(headers)) { "" } else { "; Secure" };
    let text =
        format!("{COOKIE}={token}; Path={COOKIE_PATH}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::try_from(text).expect("tokens are base64url, hexadecimal and a dot")
}

/// Lets a request that a cookie proves pass: from a page of an allowed origin, with a JSON content type.
pub(crate) fn require_own_page(headers: &HeaderMap, settings: &RestSettings) -> Result<(), Problem> {
    if !is_allowed(headers, settings) {
        return Err(foreign());
    }
    if says_json(headers) { Ok(()) } else { Err(not_json()) }
}

/// Refuses a page of a foreign origin that wants a cookie set. Without an origin it is no page.
pub(crate) fn refuse_foreign_page(headers: &HeaderMap, settings: &RestSettings) -> Result<(), Problem> {
    let refused = headers.contains_key(header::ORIGIN) && !is_allowed(headers, settings);
    if refused { Err(foreign()) } else { Ok(()) }
}

fn foreign() -> Problem {
    Problem::new(ErrorCode::Forbidden, "this origin is not allowed")
}

/// Whether the request comes from a page of ours, by its exact origin. `null`, or none, is nobody's.
fn is_allowed(headers: &HeaderMap, settings: &RestSettings) -> bool {
    let Some(origin) = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok()) else {
        return false;
    };
    origin == origin_of(&settings.public_url)
        || settings.allowed_origins.iter().any(|allowed| allowed == origin)
        || is_same(origin, host(headers))
}

/// Whether the origin is that of the host which the client believes to talk to. A page of a name that was bent to our
/// address passes, and is without the cookie, which belongs to another name.
fn is_same(origin: &str, host: &str) -> bool {
    let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    !host.is_empty() && authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

fn host(headers: &HeaderMap) -> &str {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let by_name = name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost");
    by_name || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Scheme and authority of a URL.
pub(crate) fn origin_of(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let end = url[authority..].find('/').map_or(url.len(), |at| authority + at);
    &url[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(origin: Option<&str>, host: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        headers
    }

    fn settings() -> RestSettings {
        RestSettings {
            public_url: "https://chat.example/rookery".into(),
            allowed_origins: vec!["https://app.example".into()],
            ..RestSettings::default()
        }
    }

    #[test]
    fn only_exact_origins_are_allowed() {
        for origin in ["https://chat.example", "https://app.example", "http://10.0.0.1:8080"] {
            assert!(is_allowed(&headers(Some(origin), "10.0.0.1:8080"), &settings()), "{origin}");
        }
        for origin in [
            "null",
            "https://chat.example.evil",
            "https://evil-chat.example",
            "http://chat.example",
            "https://chat.example:444",
            "http://10.0.0.1",
            "ftp://10.0.0.1:8080",
        ] {
            assert!(!is_allowed(&headers(Some(origin), "10.0.0.1:8080"), &settings()), "{origin}");
        }
        assert!(!is_allowed(&headers(None, "10.0.0.1:8080"), &settings()), "no origin proves nothing");
    }

    #[test]
    fn the_cookie_is_secure_except_on_loopback() {
        for host in ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "chat.localhost"] {
            let cookie = keep(&headers(None, host), "t", 1_000);
            assert!(!cookie.to_str().unwrap().contains("Secure"), "{host}");
        }
        for host in ["chat.example", "10.0.0.1:8080", "localhost.evil", "127.0.0.1.evil"] {
            let cookie = keep(&headers(None, host), "t", 1_000);
            assert!(cookie.to_str().unwrap().ends_with("; Secure"), "{host}");
        }
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        assert_eq!(cookie(&headers), None);
        headers.append(header::COOKIE, HeaderValue::from_static("a=b; rookery_refresh=x.y; c=d"));
        assert_eq!(cookie(&headers), Some("x.y"));
    }
}
