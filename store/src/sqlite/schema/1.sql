-- Ids, nonces and hashes are blobs, times are milliseconds, choices are words. Tables without a rowid lie in the order
-- of their primary keys: a room's log is one stretch of the file.

CREATE TABLE schema_version (version INTEGER NOT NULL) STRICT;
INSERT INTO schema_version VALUES (1);

-- What a bucket knows beside its rows; every write to room_log is conditional on it.
CREATE TABLE room_bucket (
    room BLOB NOT NULL,
    bucket INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    owner BLOB NOT NULL,
    write_id BLOB NOT NULL,
    dev_upto INTEGER NOT NULL,
    member_seq INTEGER NOT NULL,
    PRIMARY KEY (room, bucket)
) STRICT, WITHOUT ROWID;

CREATE TABLE room_log (
    room BLOB NOT NULL,
    seq INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    writer BLOB NOT NULL,
    n INTEGER NOT NULL,
    sender BLOB NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    target INTEGER,
    body TEXT,
    crc INTEGER NOT NULL,
    PRIMARY KEY (room, seq)
) STRICT, WITHOUT ROWID;

-- How far retention has come: buckets below `oldest` are not read, those below `emptied` have no rows.
CREATE TABLE room_kept (
    room BLOB NOT NULL PRIMARY KEY,
    oldest INTEGER NOT NULL,
    emptied INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What an operator has chosen to keep of a room; null is without limit.
CREATE TABLE room_retention (
    room BLOB NOT NULL PRIMARY KEY,
    max_age_days INTEGER,
    max_entries INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE writer_mark (
    room BLOB NOT NULL,
    writer BLOB NOT NULL,
    n INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (room, writer)
) STRICT, WITHOUT ROWID;

CREATE TABLE room (
    room BLOB NOT NULL PRIMARY KEY,
    visibility TEXT NOT NULL,
    durability TEXT NOT NULL,
    history TEXT NOT NULL,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL,
    topic TEXT NOT NULL,
    slow_mode_s INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    created_by BLOB NOT NULL,
    joined INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    applied_seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX room_by_name ON room (name_key, room) WHERE visibility = 'public' AND deleted = 0;

CREATE TABLE member (
    room BLOB NOT NULL,
    user BLOB NOT NULL,
    state TEXT NOT NULL,
    role TEXT NOT NULL,
    muted_until INTEGER,
    blocked INTEGER NOT NULL,
    joined_seq INTEGER NOT NULL,
    changed_seq INTEGER NOT NULL,
    invite BLOB,
    PRIMARY KEY (room, user)
) STRICT, WITHOUT ROWID;
CREATE INDEX member_by_user ON member (user, room, state);

-- Entries that a later one deletes.
CREATE TABLE mask (
    room BLOB NOT NULL,
    target INTEGER NOT NULL,
    by_seq INTEGER NOT NULL,
    PRIMARY KEY (room, target)
) STRICT, WITHOUT ROWID;

CREATE TABLE invite (
    room BLOB NOT NULL,
    invite BLOB NOT NULL,
    secret_hash BLOB NOT NULL,
    created_by BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    max_uses INTEGER,
    uses INTEGER NOT NULL,
    revoked INTEGER NOT NULL,
    PRIMARY KEY (room, invite)
) STRICT, WITHOUT ROWID;
CREATE INDEX invite_by_secret ON invite (room, secret_hash);

CREATE TABLE account (
    user BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL UNIQUE,
    display_name TEXT NOT NULL,
    full_name TEXT,
    email TEXT,
    email_key TEXT UNIQUE,
    colour TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    disabled INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE block (
    user BLOB NOT NULL,
    other BLOB NOT NULL,
    PRIMARY KEY (user, other)
) STRICT, WITHOUT ROWID;

CREATE TABLE sign_in (
    device BLOB NOT NULL PRIMARY KEY,
    user BLOB NOT NULL,
    label TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    current_token BLOB NOT NULL,
    previous_token BLOB,
    rotated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sign_in_by_user ON sign_in (user);

CREATE TABLE ticket (
    hash BLOB NOT NULL PRIMARY KEY,
    user BLOB NOT NULL,
    device BLOB NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX ticket_by_expiry ON ticket (expires_at);

CREATE TABLE signing_key (
    key_id TEXT NOT NULL PRIMARY KEY,
    private BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE read_mark (
    user BLOB NOT NULL,
    room BLOB NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (user, room)
) STRICT, WITHOUT ROWID;

CREATE TABLE last_seen (
    user BLOB NOT NULL PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    actor BLOB,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    address TEXT,
    detail TEXT NOT NULL
) STRICT;
