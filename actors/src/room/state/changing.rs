//! Changing room and members: commands become entries, decided at the end of the queue.

use protocol::{
    Body, ErrorCode, Kind, Millis, UserId, WriterId,
    entry::{Membership, MembershipChange, Role, RoomChange, Visibility},
};
use store::members::RoomRecord;
use telemetry::TraceContext;

use super::{Output, RoomState};
use crate::{
    room::{
        CommandReply,
        queue::{Change, Waiting},
        rights,
    },
    rooms::{Command, NewRoom},
    session::Refusal,
};
/// Changing room and members.
impl RoomState {
    pub(super) fn create(&mut self, new: NewRoom, reply: CommandReply, now: Millis, out: &mut Vec<Output>) {
        if let Some(record) = &self.record {
            let same = record.visibility == Visibility::Direct && new.visibility == Visibility::Direct;
            let result = if same && !record.deleted {
                return self.answer_in_order(reply, out);
            } else {
                Err(Refusal::new(ErrorCode::Conflict, "the room exists"))
            };
            out.push(Output::Done { to: reply, result });
            return;
        }
        self.record = Some(RoomRecord {
            room: self.id,
            visibility: new.visibility,
            durability: new.durability,
            history: new.history,
            name: new.name.clone(),
            topic: new.topic.clone(),
            slow_mode_s: 0,
            created_at: now,
            created_by: new.by,
            joined: 0,
            deleted: false,
            applied_seq: 0,
        });
        let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let change = RoomChange {
            created: true,
            name: named(&new.name),
            topic: named(&new.topic),
            visibility: Some(new.visibility),
            history: Some(new.history),
            durability: Some(new.durability),
            ..RoomChange::default()
        };
        self.enqueue_room(new.by, &change, now, TraceContext::NONE);
        for user in std::iter::once(new.by).chain(new.peer) {
            let change = MembershipChange {
                user,
                change: Membership::Joined,
                role: Some(Role::Owner),
                until: None,
                invite: None,
            };
            self.enqueue_member(new.by, &change, now, TraceContext::NONE);
        }
        self.answer_in_order(reply, out);
    }

    pub(super) fn command(
        &mut self,
        by: UserId,
        command: Command,
        reply: CommandReply,
        trace: TraceContext,
        now: Millis,
        out: &mut Vec<Output>,
    ) {
        let refused = match self.decide(by, &command, now) {
            Ok(false) => None,
            Ok(true) => {
                self.carry_out(by, command, now, trace);
                None
            }
            Err(refusal) => Some(refusal),
        };
        match refused {
            Some(refusal) => out.push(Output::Done { to: reply, result: Err(refusal) }),
            None => self.answer_in_order(reply, out),
        }
    }

    fn decide(&self, by: UserId, command: &Command, now: Millis) -> Result<bool, Refusal> {
        let room = self.living()?;
        let actor = self.member(by);
        let subject = self.subject(by, command).map(|user| self.member(user));
        let invite_uses = match command {
            Command::Join { invite: Some(invite) } => {
                self.invite_uses.get(&invite.invite).copied().unwrap_or(0)
            }
            _ => 0,
        };
        let owners =
            self.members.values().filter(|member| member.is_joined() && member.role == Role::Owner).count();
        rights::may_command(
            command,
            &rights::Situation { room, actor: &actor, subject: subject.as_ref(), owners, invite_uses, now },
        )
    }

    /// Whom a command concerns, where that is not (only) the one who gives it.
    fn subject(&self, by: UserId, command: &Command) -> Option<UserId> {
        match command {
            Command::Invite(user)
            | Command::Kick(user)
            | Command::Ban(user)
            | Command::Unban(user)
            | Command::Unmute(user)
            | Command::Mute { user, .. }
            | Command::SetRole { user, .. } => Some(*user),
            Command::Block | Command::Unblock => self.members.keys().copied().find(|user| *user != by),
            Command::Join { .. } | Command::Leave | Command::Update { .. } | Command::Delete => None,
        }
    }

    fn carry_out(&mut self, by: UserId, command: Command, now: Millis, trace: TraceContext) {
        let subject = self.subject(by, &command).unwrap_or(by);
        let mut change = MembershipChange {
            user: subject,
            change: Membership::Joined,
            role: None,
            until: None,
            invite: None,
        };
        match command {
            Command::Join { invite } => {
                if let Some(invite) = invite {
                    let uses = self.invite_uses.entry(invite.invite).or_insert(0);
                    *uses = invite.uses.max(*uses) + 1;
                    change.invite = Some(invite.invite);
                }
            }
            Command::Leave => change.change = Membership::Left,
            Command::Invite(_) => change.change = Membership::Invited,
            Command::Kick(_) => change.change = Membership::Kicked,
            Command::Ban(_) => change.change = Membership::Banned,
            Command::Unban(_) => change.change = Membership::Unbanned,
            Command::Mute { until, .. } => {
                change.change = Membership::Muted;
                change.until = until;
            }
            Command::Unmute(_) => change.change = Membership::Unmuted,
            Command::SetRole { role, .. } => {
                change.change = Membership::Role;
                change.role = Some(role);
            }
            Command::Block => change.change = Membership::Blocked,
            Command::Unblock => change.change = Membership::Unblocked,
            Command::Update { name, topic, visibility, history, slow_mode_s } => {
                let change =
                    RoomChange { name, topic, visibility, history, slow_mode_s, ..RoomChange::default() };
                return self.enqueue_room(by, &change, now, trace);
            }
            Command::Delete => {
                let change = RoomChange { deleted: true, ..RoomChange::default() };
                return self.enqueue_room(by, &change, now, trace);
            }
        }
        self.enqueue_member(by, &change, now, trace);
    }

    fn enqueue_room(&mut self, by: UserId, change: &RoomChange, now: Millis, trace: TraceContext) {
        let Some(record) = &mut self.record else { return };
        record.apply(change);
        let effect = Change::of_room(record.clone(), change);
        self.enqueue_change(by, Kind::Room, to_body(change), effect, now, trace);
    }

    fn enqueue_member(&mut self, by: UserId, change: &MembershipChange, now: Millis, trace: TraceContext) {
        let mut member = self.member(change.user);
        let was_in = member.is_joined();
        member.apply(change, self.log_end + 1);
        self.members.insert(change.user, member);
        let Some(record) = &mut self.record else { return };
        match (was_in, member.is_joined()) {
            (false, true) => record.joined += 1,
            (true, false) => record.joined = record.joined.saturating_sub(1),
            (true, true) | (false, false) => {}
        }
        let code =
            if change.change == Membership::Banned { ErrorCode::Banned } else { ErrorCode::NotAMember };
        let effect = Change {
            room: record.clone(),
            member: Some(member),
            invite_uses: change.invite.and_then(|invite| Some((invite, *self.invite_uses.get(&invite)?))),
            ends: (was_in && !member.is_joined()).then_some((change.user, code)),
            deleted: false,
        };
        self.enqueue_change(by, Kind::Membership, to_body(change), effect, now, trace);
    }

    fn enqueue_change(
        &mut self,
        by: UserId,
        kind: Kind,
        body: Body,
        change: Change,
        now: Millis,
        trace: TraceContext,
    ) {
        self.end += 1;
        self.log_end += 1;
        self.queue.push_back(Waiting {
            seq: self.end,
            log_seq: self.log_end,
            at: now,
            from: by,
            writer: WriterId::from_u128(0),
            n: 0,
            kind,
            target: None,
            body,
            change: Some(change),
            replies: Vec::new(),
            commands: Vec::new(),
            trace,
            permit: None,
        });
    }

    /// Answers a command once everything accepted so far is durable.
    fn answer_in_order(&mut self, reply: CommandReply, out: &mut Vec<Output>) {
        match self.queue.back_mut().or(self.flight.last_mut()) {
            Some(last) => last.commands.push(reply),
            None => {
                let result = self.living().cloned();
                out.push(Output::Done { to: reply, result });
            }
        }
    }
}

fn to_body(change: &impl serde::Serialize) -> Body {
    let value = serde_json::to_value(change).expect("changes have string keys");
    Body::new(&value).expect("names and topics are bounded below a body's limit")
}
