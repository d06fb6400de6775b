//! Access tokens: JSON web tokens of one shape, signed with Ed25519. Pure: keys and time are arguments.
//!
//! As narrow as RFC 8725 asks for: one algorithm, one `typ`, no key taken from the token (`kid` is an index into our
//! own keys and nothing more), no `crit`, a bound on the size before anything is decoded.

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use protocol::{DeviceId, Millis, UserId, limits};
use serde::{Deserialize, Serialize};

/// How far another node's clock may run ahead of ours.
const SKEW_MS: Millis = 60_000;
const ALGORITHM: &str = "EdDSA";
const TYPE: &str = "at+jwt";

/// What a token says. Times are seconds, as JSON web tokens have them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// Who signed.
    pub(crate) iss: String,
    /// For whom it is.
    pub(crate) aud: String,
    /// The user.
    pub(crate) sub: UserId,
    /// The sign-in.
    pub(crate) sid: DeviceId,
    /// Not valid before.
    pub(crate) nbf: u64,
    /// When it was made.
    pub(crate) iat: u64,
    /// Not valid from then on.
    pub(crate) exp: u64,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
    // Presence alone refuses: we understand no critical extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crit: Option<serde_json::Value>,
}

/// Why a token is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    /// It is not a token of our shape.
    #[error("malformed")]
    Malformed,
    /// The signature is not our key's.
    #[error("signature")]
    Signature,
    /// It was made by or for somebody else.
    #[error("issuer or audience")]
    Elsewhere,
    /// It holds later, by more than clocks differ.
    #[error("not yet valid")]
    NotYet,
    /// It was good.
    #[error("expired")]
    Expired,
}

/// Who must have made it, and for whom.
#[derive(Debug, Clone)]
pub(crate) struct Expected<'a> {
    /// `iss`.
    pub(crate) issuer: &'a str,
    /// `aud`.
    pub(crate) audience: &'a str,
}

/// The token with these claims.
pub(crate) fn sign(key: &SigningKey, key_id: &str, claims: &Claims) -> String {
    let header = Header { alg: ALGORITHM.into(), typ: TYPE.into(), kid: key_id.into(), crit: None };
    let mut token = format!("{}.{}", encode(&header), encode(claims));
    let signature = key.sign(token.as_bytes());
    token.push('.');
    token.push_str(&BASE64URL_NOPAD.encode(&signature.to_bytes()));
    token
}

/// A token in its parts, believed in nothing.
pub(crate) struct Unverified<'a> {
    /// Which of our keys it claims.
    pub(crate) key_id: String,
    signed: &'a str,
    payload: &'a str,
    signature: Signature,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    pub(crate) fn parse(token: &'a str) -> Result<Self, Flaw> {
        if token.len() > limits::TOKEN_BYTES {
            return Err(Flaw::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Flaw::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Flaw::Malformed)?;
        let header: Header = decode(header)?;
        if header.alg != ALGORITHM || header.typ != TYPE || header.crit.is_some() {
            return Err(Flaw::Malformed);
        }
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).map_err(|_| Flaw::Malformed)?;
        let signature = Signature::from_slice(&signature).map_err(|_| Flaw::Malformed)?;
        Ok(Self { key_id: header.kid, signed, payload, signature })
    }

    /// Its claims, if `key` signed them and they hold at `now`.
    pub(crate) fn verify(
        self,
        key: &VerifyingKey,
        expected: &Expected<'_>,
        now: Millis,
    ) -> Result<Claims, Flaw> {
        key.verify_strict(self.signed.as_bytes(), &self.signature).map_err(|_| Flaw::Signature)?;
        let claims: Claims = decode(self.payload)?;
        if claims.iss != expected.issuer || claims.aud != expected.audience {
            return Err(Flaw::Elsewhere);
        }
        if claims.nbf.max(claims.iat).saturating_mul(1000) > now.saturating_add(SKEW_MS) {
            return Err(Flaw::NotYet);
        }
        if claims.exp.saturating_mul(1000) <= now {
            return Err(Flaw::Expired);
        }
        Ok(claims)
    }
}

fn encode(part: &impl Serialize) -> String {
    let json = serde_json::to_vec(part).expect("texts and numbers always serialise");
    BASE64URL_NOPAD.encode(&json)
}

fn decode<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, Flaw> {
    let json = BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| Flaw::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| Flaw::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_800_000_000_000;
    const HERE: Expected<'static> = Expected { issuer: "rookery", audience: "chat" };

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[5; 32])
    }

    fn claims() -> Claims {
        let now = NOW / 1000;
        Claims {
            iss: "rookery".into(),
            aud: "chat".into(),
            sub: UserId::from_u128(1),
            sid: DeviceId::from_u128(2),
            nbf: now,
            iat: now,
            exp: now + 600,
        }
    }

    fn judge(token: &str, now: Millis) -> Result<Claims, Flaw> {
        Unverified::parse(token)?.verify(&key().verifying_key(), &HERE, now)
    }

    fn with_header(header: &serde_json::Value) -> String {
        let signed = format!("{}.{}", encode(header), encode(&claims()));
        let signature = BASE64URL_NOPAD.encode(&key().sign(signed.as_bytes()).to_bytes());
        format!("{signed}.{signature}")
    }

    #[test]
    fn a_token_says_what_was_signed() {
        assert_eq!(judge(&sign(&key(), "k", &claims()), NOW), Ok(claims()));
    }

    #[test]
    fn another_key_or_a_changed_byte_is_found_out() {
        let foreign = sign(&SigningKey::from_bytes(&[6; 32]), "k", &claims());
        assert_eq!(judge(&foreign, NOW), Err(Flaw::Signature));
        let token = sign(&key(), "k", &claims());
        let parts: Vec<_> = token.split('.').collect();
        let mut other = claims();
        other.sub = UserId::from_u128(99);
        let forged = format!("{}.{}.{}", parts[0], encode(&other), parts[2]);
        assert_eq!(judge(&forged, NOW), Err(Flaw::Signature));
    }

    #[test]
    fn a_token_ends_sharply_and_begins_within_the_skew() {
        let token = sign(&key(), "k", &claims());
        assert_eq!(judge(&token, NOW + 600_000), Err(Flaw::Expired));
        assert!(judge(&token, NOW + 599_999).is_ok());
        assert!(judge(&token, NOW - SKEW_MS).is_ok());
        assert_eq!(judge(&token, NOW - SKEW_MS - 1), Err(Flaw::NotYet));
    }

    #[test]
    fn another_issuer_or_audience_is_refused() {
        for (iss, aud) in [("other", "chat"), ("rookery", "other")] {
            let claims = Claims { iss: iss.into(), aud: aud.into(), ..claims() };
            assert_eq!(judge(&sign(&key(), "k", &claims), NOW), Err(Flaw::Elsewhere));
        }
    }

    #[test]
    fn the_header_chooses_nothing() {
        for header in [
            serde_json::json!({"alg": "none", "typ": TYPE, "kid": "k"}),
            serde_json::json!({"alg": "HS256", "typ": TYPE, "kid": "k"}),
            serde_json::json!({"alg": ALGORITHM, "typ": "JWT", "kid": "k"}),
            serde_json::json!({"alg": ALGORITHM, "typ": TYPE}),
            serde_json::json!({"alg": ALGORITHM, "typ": TYPE, "kid": "k", "crit": ["exp"]}),
        ] {
            assert_eq!(judge(&with_header(&header), NOW), Err(Flaw::Malformed), "{header}");
        }
        let with_jwk = serde_json::json!({"alg": ALGORITHM, "typ": TYPE, "kid": "k", "jwk": {"kty": "OKP"}});
        assert!(judge(&with_header(&with_jwk), NOW).is_ok(), "keys in the token are not even read");
    }

    #[test]
    fn what_is_no_token_is_refused_quietly() {
        let long = "a".repeat(limits::TOKEN_BYTES + 1);
        for text in ["", ".", "..", "...", "a.b.c", "e30.e30.e30", &long] {
            assert_eq!(judge(text, NOW), Err(Flaw::Malformed), "{text}");
        }
    }
}
