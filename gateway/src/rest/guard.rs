//! Around every route: who asks, how often, and that what has begun is finished.

use std::time::Duration;

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::Method;
use protocol::ErrorCode;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::{
    auth::{Credential, sign_ins::network},
    rest::{
        Rest,
        extract::{address, bearer},
        problem::Problem,
        routes::{May, who_may},
    },
};

/// Asks who it is, unless the route is open. A route that the list does not name is refused.
pub(crate) async fn authenticate(
    State(rest): State<Rest>,
    matched: MatchedPath,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let Some(may) = who_may(request.method(), matched.as_str()) else {
        tracing::error!(path = matched.as_str(), "a route is not in the list of routes");
        return Err(Problem::new(ErrorCode::Internal, "this route is closed"));
    };
    if !matches!(may, May::Anyone | May::Proof) {
        let token = bearer(request.headers())
            .ok_or_else(|| Problem::new(ErrorCode::Unauthenticated, "an access token is missing"))?;
        let identity = rest.auth.identify(Credential::Token(token)).await.map_err(not_known)?;
        rest.rates.users.take(&identity.user)?;
        request.extensions_mut().insert(identity);
    }
    Ok(next.run(request).await)
}

fn not_known(code: ErrorCode) -> Problem {
    let problem = |detail| Problem::new(code, detail);
    match code {
        ErrorCode::Expired => problem("the access token has ended: refresh it"),
        ErrorCode::Disabled => problem("the account is disabled"),
        ErrorCode::Unauthenticated => problem("the access token is not valid"),
        _ => problem("who you are can't be told now").retry_after(1_000),
    }
}

/// Slows down an address that asks too often.
pub(crate) async fn throttle(
    State(rest): State<Rest>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    rest.rates.addresses.take(&network(address(request.extensions())))?;
    Ok(next.run(request).await)
}

/// Ends what takes too long. A request that changes something goes on in a task of its own: neither the deadline nor
/// a client that hangs up may leave half of it done.
pub(crate) async fn finish(State(rest): State<Rest>, request: Request, next: Next) -> Response {
    let deadline = rest.settings.request_timeout;
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        read_within(deadline, next.run(request)).await
    } else {
        change_within(deadline, &rest.tasks, next.run(request)).await
    }
}

async fn read_within(deadline: Duration, work: impl Future<Output = Response>) -> Response {
    timeout(deadline, work).await.unwrap_or_else(|_| {
        Problem::new(ErrorCode::Unavailable, "it took too long").retry_after(1_000).into_response()
    })
}

async fn change_within(
    deadline: Duration,
    tasks: &TaskTracker,
    work: impl Future<Output = Response> + Send + 'static,
) -> Response {
    match timeout(deadline, tasks.spawn(work.in_current_span())).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => {
            tracing::error!(%panic, "a request ended in a panic");
            Problem::new(ErrorCode::Internal, "a fault of the server's").into_response()
        }
        Err(_) => Problem::new(ErrorCode::Unknown, "it takes too long; it may still be done").into_response(),
    }
}

/// A span for everything that the request causes. Neither query nor headers nor bodies: they hold secrets.
pub(crate) async fn observe(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    let span = tracing::info_span!("rest", method = %request.method(), route, status = tracing::field::Empty);
    async move {
        let response = next.run(request).await;
        let status = response.status();
        tracing::Span::current().record("status", status.as_u16());
        if status.is_server_error() {
            tracing::warn!(status = status.as_u16(), "a request failed");
        }
        response
    }
    .instrument(span)
    .await
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use http::StatusCode;
    use tokio::sync::oneshot;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn reading_ends_at_the_deadline() {
        let response = read_within(DEADLINE, pending()).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_outlives_the_deadline_and_the_answer_says_so() {
        let tasks = TaskTracker::new();
        let (go_on, wait) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel();
        let work = async move {
            _ = wait.await;
            _ = done.send(());
            StatusCode::OK.into_response()
        };
        let response = change_within(DEADLINE, &tasks, work).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR, "unknown");
        go_on.send(()).unwrap();
        assert_eq!(is_done.await, Ok(()));
    }

    #[tokio::test]
    async fn a_panic_is_a_fault_of_the_servers() {
        let response = change_within(DEADLINE, &TaskTracker::new(), async { panic!("as asked") }).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
