//! Shapes of the protocol's types for the OpenAPI document alone. The protocol's fixtures pin the types themselves;
//! a test compares the two.
#![expect(dead_code, reason = "these types are only described")]

use utoipa::ToSchema;

/// Who finds and enters a room.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum Visibility {
    Public,
    Private,
    Direct,
}

/// Whether what is said in a room outlives the server's memory.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum Durability {
    Durable,
    Ephemeral,
}

/// How far back members read.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum HistoryAccess {
    All,
    SinceJoined,
}

/// What a member may do.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum Role {
    Member,
    Admin,
    Owner,
}

/// One line of a room's log.
#[derive(ToSchema)]
pub(crate) struct Entry {
    /// Position in the room, from 1 without holes.
    seq: u64,
    /// When the server ordered it.
    at: u64,
    /// Whose act it is.
    from: String,
    /// What it is; open-ended.
    #[schema(example = "message")]
    kind: String,
    /// The earlier entry that it speaks of.
    #[schema(nullable = false)]
    target: Option<u64>,
    /// The content.
    #[schema(nullable = false, value_type = Option<Object>)]
    body: Option<serde_json::Value>,
    /// Why the content is withheld: `deleted` or `erased`.
    #[schema(nullable = false)]
    masked: Option<String>,
    /// The sender's writer; to the sender alone.
    #[schema(nullable = false)]
    writer: Option<String>,
    /// The sender's counter; to the sender alone.
    #[schema(nullable = false)]
    n: Option<u64>,
}

/// A page of the log.
#[derive(ToSchema)]
#[schema(as = EntryPage)]
pub(crate) struct Page {
    /// Which room.
    room: String,
    /// Which life of it.
    incarnation: u64,
    /// The newest entry of the room when the page was read.
    head: u64,
    /// The oldest entry that this reader may see.
    first: u64,
    /// In order, without holes.
    entries: Vec<Entry>,
}
