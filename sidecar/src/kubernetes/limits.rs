//! Time limits for every call to the Kubernetes API, in one place, so that an API server that accepts and never answers
//! blocks nothing.
//!
//! The limits surround the whole client stack, so they include waiting for a connection, for a new token and for the
//! client's own retries. An API server sends the headers of a watch at once, so [`ANSWER_LIMIT`] applies to a watch as
//! well; after that only [`WATCH_SILENCE`] does.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Response};
use http_body::{Body, Frame};
use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tower::{BoxError, Layer, Service};

/// How long a call may take until its answer begins.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// How long an answer may take from its beginning to its end, unless it is a watch.
pub const BODY_LIMIT: Duration = Duration::from_secs(30);

/// How long a watch may be silent. The API server sends a bookmark each minute, so a silent watch has lost its server.
/// It is ended as the API server itself ends watches from time to time, and the watcher resumes where it was.
pub const WATCH_SILENCE: Duration = Duration::from_secs(150);

/// Why a call ended.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
enum Late {
    #[error("the Kubernetes API gave no answer within {} s", .0.as_secs())]
    Answer(Duration),
    #[error("the Kubernetes API did not finish its answer within {} s", .0.as_secs())]
    Body(Duration),
}

/// The three limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) answer: Duration,
    pub(super) body: Duration,
    pub(super) watch: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { answer: ANSWER_LIMIT, body: BODY_LIMIT, watch: WATCH_SILENCE }
    }
}

impl<S> Layer<S> for Limits {
    type Service = Limited<S>;

    fn layer(&self, service: S) -> Limited<S> {
        Limited { service, limits: *self }
    }
}

/// A client with limits.
#[derive(Clone, Debug)]
pub(super) struct Limited<S> {
    service: S,
    limits: Limits,
}

impl<S, B, R> Service<Request<B>> for Limited<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<LimitedBody<R>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.service.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Limits { answer, body, watch } = self.limits;
        let is_watch = request.uri().query().is_some_and(asks_to_watch);
        let call = self.service.call(request);
        Box::pin(async move {
            let response = timeout(answer, call).await.map_err(|_| Late::Answer(answer))?.map_err(Into::into)?;
            let limit = if is_watch { watch } else { body };
            Ok(response.map(|inner| LimitedBody { inner, is_watch, limit, over: Box::pin(sleep(limit)) }))
        })
    }
}

fn asks_to_watch(query: &str) -> bool {
    query.split('&').any(|part| matches!(part, "watch=true" | "watch=1"))
}

/// A response body with a time limit.
#[derive(Debug)]
pub(super) struct LimitedBody<B> {
    inner: B,
    is_watch: bool,
    limit: Duration,
    over: Pin<Box<Sleep>>,
}

impl<B> Body for LimitedBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            if self.is_watch {
                let next = Instant::now() + self.limit;
                self.over.as_mut().reset(next);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(self.over.as_mut().poll(context));
        Poll::Ready((!self.is_watch).then(|| Err(Late::Body(self.limit).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests;
