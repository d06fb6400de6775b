//! Who may do what in a room: the whole table, as functions of the room and the two memberships concerned.

use protocol::{
    ErrorCode, Millis, UserId,
    entry::{Role, Visibility},
};
use store::members::{InviteRecord, MemberRecord, MemberState, RoomRecord};

use crate::{rooms::Command, session::Refusal};

/// Whether `member` may hear the room.
pub(crate) fn may_open(member: &MemberRecord) -> Result<(), ErrorCode> {
    match member.state {
        MemberState::Joined => Ok(()),
        MemberState::Banned => Err(ErrorCode::Banned),
        MemberState::Invited | MemberState::Left | MemberState::Kicked => Err(ErrorCode::NotAMember),
    }
}

/// Whether `member` may say something now. Slow mode and load are other questions.
pub(crate) fn may_send(member: &MemberRecord, now: Millis) -> Result<(), Refusal> {
    may_open(member).map_err(|code| Refusal::new(code, "only members send"))?;
    if member.blocked {
        return Err(Refusal::new(ErrorCode::Blocked, "the other one does not want to hear from you"));
    }
    match member.muted_until {
        Some(until) if until > now => {
            let refusal = Refusal::new(ErrorCode::Muted, "muted in this room");
            Err(if until == Millis::MAX { refusal } else { refusal.retry_after(until - now) })
        }
        _ => Ok(()),
    }
}

/// Whether `member` may withdraw an entry of `author`'s.
pub(crate) fn may_delete(member: &MemberRecord, author: UserId) -> Result<(), Refusal> {
    if member.user == author || member.role >= Role::Admin {
        return Ok(());
    }
    Err(forbidden("only its author and administrators delete an entry"))
}

/// Whether `member` may change an entry of `author`'s.
pub(crate) fn may_edit(member: &MemberRecord, author: UserId) -> Result<(), Refusal> {
    if member.user == author { Ok(()) } else { Err(forbidden("only its author edits an entry")) }
}

/// What a command finds.
pub(crate) struct Situation<'a> {
    /// The room.
    pub(crate) room: &'a RoomRecord,
    /// Who wants it.
    pub(crate) actor: &'a MemberRecord,
    /// Whom it concerns, where that is somebody else.
    pub(crate) subject: Option<&'a MemberRecord>,
    /// How many owners have joined.
    pub(crate) owners: usize,
    /// How often the invitation was used, as the room's owner counts.
    pub(crate) invite_uses: u32,
    /// Now.
    pub(crate) now: Millis,
}

/// Whether a command may be carried out. `Ok(false)`: it is so already, nothing needs to happen.
pub(crate) fn may_command(command: &Command, at: &Situation<'_>) -> Result<bool, Refusal> {
    let direct = at.room.visibility == Visibility::Direct;
    match command {
        Command::Join { invite } => return may_join(invite.as_ref(), at),
        Command::Leave => return may_leave(at, direct),
        Command::Block | Command::Unblock if !direct => {
            return Err(forbidden("only people in a direct room block each other"));
        }
        Command::Block | Command::Unblock => {}
        _ if direct => return Err(forbidden("a direct room stays as it is")),
        Command::SetRole { .. } | Command::Delete => needs(at, Role::Owner)?,
        Command::Invite(_)
        | Command::Kick(_)
        | Command::Ban(_)
        | Command::Unban(_)
        | Command::Mute { .. }
        | Command::Unmute(_)
        | Command::Update { .. } => needs(at, Role::Admin)?,
    }
    may_open(at.actor).map_err(|code| Refusal::new(code, "only members do that"))?;
    match at.subject {
        Some(subject) => may_concern(command, at, subject),
        None => Ok(true),
    }
}

fn needs(at: &Situation<'_>, role: Role) -> Result<(), Refusal> {
    may_open(at.actor).map_err(|code| Refusal::new(code, "only members do that"))?;
    if at.actor.role >= role { Ok(()) } else { Err(forbidden("the role in this room does not allow it")) }
}

fn may_join(invite: Option<&InviteRecord>, at: &Situation<'_>) -> Result<bool, Refusal> {
    match at.actor.state {
        MemberState::Joined => return Ok(false),
        MemberState::Banned => return Err(Refusal::new(ErrorCode::Banned, "banned from this room")),
        MemberState::Invited => return Ok(true),
        MemberState::Left | MemberState::Kicked => {}
    }
    if let Some(invite) = invite {
        let used_up = invite.max_uses.is_some_and(|most| at.invite_uses.max(invite.uses) >= most);
        if invite.revoked || invite.expires_at <= at.now || used_up {
            return Err(Refusal::new(
                ErrorCode::InviteInvalid,
                "the invitation is expired, withdrawn or used up",
            ));
        }
        return Ok(true);
    }
    if at.room.visibility == Visibility::Public {
        return Ok(true);
    }
    Err(forbidden("this room is entered by invitation"))
}

fn may_leave(at: &Situation<'_>, direct: bool) -> Result<bool, Refusal> {
    match at.actor.state {
        MemberState::Left | MemberState::Kicked => Ok(false),
        MemberState::Invited => Ok(true),
        MemberState::Banned => Err(Refusal::new(ErrorCode::Banned, "banned from this room")),
        MemberState::Joined if direct => Err(forbidden("a direct room stays as it is")),
        MemberState::Joined if at.actor.role == Role::Owner && at.owners == 1 && at.room.joined > 1 => {
            Err(Refusal::new(ErrorCode::Conflict, "the last owner makes somebody else owner before leaving"))
        }
        MemberState::Joined => Ok(true),
    }
}

/// The part of the table that depends on whom a command concerns.
fn may_concern(command: &Command, at: &Situation<'_>, subject: &MemberRecord) -> Result<bool, Refusal> {
    let own = subject.user == at.actor.user;
    let outranked = subject.is_joined() && subject.role >= at.actor.role && !own;
    match command {
        Command::Invite(_) => match subject.state {
            MemberState::Joined | MemberState::Invited => Ok(false),
            MemberState::Banned => Err(conflict("a banned user is unbanned before being invited")),
            MemberState::Left | MemberState::Kicked => Ok(true),
        },
        Command::Kick(_) | Command::Ban(_) | Command::Mute { .. } if own => {
            Err(Refusal::new(ErrorCode::Invalid, "nobody does that to themselves"))
        }
        Command::Kick(_) | Command::Ban(_) | Command::Mute { .. } if outranked => {
            Err(forbidden("their role is not below yours"))
        }
        Command::Kick(_) => match subject.state {
            MemberState::Joined | MemberState::Invited => Ok(true),
            MemberState::Left | MemberState::Kicked | MemberState::Banned => Ok(false),
        },
        Command::Ban(_) => Ok(subject.state != MemberState::Banned),
        Command::Unban(_) => Ok(subject.state == MemberState::Banned),
        Command::Mute { .. } | Command::SetRole { .. } if !subject.is_joined() => {
            Err(Refusal::new(ErrorCode::NotFound, "they are no member of this room"))
        }
        Command::Mute { until, .. } => Ok(subject.muted_until != Some(until.unwrap_or(Millis::MAX))),
        Command::Unmute(_) => Ok(subject.muted_until.is_some()),
        Command::SetRole { role, .. } => {
            if own && subject.role == Role::Owner && *role < Role::Owner && at.owners == 1 {
                return Err(conflict("a room keeps at least one owner"));
            }
            Ok(subject.role != *role)
        }
        Command::Block => Ok(!subject.blocked),
        Command::Unblock => Ok(subject.blocked),
        Command::Join { .. } | Command::Leave | Command::Update { .. } | Command::Delete => Ok(true),
    }
}

fn forbidden(message: &str) -> Refusal {
    Refusal::new(ErrorCode::Forbidden, message)
}

fn conflict(message: &str) -> Refusal {
    Refusal::new(ErrorCode::Conflict, message)
}
