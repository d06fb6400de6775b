//! Accounts and everything about them, and the audit log.

use protocol::UserId;

use super::{Copied, PART, differs};
use crate::{
    Listing, Store, StoreError,
    accounts::{NewUser, UserRecord},
};

/// Accounts, whom they have blocked, their sign-ins, when they were last there; signing keys; the audit log.
pub(super) async fn copy(from: &dyn Store, to: &dyn Store, copied: &mut Copied) -> Result<(), StoreError> {
    for key in from.signing_keys().await? {
        to.put_signing_key(&key).await?;
    }
    let mut cursor = None;
    loop {
        let Listing { items, next } = from.all_users(cursor.as_deref(), PART).await?;
        for user in &items {
            copy_user(from, to, user).await?;
            copied.accounts += 1;
            for sign_in in from.sign_ins(user.user).await? {
                to.create_sign_in(&sign_in).await?;
                copied.sign_ins += 1;
            }
        }
        let ids: Vec<UserId> = items.iter().map(|user| user.user).collect();
        for (user, seen) in ids.iter().zip(from.last_seen(&ids).await?) {
            if let Some(at) = seen {
                to.put_last_seen(*user, at).await?;
            }
        }
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    copied.acts = copy_acts(from, to).await?;
    Ok(())
}

async fn copy_user(from: &dyn Store, to: &dyn Store, user: &UserRecord) -> Result<(), StoreError> {
    let named = || differs(format!("account {:?}", user.name));
    if to.create_user(user).await? != NewUser::Created || to.user(user.user).await?.as_ref() != Some(user) {
        return Err(named());
    }
    for other in from.blocked_by(user.user).await? {
        to.block(user.user, other).await?;
    }
    Ok(())
}

/// Read marks, which need the rooms to be there.
pub(super) async fn copy_marks(from: &dyn Store, to: &dyn Store) -> Result<(), StoreError> {
    let mut cursor = None;
    loop {
        let Listing { items, next } = from.all_users(cursor.as_deref(), PART).await?;
        for user in items.iter().map(|user| user.user) {
            copy_read_marks(from, to, user).await?;
        }
        cursor = next;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

async fn copy_read_marks(from: &dyn Store, to: &dyn Store, user: UserId) -> Result<(), StoreError> {
    let mut cursor = None;
    loop {
        let Listing { items: rooms, next } = from.rooms_ever_of(user, cursor.as_deref(), PART).await?;
        for (room, seq) in rooms.iter().zip(from.read_marks(user, &rooms).await?) {
            if seq > 0 {
                to.put_read_mark(user, *room, seq).await?;
            }
        }
        cursor = next;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

/// The oldest first, as they were noted; those that are there already are passed over by their number.
async fn copy_acts(from: &dyn Store, to: &dyn Store) -> Result<u64, StoreError> {
    let there = pages(to).await?.iter().map(|(_, count)| count).sum::<u64>();
    let (mut passed, mut count) = (0, 0);
    for (cursor, length) in pages(from).await?.into_iter().rev() {
        count += length;
        if passed + length <= there {
            passed += length;
            continue;
        }
        let part = from.audit(cursor.as_deref(), PART).await?;
        for act in part.items.iter().rev() {
            if passed < there {
                passed += 1;
                continue;
            }
            to.record(act).await?;
        }
    }
    Ok(count)
}

/// Where each part of the audit log begins, and how many acts it has; the newest first.
async fn pages(store: &dyn Store) -> Result<Vec<(Option<String>, u64)>, StoreError> {
    let (mut pages, mut cursor) = (Vec::new(), None);
    loop {
        let part = store.audit(cursor.as_deref(), PART).await?;
        pages.push((cursor, part.items.len() as u64));
        cursor = part.next;
        if cursor.is_none() {
            return Ok(pages);
        }
    }
}
