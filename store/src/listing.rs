//! Parts of lists: how many items, and what the text of a cursor means.

use std::str::FromStr;

use crate::{Listing, StoreError};

/// Most items of one part.
const LONGEST: usize = 1000;

/// How many items a caller gets who asks for `limit`.
pub(crate) fn clamp(limit: usize) -> usize {
    limit.clamp(1, LONGEST)
}

/// A part of a list from one item more than fits, if there is one more.
pub(crate) fn cut<T>(mut items: Vec<T>, limit: usize, cursor: impl Fn(&T) -> String) -> Listing<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(cursor);
    Listing { items, next }
}

/// What a cursor says.
pub(crate) fn parse<T: FromStr>(cursor: Option<&str>) -> Result<Option<T>, StoreError> {
    cursor.map(|text| text.parse().map_err(|_| bad_cursor())).transpose()
}

/// The answer to a cursor that this list never gave.
pub(crate) fn bad_cursor() -> StoreError {
    StoreError::Invalid("this cursor is of another list".to_owned())
}

/// The form of a name by which it is unique and found: ASCII case does not count.
pub(crate) fn key(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// The name after which a listing of the names with `prefix` goes on.
pub(crate) fn after_name<'a>(prefix: &str, cursor: Option<&'a str>) -> Result<Option<&'a str>, StoreError> {
    match cursor {
        Some(name) if !name.starts_with(prefix) => Err(bad_cursor()),
        cursor => Ok(cursor),
    }
}
