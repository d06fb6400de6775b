//! What a node says of itself, and how that is written into gossip.
//!
//! Values are JSON or a plain word: they can be read in a log or a dump. A field that a later version adds is ignored by an
//! earlier one; what has to be understood by all raises [`PROTOCOL`].

use std::{net::SocketAddr, sync::Arc};

use serde::{Deserialize, Serialize};

/// Version of what nodes say to each other. Nodes of different versions are no members of one another's views.
pub const PROTOCOL: u16 = 1;

/// Key of [`Meta`].
pub(crate) const META: &str = "n/meta";

/// Key of [`State`].
pub(crate) const STATE: &str = "n/state";

/// Key of [`Load`].
pub(crate) const LOAD: &str = "n/load";

/// What a node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Collects what it has to know; nothing is placed on it.
    Joining,
    /// Works.
    Ready,
    /// Hands over what it has; nothing new is placed on it.
    Draining,
    /// About to stop.
    Leaving,
}

impl State {
    /// As gossip carries it, and as people are shown it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Leaving => "leaving",
        }
    }

    fn read(word: &str) -> Option<Self> {
        [Self::Joining, Self::Ready, Self::Draining, Self::Leaving]
            .into_iter()
            .find(|state| state.word() == word)
    }
}

/// What may be placed on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Rooms and users.
    Rooms,
    /// Sockets of clients.
    Gateway,
    /// Something that a later version knows.
    #[serde(other)]
    Other,
}

/// What a node is: the same for its whole life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// [`PROTOCOL`] of the node.
    pub protocol: u16,
    /// Its build, for people.
    pub build: String,
    /// What may be placed on it.
    pub roles: Vec<Role>,
    /// Where other nodes open links to it.
    pub link: SocketAddr,
    /// Where clients reach it, if they do: the URL of its websocket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<String>,
    /// The zone where it runs, if the operator named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// How much a node has to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// Open sessions.
    pub sessions: u64,
    /// Users with a session.
    pub users: u64,
    /// Active rooms.
    pub rooms: u64,
    /// Share of its processors in use, in percent, roughly.
    pub busy: u8,
}

/// Everything that a node says of itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Says {
    pub(crate) state: State,
    pub(crate) meta: Arc<Meta>,
    pub(crate) load: Load,
}

impl Says {
    /// Reads a node's keys. `None` until all that is needed arrived, and when it is of another [`PROTOCOL`].
    pub(crate) fn read<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let meta: Meta = serde_json::from_str(value(META)?).ok()?;
        let state = State::read(value(STATE)?)?;
        let load = value(LOAD).and_then(|load| serde_json::from_str(load).ok()).unwrap_or_default();
        (meta.protocol == PROTOCOL).then(|| Self { state, meta: Arc::new(meta), load })
    }
}

/// The text of a value.
pub(crate) fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("no map with other keys than text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        Meta {
            protocol: PROTOCOL,
            build: "1.0".into(),
            roles: vec![Role::Rooms],
            link: "10.0.0.1:7281".parse().unwrap(),
            public: None,
            zone: None,
        }
    }

    fn read(meta: &str, state: &str) -> Option<Says> {
        Says::read(|key| match key {
            META => Some(meta),
            STATE => Some(state),
            _ => None,
        })
    }

    #[test]
    fn what_is_said_is_read_back() {
        let says = read(&text(&meta()), "draining").unwrap();
        assert_eq!(says, Says { state: State::Draining, meta: Arc::new(meta()), load: Load::default() });
    }

    #[test]
    fn a_later_version_may_say_more_but_not_speak_another_protocol() {
        let more =
            r#"{"protocol":1,"build":"2","roles":["rooms","oracle"],"link":"[::1]:1","colour":"blue"}"#;
        assert_eq!(read(more, "ready").unwrap().meta.roles, [Role::Rooms, Role::Other]);
        assert_eq!(read(&more.replace(":1,", ":2,"), "ready"), None);
        assert_eq!(read(more, "asleep"), None);
        assert_eq!(read("", "ready"), None);
    }
}
