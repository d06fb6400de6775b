//! Values ↔ columns.

use protocol::{Body, InviteId, Kind, RoomId, Seq, UserId, WriterId};
use scylla::{
    DeserializeRow,
    serialize::{
        SerializationError,
        row::{RowSerializationContext, SerializeRow},
        writers::RowWriter,
    },
    value::MaybeUnset,
};

use crate::{
    StoreError,
    log::{Append, Row, Statics},
    members::{InviteRecord, MemberRecord, RoomRecord},
    words::Named,
};

/// An id or nonce.
pub(super) type Id = [u8; 16];

/// A number as it is kept. The bits are the same; only `Millis::MAX` shows as negative.
pub(super) const fn int(number: u64) -> i64 {
    number.cast_signed()
}

/// A sequence number in a comparison, where callers say "beyond everything" with very large ones.
pub(super) fn position(seq: Seq) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// A limit of rows.
pub(super) fn limit(rows: usize) -> i32 {
    i32::try_from(rows).unwrap_or(i32::MAX)
}

/// The bits of an id.
pub(super) fn bits(blob: &[u8]) -> Result<u128, StoreError> {
    let bytes: Id =
        blob.try_into().map_err(|_| StoreError::Corrupt("an id is not of 16 bytes".to_owned()))?;
    Ok(u128::from_be_bytes(bytes))
}

/// A hash.
pub(super) fn hash(blob: &[u8]) -> Result<[u8; 32], StoreError> {
    blob.try_into().map_err(|_| StoreError::Corrupt("a hash is not of 32 bytes".to_owned()))
}

/// What a bucket knows, as columns.
#[derive(DeserializeRow)]
pub(super) struct StaticsRow {
    epoch: Option<i64>,
    last_seq: Option<i64>,
    owner: Option<Vec<u8>>,
    write_id: Option<Vec<u8>>,
    dev_upto: Option<i64>,
    member_seq: Option<i64>,
}

impl StaticsRow {
    /// `None` for a partition that never was a bucket.
    pub(super) fn statics(self) -> Result<Option<Statics>, StoreError> {
        let Some(epoch) = self.epoch else { return Ok(None) };
        let missing = || StoreError::Corrupt("a bucket without all it should know".to_owned());
        let number = |column: Option<i64>| column.map(i64::cast_unsigned).ok_or_else(missing);
        Ok(Some(Statics {
            epoch: epoch.cast_unsigned(),
            last_seq: number(self.last_seq)?,
            owner: bits(&self.owner.ok_or_else(missing)?)?,
            write_id: bits(&self.write_id.ok_or_else(missing)?)?,
            dev_upto: number(self.dev_upto)?,
            member_seq: number(self.member_seq)?,
        }))
    }
}

/// A row of the log, as columns.
#[derive(DeserializeRow)]
pub(super) struct LogRow {
    seq: i64,
    e: i64,
    writer: Vec<u8>,
    n: i64,
    sender: Vec<u8>,
    at: i64,
    kind: String,
    target: Option<i64>,
    body: Option<String>,
    crc: i64,
}

impl LogRow {
    /// The row, after its checksum was found to be right.
    pub(super) fn row(self, room: RoomId) -> Result<Row, StoreError> {
        let seq = self.seq.cast_unsigned();
        let corrupt = |what: &str| StoreError::Corrupt(format!("room {room}: row {seq}: {what}"));
        let body = self.body.filter(|text| !text.is_empty()).map(Body::from_stored).transpose();
        let row = Row {
            seq,
            epoch: self.e.cast_unsigned(),
            writer: WriterId::from_u128(bits(&self.writer)?),
            n: self.n.cast_unsigned(),
            from: UserId::from_u128(bits(&self.sender)?),
            at: self.at.cast_unsigned(),
            kind: Kind::from_name(&self.kind),
            target: self.target.map(i64::cast_unsigned),
            body: body.map_err(|_| corrupt("its body is not JSON"))?,
        };
        if i64::from(row.checksum()) != self.crc {
            return Err(corrupt("its checksum is wrong"));
        }
        Ok(row)
    }
}

/// The values of one statement of an append.
pub(super) enum AppendValues<'a> {
    Condition(&'a Append),
    Row(RoomId, u64, &'a Row),
}

impl SerializeRow for AppendValues<'_> {
    fn serialize(
        &self,
        context: &RowSerializationContext<'_>,
        writer: &mut RowWriter<'_>,
    ) -> Result<(), SerializationError> {
        match self {
            Self::Condition(append) => (
                int(append.last()),
                append.write_id.to_be_bytes(),
                int(append.dev_upto),
                int(append.member_seq),
                append.room.to_bytes(),
                int(append.bucket()),
                int(append.epoch),
                int(append.expected_last),
            )
                .serialize(context, writer),
            Self::Row(room, bucket, row) => (
                room.to_bytes(),
                int(*bucket),
                int(row.seq),
                int(row.epoch),
                row.writer.to_bytes(),
                int(row.n),
                row.from.to_bytes(),
                int(row.at),
                row.kind.as_str(),
                row.target.map_or(MaybeUnset::Unset, |target| MaybeUnset::Set(int(target))),
                row.body.as_ref().map_or(MaybeUnset::Unset, |body| MaybeUnset::Set(body.as_json())),
                i64::from(row.checksum()),
            )
                .serialize(context, writer),
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}

#[derive(DeserializeRow)]
pub(super) struct RoomRow {
    room: Vec<u8>,
    visibility: String,
    durability: String,
    history: String,
    name: String,
    topic: String,
    slow_mode_s: i64,
    created_at: i64,
    created_by: Vec<u8>,
    joined: i64,
    deleted: bool,
    applied_seq: i64,
}

impl RoomRow {
    pub(super) fn record(self) -> Result<RoomRecord, StoreError> {
        Ok(RoomRecord {
            room: RoomId::from_u128(bits(&self.room)?),
            visibility: Named::of_word(&self.visibility)?,
            durability: Named::of_word(&self.durability)?,
            history: Named::of_word(&self.history)?,
            name: self.name,
            topic: self.topic,
            slow_mode_s: small(self.slow_mode_s)?,
            created_at: self.created_at.cast_unsigned(),
            created_by: UserId::from_u128(bits(&self.created_by)?),
            joined: self.joined.cast_unsigned(),
            deleted: self.deleted,
            applied_seq: self.applied_seq.cast_unsigned(),
        })
    }
}

/// A number that fits into 32 bits.
fn small(number: i64) -> Result<u32, StoreError> {
    u32::try_from(number).map_err(|_| StoreError::Corrupt(format!("{number} is out of range")))
}

/// A membership, as the columns that follow its key.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub(super) struct MemberRow {
    #[scylla(rename = "user")]
    key: Vec<u8>,
    state: String,
    role: String,
    muted_until: i64,
    blocked: bool,
    joined_seq: i64,
    changed_seq: i64,
    invite: Vec<u8>,
}

/// The same, found by its user.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub(super) struct UserRoomRow {
    #[scylla(rename = "room")]
    key: Vec<u8>,
    state: String,
    role: String,
    muted_until: i64,
    blocked: bool,
    joined_seq: i64,
    changed_seq: i64,
    invite: Vec<u8>,
}

impl MemberRow {
    pub(super) fn record(self) -> Result<MemberRecord, StoreError> {
        Ok(MemberRecord {
            user: UserId::from_u128(bits(&self.key)?),
            state: Named::of_word(&self.state)?,
            role: Named::of_word(&self.role)?,
            muted_until: Some(self.muted_until.cast_unsigned()).filter(|until| *until != 0),
            blocked: self.blocked,
            joined_seq: self.joined_seq.cast_unsigned(),
            changed_seq: self.changed_seq.cast_unsigned(),
            invite: Some(bits(&self.invite)?).filter(|id| *id != 0).map(InviteId::from_u128),
        })
    }
}

impl UserRoomRow {
    /// The room, and the membership of `user` in it.
    pub(super) fn record(self, user: UserId) -> Result<(RoomId, MemberRecord), StoreError> {
        let room = RoomId::from_u128(bits(&self.key)?);
        let Self { state, role, muted_until, blocked, joined_seq, changed_seq, invite, .. } = self;
        let key = user.to_bytes().to_vec();
        let row = MemberRow { key, state, role, muted_until, blocked, joined_seq, changed_seq, invite };
        Ok((room, row.record()?))
    }
}

/// The values of a membership's upsert, for either table.
pub(super) type MemberValues = (Id, Id, &'static str, &'static str, i64, bool, i64, i64, Id, i64);

pub(super) fn member_values(room: RoomId, member: &MemberRecord) -> MemberValues {
    (
        room.to_bytes(),
        member.user.to_bytes(),
        member.state.word(),
        member.role.word(),
        int(member.muted_until.unwrap_or(0)),
        member.blocked,
        int(member.joined_seq),
        int(member.changed_seq),
        member.invite.map_or([0; 16], InviteId::to_bytes),
        int(member.changed_seq),
    )
}

/// An invitation. Its count and its withdrawal are written apart, and not at all as long as they are nothing.
#[derive(DeserializeRow)]
pub(super) struct InviteRow {
    invite: Vec<u8>,
    secret_hash: Option<Vec<u8>>,
    created_by: Option<Vec<u8>>,
    created_at: Option<i64>,
    expires_at: Option<i64>,
    max_uses: Option<i64>,
    uses: Option<i64>,
    revoked: Option<bool>,
}

impl InviteRow {
    /// `None` for one of which only a count is known.
    pub(super) fn record(self, room: RoomId) -> Result<Option<InviteRecord>, StoreError> {
        let (Some(secret), Some(by), Some(at), Some(expires), Some(max_uses)) =
            (self.secret_hash, self.created_by, self.created_at, self.expires_at, self.max_uses)
        else {
            return Ok(None);
        };
        Ok(Some(InviteRecord {
            invite: InviteId::from_u128(bits(&self.invite)?),
            room,
            secret_hash: hash(&secret)?,
            created_by: UserId::from_u128(bits(&by)?),
            created_at: at.cast_unsigned(),
            expires_at: expires.cast_unsigned(),
            max_uses: small(max_uses).ok().filter(|_| max_uses >= 0),
            uses: small(self.uses.unwrap_or(0))?,
            revoked: self.revoked.unwrap_or(false),
        }))
    }
}
