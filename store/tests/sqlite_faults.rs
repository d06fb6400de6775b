//! The embedded store on disks that are full, damaged, taken or of another time.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use std::{
    fs::{self, OpenOptions},
    io::{Seek, SeekFrom, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
};

use protocol::{Body, Kind, RoomId, UserId, WriterId};
use rookery_store::{
    Accounts, Marks, RoomLog, StoreError,
    accounts::{NewUser, UserRecord},
    log::Row,
    members::Derived,
    owner::{AppendEnd, Batch, Ownership, claim},
    sqlite::{SqliteOptions, SqliteStore, Synchronous},
};

const ROOM: RoomId = RoomId::from_u128(7);

fn open(folder: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(folder, SqliteOptions::default())
}

fn batch(owner: &Ownership, count: u64) -> Batch {
    let row = |i| Row {
        seq: owner.head() + i,
        epoch: owner.epoch(),
        writer: WriterId::from_u128(1),
        n: owner.head() + i,
        from: UserId::from_u128(2),
        at: 3,
        kind: Kind::Message,
        target: None,
        body: Some(
            Body::text(&format!("{} is the number of this row {}", owner.head() + i, "~".repeat(150)))
                .unwrap(),
        ),
    };
    let write_id = u128::from(owner.head()) << 8 | u128::from(count);
    Batch { rows: (1..=count).map(row).collect(), write_id, derived: Derived::default() }
}

async fn claimed(store: &SqliteStore, room: RoomId) -> Ownership {
    let mut nonce = 0;
    let mut nonces = || {
        nonce += 1;
        nonce
    };
    claim(store, room, &mut nonces).await.unwrap().ownership
}

/// Appends until `count` rows more are stored.
async fn fill(store: &SqliteStore, mut owner: Ownership, count: u64) -> Ownership {
    let end = owner.head() + count;
    while owner.head() < end {
        let batch = batch(&owner, owner.free_rows().min(end - owner.head()));
        let AppendEnd::Committed(next) = owner.append(store, batch).await else { panic!("not committed") };
        owner = next;
    }
    owner
}

/// Appends until the store is full; every other end is wrong.
async fn fill_up(store: &SqliteStore, mut owner: Ownership) -> Ownership {
    loop {
        let batch = batch(&owner, owner.free_rows().min(64));
        owner = match owner.append(store, batch).await {
            AppendEnd::Committed(owner) => owner,
            AppendEnd::Refused(owner, StoreError::Full(_)) => return owner,
            other => panic!("neither committed nor full: {other:?}"),
        };
    }
}

async fn assert_dense(store: &SqliteStore, head: u64) {
    let rows = store.rows_after(ROOM, 0, u64::MAX, usize::MAX).await.unwrap();
    assert!(rows.iter().map(|row| row.seq).eq(1..=head), "{} rows up to {head}", rows.len());
}

#[tokio::test]
async fn a_full_file_refuses_and_takes_appends_again_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let small = SqliteOptions { max_pages: Some(120), ..SqliteOptions::default() };
    let store = SqliteStore::open(folder.path(), small).unwrap();
    let owner = fill_up(&store, claimed(&store, ROOM).await).await;
    let head = owner.head();
    assert_dense(&store, head).await;
    let again = fill_up(&store, owner).await;
    assert_eq!(again.head(), head, "a refused append leaves nothing");
    assert_eq!(store.heads(&[ROOM]).await.unwrap(), [head]);
    drop(store);

    let store = open(folder.path()).unwrap();
    let owner = claimed(&store, ROOM).await;
    assert_eq!(owner.head(), head);
    fill(&store, owner, 100).await;
    assert_dense(&store, head + 100).await;
}

#[tokio::test]
async fn in_a_full_file_the_others_of_the_group_are_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let small = SqliteOptions { max_pages: Some(120), ..SqliteOptions::default() };
    let store = Arc::new(SqliteStore::open(folder.path(), small).unwrap());
    let owner = fill_up(&store, claimed(&store, ROOM).await).await;
    let head = owner.head();
    let mark = |room| store.put_read_mark(UserId::from_u128(1), RoomId::from_u128(room), 5);
    let batch = batch(&owner, 64);
    let (first, end, second) = tokio::join!(mark(1), owner.append(&*store, batch), mark(2));
    assert!(matches!(end, AppendEnd::Refused(_, StoreError::Full(_))), "{end:?}");
    for (room, outcome) in [(1, first), (2, second)] {
        let there = store.read_marks(UserId::from_u128(1), &[RoomId::from_u128(room)]).await.unwrap()[0];
        match outcome {
            Ok(5) => assert_eq!(there, 5, "what was answered is there"),
            Err(StoreError::Full(_)) => assert_eq!(there, 0, "what was refused is not"),
            other => panic!("{other:?}"),
        }
    }
    assert_dense(&store, head).await;
}

/// A file system of 10 MiB that goes with its value, where the tests may mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=10m", "tmpfs"];
        let mounted = std::process::Command::new("mount").args(mount).arg(folder.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_takes_appends_again_once_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        println!("not exercised: no file system can be mounted here");
        return;
    };
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![1; 6 << 20]).unwrap();
    let store = open(&disk.0.path().join("data")).unwrap();
    let owner = fill_up(&store, claimed(&store, ROOM).await).await;
    let head = owner.head();
    assert!(head > 0);
    assert_dense(&store, head).await;
    fs::remove_file(&ballast).unwrap();
    let owner = fill(&store, owner, 300).await;
    assert_dense(&store, owner.head()).await;
    drop(store);
    let store = open(&disk.0.path().join("data")).unwrap();
    assert_eq!(claimed(&store, ROOM).await.head(), head + 300, "nothing was lost on the way");
    assert_dense(&store, head + 300).await;
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "not a folder").unwrap();
    for path in [file.join("data"), file.clone(), Path::new("/proc/rookery").to_owned()] {
        let error = open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

#[test]
fn a_folder_is_for_one_store_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).unwrap();
    let error = open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::InUse(_)), "{error}");
    assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
    drop(first);
    open(folder.path()).unwrap();
}

#[test]
fn folder_and_files_are_for_their_user_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("a").join("data");
    let store = open(&data).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    let files: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 3, "database, log and lock: {files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    drop(store);
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rookery.db"), "my diary, long enough to be taken for a page\n".repeat(200))
        .unwrap();
    let error = open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)) && error.to_string().contains("rookery.db"), "{error}");
}

#[test]
fn another_programs_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let db = rusqlite::Connection::open(folder.path().join("rookery.db")).unwrap();
    db.execute_batch("CREATE TABLE songs (title TEXT)").unwrap();
    let error = open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 1, "and left as it was");
}

#[test]
fn a_store_of_a_later_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    let db = rusqlite::Connection::open(folder.path().join("rookery.db")).unwrap();
    db.execute("UPDATE schema_version SET version = 99", []).unwrap();
    let error = open(folder.path()).unwrap_err();
    assert_eq!(error, StoreError::NewerSchema { found: 99, known: 1 });
}

#[tokio::test]
async fn a_changed_row_is_never_returned() {
    let changes = [
        "UPDATE room_log SET body = replace(body, 'number', 'numbre') WHERE seq = 30",
        "UPDATE room_log SET body = NULL WHERE seq = 30",
        "UPDATE room_log SET at = at + 1 WHERE seq = 30",
        "UPDATE room_log SET n = 0 WHERE seq = 30",
        "UPDATE room_log SET kind = 'reply' WHERE seq = 30",
        "UPDATE room_log SET target = 1 WHERE seq = 30",
        "UPDATE room_log SET sender = zeroblob(16) WHERE seq = 30",
        "UPDATE room_log SET crc = crc + 1 WHERE seq = 30",
        "UPDATE room_log SET seq = 3000 WHERE seq = 30",
    ];
    for change in changes {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        let owner = claimed(&store, ROOM).await;
        fill(&store, owner, 50).await;
        let db = rusqlite::Connection::open(folder.path().join("rookery.db")).unwrap();
        assert_eq!(db.execute(change, []).unwrap(), 1);
        let error = store.rows_after(ROOM, 25, u64::MAX, 100).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt(_)), "{change}: {error}");
        assert!(!error.to_string().contains("number"), "contents stay out of errors: {error}");
        assert_eq!(store.rows_after(ROOM, 0, 29, 100).await.unwrap().len(), 29, "the others are readable");
        assert!(claim(&store, ROOM, &mut || 9).await.is_err(), "nobody serves a damaged tail");
    }
}

/// Overwrites each page of the file in turn: the store opens or refuses, and each row is as it was or not told.
#[tokio::test]
async fn damaged_pages_never_give_wrong_rows() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let owner = claimed(&store, ROOM).await;
    fill(&store, owner, 400).await;
    let rows = store.rows_after(ROOM, 0, u64::MAX, usize::MAX).await.unwrap();
    drop(store);
    let file = folder.path().join("rookery.db");
    let sound = fs::read(&file).unwrap();
    let (mut refused, mut corrupt) = (0, 0);
    for page in 0..sound.len() / 4096 {
        fs::write(&file, &sound).unwrap();
        let mut damaged = OpenOptions::new().write(true).open(&file).unwrap();
        damaged.seek(SeekFrom::Start(page as u64 * 4096)).unwrap();
        let noise: Vec<u8> =
            (0..4096u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        damaged.write_all(&noise).unwrap();
        drop(damaged);
        match open(folder.path()) {
            Ok(store) => corrupt += u32::from(!all_rows_or_corrupt(&store, &rows).await),
            Err(StoreError::Corrupt(_)) => refused += 1,
            Err(other) => panic!("page {page}: {other}"),
        }
    }
    assert!(refused > 0, "damage to the first page shows at once");
    assert!(corrupt > 10, "damage to the log shows when it is read: {corrupt}");
}

/// Whether all rows are there; a read that fails as corrupt is as right.
async fn all_rows_or_corrupt(store: &SqliteStore, rows: &[Row]) -> bool {
    let mut whole = true;
    for row in rows {
        match store.rows_after(ROOM, row.seq - 1, row.seq, 1).await {
            Ok(found) if found.is_empty() => whole = false,
            Ok(found) => assert_eq!(&found[..], std::slice::from_ref(row)),
            Err(StoreError::Corrupt(_)) => whole = false,
            Err(other) => panic!("row {}: {other}", row.seq),
        }
    }
    whole
}

#[tokio::test]
async fn a_damaged_head_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let owner = claimed(&store, ROOM).await;
    fill(&store, owner, 50).await;
    let db = rusqlite::Connection::open(folder.path().join("rookery.db")).unwrap();
    for change in ["UPDATE room_bucket SET last_seq = 51", "DELETE FROM room_log WHERE seq = 20"] {
        db.execute(change, []).unwrap();
        let error = claim(&store, ROOM, &mut || 9).await.unwrap_err();
        assert!(error.to_string().contains("corrupt"), "{change}: {error}");
        db.execute("UPDATE room_bucket SET last_seq = 50", []).unwrap();
    }
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_reopen_in_both_modes() {
    for synchronous in [Synchronous::Full, Synchronous::Normal] {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions { synchronous, ..SqliteOptions::default() };
        for round in 1..=3u64 {
            let store = SqliteStore::open(folder.path(), options.clone()).unwrap();
            let owner = claimed(&store, ROOM).await;
            assert_eq!(owner.epoch(), round);
            fill(&store, owner, 40).await;
            assert_dense(&store, round * 40).await;
            store.close();
        }
        assert!(!folder.path().join("rookery.db-wal").exists(), "a closed store is one file");
    }
}

#[tokio::test]
async fn a_closed_store_refuses_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    store.close();
    store.close();
    assert!(matches!(store.heads(&[ROOM]).await, Err(StoreError::Unavailable(_))));
    let write = store.put_read_mark(UserId::from_u128(1), ROOM, 1).await;
    assert!(matches!(write, Err(StoreError::Unavailable(_))), "{write:?}");
}

#[tokio::test]
async fn more_writes_than_may_wait_are_refused_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions { write_queue: 4, ..SqliteOptions::default() };
    let store = Arc::new(SqliteStore::open(folder.path(), options).unwrap());
    let user = |id: u128| UserRecord {
        user: UserId::from_u128(id),
        name: format!("user{id}"),
        display_name: String::new(),
        full_name: None,
        email: None,
        colour: String::new(),
        password_hash: String::new(),
        disabled: false,
        created_at: 0,
    };
    // An operator's tool holds the file for a moment, so that nothing is written meanwhile.
    let mut tool = rusqlite::Connection::open(folder.path().join("rookery.db")).unwrap();
    let lock = tool.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for id in 1..=40 {
        let (store, user) = (store.clone(), user(id));
        tasks.spawn(async move { (user.user, store.create_user(&user).await) });
    }
    let mut refused = Vec::new();
    while refused.len() < 30 {
        let (id, outcome) = tasks.join_next().await.unwrap().unwrap();
        assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
        refused.push(id);
    }
    lock.rollback().unwrap();
    let rest = tasks.join_all().await;
    assert!(
        rest.iter().any(|(_, outcome)| *outcome == Ok(NewUser::Created)),
        "what waited is done: {rest:?}"
    );
    assert!(store.users(&refused).await.unwrap().is_empty());
}

#[tokio::test]
async fn waiting_writes_share_a_commit() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()).unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    for room in 1..=200 {
        let store = store.clone();
        tasks.spawn(
            async move { store.put_read_mark(UserId::from_u128(1), RoomId::from_u128(room), 5).await },
        );
    }
    assert!(tasks.join_all().await.iter().all(|mark| *mark == Ok(5)));
    let stats = store.stats();
    assert_eq!(stats.writes, 200);
    assert!(stats.commits < 100 && stats.largest_group > 2, "{stats:?}");
}
