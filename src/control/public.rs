//! What the public address serves beside rooms: the talk page, health, and refusals. Shards hand such requests over
//! with the socket and the bytes they have read.
//!
//! Every answer closes its connection, so that a client that wants a room next connects anew and is taken by a shard.
//! What bounds it: [`CONNECTIONS_MAX`] sockets, each for [`CONNECTION`] at most.

use std::net::TcpStream as PlainStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use shards::core::{Handoff, SessionId};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::App;
use super::assets::ASSETS;
use super::health;
use super::http::{self, Keep};
use super::problem::{Problem, no_such_path, wrong_method};

/// Handed-over connections being served at once. The page takes a dozen; probes one.
const CONNECTIONS_MAX: usize = 512;
/// How long one may take in all, a slow reader included.
const CONNECTION: Duration = Duration::from_secs(15);

/// What a client gets when there is no room for its request.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
                      content-type: application/problem+json\r\ncontent-length: 81\r\n\r\n\
                      {\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"detail\":\"busy\"}";

/// The paths of the public address.
pub(crate) fn router(app: App) -> Router {
    let mut router = Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/ws/health", get(health::ready))
        .route("/ws/", get(async || room_without_upgrade(Path(String::new())).await))
        .route("/ws/{*session_id}", get(room_without_upgrade));
    if app.echo_endpoint {
        router = router.route("/echo", get(upgrade_required));
    }
    for asset in ASSETS {
        router = router.route(asset.path, get(async || *asset));
    }
    router.fallback(no_such_path).method_not_allowed_fallback(wrong_method).with_state(app)
}

/// An upgrade to a room never gets here with a good session id: its shard answers it.
async fn room_without_upgrade(Path(session_id): Path<String>) -> Response {
    match SessionId::parse(&session_id) {
        Ok(_) => upgrade_required().await,
        Err(error) => Problem::field("session_id", error.to_string()).into_response(),
    }
}

async fn upgrade_required() -> Response {
    let detail =
        "this path speaks WebSocket: ask for an upgrade with GET, HTTP/1.1 and Sec-WebSocket-Version: 13";
    let mut response = Problem::new(StatusCode::UPGRADE_REQUIRED, detail).into_response();
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

/// Takes what shards hand over.
#[derive(Clone)]
pub(crate) struct Door {
    router: Router,
    places: Arc<Semaphore>,
}

impl Door {
    /// A door to the paths of the public address.
    pub(crate) fn new(app: App) -> Self {
        Self { router: router(app), places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }

    /// Serves one connection on a task of its own, or says 503.
    pub(crate) fn take(&self, handoff: Handoff<OwnedFd>) {
        let Handoff { socket, head, peer } = handoff;
        let stream = PlainStream::from(socket);
        let taken = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        let stream = match taken {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%peer, %error, "a request was handed over with a socket that can't be served");
                return;
            }
        };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            tracing::warn!(%peer, "too many requests beside rooms: 503");
            // Best effort: a fresh socket takes so little at once.
            let _ = stream.try_write(BUSY);
            return;
        };
        let router = self.router.clone();
        tokio::spawn(async move {
            http::serve(stream, Bytes::from(head), router, Keep::Closing, CONNECTION).await;
            drop(place);
        });
    }
}
