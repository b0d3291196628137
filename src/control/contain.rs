//! A handler that panics costs its request a 500, and nobody else anything: what handlers share is a channel to the
//! switchboard and numbers.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::problem::Problem;

/// Answers 500 for a handler that panics. The hook of panics logs it.
pub(crate) async fn panics(request: Request, next: Next) -> Response {
    let mut answer = pin!(next.run(request));
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx))) {
        Ok(poll) => poll,
        Err(_) => Poll::Ready(
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "a fault of the server; its log says more")
                .into_response(),
        ),
    })
    .await
}
