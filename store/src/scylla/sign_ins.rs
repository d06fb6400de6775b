//! Sign-ins, tickets and signing keys: all written conditionally, so that a token, a ticket and a device each end once.

use protocol::{DeviceId, Millis, UserId};
use scylla::DeserializeRow;

use super::{
    Core,
    codec::{bits, hash, int},
};
use crate::{
    StoreError,
    accounts::{SignIn, SigningKey, Ticket, TokenFamily},
};

#[derive(DeserializeRow)]
struct SignInRow {
    device: Vec<u8>,
    user: Vec<u8>,
    label: String,
    created_at: i64,
    last_used_at: i64,
    expires_at: i64,
    current_token: Vec<u8>,
    previous_token: Vec<u8>,
    rotated_at: i64,
}

impl SignInRow {
    fn record(self) -> Result<SignIn, StoreError> {
        let previous = if self.previous_token.is_empty() { None } else { Some(hash(&self.previous_token)?) };
        Ok(SignIn {
            device: DeviceId::from_u128(bits(&self.device)?),
            user: UserId::from_u128(bits(&self.user)?),
            label: self.label,
            created_at: self.created_at.cast_unsigned(),
            last_used_at: self.last_used_at.cast_unsigned(),
            expires_at: self.expires_at.cast_unsigned(),
            tokens: TokenFamily {
                current: hash(&self.current_token)?,
                previous,
                rotated_at: self.rotated_at.cast_unsigned(),
            },
        })
    }
}

fn token(previous: Option<[u8; 32]>) -> Vec<u8> {
    previous.map_or_else(Vec::new, |hash| hash.to_vec())
}

impl Core {
    pub(super) async fn create_sign_in(&self, sign_in: &SignIn) -> Result<(), StoreError> {
        let (device, user) = (sign_in.device.to_bytes(), sign_in.user.to_bytes());
        // The list first: what it names and is not there is passed over.
        self.upsert(&self.statements.put_sign_in_of, (user, device)).await?;
        let values = (
            device,
            user,
            &sign_in.label,
            int(sign_in.created_at),
            int(sign_in.last_used_at),
            int(sign_in.expires_at),
            sign_in.tokens.current,
            token(sign_in.tokens.previous),
            int(sign_in.tokens.rotated_at),
        );
        self.cas(&self.statements.create_sign_in, values).await.map(|_| ())
    }

    pub(super) async fn sign_in(&self, device: DeviceId) -> Result<Option<SignIn>, StoreError> {
        let found: Option<SignInRow> = self.first(&self.statements.sign_in, (device.to_bytes(),)).await?;
        found.map(SignInRow::record).transpose()
    }

    pub(super) async fn sign_ins(&self, user: UserId) -> Result<Vec<SignIn>, StoreError> {
        let mut found = Vec::new();
        for device in self.devices(user).await? {
            found.extend(self.sign_in(device).await?);
        }
        found.sort_by_key(|sign_in: &SignIn| (std::cmp::Reverse(sign_in.created_at), sign_in.device));
        found.truncate(1000);
        Ok(found)
    }

    async fn devices(&self, user: UserId) -> Result<Vec<DeviceId>, StoreError> {
        let found: Vec<(Vec<u8>,)> = self.rows(&self.statements.sign_ins_of, (user.to_bytes(),)).await?;
        found.iter().map(|(device,)| Ok(DeviceId::from_u128(bits(device)?))).collect()
    }

    pub(super) async fn rotate_tokens(
        &self,
        device: DeviceId,
        current: [u8; 32],
        next: TokenFamily,
        expires_at: Millis,
    ) -> Result<bool, StoreError> {
        let rotated_at = int(next.rotated_at);
        let tokens = (next.current, token(next.previous));
        let values =
            (tokens.0, tokens.1, rotated_at, rotated_at, int(expires_at), device.to_bytes(), current);
        self.cas(&self.statements.rotate_tokens, values).await
    }

    pub(super) async fn end_sign_in(&self, device: DeviceId) -> Result<bool, StoreError> {
        let user = self.sign_in(device).await?.map(|sign_in| sign_in.user);
        let ended = self.cas(&self.statements.end_sign_in, (device.to_bytes(),)).await?;
        if let Some(user) = user {
            let listed = (user.to_bytes(), device.to_bytes());
            self.upsert(&self.statements.drop_sign_in_of, listed).await?;
        }
        Ok(ended)
    }

    pub(super) async fn end_sign_ins(
        &self,
        user: UserId,
        except: Option<DeviceId>,
    ) -> Result<Vec<DeviceId>, StoreError> {
        let mut ended = Vec::new();
        for device in self.devices(user).await?.into_iter().filter(|device| Some(*device) != except) {
            if self.end_sign_in(device).await? {
                ended.push(device);
            }
        }
        Ok(ended)
    }

    pub(super) async fn put_ticket(&self, hash: [u8; 32], ticket: Ticket) -> Result<(), StoreError> {
        let values = (hash, ticket.user.to_bytes(), ticket.device.to_bytes(), int(ticket.expires_at));
        self.cas(&self.statements.put_ticket, values).await.map(|_| ())
    }

    pub(super) async fn take_ticket(
        &self,
        hash: [u8; 32],
        now: Millis,
    ) -> Result<Option<Ticket>, StoreError> {
        let found: Option<(Vec<u8>, Vec<u8>, i64)> = self.first(&self.statements.ticket, (hash,)).await?;
        let Some((user, device, expires_at)) = found else { return Ok(None) };
        // Whoever takes it away has it.
        if !self.cas(&self.statements.take_ticket, (hash,)).await? {
            return Ok(None);
        }
        let ticket = Ticket {
            user: UserId::from_u128(bits(&user)?),
            device: DeviceId::from_u128(bits(&device)?),
            expires_at: expires_at.cast_unsigned(),
        };
        Ok(Some(ticket).filter(|ticket| ticket.expires_at > now))
    }

    pub(super) async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        let found: Vec<(String, Vec<u8>, i64)> = self.rows(&self.statements.signing_keys, ()).await?;
        let key = |(key_id, private, at): (String, Vec<u8>, i64)| SigningKey {
            key_id,
            private,
            created_at: at.cast_unsigned(),
        };
        let mut keys: Vec<_> = found.into_iter().map(key).collect();
        keys.sort_by(|one, other| (other.created_at, &other.key_id).cmp(&(one.created_at, &one.key_id)));
        Ok(keys)
    }

    pub(super) async fn put_signing_key(&self, key: &SigningKey) -> Result<(), StoreError> {
        let values = (&key.key_id, &key.private[..], int(key.created_at));
        self.cas(&self.statements.put_signing_key, values).await.map(|_| ())
    }

    pub(super) async fn drop_signing_keys(&self, before: Millis) -> Result<(), StoreError> {
        for key in self.signing_keys().await?.iter().skip(1).filter(|key| key.created_at < before) {
            self.cas(&self.statements.drop_signing_key, (&key.key_id,)).await?;
        }
        Ok(())
    }
}
