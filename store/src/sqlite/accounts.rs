//! Accounts and sign-ins in SQLite.

use async_trait::async_trait;
use protocol::{DeviceId, Millis, UserId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    SqliteStore,
    codec::{self, Columns, Fault, int},
};
use crate::{
    Accounts, Listing, StoreError,
    accounts::{ERASED_NAME, NewUser, ProfileChange, SignIn, SigningKey, Ticket, TokenFamily, UserRecord},
    listing,
};

const USER: &str = "user, name, display_name, full_name, email, colour, password_hash, disabled, created_at";
const SIGN_IN: &str = "device, user, label, created_at, last_used_at, expires_at, current_token, previous_token, \
                       rotated_at";

#[async_trait]
impl Accounts for SqliteStore {
    async fn create_user(&self, user: &UserRecord) -> Result<NewUser, StoreError> {
        let user = user.clone();
        self.write(move |db| create_user(db, &user)).await
    }

    async fn user(&self, user: UserId) -> Result<Option<UserRecord>, StoreError> {
        self.read(move |db| self::user(db, user)).await
    }

    async fn users(&self, users: &[UserId]) -> Result<Vec<UserRecord>, StoreError> {
        let users = users.to_vec();
        self.read(move |db| users.into_iter().filter_map(|user| self::user(db, user).transpose()).collect())
            .await
    }

    async fn user_by_name(&self, name: &str) -> Result<Option<UserRecord>, StoreError> {
        let name = listing::key(name);
        self.read(move |db| {
            let sql = format!("SELECT {USER} FROM account WHERE name_key = ?1");
            codec::first(db.prepare_cached(&sql)?.query([name])?, user_record)
        })
        .await
    }

    async fn users_by_prefix(
        &self,
        prefix: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Listing<UserRecord>, StoreError> {
        let (prefix, limit) = (listing::key(prefix), listing::clamp(limit));
        let after = listing::after_name(&prefix, cursor)?.map(str::to_owned);
        self.read(move |db| {
            // No name begins with the prefix and is at or above the prefix followed by the largest character.
            let sql = format!(
                "SELECT {USER} FROM account WHERE name_key >= ?1 AND name_key < ?1 || char(1114111)
                 AND (?2 IS NULL OR name_key > ?2) AND disabled = 0 ORDER BY name_key LIMIT ?3"
            );
            let mut query = db.prepare_cached(&sql)?;
            let found = query.query(params![prefix, after, codec::rows(limit + 1)])?;
            let items = codec::collect(found, user_record)?;
            Ok(listing::cut(items, limit, |user| listing::key(&user.name)))
        })
        .await
    }

    async fn all_users(&self, cursor: Option<&str>, limit: usize) -> Result<Listing<UserRecord>, StoreError> {
        let after: Option<UserId> = listing::parse(cursor)?;
        let limit = listing::clamp(limit);
        self.read(move |db| {
            let sql = format!("SELECT {USER} FROM account WHERE user > ?1 ORDER BY user LIMIT ?2");
            let after = after.map_or_else(Vec::new, |user| user.to_bytes().to_vec());
            let mut query = db.prepare_cached(&sql)?;
            let items = codec::collect(query.query(params![after, codec::rows(limit + 1)])?, user_record)?;
            Ok(listing::cut(items, limit, |user| user.user.to_string()))
        })
        .await
    }

    async fn update_profile(
        &self,
        user: UserId,
        change: &ProfileChange,
    ) -> Result<Option<UserRecord>, StoreError> {
        let change = change.clone();
        self.write(move |db| {
            let Some(mut found) = self::user(db, user)? else { return Ok(None) };
            change.apply(&mut found);
            let sql = "UPDATE account SET display_name = ?2, full_name = ?3, colour = ?4 WHERE user = ?1";
            let mut update = db.prepare_cached(sql)?;
            update.execute(params![user.to_bytes(), found.display_name, found.full_name, found.colour])?;
            Ok(Some(found))
        })
        .await
    }

    async fn set_password(&self, user: UserId, password_hash: &str) -> Result<bool, StoreError> {
        let hash = password_hash.to_owned();
        self.write(move |db| {
            let mut update = db.prepare_cached("UPDATE account SET password_hash = ?2 WHERE user = ?1")?;
            Ok(update.execute(params![user.to_bytes(), hash])? > 0)
        })
        .await
    }

    async fn set_disabled(&self, user: UserId, disabled: bool) -> Result<bool, StoreError> {
        self.write(move |db| {
            let mut update = db.prepare_cached("UPDATE account SET disabled = ?2 WHERE user = ?1")?;
            Ok(update.execute(params![user.to_bytes(), disabled])? > 0)
        })
        .await
    }

    async fn erase_profile(&self, user: UserId) -> Result<bool, StoreError> {
        self.write(move |db| {
            let mut update = db.prepare_cached(
                "UPDATE account SET display_name = ?2, full_name = NULL, email = NULL, email_key = NULL, disabled = 1
                 WHERE user = ?1",
            )?;
            Ok(update.execute(params![user.to_bytes(), ERASED_NAME])? > 0)
        })
        .await
    }

    async fn block(&self, user: UserId, other: UserId) -> Result<(), StoreError> {
        self.write(move |db| {
            let mut insert = db.prepare_cached("INSERT INTO block VALUES (?1, ?2) ON CONFLICT DO NOTHING")?;
            insert.execute([user.to_bytes(), other.to_bytes()])?;
            Ok(())
        })
        .await
    }

    async fn unblock(&self, user: UserId, other: UserId) -> Result<(), StoreError> {
        self.write(move |db| {
            let mut delete = db.prepare_cached("DELETE FROM block WHERE user = ?1 AND other = ?2")?;
            delete.execute([user.to_bytes(), other.to_bytes()])?;
            Ok(())
        })
        .await
    }

    async fn blocked_by(&self, user: UserId) -> Result<Vec<UserId>, StoreError> {
        self.read(move |db| {
            let sql = "SELECT other FROM block WHERE user = ?1 ORDER BY other LIMIT 10000";
            codec::collect(db.prepare_cached(sql)?.query([user.to_bytes()])?, |row| codec::user_id(row, 0))
        })
        .await
    }

    async fn create_sign_in(&self, sign_in: &SignIn) -> Result<(), StoreError> {
        let sign_in = sign_in.clone();
        self.write(move |db| {
            let sql = format!(
                "INSERT INTO sign_in ({SIGN_IN}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING"
            );
            db.prepare_cached(&sql)?.execute(params![
                sign_in.device.to_bytes(),
                sign_in.user.to_bytes(),
                sign_in.label,
                int(sign_in.created_at),
                int(sign_in.last_used_at),
                int(sign_in.expires_at),
                sign_in.tokens.current,
                sign_in.tokens.previous,
                int(sign_in.tokens.rotated_at),
            ])?;
            Ok(())
        })
        .await
    }

    async fn sign_in(&self, device: DeviceId) -> Result<Option<SignIn>, StoreError> {
        self.read(move |db| {
            let sql = format!("SELECT {SIGN_IN} FROM sign_in WHERE device = ?1");
            codec::first(db.prepare_cached(&sql)?.query([device.to_bytes()])?, sign_in)
        })
        .await
    }

    async fn sign_ins(&self, user: UserId) -> Result<Vec<SignIn>, StoreError> {
        self.read(move |db| {
            let sql = format!(
                "SELECT {SIGN_IN} FROM sign_in WHERE user = ?1 ORDER BY created_at DESC, device LIMIT 1000"
            );
            codec::collect(db.prepare_cached(&sql)?.query([user.to_bytes()])?, sign_in)
        })
        .await
    }

    async fn rotate_tokens(
        &self,
        device: DeviceId,
        current: [u8; 32],
        next: TokenFamily,
        expires_at: Millis,
    ) -> Result<bool, StoreError> {
        self.write(move |db| {
            let mut update = db.prepare_cached(
                "UPDATE sign_in SET current_token = ?3, previous_token = ?4, rotated_at = ?5, last_used_at = ?5,
                 expires_at = ?6 WHERE device = ?1 AND current_token = ?2",
            )?;
            let rotated_at = int(next.rotated_at);
            let values =
                params![device.to_bytes(), current, next.current, next.previous, rotated_at, int(expires_at)];
            Ok(update.execute(values)? > 0)
        })
        .await
    }

    async fn end_sign_in(&self, device: DeviceId) -> Result<bool, StoreError> {
        self.write(move |db| {
            let mut delete = db.prepare_cached("DELETE FROM sign_in WHERE device = ?1")?;
            Ok(delete.execute([device.to_bytes()])? > 0)
        })
        .await
    }

    async fn end_sign_ins(
        &self,
        user: UserId,
        except: Option<DeviceId>,
    ) -> Result<Vec<DeviceId>, StoreError> {
        self.write(move |db| {
            let sql = "DELETE FROM sign_in WHERE user = ?1 AND device IS NOT ?2 RETURNING device";
            let mut delete = db.prepare_cached(sql)?;
            let ended = delete.query(params![user.to_bytes(), except.map(DeviceId::to_bytes)])?;
            codec::collect(ended, |row| codec::device_id(row, 0))
        })
        .await
    }

    async fn put_ticket(&self, hash: [u8; 32], ticket: Ticket) -> Result<(), StoreError> {
        self.write(move |db| {
            let mut insert = db.prepare_cached("INSERT OR REPLACE INTO ticket VALUES (?1, ?2, ?3, ?4)")?;
            let expires_at = int(ticket.expires_at);
            insert.execute(params![hash, ticket.user.to_bytes(), ticket.device.to_bytes(), expires_at])?;
            Ok(())
        })
        .await
    }

    async fn take_ticket(&self, hash: [u8; 32], now: Millis) -> Result<Option<Ticket>, StoreError> {
        self.write(move |db| {
            let mut delete =
                db.prepare_cached("DELETE FROM ticket WHERE hash = ?1 RETURNING user, device, expires_at")?;
            let taken = codec::first(delete.query([hash])?, |row| {
                let (user, device) = (codec::user_id(row, 0)?, codec::device_id(row, 1)?);
                Ok(Ticket { user, device, expires_at: row.number(2)? })
            })?;
            db.prepare_cached("DELETE FROM ticket WHERE expires_at <= ?1")?.execute([int(now)])?;
            Ok(taken.filter(|ticket| ticket.expires_at > now))
        })
        .await
    }

    async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        self.read(|db| {
            let sql =
                "SELECT key_id, private, created_at FROM signing_key ORDER BY created_at DESC, key_id DESC";
            codec::collect(db.prepare_cached(sql)?.query([])?, |row| {
                Ok(SigningKey { key_id: row.value(0)?, private: row.value(1)?, created_at: row.number(2)? })
            })
        })
        .await
    }

    async fn put_signing_key(&self, key: &SigningKey) -> Result<(), StoreError> {
        let key = key.clone();
        self.write(move |db| {
            let mut insert =
                db.prepare_cached("INSERT INTO signing_key VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?;
            insert.execute(params![key.key_id, key.private, int(key.created_at)])?;
            Ok(())
        })
        .await
    }

    async fn drop_signing_keys(&self, before: Millis) -> Result<(), StoreError> {
        self.write(move |db| {
            let mut delete = db.prepare_cached(
                "DELETE FROM signing_key WHERE created_at < ?1 AND key_id NOT IN
                 (SELECT key_id FROM signing_key ORDER BY created_at DESC, key_id DESC LIMIT 1)",
            )?;
            delete.execute([int(before)])?;
            Ok(())
        })
        .await
    }
}

fn create_user(db: &Connection, user: &UserRecord) -> Result<NewUser, Fault> {
    let name = listing::key(&user.name);
    let email = user.email.as_deref().map(listing::key);
    let mut holder = db.prepare_cached("SELECT user FROM account WHERE name_key = ?1")?;
    if holder
        .query_row([&name], |row| row.get::<_, [u8; 16]>(0))
        .optional()?
        .is_some_and(|id| id != user.user.to_bytes())
    {
        return Ok(NewUser::NameTaken);
    }
    let mut holder = db.prepare_cached("SELECT user FROM account WHERE email_key = ?1")?;
    if holder
        .query_row([&email], |row| row.get::<_, [u8; 16]>(0))
        .optional()?
        .is_some_and(|id| id != user.user.to_bytes())
    {
        return Ok(NewUser::EmailTaken);
    }
    let mut insert = db.prepare_cached(
        "INSERT INTO account (user, name, display_name, full_name, email, colour, password_hash, disabled, created_at,
             name_key, email_key)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (user) DO NOTHING",
    )?;
    insert.execute(params![
        user.user.to_bytes(),
        user.name,
        user.display_name,
        user.full_name,
        user.email,
        user.colour,
        user.password_hash,
        user.disabled,
        int(user.created_at),
        name,
        email,
    ])?;
    Ok(NewUser::Created)
}

fn user(db: &Connection, user: UserId) -> Result<Option<UserRecord>, Fault> {
    let sql = format!("SELECT {USER} FROM account WHERE user = ?1");
    codec::first(db.prepare_cached(&sql)?.query([user.to_bytes()])?, user_record)
}

fn user_record(row: &Row<'_>) -> Result<UserRecord, Fault> {
    Ok(UserRecord {
        user: codec::user_id(row, 0)?,
        name: row.value(1)?,
        display_name: row.value(2)?,
        full_name: row.value(3)?,
        email: row.value(4)?,
        colour: row.value(5)?,
        password_hash: row.value(6)?,
        disabled: row.value(7)?,
        created_at: row.number(8)?,
    })
}

fn sign_in(row: &Row<'_>) -> Result<SignIn, Fault> {
    Ok(SignIn {
        device: codec::device_id(row, 0)?,
        user: codec::user_id(row, 1)?,
        label: row.value(2)?,
        created_at: row.number(3)?,
        last_used_at: row.number(4)?,
        expires_at: row.number(5)?,
        tokens: TokenFamily { current: row.value(6)?, previous: row.value(7)?, rotated_at: row.number(8)? },
    })
}
