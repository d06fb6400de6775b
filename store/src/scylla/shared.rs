//! Reads of the same rows at the same time share one query: when a popular room's clients all come back at once, they
//! ask for the same page.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use protocol::{RoomId, Seq};
use tokio::task::JoinError;

use crate::{StoreError, log::Row};

/// Rows of a room between two bounds, the lowest or the highest so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Range {
    After { room: RoomId, after: Seq, upto: Seq, limit: usize },
    Before { room: RoomId, before: Seq, limit: usize },
}

type Answer = Result<Arc<Vec<Row>>, StoreError>;

/// Queries under way.
#[derive(Default)]
pub(super) struct Queries {
    under_way: Mutex<HashMap<Range, Shared<BoxFuture<'static, Answer>>>>,
}

impl Queries {
    /// The answer to a query that is under way, or to the one that `ask` begins. Whoever asks must know that all rows of
    /// the range were in the log before: the query may have begun earlier.
    pub(super) async fn share(
        self: Arc<Self>,
        range: Range,
        ask: impl FnOnce() -> BoxFuture<'static, Result<Vec<Row>, StoreError>>,
    ) -> Answer {
        let query = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            let begin = || {
                let (queries, query) = (self.clone(), ask());
                // A task of its own: it ends also when everybody who waited has gone.
                let answer = tokio::spawn(async move {
                    let _ended = Ended { queries, range };
                    query.await.map(Arc::new)
                });
                let failed = |error: JoinError| Err(StoreError::Unavailable(error.to_string()));
                answer.map(move |answer| answer.unwrap_or_else(failed)).boxed().shared()
            };
            under_way.entry(range).or_insert_with(begin).clone()
        };
        query.await
    }
}

/// A query that is over, however it ended.
struct Ended {
    queries: Arc<Queries>,
    range: Range,
}

impl Drop for Ended {
    fn drop(&mut self) {
        let gone = self.queries.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.range);
        // Not under the lock: it may be the last to hold what the query holds.
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    const RANGE: Range = Range::Before { room: RoomId::from_u128(1), before: 9, limit: 5 };

    #[tokio::test]
    async fn those_who_ask_at_once_share_a_query_and_later_ones_do_not() {
        let (queries, asked) = (Arc::new(Queries::default()), Arc::new(AtomicUsize::new(0)));
        let answer = Arc::new(Semaphore::new(0));
        let ask = |range| {
            let (asked, answer) = (asked.clone(), answer.clone());
            queries.clone().share(range, move || {
                asked.fetch_add(1, Ordering::Relaxed);
                async move {
                    drop(answer.acquire().await);
                    Ok(Vec::new())
                }
                .boxed()
            })
        };
        let other = Range::Before { room: RoomId::from_u128(2), before: 9, limit: 5 };
        let all = futures_util::future::join4(ask(RANGE), ask(RANGE), ask(other), ask(RANGE));
        let ((one, two, three, four), ()) = tokio::join!(all, async { answer.add_permits(8) });
        assert!([one, two, three, four].iter().all(Result::is_ok));
        assert_eq!(asked.load(Ordering::Relaxed), 2, "one for each range");
        ask(RANGE).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 3, "what was answered is not kept");
    }

    #[tokio::test]
    async fn a_query_ends_without_those_who_asked_and_a_failure_is_not_kept() {
        let queries = Arc::new(Queries::default());
        let answer = Arc::new(Semaphore::new(0));
        let held = answer.clone();
        let unavailable = || StoreError::Unavailable("away".to_owned());
        let ask = move || {
            async move {
                drop(held.acquire().await);
                Err(unavailable())
            }
            .boxed()
        };
        assert!(queries.clone().share(RANGE, ask).now_or_never().is_none(), "whoever asked has gone");
        let waiting = queries.clone().share(RANGE, || unreachable!("the first is under way"));
        let (failed, ()) = tokio::join!(waiting, async { answer.add_permits(1) });
        assert_eq!(failed, Err(unavailable()));
        assert!(queries.under_way.lock().unwrap().is_empty());
    }
}
