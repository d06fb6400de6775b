//! Random secrets that clients hold: as text on the wire, as a hash in the store.

use std::str::FromStr;

use actors::Chance;
use data_encoding::BASE64URL_NOPAD;
use protocol::DeviceId;

/// `N` random bytes. Never printed; comparing happens by hash, in the store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Secret<const N: usize>([u8; N]);

/// What a ticket is.
pub(crate) type TicketSecret = Secret<32>;
/// What an invitation's link holds.
pub(crate) type InviteSecret = Secret<16>;

impl<const N: usize> Secret<N> {
    /// A fresh one.
    pub(crate) fn random(chance: &dyn Chance) -> Self {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(16) {
            chunk.copy_from_slice(&chance.bits().to_be_bytes()[..chunk.len()]);
        }
        Self(bytes)
    }

    /// The secret with these bytes.
    pub(crate) const fn from_bytes(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub(crate) const fn bytes(&self) -> &[u8; N] {
        &self.0
    }

    /// As clients get it: base64url without padding.
    pub(crate) fn text(&self) -> String {
        BASE64URL_NOPAD.encode(&self.0)
    }

    /// The inverse of [`Self::text`]; `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        // Length first: nothing long is decoded.
        if text.len() != BASE64URL_NOPAD.encode_len(N) {
            return None;
        }
        BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok().map(Self)
    }

    /// As the store keeps it: BLAKE3. A plain hash is enough for something with 128 bits of chance or more.
    pub(crate) fn hash(&self) -> [u8; 32] {
        *blake3::hash(&self.0).as_bytes()
    }
}

/// A refresh token: the sign-in it belongs to, so that the store finds the family, and the secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct RefreshToken {
    /// The sign-in.
    pub(crate) device: DeviceId,
    /// What proves it.
    pub(crate) secret: Secret<32>,
}

impl RefreshToken {
    /// As clients get it.
    pub(crate) fn text(&self) -> String {
        format!("{}.{}", self.device, self.secret.text())
    }

    /// The inverse of [`Self::text`]; `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (device, secret) = text.split_once('.')?;
        Some(Self { device: DeviceId::from_str(device).ok()?, secret: Secret::parse(secret)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_token_survives_text() {
        let token = RefreshToken { device: DeviceId::from_u128(7), secret: Secret::from_bytes([9; 32]) };
        let read = RefreshToken::parse(&token.text()).unwrap();
        assert_eq!(read.device, token.device);
        assert_eq!(read.secret.hash(), token.secret.hash());
    }

    #[test]
    fn other_texts_are_no_tokens() {
        let device = DeviceId::from_u128(7);
        for text in [String::new(), ".".into(), format!("{device}."), format!("{device}.{}", "A".repeat(44))]
        {
            assert!(RefreshToken::parse(&text).is_none(), "{text}");
        }
    }
}
