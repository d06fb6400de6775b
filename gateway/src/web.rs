//! Serves the built web client, which is part of the binary.
//!
//! The build script lists the files of `client-web/dist`. Without them it lists one page that says how to get them,
//! so that a build without Node works.

use std::{collections::HashMap, sync::LazyLock};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// What the application may load: its own files, and nothing written into the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
    font-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; \
    form-action 'self'; frame-ancestors 'none'";
/// Files with a hash in their name never change.
const FOREVER: &str = "public, max-age=31536000, immutable";
/// Others are asked for again each time, and mostly answered 304.
const ASK: &str = "no-cache";

/// A file: its path from `/`, its content type and its bytes.
struct Asset {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

struct Served {
    asset: &'static Asset,
    tag: HeaderValue,
}

static SERVED: LazyLock<HashMap<&'static str, Served>> = LazyLock::new(|| {
    let served = ASSETS.iter().map(|asset| {
        let digest = HEXLOWER.encode(&blake3::hash(asset.bytes).as_bytes()[..16]);
        let tag = HeaderValue::try_from(format!("\"{digest}\"")).expect("hexadecimal digits are visible");
        (asset.path, Served { asset, tag })
    });
    served.collect()
});

/// The file at this path; `/` is the application.
pub(crate) fn serve(path: &str, headers: &HeaderMap) -> Option<Response> {
    let path = if path == "/" { "/index.html" } else { path };
    let served = SERVED.get(path)?;
    let fresh = headers.get_all(header::IF_NONE_MATCH).iter().any(|known| known == served.tag);
    let (status, body) = match fresh {
        true => (StatusCode::NOT_MODIFIED, Body::empty()),
        false => (StatusCode::OK, Body::from(served.asset.bytes)),
    };
    let lifetime = if is_hashed(path) { FOREVER } else { ASK };
    let mut response = (status, body).into_response();
    let answer = response.headers_mut();
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static(served.asset.kind));
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static(lifetime));
    answer.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    answer.insert(header::ETAG, served.tag.clone());
    Some(response)
}

/// Whether the bundler put a hash of the content into the file's name: it does so for everything in `/assets/`.
fn is_hashed(path: &str) -> bool {
    path.starts_with("/assets/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_application_is_there_with_or_without_a_build_of_it() {
        let response = serve("/", &HeaderMap::new()).unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(response.headers()[header::CACHE_CONTROL], ASK);
        assert!(serve("/no/such/file", &HeaderMap::new()).is_none());
        assert!(serve("/../Cargo.toml", &HeaderMap::new()).is_none());
    }

    #[test]
    fn a_page_that_the_browser_has_is_not_sent_again() {
        let tag = serve("/", &HeaderMap::new()).unwrap().headers()[header::ETAG].clone();
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, tag);
        assert_eq!(serve("/", &headers).unwrap().status(), StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn hashed_files_are_kept_for_good() {
        assert!(is_hashed("/assets/index-B7x9.js"));
        assert!(!is_hashed("/index.html"));
    }
}
