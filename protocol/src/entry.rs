//! What a room's log consists of. Everything that happens in a room is an entry with a sequence number.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::{Value, value::RawValue};

use crate::{Incarnation, InviteId, Millis, Seq, UserId, WriterId, limits, value::Plain};

/// One line of a room's log, as a client sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Position in the room: 1, 2, 3, … without holes.
    pub seq: Seq,
    /// When the server ordered it.
    pub at: Millis,
    /// Whose act it is.
    pub from: UserId,
    /// What it is; open-ended.
    pub kind: Kind,
    /// The earlier entry that a reply, edit, deletion or reaction speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Seq>,
    /// The content. Absent when [`Self::masked`] says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
    /// Why the body is withheld.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masked: Option<Mask>,
    /// The sender's writer; told to the sender alone, and only when the entry is read from the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<WriterId>,
    /// The sender's counter; as [`Self::writer`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
}

/// Why an entry's body is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mask {
    /// A later entry of the log deletes it.
    Deleted,
    /// Its content was removed for good at a person's request.
    Erased,
}

/// What an entry is. A kind that this version does not know is carried unharmed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Something said: `{"text": …}`.
    Message,
    /// Something said about [`Entry::target`].
    Reply,
    /// A new content for [`Entry::target`].
    Edit,
    /// Withdraws [`Entry::target`]; its body is masked on every path from then on.
    Deletion,
    /// A sign of feeling about [`Entry::target`]: `{"emoji": …, "remove": bool}`.
    Reaction,
    /// Who is in the room and as what: [`MembershipChange`]. Made by the server only.
    Membership,
    /// What the room is: [`RoomChange`]. Made by the server only.
    Room,
    /// A kind of a later version.
    Other(Arc<str>),
}

impl Kind {
    /// The name on the wire and in the store.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Message => "message",
            Self::Reply => "reply",
            Self::Edit => "edit",
            Self::Deletion => "deletion",
            Self::Reaction => "reaction",
            Self::Membership => "membership",
            Self::Room => "room",
            Self::Other(name) => name,
        }
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Self {
        match name {
            "message" => Self::Message,
            "reply" => Self::Reply,
            "edit" => Self::Edit,
            "deletion" => Self::Deletion,
            "reaction" => Self::Reaction,
            "membership" => Self::Membership,
            "room" => Self::Room,
            other => Self::Other(other.into()),
        }
    }

    /// Whether an entry of this kind must name a target.
    pub fn needs_target(&self) -> bool {
        matches!(self, Self::Reply | Self::Edit | Self::Deletion | Self::Reaction)
    }

    /// Whether a client may send it; the server makes the others.
    pub fn is_sendable(&self) -> bool {
        matches!(self, Self::Message) || self.needs_target()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl de::Visitor<'_> for Name {
            type Value = Kind;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "the name of an entry kind, at most {} bytes", limits::KIND_BYTES)
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Kind, E> {
                if name.is_empty() || name.len() > limits::KIND_BYTES {
                    return Err(E::invalid_length(name.len(), &self));
                }
                Ok(Kind::from_name(name))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

/// An entry's content: a JSON object, kept as its compact text so that storing and delivering it costs no parsing.
#[derive(Clone)]
pub struct Body(Arc<RawValue>);

/// The value can't be an entry's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not a JSON object.
    #[error("a body is an object")]
    NotAnObject,
    /// Nested deeper than [`limits::BODY_DEPTH`].
    #[error("a body nests at most {} levels deep", limits::BODY_DEPTH)]
    TooDeep,
    /// Longer than [`limits::BODY_BYTES`] as JSON text.
    #[error("a body is at most {} bytes of JSON", limits::BODY_BYTES)]
    TooLarge,
    /// Holds a key that would make JSON readers of this server take the object for something else.
    #[error("no key of a body begins with {RESERVED_KEYS}")]
    ReservedKey,
}

/// Objects with such keys are how `serde_json` passes raw text and numbers through its own `Value`.
const RESERVED_KEYS: &str = "$serde_json::private::";

impl Body {
    /// The body that holds `value`.
    ///
    /// # Errors
    /// When `value` is no object, nests too deep, is too large or holds a reserved key.
    pub fn new(value: &Value) -> Result<Self, BodyError> {
        if !value.is_object() {
            return Err(BodyError::NotAnObject);
        }
        if depth_exceeds(value, limits::BODY_DEPTH) {
            return Err(BodyError::TooDeep);
        }
        if has_reserved_key(value) {
            return Err(BodyError::ReservedKey);
        }
        let text = value.to_string();
        if text.len() > limits::BODY_BYTES {
            return Err(BodyError::TooLarge);
        }
        let raw = RawValue::from_string(text).expect("serde_json prints valid JSON");
        Ok(Self(Arc::from(raw)))
    }

    /// A message body with this text. Panics never; a text past the limit is an error like any other.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn text(text: &str) -> Result<Self, BodyError> {
        Self::new(&serde_json::json!({ "text": text }))
    }

    /// The body that a store has kept as [`Self::as_json`]. Limits are not applied: what was accepted stays readable.
    ///
    /// # Errors
    /// When the text is not JSON.
    pub fn from_stored(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(|raw| Self(Arc::from(raw)))
    }

    /// Compact JSON.
    pub fn as_json(&self) -> &str {
        self.0.get()
    }

    /// The body read as a type of this crate or the caller's.
    ///
    /// # Errors
    /// When the body has another shape.
    pub fn parse<T: de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.0.get())
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Contents stay out of logs.
        write!(f, "Body({} bytes)", self.0.get().len())
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.as_json() == other.as_json()
    }
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return self.0.serialize(serializer);
        }
        let Plain(value) = serde_json::from_str(self.0.get()).map_err(ser::Error::custom)?;
        value.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Plain(value) = Plain::deserialize(deserializer)?;
        Self::new(&value).map_err(de::Error::custom)
    }
}

fn depth_exceeds(value: &Value, limit: usize) -> bool {
    match value {
        Value::Array(items) => limit == 0 || items.iter().any(|item| depth_exceeds(item, limit - 1)),
        Value::Object(fields) => limit == 0 || fields.values().any(|field| depth_exceeds(field, limit - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn has_reserved_key(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(has_reserved_key),
        Value::Object(fields) => {
            fields.iter().any(|(key, field)| key.starts_with(RESERVED_KEYS) || has_reserved_key(field))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The body of a membership entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipChange {
    /// Whose membership changes.
    pub user: UserId,
    /// How.
    pub change: Membership,
    /// The new role, where it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Until when a mute holds; for good if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Millis>,
    /// The invitation by which somebody joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite: Option<InviteId>,
}

/// What happened to a membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Membership {
    /// Came in, by own will or by an invitation.
    Joined,
    /// May come in; set by an administrator of the room.
    Invited,
    /// Went.
    Left,
    /// Was put out; may come back.
    Kicked,
    /// Was put out and may not come back.
    Banned,
    /// May come back.
    Unbanned,
    /// May read, not send.
    Muted,
    /// May send again.
    Unmuted,
    /// Has another role.
    Role,
    /// In a direct room: the other one does not want to hear this user.
    Blocked,
    /// The end of that.
    Unblocked,
}

/// What a member may do. Ordered: each role may do what those below may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads and sends.
    Member,
    /// Also invites, kicks, bans, mutes, renames.
    Admin,
    /// Also makes administrators and deletes the room.
    Owner,
}

/// The body of a room entry: the fields that changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomChange {
    /// Set in the room's first entry.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub created: bool,
    /// Set in its last.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// Shown name; absent in direct rooms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the room is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Who finds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
    /// How far back members read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryAccess>,
    /// Least time between two sends of one member, in seconds; 0 switches it off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_mode_s: Option<u32>,
    /// Whether what is said is kept; set in the room's first entry, never changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
}

/// Who finds and enters a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// Found by search; anyone signed in may join.
    Public,
    /// By invitation.
    Private,
    /// The one room of two users.
    Direct,
}

/// How far back a room's history is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryAccess {
    /// From the first entry; in a public room by anyone signed in who is not banned.
    All,
    /// From the reader's last joining.
    SinceJoined,
}

/// Whether what is said in a room outlives the server's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Acknowledged means stored.
    Durable,
    /// No log: delivered at most once, gone with the room's activation.
    Ephemeral,
}

/// A client's place in a room's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The last entry that the client has.
    pub after: Seq,
    /// Of which life of the room.
    pub incarnation: Incarnation,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_the_same_in_both_encodings() {
        let body = Body::text("hé \"quoted\"\n").unwrap();
        let packed = rmp_serde::to_vec_named(&body).unwrap();
        assert_eq!(rmp_serde::from_slice::<Body>(&packed).unwrap(), body);
        let text = serde_json::to_string(&body).unwrap();
        assert_eq!(serde_json::from_str::<Body>(&text).unwrap(), body);
    }

    #[test]
    fn bodies_beyond_the_limits_are_refused() {
        let deep = (0..=limits::BODY_DEPTH)
            .fold(serde_json::json!({}), |inner, _| serde_json::json!({ "a": inner }));
        assert_eq!(Body::new(&deep), Err(BodyError::TooDeep));
        assert_eq!(Body::text(&"x".repeat(limits::BODY_BYTES)), Err(BodyError::TooLarge));
        assert_eq!(Body::new(&serde_json::json!([])), Err(BodyError::NotAnObject));
    }

    #[test]
    fn a_body_with_a_parsers_private_key_is_refused_wherever_it_stands() {
        for text in [
            r#"{"$serde_json::private::RawValue":"{}"}"#,
            r#"{"a":1,"$serde_json::private::RawValue":"no JSON"}"#,
            r#"{"a":[{"b":{"$serde_json::private::Number":"1"}}]}"#,
        ] {
            let error = serde_json::from_str::<Body>(text).unwrap_err();
            assert!(error.to_string().contains("no key of a body"), "{error}");
            let packed = rmp_serde::to_vec_named(&Body::from_stored(text.to_owned()).unwrap()).unwrap();
            assert!(rmp_serde::from_slice::<Body>(&packed).is_err());
        }
    }

    #[test]
    fn an_unknown_kind_is_carried() {
        let kind: Kind = serde_json::from_str("\"poll\"").unwrap();
        assert_eq!(serde_json::to_string(&kind).unwrap(), "\"poll\"");
        assert!(!kind.is_sendable());
    }
}
