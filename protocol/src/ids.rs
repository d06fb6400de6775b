//! Identifiers: 128 bits each, 32 lowercase hexadecimal digits on the wire and in logs.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The text was not 32 lowercase hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is 32 lowercase hexadecimal digits")]
pub struct ParseIdError;

fn parse(text: &str) -> Result<u128, ParseIdError> {
    let lowercase_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != 32 || !text.bytes().all(lowercase_hex) {
        return Err(ParseIdError);
    }
    u128::from_str_radix(text, 16).map_err(|_| ParseIdError)
}

struct IdVisitor;

impl de::Visitor<'_> for IdVisitor {
    type Value = u128;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("32 lowercase hexadecimal digits")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u128, E> {
        parse(text).map_err(E::custom)
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// The id with these bits. Where they come from (chance, a hash) is the caller's business.
            pub const fn from_u128(bits: u128) -> Self {
                Self(bits)
            }

            /// The 128 bits.
            pub const fn as_u128(self) -> u128 {
                self.0
            }

            /// The 16 bytes, most significant first: how stores keep an id.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            /// The inverse of [`Self::to_bytes`].
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:032x})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut text = [0u8; 32];
                for (pair, byte) in text.chunks_exact_mut(2).zip(self.to_bytes()) {
                    pair[0] = HEX[usize::from(byte >> 4)];
                    pair[1] = HEX[usize::from(byte & 15)];
                }
                serializer.serialize_str(std::str::from_utf8(&text).expect("hexadecimal digits are UTF-8"))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(IdVisitor).map(Self)
            }
        }
    };
}

const HEX: &[u8; 16] = b"0123456789abcdef";

id! {
    /// A room. A direct room's id is a hash of its two users, so that both find the same one.
    RoomId
}
id! {
    /// An account.
    UserId
}
id! {
    /// A sign-in of a user: one per browser profile or installed client. Ends with sign-out.
    DeviceId
}
id! {
    /// Who counts sends: one live tab or process, bound to its user. Random.
    WriterId
}
id! {
    /// One WebSocket connection.
    SessionId
}
id! {
    /// An invitation to a room; not the secret in its link.
    InviteId
}

/// Which life of a room a position belongs to. Constant for a durable room until a restore from backup; new at each
/// activation of an ephemeral one. Only equality means anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_text() {
        let room = RoomId::from_u128(0xabc);
        assert_eq!(room.to_string().parse(), Ok(room));
        assert_eq!(serde_json::to_string(&room).unwrap(), "\"00000000000000000000000000000abc\"");
    }

    #[test]
    fn uppercase_short_and_signed_texts_are_refused() {
        for text in ["", "abc", "+0000000000000000000000000000abc", "00000000000000000000000000000ABC"] {
            assert_eq!(text.parse::<RoomId>(), Err(ParseIdError), "{text}");
        }
    }
}
