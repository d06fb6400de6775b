//! Values ↔ columns, and what an error of SQLite means.

use std::path::Path;

use protocol::{Body, DeviceId, InviteId, Kind, RoomId, UserId, WriterId};
use rusqlite::{ErrorCode, types::FromSql};

use crate::{StoreError, log, words::Named};

/// What ends a piece of work on a connection.
#[derive(Debug)]
pub(super) enum Fault {
    Sqlite(rusqlite::Error),
    Store(StoreError),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Fault {
    /// What a caller is told when everything that the work did was rolled back, or it did nothing.
    pub(super) fn without_effect(self) -> StoreError {
        let error = match self {
            Self::Store(error) => return error,
            Self::Sqlite(error) => error,
        };
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::Full(text),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation) => {
                StoreError::Corrupt(text)
            }
            Some(_) => StoreError::Unavailable(text),
            // A column of another type than was ever written.
            None => StoreError::Corrupt(text),
        }
    }

    /// What a caller is told when the commit itself failed. A write that did not fit was not written, and a lock that
    /// was not had neither; after anything else, a failed sync above all, the commit may be found after a crash.
    pub(super) fn at_commit(self) -> StoreError {
        match self {
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => StoreError::Full(error.to_string()),
                Some(ErrorCode::DatabaseBusy) => StoreError::Unavailable(error.to_string()),
                _ => StoreError::Unknown(error.to_string()),
            },
            Self::Store(error) => error,
        }
    }

    /// What a caller is told who opens `file`.
    pub(super) fn at_open(self, file: &Path) -> StoreError {
        let file = file.display();
        match self.without_effect() {
            StoreError::Unavailable(text) => StoreError::Unavailable(format!("{file}: {text}")),
            StoreError::Full(text) => StoreError::Full(format!("{file}: {text}")),
            StoreError::Corrupt(text) => StoreError::Corrupt(format!("{file}: {text}")),
            StoreError::Invalid(text) => StoreError::Invalid(format!("{file}: {text}")),
            other => other,
        }
    }
}

/// A number as SQLite keeps it. The bits are the same; only `Millis::MAX` shows as negative.
pub(super) const fn int(number: u64) -> i64 {
    number.cast_signed()
}

/// A limit of rows.
pub(super) fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Columns of a result row, by place.
pub(super) trait Columns {
    fn number(&self, place: usize) -> Result<u64, Fault>;
    fn number_if_any(&self, place: usize) -> Result<Option<u64>, Fault>;
    fn bits(&self, place: usize) -> Result<u128, Fault>;
    fn value<T: FromSql>(&self, place: usize) -> Result<T, Fault>;
    fn named<T: Named>(&self, place: usize) -> Result<T, Fault>;
}

impl Columns for rusqlite::Row<'_> {
    fn number(&self, place: usize) -> Result<u64, Fault> {
        Ok(self.get::<_, i64>(place)?.cast_unsigned())
    }

    fn number_if_any(&self, place: usize) -> Result<Option<u64>, Fault> {
        Ok(self.get::<_, Option<i64>>(place)?.map(i64::cast_unsigned))
    }

    fn bits(&self, place: usize) -> Result<u128, Fault> {
        Ok(u128::from_be_bytes(self.get(place)?))
    }

    fn value<T: FromSql>(&self, place: usize) -> Result<T, Fault> {
        Ok(self.get(place)?)
    }

    fn named<T: Named>(&self, place: usize) -> Result<T, Fault> {
        let name = self.get_ref(place)?.as_str().map_err(rusqlite::Error::from)?;
        Ok(T::of_word(name)?)
    }
}

/// The columns that [`log_row`] reads.
pub(super) const LOG_COLUMNS: &str = "seq, epoch, writer, n, sender, at, kind, target, body, crc";

/// A log row, after its checksum was found to be right.
pub(super) fn log_row(room: RoomId, row: &rusqlite::Row<'_>) -> Result<log::Row, Fault> {
    let seq = row.number(0)?;
    let corrupt = |what: &str| StoreError::Corrupt(format!("room {room}: row {seq}: {what}"));
    let body: Option<String> = row.value(8)?;
    let found = log::Row {
        seq,
        epoch: row.number(1)?,
        writer: WriterId::from_u128(row.bits(2)?),
        n: row.number(3)?,
        from: UserId::from_u128(row.bits(4)?),
        at: row.number(5)?,
        kind: Kind::from_name(row.get_ref(6)?.as_str().map_err(rusqlite::Error::from)?),
        target: row.number_if_any(7)?,
        body: body.map(Body::from_stored).transpose().map_err(|_| corrupt("its body is not JSON"))?,
    };
    if i64::from(found.checksum()) != row.value::<i64>(9)? {
        return Err(corrupt("its checksum is wrong").into());
    }
    Ok(found)
}

/// All rows of a query, decoded.
pub(super) fn collect<T>(
    mut rows: rusqlite::Rows<'_>,
    decode: impl Fn(&rusqlite::Row<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(decode(row)?);
    }
    Ok(found)
}

/// The first row of a query, decoded.
pub(super) fn first<T>(
    mut rows: rusqlite::Rows<'_>,
    decode: impl Fn(&rusqlite::Row<'_>) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    rows.next()?.map(decode).transpose()
}

pub(super) fn room_id(row: &rusqlite::Row<'_>, place: usize) -> Result<RoomId, Fault> {
    Ok(RoomId::from_u128(row.bits(place)?))
}

pub(super) fn user_id(row: &rusqlite::Row<'_>, place: usize) -> Result<UserId, Fault> {
    Ok(UserId::from_u128(row.bits(place)?))
}

pub(super) fn device_id(row: &rusqlite::Row<'_>, place: usize) -> Result<DeviceId, Fault> {
    Ok(DeviceId::from_u128(row.bits(place)?))
}

pub(super) fn invite_id(row: &rusqlite::Row<'_>, place: usize) -> Result<InviteId, Fault> {
    Ok(InviteId::from_u128(row.bits(place)?))
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    fn sqlite(code: std::ffi::c_int) -> Fault {
        Fault::Sqlite(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
    }

    #[test]
    fn after_a_failed_sync_nobody_knows() {
        assert!(matches!(sqlite(ffi::SQLITE_IOERR_FSYNC).at_commit(), StoreError::Unknown(_)));
        assert!(matches!(sqlite(ffi::SQLITE_IOERR_WRITE).at_commit(), StoreError::Unknown(_)));
    }

    #[test]
    fn what_was_rolled_back_did_not_happen() {
        assert!(matches!(sqlite(ffi::SQLITE_FULL).at_commit(), StoreError::Full(_)));
        assert!(matches!(sqlite(ffi::SQLITE_BUSY).at_commit(), StoreError::Unavailable(_)));
        assert!(matches!(sqlite(ffi::SQLITE_IOERR_WRITE).without_effect(), StoreError::Unavailable(_)));
        assert!(matches!(sqlite(ffi::SQLITE_CORRUPT).without_effect(), StoreError::Corrupt(_)));
    }
}
