//! Everything that is ever asked of the database, prepared once. Every partition key is bound, so that each request goes
//! to a node that has the data.

use scylla::{
    client::session::Session,
    statement::{prepared::PreparedStatement, unprepared::Statement},
};

use super::session::Profiles;
use crate::StoreError;

/// Rows of one page of an answer: more than any bounded read asks for.
const PAGE_ROWS: i32 = 5_000;

/// `name: kind = "CQL";` where `{ks}` is the keyspace.
macro_rules! statements {
    ($($name:ident: $kind:ident = $cql:expr;)+) => {
        pub(super) struct Statements {
            $(pub(super) $name: PreparedStatement,)+
        }

        impl Statements {
            pub(super) async fn prepare(
                session: &Session,
                profiles: &Profiles,
                keyspace: &str,
            ) -> Result<Self, StoreError> {
                Ok(Self { $($name: prepare(session, profiles, keyspace, Kind::$kind, $cql).await?,)+ })
            }
        }
    };
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Conditional,
    Serial,
    Read,
    Upsert,
}

async fn prepare(
    session: &Session,
    profiles: &Profiles,
    keyspace: &str,
    kind: Kind,
    cql: &str,
) -> Result<PreparedStatement, StoreError> {
    let text = cql.replace("{ks}", keyspace);
    let prepared = session.prepare(Statement::new(text.as_str())).await;
    let mut prepared = prepared.map_err(|error| StoreError::Unavailable(format!("{text}: {error}")))?;
    prepared.set_page_size(PAGE_ROWS);
    let (profile, is_idempotent) = match kind {
        // Never marked as idempotent: the driver would try again by itself, and guess on two nodes at once.
        Kind::Conditional => (&profiles.conditional, false),
        Kind::Serial => (&profiles.serial, false),
        Kind::Read => (&profiles.read, true),
        Kind::Upsert => (&profiles.upsert, true),
    };
    prepared.set_execution_profile_handle(Some(profile.clone()));
    prepared.set_is_idempotent(is_idempotent);
    Ok(prepared)
}

statements! {
    // The log.
    log_create: Conditional =
        "INSERT INTO {ks}.room_log (room, bucket, epoch, last_seq, owner, write_id, dev_upto, member_seq)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS";
    log_take_over: Conditional =
        "UPDATE {ks}.room_log SET epoch = ?, owner = ? WHERE room = ? AND bucket = ? IF epoch = ?";
    log_take_over_exact: Conditional =
        "UPDATE {ks}.room_log SET epoch = ?, owner = ? WHERE room = ? AND bucket = ? IF epoch = ? AND last_seq = ?";
    log_append: Conditional =
        "UPDATE {ks}.room_log SET last_seq = ?, write_id = ?, dev_upto = ?, member_seq = ?
         WHERE room = ? AND bucket = ? IF epoch = ? AND last_seq = ?";
    log_row: Conditional =
        "INSERT INTO {ks}.room_log (room, bucket, seq, e, writer, n, sender, at, kind, target, body, crc)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    // The condition is the row itself. An empty text is a body that was erased.
    log_erase: Conditional =
        "UPDATE {ks}.room_log SET body = '', crc = ? WHERE room = ? AND bucket = ? AND seq = ? IF crc = ?";
    log_statics: Serial =
        "SELECT epoch, last_seq, owner, write_id, dev_upto, member_seq FROM {ks}.room_log
         WHERE room = ? AND bucket = ? LIMIT 1";
    log_statics_soon: Read =
        "SELECT epoch, last_seq, owner, write_id, dev_upto, member_seq FROM {ks}.room_log
         WHERE room = ? AND bucket = ? LIMIT 1";
    log_after: Read =
        "SELECT seq, e, writer, n, sender, at, kind, target, body, crc FROM {ks}.room_log
         WHERE room = ? AND bucket = ? AND seq > ? AND seq <= ? ORDER BY seq ASC LIMIT ?";
    log_before: Read =
        "SELECT seq, e, writer, n, sender, at, kind, target, body, crc FROM {ks}.room_log
         WHERE room = ? AND bucket = ? AND seq < ? LIMIT ?";
    head: Read = "SELECT bucket, oldest, emptied FROM {ks}.room_head WHERE room = ?";
    put_head: Upsert = "UPDATE {ks}.room_head USING TIMESTAMP ? SET bucket = ? WHERE room = ?";
    put_oldest: Upsert = "UPDATE {ks}.room_head USING TIMESTAMP ? SET oldest = ? WHERE room = ?";
    put_emptied: Upsert = "UPDATE {ks}.room_head USING TIMESTAMP ? SET emptied = ? WHERE room = ?";
    // Rows alone: a range of clustering keys does not cover the statics.
    log_empty: Upsert =
        "DELETE FROM {ks}.room_log USING TIMESTAMP ? WHERE room = ? AND bucket = ? AND seq > ? AND seq <= ?";
    retention: Read = "SELECT chosen, max_age_days, max_entries FROM {ks}.room_retention WHERE room = ?";
    put_retention: Upsert =
        "INSERT INTO {ks}.room_retention (room, chosen, max_age_days, max_entries) VALUES (?, ?, ?, ?)";
    mark: Read = "SELECT n, seq FROM {ks}.writer_mark WHERE room = ? AND writer = ?";
    marks: Read = "SELECT writer, n, seq FROM {ks}.writer_mark WHERE room = ? AND writer > ? LIMIT ?";
    put_mark: Upsert = "INSERT INTO {ks}.writer_mark (room, writer, n, seq) VALUES (?, ?, ?, ?) USING TIMESTAMP ?";

    // Rooms and members.
    room: Read =
        "SELECT room, visibility, durability, history, name, topic, slow_mode_s, created_at, created_by, joined, deleted,
         applied_seq FROM {ks}.room WHERE room = ?";
    put_room: Upsert =
        "INSERT INTO {ks}.room (room, visibility, durability, history, name, topic, slow_mode_s, created_at, created_by,
         joined, deleted, applied_seq) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
    rooms_of_slot: Read = "SELECT room FROM {ks}.room_index WHERE slot = ? AND room > ? LIMIT ?";
    put_index: Upsert = "INSERT INTO {ks}.room_index (slot, room) VALUES (?, ?) USING TIMESTAMP 1";
    directory: Read = "SELECT room, name_key, listed FROM {ks}.room_directory WHERE slot = ?";
    put_directory: Upsert =
        "INSERT INTO {ks}.room_directory (slot, room, name_key, listed) VALUES (?, ?, ?, ?) USING TIMESTAMP ?";
    member: Read =
        "SELECT user, state, role, muted_until, blocked, joined_seq, changed_seq, invite FROM {ks}.member
         WHERE room = ? AND user = ?";
    members: Read =
        "SELECT user, state, role, muted_until, blocked, joined_seq, changed_seq, invite FROM {ks}.member
         WHERE room = ? AND user > ? LIMIT ?";
    put_member: Upsert =
        "INSERT INTO {ks}.member (room, user, state, role, muted_until, blocked, joined_seq, changed_seq, invite)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
    rooms_of_user: Read =
        "SELECT room, state, role, muted_until, blocked, joined_seq, changed_seq, invite FROM {ks}.user_room
         WHERE user = ? AND room > ? LIMIT ?";
    put_user_room: Upsert =
        "INSERT INTO {ks}.user_room (room, user, state, role, muted_until, blocked, joined_seq, changed_seq, invite)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
    masks: Read =
        "SELECT target, by_seq FROM {ks}.room_state WHERE room = ? AND bucket = ? AND target >= ? AND target <= ?";
    put_mask: Upsert =
        "INSERT INTO {ks}.room_state (room, bucket, target, by_seq) VALUES (?, ?, ?, ?) USING TIMESTAMP ?";

    // Invitations.
    invite: Read =
        "SELECT invite, secret_hash, created_by, created_at, expires_at, max_uses, uses, revoked FROM {ks}.invite
         WHERE room = ? AND invite = ?";
    invites: Read =
        "SELECT invite, secret_hash, created_by, created_at, expires_at, max_uses, uses, revoked FROM {ks}.invite
         WHERE room = ? AND invite > ? LIMIT ?";
    invite_by_secret: Read = "SELECT invite FROM {ks}.invite_by_secret WHERE room = ? AND secret_hash = ?";
    put_invite: Upsert =
        "INSERT INTO {ks}.invite (room, invite, secret_hash, created_by, created_at, expires_at, max_uses)
         VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP 1";
    put_invite_secret: Upsert =
        "INSERT INTO {ks}.invite_by_secret (room, secret_hash, invite) VALUES (?, ?, ?) USING TIMESTAMP 1";
    put_invite_uses: Upsert = "UPDATE {ks}.invite USING TIMESTAMP ? SET uses = ? WHERE room = ? AND invite = ?";
    revoke_invite: Upsert =
        "UPDATE {ks}.invite USING TIMESTAMP 1 SET revoked = true WHERE room = ? AND invite = ?";

    // People.
    account: Serial =
        "SELECT user, name, display_name, full_name, email, colour, password_hash, disabled, created_at, ready
         FROM {ks}.account WHERE user = ?";
    account_soon: Read =
        "SELECT user, name, display_name, full_name, email, colour, password_hash, disabled, created_at, ready
         FROM {ks}.account WHERE user = ?";
    create_account: Conditional =
        "INSERT INTO {ks}.account (user, name, display_name, full_name, email, colour, password_hash, disabled,
         created_at, ready) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, false) IF NOT EXISTS";
    make_ready: Conditional = "UPDATE {ks}.account SET ready = true WHERE user = ? IF ready = false";
    drop_unready: Conditional = "DELETE FROM {ks}.account WHERE user = ? IF ready = false";
    update_profile: Conditional =
        "UPDATE {ks}.account SET display_name = ?, full_name = ?, colour = ? WHERE user = ?
         IF ready = true AND display_name = ? AND full_name = ? AND colour = ?";
    set_password: Conditional = "UPDATE {ks}.account SET password_hash = ? WHERE user = ? IF ready = true";
    set_disabled: Conditional = "UPDATE {ks}.account SET disabled = ? WHERE user = ? IF ready = true";
    erase_profile: Conditional =
        "UPDATE {ks}.account SET display_name = ?, full_name = '', email = '', disabled = true WHERE user = ?
         IF ready = true";
    key_holder: Serial = "SELECT user FROM {ks}.account_key WHERE what = ? AND key = ?";
    key_holder_soon: Read = "SELECT user FROM {ks}.account_key WHERE what = ? AND key = ?";
    take_key: Conditional = "INSERT INTO {ks}.account_key (what, key, user) VALUES (?, ?, ?) IF NOT EXISTS";
    leave_key: Conditional = "DELETE FROM {ks}.account_key WHERE what = ? AND key = ? IF user = ?";
    names: Read = "SELECT name_key, user FROM {ks}.account_name WHERE slot = ? AND name_key > ? LIMIT ?";
    put_name: Upsert = "INSERT INTO {ks}.account_name (slot, name_key, user) VALUES (?, ?, ?)";
    block: Upsert = "INSERT INTO {ks}.block (user, other) VALUES (?, ?)";
    unblock: Upsert = "DELETE FROM {ks}.block WHERE user = ? AND other = ?";
    blocks: Read = "SELECT other FROM {ks}.block WHERE user = ? LIMIT 10000";

    // Sign-ins and what proves them.
    create_sign_in: Conditional =
        "INSERT INTO {ks}.sign_in (device, user, label, created_at, last_used_at, expires_at, current_token,
         previous_token, rotated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS";
    sign_in: Serial =
        "SELECT device, user, label, created_at, last_used_at, expires_at, current_token, previous_token, rotated_at
         FROM {ks}.sign_in WHERE device = ?";
    rotate_tokens: Conditional =
        "UPDATE {ks}.sign_in SET current_token = ?, previous_token = ?, rotated_at = ?, last_used_at = ?, expires_at = ?
         WHERE device = ? IF current_token = ?";
    end_sign_in: Conditional = "DELETE FROM {ks}.sign_in WHERE device = ? IF EXISTS";
    sign_ins_of: Read = "SELECT device FROM {ks}.sign_in_by_user WHERE user = ? LIMIT 10000";
    put_sign_in_of: Upsert = "INSERT INTO {ks}.sign_in_by_user (user, device) VALUES (?, ?) USING TIMESTAMP 1";
    drop_sign_in_of: Upsert = "DELETE FROM {ks}.sign_in_by_user USING TIMESTAMP 2 WHERE user = ? AND device = ?";
    put_ticket: Conditional =
        "INSERT INTO {ks}.ticket (hash, user, device, expires_at) VALUES (?, ?, ?, ?) IF NOT EXISTS";
    ticket: Serial = "SELECT user, device, expires_at FROM {ks}.ticket WHERE hash = ?";
    take_ticket: Conditional = "DELETE FROM {ks}.ticket WHERE hash = ? IF EXISTS";
    signing_keys: Serial = "SELECT key_id, private, created_at FROM {ks}.signing_key WHERE slot = 0";
    put_signing_key: Conditional =
        "INSERT INTO {ks}.signing_key (slot, key_id, private, created_at) VALUES (0, ?, ?, ?) IF NOT EXISTS";
    drop_signing_key: Conditional = "DELETE FROM {ks}.signing_key WHERE slot = 0 AND key_id = ? IF EXISTS";

    // How far, when, what.
    read_mark: Read = "SELECT seq FROM {ks}.read_mark WHERE user = ? AND room = ?";
    put_read_mark: Upsert = "UPDATE {ks}.read_mark USING TIMESTAMP ? SET seq = ? WHERE user = ? AND room = ?";
    last_seen: Read = "SELECT at FROM {ks}.last_seen WHERE user = ?";
    put_last_seen: Upsert = "UPDATE {ks}.last_seen USING TIMESTAMP ? SET at = ? WHERE user = ?";
    put_audit: Upsert =
        "INSERT INTO {ks}.audit (day, at, id, actor, action, subject, address, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    put_audit_day: Upsert = "INSERT INTO {ks}.audit_day (slot, day) VALUES (0, ?)";
    audit_days: Read = "SELECT day FROM {ks}.audit_day WHERE slot = 0 AND day <= ? LIMIT ?";
    audit: Read =
        "SELECT at, id, actor, action, subject, address, detail FROM {ks}.audit
         WHERE day = ? AND (at, id) < (?, ?) LIMIT ?";
}
