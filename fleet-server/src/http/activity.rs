//! What a connection is busy with. HTTP/2 itself ends neither connections that idle nor ones whose client asks and at once
//! takes the question back, so this watches for both.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::watch;

/// Requests of one connection that its client may take back, beyond those that it lets be answered. A device takes some back
/// where its own time limit ends a fetch; a client that does hardly anything else only makes work (CVE-2023-44487).
pub(super) const ABANDONED_MAX: usize = 100;

/// The requests of one connection.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<watch::Sender<Requests>>);

#[derive(Debug, Clone, Copy, Default)]
struct Requests {
    /// Not answered whole yet.
    open: usize,
    /// Taken back before the head of an answer was there; each answer makes up for one.
    abandoned: usize,
}

/// Why a connection is to be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spent {
    /// Nothing was asked for a long time.
    Idle,
    /// Too many requests were taken back.
    Abandoning,
}

impl Activity {
    /// Nothing was asked yet.
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Requests::default())))
    }

    /// A request whose head is there.
    pub(super) fn begin(&self) -> InFlight {
        self.0.send_modify(|r| r.open += 1);
        InFlight { requests: Arc::clone(&self.0), answered: false }
    }

    /// Ends when there was no request for `idle_max`, or when too many were taken back.
    pub(super) async fn spent(&self, idle_max: Duration) -> Spent {
        let mut changes = self.0.subscribe();
        loop {
            let now = *changes.borrow_and_update();
            if now.abandoned > ABANDONED_MAX {
                return Spent::Abandoning;
            }
            // The sender is `self`, so this never fails.
            if now.open > 0 {
                let _ = changes.changed().await;
            } else if tokio::time::timeout(idle_max, changes.changed()).await.is_err() {
                return Spent::Idle;
            }
        }
    }
}

/// A request that is not answered whole yet.
#[derive(Debug)]
pub(super) struct InFlight {
    requests: Arc<watch::Sender<Requests>>,
    answered: bool,
}

impl InFlight {
    /// Stays open until the answer's body has left or was given up.
    pub(super) fn answered(mut self, response: Response) -> Response {
        self.answered = true;
        response.map(|body| Body::new(Held { body, _in_flight: self }))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let answered = self.answered;
        self.requests.send_modify(|r| {
            r.open = r.open.saturating_sub(1);
            r.abandoned =
                if answered { r.abandoned.saturating_sub(1) } else { r.abandoned.saturating_add(1) };
        });
    }
}

/// A body, and the request that it answers.
struct Held {
    body: Body,
    _in_flight: InFlight,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse as _;

    #[tokio::test(start_paused = true)]
    async fn answers_make_up_for_requests_taken_back() {
        let activity = Activity::new();
        let idle_max = Duration::from_secs(60);
        let answer = || drop(activity.begin().answered("here".into_response()));
        for _ in 0..3 * ABANDONED_MAX {
            drop(activity.begin());
            answer();
        }
        for _ in 0..ABANDONED_MAX {
            drop(activity.begin());
        }
        assert_eq!(activity.spent(idle_max).await, Spent::Idle);
        drop(activity.begin());
        assert_eq!(activity.spent(idle_max).await, Spent::Abandoning);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_open_until_its_body_is_gone() {
        let activity = Activity::new();
        let idle_max = Duration::from_secs(60);
        let response = activity.begin().answered("here".into_response());
        assert_eq!(response.body().size_hint().exact(), Some(4));
        let spent = activity.spent(idle_max);
        assert!(tokio::time::timeout(idle_max * 10, spent).await.is_err());
        drop(response);
        assert_eq!(activity.spent(idle_max).await, Spent::Idle);
    }
}
