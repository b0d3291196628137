//! The management address: metrics, health, and the API under `/api/v1`.
//!
//! What bounds it: [`CONNECTIONS_MAX`] connections, each for [`CONNECTION`] at most; bodies of
//! `limits.message_bytes_max`; deadlines on everything that shards are asked.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::json;
use shards::rt::Tls;
use tokio::sync::Semaphore;

use super::App;
use super::admin_listener::{Accepting, AdminListener};
#[cfg(debug_assertions)]
use super::faults;
use super::http::{self, Keep};
use super::problem::{no_such_path, wrong_method};
use super::secured::Secured;
use super::{access, contain, dead_letters, health, metrics, publications, rooms, stats, users};

/// Connections served at once: a few scrapers, a few operators.
const CONNECTIONS_MAX: usize = 32;
/// How long one may last, however much it is used: a scraper connects anew now and then.
const CONNECTION: Duration = Duration::from_secs(600);
/// After an accept that failed for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The API as it describes itself.
const OPENAPI: &str = include_str!("openapi.json");

/// Every path, as OpenAPI writes it.
fn routes() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![
        ("/metrics", get(metrics::scrape)),
        ("/healthz", get(health::alive)),
        ("/readyz", get(health::ready)),
        ("/api/v1/stats", get(stats::stats)),
        ("/api/v1/rooms", get(rooms::list)),
        ("/api/v1/rooms/{id}", get(rooms::one)),
        ("/api/v1/rooms/{id}/send", post(rooms::send)),
        ("/api/v1/rooms/{id}/close", post(rooms::close)),
        ("/api/v1/connections/{id}/close", post(rooms::close_connection)),
        ("/api/v1/users/{sub}/disconnect", post(users::disconnect)),
        ("/api/v1/publish", post(publications::publish)),
        ("/api/v1/events", post(publications::event)),
        ("/api/v1/dead-letters", get(dead_letters::list)),
        ("/api/v1/dead-letters/{id}", delete(dead_letters::remove)),
        ("/api/v1/dead-letters/{id}/retry", post(dead_letters::retry)),
        ("/api/v1/drain", post(drain)),
        ("/api/v1/openapi.json", get(openapi)),
    ]
}

/// The paths of the management address.
pub(crate) fn router(app: App) -> Router {
    let limit = DefaultBodyLimit::max(app.message_bytes_max);
    let router =
        routes().into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods));
    #[cfg(debug_assertions)]
    let router = faults::routes(router);
    router
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&app), access::admins_only))
        .layer(limit)
        .layer(from_fn(contain::panics))
        .with_state(app)
}

/// As SIGTERM does.
async fn drain(State(app): State<App>) -> Response {
    let begun = app.lifecycle.drain();
    (StatusCode::ACCEPTED, Json(json!({ "state": "draining", "begun": begun }))).into_response()
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// Takes connections on the management address.
pub(crate) struct Server {
    listener: Accepting,
    /// What connections are secured with.
    tls: Option<Tls>,
    router: Router,
    places: Arc<Semaphore>,
}

impl Server {
    /// A server on a bound listener.
    pub(crate) fn new(listener: AdminListener, tls: Option<Tls>, app: App) -> io::Result<Self> {
        Ok(Self {
            listener: listener.serve()?,
            tls,
            router: router(app),
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        })
    }

    /// Serves. With every place taken the next connection waits in the kernel.
    pub(crate) async fn run(self) -> io::Result<Infallible> {
        loop {
            let place = Arc::clone(&self.places).acquire_owned().await.expect("never closed");
            let stream = match self.listener.accept().await {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection to the management address was not accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let router = self.router.clone();
            let secured = self.tls.as_ref().map(|tls| tls.session(None));
            tokio::spawn(async move {
                match secured {
                    None => http::serve(stream, Bytes::new(), router, Keep::Alive, CONNECTION).await,
                    Some(Some(session)) => {
                        // The handshake and the first head have the time of a head together.
                        let stream = Secured::new(stream, session);
                        http::serve(stream, Bytes::new(), router, Keep::Alive, CONNECTION).await;
                    }
                    Some(None) => tracing::warn!("no randomness for a TLS session of the management address"),
                }
                drop(place);
            });
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use axum::body::Body;
    use axum::http::{Method, Request};
    use serde_json::Value;

    use super::super::testing::{FakeMesh, with_app};
    use super::*;
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;

    pub(in super::super) async fn ask(
        app: &App,
        method: Method,
        path: &str,
        body: &str,
    ) -> (StatusCode, Value, Response) {
        let request =
            Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).expect("valid");
        let service = TowerToHyperService::new(router(Arc::clone(app)));
        let response = service.call(request).await.expect("a router never fails");
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        (parts.status, json, Response::from_parts(parts, Body::empty()))
    }

    #[test]
    fn the_description_and_the_routes_are_the_same() {
        let document: Value = serde_json::from_str(OPENAPI).expect("JSON");
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let described = document["paths"].as_object().expect("an object");
        let mut served: Vec<_> = routes().into_iter().map(|(path, _)| path).collect();
        let mut written: Vec<_> = described.keys().map(String::as_str).collect();
        served.sort_unstable();
        written.sort_unstable();
        assert_eq!(served, written);
        with_app(FakeMesh::new(1), &[], |app, _| async move {
            for (path, methods) in described {
                let methods = methods.as_object().expect("an object");
                let concrete = path.replace("{id}", "x");
                for method in [Method::GET, Method::POST, Method::DELETE] {
                    let described = methods.contains_key(&method.as_str().to_lowercase());
                    let (status, ..) = ask(&app, method.clone(), &concrete, "").await;
                    let allowed = status != StatusCode::METHOD_NOT_ALLOWED;
                    assert_eq!(allowed, described, "{method} {path}: {status}");
                }
            }
        });
    }

    #[test]
    fn what_is_not_served_is_a_problem_that_says_so() {
        with_app(FakeMesh::new(1), &[], |app, _| async move {
            for (method, path, status) in [
                (Method::GET, "/", 404),
                (Method::GET, "/dashboard", 404),
                (Method::DELETE, "/api/v1/rooms/room-0", 405),
            ] {
                let (found, problem, response) = ask(&app, method, path, "").await;
                assert_eq!(found.as_u16(), status, "{path}");
                assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
                assert_eq!(problem["status"], status);
                assert_eq!(response.headers().contains_key(header::ALLOW), status == 405, "{path}");
            }
        });
    }

    #[test]
    fn readiness_ends_with_a_drain_and_with_a_silent_shard() {
        with_app(FakeMesh::new(2), &[], |app, mesh| async move {
            assert_eq!(ask(&app, Method::GET, "/readyz", "").await.0, 200);
            mesh.fill(shards::core::ShardId(1));
            let (status, problem, _) = ask(&app, Method::GET, "/readyz", "").await;
            assert_eq!((status.as_u16(), &problem["detail"]), (503, &json!("shard 1 does not answer")));
            assert_eq!(ask(&app, Method::GET, "/healthz", "").await.0, 200);
        });
        with_app(FakeMesh::new(2), &[], |app, _| async move {
            let (status, answer, _) = ask(&app, Method::POST, "/api/v1/drain", "").await;
            assert_eq!((status.as_u16(), &answer["begun"]), (202, &json!(true)));
            app.lifecycle.draining().await;
            let (_, again, _) = ask(&app, Method::POST, "/api/v1/drain", "").await;
            assert_eq!(again["begun"], false);
            let (status, _, response) = ask(&app, Method::GET, "/readyz", "").await;
            assert_eq!(status, 503);
            assert!(response.headers().contains_key(header::RETRY_AFTER));
            let (_, stats, _) = ask(&app, Method::GET, "/api/v1/stats", "").await;
            assert_eq!(stats["state"], "draining");
        });
    }

    #[test]
    fn stats_show_the_node_and_each_shard() {
        with_app(FakeMesh::new(2), &[], |app, mesh| async move {
            mesh.fill(shards::core::ShardId(1));
            let (status, stats, _) = ask(&app, Method::GET, "/api/v1/stats", "").await;
            assert_eq!(status, 200);
            assert_eq!(stats["version"], env!("CARGO_PKG_VERSION"));
            assert!(stats["rss_bytes"].as_u64() > Some(0));
            assert_eq!(stats["connections"], 7);
            for field in ["turns", "enters", "enters_per_turn_max", "open", "rooms", "dropped"] {
                assert!(!stats["shards"][0][field].is_null(), "{field}");
            }
            assert_eq!(stats["shards"][1], json!({ "shard": 1, "up": false }));
        });
    }
}
