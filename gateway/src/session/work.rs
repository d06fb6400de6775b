//! What a session waits for, as futures. Each has a deadline.

use std::{future::Future, pin::Pin, time::Duration};

use actors::session::Refusal;
use protocol::{ErrorCode, client::HistoryFrom};

use super::{
    Seat,
    state::{Done, Work, page_limit},
};
use crate::auth::Credential;

impl Seat {
    pub(super) fn start(&self, work: Work) -> Pin<Box<dyn Future<Output = Done> + Send>> {
        let (shared, session) = (self.shared.clone(), self.session.clone());
        let deadline = shared.settings.work_timeout;
        match work {
            Work::Page(history) => Box::pin(async move {
                let page = shared.rooms.page(session.user, history.room, history.from, page_limit(&history));
                Done::Page(history, in_time(deadline, page).await)
            }),
            Work::CatchUp { room, at, limit } => Box::pin(async move {
                let page = shared.rooms.page(session.user, room, Some(HistoryFrom::After(at)), limit);
                Done::CatchUp { room, at, read: in_time(deadline, page).await }
            }),
            Work::Mark(mark) => Box::pin(async move {
                let read = shared.users.read(session.user, mark.room, mark.seq);
                Done::Mark(mark.room, in_time(deadline, read).await)
            }),
            Work::Watch(users) => {
                Box::pin(
                    async move { Done::Watch(in_time(deadline, shared.users.watch(&session, &users)).await) },
                )
            }
            Work::Refresh(refresh) => Box::pin(async move {
                let judged = shared.identifier.identify(Credential::Token(&refresh.token));
                let judged = tokio::time::timeout(deadline, judged).await;
                Done::Refresh(refresh.id, judged.unwrap_or(Err(ErrorCode::Unavailable)))
            }),
            Work::Connect => {
                Box::pin(async move { Done::Connect(in_time(deadline, shared.users.connect(session)).await) })
            }
        }
    }
}

/// The answer, or that none came in time.
pub(super) async fn in_time<T>(
    deadline: Duration,
    answer: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let late = || Refusal::new(ErrorCode::Unavailable, "no answer in time").retry_after(1_000);
    tokio::time::timeout(deadline, answer).await.unwrap_or_else(|_| Err(late()))
}
