//! What somebody may read of a room, by the members table. Whatever changes a room is judged by the room itself.

use protocol::{
    ErrorCode, RoomId, UserId,
    entry::{Role, Visibility},
};
use store::members::{MemberRecord, MemberState, RoomRecord};

use crate::rest::{Shared, problem::Problem, views::Standing};

/// A room that exists, and where somebody stands in it.
pub(crate) struct Access {
    /// The room.
    pub(crate) room: RoomRecord,
    /// Their membership; of a stranger if there is none.
    pub(crate) member: MemberRecord,
}

impl Access {
    /// Members, the invited, and in a public room anyone who is not banned.
    pub(crate) fn may_see(self) -> Result<Self, Problem> {
        if self.member.state == MemberState::Invited { Ok(self) } else { self.may_read() }
    }

    /// Members, and in a public room anyone who is not banned.
    pub(crate) fn may_read(self) -> Result<Self, Problem> {
        match self.member.state {
            MemberState::Joined => Ok(self),
            MemberState::Banned => Err(Problem::new(ErrorCode::Banned, "banned from this room")),
            MemberState::Invited | MemberState::Left | MemberState::Kicked => {
                if self.room.visibility == Visibility::Public { Ok(self) } else { Err(not_a_member()) }
            }
        }
    }

    /// Administrators and owners.
    pub(crate) fn may_administer(self) -> Result<Self, Problem> {
        match self.member.state {
            MemberState::Joined if self.member.role >= Role::Admin => Ok(self),
            MemberState::Joined => Err(Problem::new(ErrorCode::Forbidden, "only for administrators")),
            MemberState::Banned => Err(Problem::new(ErrorCode::Banned, "banned from this room")),
            MemberState::Invited | MemberState::Left | MemberState::Kicked => Err(not_a_member()),
        }
    }
}

fn not_a_member() -> Problem {
    Problem::new(ErrorCode::NotAMember, "only for members of this room")
}

impl Standing {
    /// How a state is told.
    pub(crate) fn of(state: MemberState) -> Self {
        match state {
            MemberState::Joined => Self::Joined,
            MemberState::Invited => Self::Invited,
            MemberState::Banned => Self::Banned,
            MemberState::Left | MemberState::Kicked => Self::None,
        }
    }
}

impl Shared {
    /// Looks a room up for somebody.
    pub(crate) async fn access(&self, room: RoomId, user: UserId) -> Result<Access, Problem> {
        let (found, member) =
            futures_util::future::try_join(self.store.room(room), self.store.member(room, user)).await?;
        let found = found.filter(|room| !room.deleted);
        let room = found.ok_or_else(|| Problem::new(ErrorCode::NotFound, "no such room"))?;
        Ok(Access { room, member: member.unwrap_or(MemberRecord::stranger(user)) })
    }
}
