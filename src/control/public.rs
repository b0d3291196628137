//! What the public address serves beside rooms: the talk page, health, and refusals. Shards hand such requests over
//! with the socket and the bytes they have read.
//!
//! Every answer closes its connection, so that a client that wants a room next connects anew and is taken by a shard.
//! What bounds it: [`CONNECTIONS_MAX`] sockets, each for [`CONNECTION`] at most.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use shards::core::{Handoff, SessionId};
use shards::rt::Link;
use tokio::sync::Semaphore;

use super::App;
use super::assets::ASSETS;
use super::contain;
use super::health;
use super::http::{self, Keep};
use super::problem::{Problem, no_such_path, wrong_method};
use super::secured::Secured;
use super::socket::Socket;

/// Handed-over connections being served at once. The page takes a dozen; probes one. With the
/// management address it stays within the descriptors kept in reserve.
const CONNECTIONS_MAX: usize = 96;
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
        .route("/v1/realtime", get(upgrade_required))
        .route("/events", get(upgrade_required))
        .route("/ws/", get(async || room_without_upgrade(Path(String::new())).await))
        .route("/ws/{*session_id}", get(room_without_upgrade));
    if app.echo_endpoint {
        router = router.route("/echo", get(upgrade_required));
    }
    for asset in ASSETS {
        router = router.route(asset.path, get(async || *asset));
    }
    router
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(contain::panics))
        .with_state(app)
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
    pub(crate) fn take(&self, handoff: Handoff<Link>) {
        let Handoff { socket: Link { socket, tls }, head, peer, .. } = handoff;
        let stream = match Socket::adopt(socket) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%peer, %error, "a request was handed over with a socket that can't be served");
                return;
            }
        };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            tracing::warn!(%peer, "too many requests beside rooms: 503");
            // Best effort: a fresh socket takes so little at once.
            let _ = match tls {
                None => stream.try_write(BUSY),
                Some(mut session) => stream.try_write(&session.last_words(BUSY)),
            };
            return;
        };
        let router = self.router.clone();
        tokio::spawn(async move {
            let head = Bytes::from(head);
            match tls {
                None => http::serve(stream, head, router, Keep::Closing, CONNECTION).await,
                Some(session) => {
                    let stream = Secured::new(stream, session);
                    http::serve(stream, head, router, Keep::Closing, CONNECTION).await;
                }
            }
            drop(place);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, TcpListener, TcpStream as PlainStream};
    use std::os::fd::OwnedFd;

    use super::super::assets::ASSETS;
    use super::super::testing::{FakeMesh, with_app};
    use super::*;

    /// What a client reads until the server closes, when the shard has read `head` and the client sends `rest`
    /// afterwards.
    async fn exchange(mesh: &FakeMesh, head: &str, rest: &str) -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut client = PlainStream::connect(address).expect("a connection");
        let (socket, peer) = listener.accept().expect("the connection");
        mesh.hand_over(Handoff {
            socket: OwnedFd::from(socket).into(),
            head: head.as_bytes().to_vec(),
            peer,
            via: None,
        });
        let rest = rest.to_owned();
        let read = tokio::task::spawn_blocking(move || {
            client.write_all(rest.as_bytes()).expect("the server is there");
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).expect("a polite end, not a reset");
            String::from_utf8(answer).expect("text")
        });
        read.await.expect("no panic")
    }

    fn asked(method: &str, path: &str) -> String {
        format!("{method} {path} HTTP/1.1\r\nhost: voxhall\r\n\r\n")
    }

    #[test]
    fn the_page_comes_whole_with_its_policy_and_closes() {
        with_app(FakeMesh::new(1), &[], |_, mesh| async move {
            for asset in ASSETS {
                let answer = exchange(&mesh, &asked("GET", asset.path), "").await;
                let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
                assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                assert_eq!(body, asset.body);
                for header in [
                    "connection: close",
                    "x-content-type-options: nosniff",
                    "content-security-policy: default-src 'none'",
                    &format!("content-type: {}", asset.content_type),
                ] {
                    assert!(head.contains(header), "{header} is not in\n{head}");
                }
            }
            let answer = exchange(&mesh, &asked("HEAD", "/"), "").await;
            assert!(answer.ends_with("\r\n\r\n") && answer.contains("content-length: "), "{answer}");
        });
    }

    #[test]
    fn what_is_no_page_is_told_what_is_wrong() {
        with_app(FakeMesh::new(1), &[], |_, mesh| async move {
            for (method, path, status, word) in [
                ("GET", "/healthz", 200, "ok"),
                ("GET", "/readyz", 200, "ready"),
                ("GET", "/ws/health", 200, "ready"),
                ("GET", "/ws/room-1", 426, "upgrade: websocket"),
                ("GET", "/v1/realtime", 426, "upgrade: websocket"),
                ("GET", "/v1/realtime?model=m", 426, "upgrade: websocket"),
                ("POST", "/v1/realtime", 405, "allow: GET,HEAD"),
                ("GET", "/events", 426, "upgrade: websocket"),
                ("POST", "/events", 405, "allow: GET,HEAD"),
                ("GET", "/ws/", 400, "session_id"),
                ("GET", "/ws/a/b", 400, "session_id"),
                ("GET", "/ws/a%20b", 400, "session_id"),
                ("GET", "/echo", 404, "problem+json"),
                ("GET", "/nothing", 404, "problem+json"),
                ("GET", "/metrics", 404, "problem+json"),
                ("POST", "/", 405, "allow: GET,HEAD"),
                ("DELETE", "/healthz", 405, "allow: GET,HEAD"),
            ] {
                let answer = exchange(&mesh, &asked(method, path), "").await;
                assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{method} {path}: {answer}");
                assert!(
                    answer.contains(word) && answer.contains("connection: close"),
                    "{method} {path}: {answer}"
                );
            }
        });
        with_app(FakeMesh::new(1), &[("server.echo_endpoint", "true")], |_, mesh| async move {
            assert!(exchange(&mesh, &asked("GET", "/echo"), "").await.starts_with("HTTP/1.1 426"));
        });
    }

    #[test]
    fn an_answer_arrives_although_the_client_still_sends() {
        with_app(FakeMesh::new(1), &[], |_, mesh| async move {
            let head = "POST /nothing HTTP/1.1\r\nhost: voxhall\r\ncontent-length: 40000\r\n\r\n";
            let answer = exchange(&mesh, head, &"x".repeat(40_000)).await;
            assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        });
    }

    #[test]
    fn the_canned_refusal_is_well_formed() {
        let text = std::str::from_utf8(BUSY).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(
            head.contains(&format!("content-length: {}\r\n", body.len()))
                || head.ends_with(&body.len().to_string())
        );
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}
