//! Rooms by id, by name, and all of them.

use futures_util::{StreamExt, TryStreamExt, stream};
use protocol::{RoomId, Seq};

use super::{
    Core, FAN_OUT,
    codec::{Id, RoomRow, bits, limit, position},
};
use crate::{
    Listing, StoreError, listing,
    log::bucket_of,
    members::{MaskRecord, RoomRecord},
};

/// Partitions of the list of all rooms: one for each first byte of an id, in its order.
const INDEX_SLOTS: i32 = 256;
/// Partitions of the directory: one for each value of the first four bits of an id.
const DIRECTORY_SLOTS: i32 = 16;

pub(super) fn index_slot(room: RoomId) -> i32 {
    i32::from(room.to_bytes()[0])
}

pub(super) fn directory_slot(room: RoomId) -> i32 {
    i32::from(room.to_bytes()[0] >> 4)
}

impl Core {
    pub(super) async fn room(&self, room: RoomId) -> Result<Option<RoomRecord>, StoreError> {
        let found: Option<RoomRow> = self.first(&self.statements.room, (room.to_bytes(),)).await?;
        found.map(RoomRow::record).transpose()
    }

    /// Those that exist, in the order of `rooms`.
    pub(super) async fn rooms(&self, rooms: &[RoomId]) -> Result<Vec<RoomRecord>, StoreError> {
        let found = stream::iter(rooms.to_vec()).map(|room| self.room(room)).buffered(FAN_OUT);
        found.try_filter_map(async |room| Ok(room)).try_collect().await
    }

    /// Reads the whole directory: names are looked for anywhere in them, which no order helps with.
    pub(super) async fn search_rooms(
        &self,
        text: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<RoomRecord>, StoreError> {
        let after: Option<RoomId> = listing::parse(cursor)?;
        let (text, limit) = (listing::key(text), listing::clamp(limit));
        let after = match after {
            None => None,
            Some(room) => {
                let last = self.room(room).await?.ok_or_else(listing::bad_cursor)?;
                Some((listing::key(&last.name), room))
            }
        };
        let slots = stream::iter(0..DIRECTORY_SLOTS).map(|slot| self.directory(slot, &text));
        let slots: Vec<Vec<(String, RoomId)>> = slots.buffer_unordered(FAN_OUT).try_collect().await?;
        let mut found: Vec<_> =
            slots.into_iter().flatten().filter(|entry| Some(entry) > after.as_ref()).collect();
        found.sort_unstable();
        found.truncate(limit + 1);
        let ids: Vec<RoomId> = found.into_iter().map(|(_, room)| room).collect();
        Ok(listing::cut(self.rooms(&ids).await?, limit, |room| room.room.to_string()))
    }

    async fn directory(&self, slot: i32, text: &str) -> Result<Vec<(String, RoomId)>, StoreError> {
        let pages = self.session.execute_iter(self.statements.directory.clone(), (slot,)).await;
        let pages = pages.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let mut rows = pages.rows_stream::<(Vec<u8>, String, bool)>().map_err(super::errors::corrupt)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().await {
            let (room, name, listed) = row.map_err(|error| StoreError::Unavailable(error.to_string()))?;
            if listed && name.contains(text) {
                found.push((name, RoomId::from_u128(bits(&room)?)));
            }
        }
        Ok(found)
    }

    pub(super) async fn all_rooms(
        &self,
        cursor: Option<&str>,
        most: usize,
    ) -> Result<Listing<RoomRecord>, StoreError> {
        let after: Option<RoomId> = listing::parse(cursor)?;
        let most = listing::clamp(most);
        let mut ids: Vec<RoomId> = Vec::new();
        for slot in after.map_or(0, index_slot)..INDEX_SLOTS {
            let from = after.filter(|room| index_slot(*room) == slot);
            let from = from.map_or_else(Vec::new, |room| room.to_bytes().to_vec());
            let values = (slot, from, limit(most + 1 - ids.len()));
            let found: Vec<(Vec<u8>,)> = self.rows(&self.statements.rooms_of_slot, values).await?;
            for (room,) in found {
                ids.push(RoomId::from_u128(bits(&room)?));
            }
            if ids.len() > most {
                break;
            }
        }
        let Listing { items, next } = listing::cut(ids, most, RoomId::to_string);
        Ok(Listing { items: self.rooms(&items).await?, next })
    }

    /// Masks whose targets lie in the range, in their order.
    pub(super) async fn masks(
        &self,
        room: RoomId,
        from: Seq,
        upto: Seq,
    ) -> Result<Vec<MaskRecord>, StoreError> {
        let mut masks = Vec::new();
        if from > upto {
            return Ok(masks);
        }
        for bucket in bucket_of(from.max(1))..=bucket_of(upto.max(1)) {
            let values: (Id, i64, i64, i64) =
                (room.to_bytes(), bucket.cast_signed(), position(from), position(upto));
            let found: Vec<(i64, i64)> = self.rows(&self.statements.masks, values).await?;
            masks.extend(
                found.into_iter().map(|(target, by)| MaskRecord {
                    target: target.cast_unsigned(),
                    by: by.cast_unsigned(),
                }),
            );
        }
        Ok(masks)
    }
}
