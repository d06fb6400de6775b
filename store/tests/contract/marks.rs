//! Read marks, last seen, and the audit log.

use std::sync::Arc;

use protocol::RoomId;
use rookery_store::{Store, audit::AuditRecord};

use crate::world::{ALICE, BOB, ROOM};

pub(crate) async fn read_marks_only_move_forward(store: Arc<dyn Store>) {
    assert_eq!(store.put_read_mark(ALICE, ROOM, 5).await.unwrap(), 5);
    assert_eq!(store.put_read_mark(ALICE, ROOM, 3).await.unwrap(), 5);
    assert_eq!(store.put_read_mark(ALICE, ROOM, 8).await.unwrap(), 8);
    let other = RoomId::from_u128(1);
    assert_eq!(store.read_marks(ALICE, &[other, ROOM]).await.unwrap(), [0, 8]);
    assert_eq!(store.read_marks(BOB, &[ROOM]).await.unwrap(), [0]);
}

pub(crate) async fn last_seen_only_moves_forward(store: Arc<dyn Store>) {
    for at in [50, 40, 60, 55] {
        store.put_last_seen(ALICE, at).await.unwrap();
    }
    assert_eq!(store.last_seen(&[BOB, ALICE]).await.unwrap(), [None, Some(60)]);
}

pub(crate) async fn the_audit_log_comes_newest_first_in_parts(store: Arc<dyn Store>) {
    let act = |at| AuditRecord {
        at,
        actor: (at % 2 == 0).then_some(ALICE),
        action: "session.refused".to_owned(),
        subject: "bob".to_owned(),
        address: (at % 3 == 0).then(|| "192.0.2.1".to_owned()),
        detail: format!("attempt {at}"),
    };
    for at in 1..=7 {
        store.record(&act(at)).await.unwrap();
    }
    let first = store.audit(None, 3).await.unwrap();
    assert_eq!(first.items, [act(7), act(6), act(5)]);
    store.record(&act(8)).await.unwrap();
    let second = store.audit(first.next.as_deref(), 3).await.unwrap();
    assert_eq!(second.items, [act(4), act(3), act(2)], "new acts don't shift the parts");
    let third = store.audit(second.next.as_deref(), 3).await.unwrap();
    assert_eq!((third.items, third.next), (vec![act(1)], None));
}
