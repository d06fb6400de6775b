//! What a node is called.

use std::{fmt, str::FromStr, sync::Arc};

use actors::PeerId;

/// Longest name of a node, in bytes: that of a DNS label.
const LONGEST: usize = 63;

/// One life of a node: its name, and the time when it started. Text form: `name.generation`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName {
    id: Arc<str>,
    generation: u64,
}

/// Not a name of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a node: 1 to 63 of a-z, 0-9 and -, beginning and ending with neither -")]
pub struct BadName(String);

impl NodeName {
    /// The node `id` (1 to 63 of `a-z`, `0-9` and `-`, as a DNS label) in the life that began at `generation`, in
    /// microseconds since 1970. A later life has a higher generation.
    ///
    /// # Errors
    /// When `id` is no such name.
    pub fn new(id: &str, generation: u64) -> Result<Self, BadName> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_label = (1..=LONGEST).contains(&id.len()) && id.bytes().all(allowed);
        if !is_label || id.starts_with('-') || id.ends_with('-') {
            return Err(BadName(id.to_owned()));
        }
        Ok(Self { id: id.into(), generation })
    }

    /// The name that stays over restarts.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When this life began, in microseconds since 1970.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What the actors call it.
    pub fn peer(&self) -> PeerId {
        PeerId::of(&self.id, self.generation)
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.generation)
    }
}

impl FromStr for NodeName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let bad = || BadName(text.to_owned());
        let (id, generation) = text.split_once('.').ok_or_else(bad)?;
        Self::new(id, generation.parse().map_err(|_| bad())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_dns_label_and_its_text_form_is_read_back() {
        let name = NodeName::new("rookery-0", 17).unwrap();
        assert_eq!(name.to_string().parse(), Ok(name));
        for bad in ["", "-a", "a-", "A", "a.b", "ä", &"a".repeat(64)] {
            assert!(NodeName::new(bad, 1).is_err(), "{bad}");
        }
        assert!("a".parse::<NodeName>().is_err() && "a.x".parse::<NodeName>().is_err());
    }

    #[test]
    fn another_life_is_another_peer() {
        let peer = |generation| NodeName::new("a", generation).unwrap().peer();
        assert_ne!(peer(1), peer(2));
    }
}
