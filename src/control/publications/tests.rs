//! Publishing as its caller sees it, over shards that answer at once.

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use shards::core::Micros;
use shards::core::channel::Publisher;

use super::super::admin::router;
use super::super::admin::tests::ask;
use super::super::testing::{FakeMesh, with_app};
use super::*;

const PUBLISH: &str = "/api/v1/publish";
const EVENTS: &str = "/api/v1/events";

async fn post(app: &App, path: &str, body: &str) -> (u16, Value) {
    let (status, answer, _) = ask(app, Method::POST, path, body).await;
    (status.as_u16(), answer)
}

async fn post_under(app: &App, key: &str, path: &str, body: &str) -> (u16, HeaderMap, Value) {
    let request = Request::post(path).header("Idempotency-Key", key).body(Body::from(body.to_owned()));
    let service = TowerToHyperService::new(router(Arc::clone(app)));
    let response = service.call(request.expect("valid")).await.expect("a router never fails");
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    (parts.status.as_u16(), parts.headers, serde_json::from_slice(&bytes).expect("JSON"))
}

#[test]
fn a_publication_goes_to_its_owner_and_every_shard_counts() {
    with_app(FakeMesh::new(3), &[], |app, mesh| async move {
        let body = r#"{"channel":"user:7:operation:1", "data": {"a": [1, "x y"]}, "dedupe":"d", "ttl_s": 1.5,
            "require_subscriber": true, "session_id": "s:1"}"#;
        let (status, answer) = post(&app, PUBLISH, body).await;
        let expected = json!({ "id": "m1", "offset": 1, "duplicate": false, "shards": 3, "subscribers": 12 });
        assert_eq!((status, answer), (200, expected));
        let (owner, publication) = mesh.published().remove(0);
        assert_eq!(owner, shards::core::route::owner("user:7", 3));
        assert_eq!(&*publication.channel, "user:7:operation:1");
        assert_eq!(&*publication.data, r#"{"a":[1,"x y"]}"#);
        assert_eq!(publication.dedupe.as_deref(), Some("d"));
        assert_eq!(publication.ttl, Some(Micros::from_ms(1_500)));
        assert!(publication.needs_subscriber);
        assert_eq!(publication.session.expect("given").as_str(), "s:1");
        assert_eq!(publication.by, Publisher::Admin);
    });
}

#[test]
fn what_cannot_be_delivered_has_a_status_and_a_reason() {
    with_app(FakeMesh::new(2), &[], |app, _| async move {
        for (reason, expected) in [
            ("expired", 422),
            ("refused", 403),
            ("rate_limited", 429),
            ("no_subscriber", 409),
            ("overloaded", 503),
        ] {
            let body = format!(r#"{{"channel":"user:1:{reason}","data":1}}"#);
            let (status, problem, response) = ask(&app, Method::POST, PUBLISH, &body).await;
            assert_eq!((status.as_u16(), &problem["reason"]), (expected, &json!(reason)), "{problem}");
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            let again = matches!(expected, 429 | 503);
            assert_eq!(response.headers().contains_key("retry-after"), again, "{reason}");
        }
        let outcomes = app.publishing.report().outcomes;
        assert_eq!(outcomes, [0, 0, 1, 1, 1, 1, 1, 0, 0]);
    });
}

#[test]
fn a_shard_that_has_too_much_to_do_is_a_503() {
    with_app(FakeMesh::new(2), &[], |app, mesh| async move {
        mesh.fill(shards::core::route::owner("system", 2));
        let (status, problem) = post(&app, PUBLISH, r#"{"channel":"system:a","data":1}"#).await;
        assert_eq!((status, &problem["reason"]), (503, &json!("unanswered")));
        assert!(problem["detail"].to_string().contains("too much to do"), "{problem}");
    });
}

#[test]
fn wrong_publications_are_told_what_is_wrong() {
    let settings =
        [("limits.json_depth_max", "4"), ("publish.batch_max", "2"), ("limits.message_bytes_max", "1024")];
    with_app(FakeMesh::new(1), &settings, |app, mesh| async move {
        for (body, status, field, word) in [
            ("", 400, "", "not a JSON object"),
            ("7", 400, "", "not a JSON object"),
            (r#"{"channel":"a:b","data":1"#, 400, "", "not a JSON object"),
            ("{}", 400, "channel", "missing"),
            (r#"{"channel":"a:b"}"#, 400, "data", "missing"),
            (r#"{"channel":7,"data":1}"#, 400, "channel", "a text"),
            (r#"{"channel":"a:*","data":1}"#, 400, "channel", "'*'"),
            (r#"{"channel":"a::b","data":1}"#, 400, "channel", "empty"),
            (r#"{"channel":"","data":1}"#, 400, "channel", "1 to 16 segments"),
            (r#"{"channel":"a:b","data":[[[[[]]]]]}"#, 400, "data", "json_depth_max = 4"),
            (r#"{"channel":"a:b","data":1,"ttl_s":0}"#, 400, "ttl_s", "more than 0"),
            (r#"{"channel":"a:b","data":1,"ttl_s":1e300}"#, 400, "ttl_s", "at most"),
            (r#"{"channel":"a:b","data":1,"ttl_s":"1"}"#, 400, "ttl_s", "seconds"),
            (r#"{"channel":"a:b","data":1,"dedupe":""}"#, 400, "dedupe", "1 to 255"),
            (r#"{"channel":"a:b","data":1,"idempotency_key":"a b"}"#, 400, "idempotency_key", "spaces"),
            (r#"{"channel":"a:b","data":1,"session_id":"a b"}"#, 400, "session_id", "session id"),
            (
                r#"{"channel":"a:b","data":1,"require_subscriber":1}"#,
                400,
                "require_subscriber",
                "true or false",
            ),
            (r#"{"channel":"a:b","data":1,"chanel":1}"#, 400, "", "chanel"),
            ("[]", 400, "publish", "empty"),
            (r#"{"publish":7}"#, 400, "publish", "array"),
            ("[1,2,3]", 413, "", "publish.batch_max = 2"),
            (&format!("[{}]", " ".repeat(1_024)), 413, "", "length limit"),
        ] {
            let (found, problem) = post(&app, PUBLISH, body).await;
            assert_eq!(
                (found, problem["field"].as_str().unwrap_or("")),
                (status, field),
                "{body}: {problem}"
            );
            assert!(problem["detail"].as_str().expect("a sentence").contains(word), "{problem}");
        }
        assert!(mesh.published().is_empty());
        assert_eq!(app.publishing.report().outcomes[8], 22);
    });
}

#[test]
fn a_batch_is_answered_item_by_item_in_its_order() {
    with_app(FakeMesh::new(2), &[], |app, mesh| async move {
        let items: Vec<Value> = (0..200)
            .map(|at| match at {
                100 => json!({ "channel": "system:rate_limited", "data": at }),
                101 => json!({ "data": at }),
                102 => json!("no object"),
                _ => json!({ "channel": "system:a", "data": at }),
            })
            .collect();
        for body in [json!(items), json!({ "publish": items })] {
            let before = mesh.published().len();
            let (status, answer) = post(&app, PUBLISH, &body.to_string()).await;
            assert_eq!((status, &answer["published"], &answer["failed"]), (200, &json!(197), &json!(3)));
            let results = answer["results"].as_array().expect("a list");
            assert_eq!(results.len(), 200);
            for (at, result) in results.iter().enumerate() {
                let status = [429, 400, 400].get(at.wrapping_sub(100)).unwrap_or(&200);
                assert_eq!(result["status"], *status, "{at}: {result}");
                assert_eq!(result["id"].is_string(), *status == 200, "{at}: {result}");
            }
            let order: Vec<u64> = mesh.published()[before..]
                .iter()
                .map(|(_, publication)| publication.data.parse().expect("a number"))
                .collect();
            assert!(order.is_sorted(), "{order:?}");
        }
    });
}

#[test]
fn the_same_key_publishes_once_and_gets_the_same_answer() {
    with_app(FakeMesh::new(2), &[], |app, mesh| async move {
        let body = r#"{"channel":"system:a","data":1}"#;
        let first = post_under(&app, "k", PUBLISH, body).await;
        assert_eq!(first.0, 200);
        assert_eq!(post_under(&app, "k", PUBLISH, body).await, first);
        let (status, _, problem) = post_under(&app, "k", PUBLISH, r#"{"channel":"system:a","data":2}"#).await;
        assert_eq!((status, &problem["reason"]), (422, &json!("idempotency_key_reused")));
        let (status, ..) = post_under(&app, "k", EVENTS, r#"{"type":"a"}"#).await;
        assert_eq!(status, 422, "the same key for another path");
        assert_eq!(mesh.published().len(), 1);
        assert_eq!(mesh.published()[0].1.dedupe.as_deref(), Some("k"));
        // What failed for now may be asked for again.
        let busy = r#"{"channel":"system:overloaded","data":1}"#;
        assert_eq!(post_under(&app, "l", PUBLISH, busy).await.0, 503);
        mesh.heal();
        assert_eq!(post_under(&app, "l", PUBLISH, busy).await.0, 200);
        let own = r#"{"channel":"system:a","data":3,"idempotency_key":"m"}"#;
        let (_, once) = post(&app, PUBLISH, own).await;
        assert_eq!(post(&app, PUBLISH, own).await.1, once);
        let (status, _, problem) = post_under(&app, "other", PUBLISH, own).await;
        assert_eq!((status, &problem["field"]), (400, &json!("idempotency_key")));
    });
}

#[test]
fn requests_at_once_under_one_key_publish_once() {
    with_app(FakeMesh::new(2), &[], |app, mesh| async move {
        mesh.hold_answers(true);
        let body = r#"{"channel":"system:a","data":1}"#;
        let asking: Vec<_> = (0..5)
            .map(|_| {
                let app = Arc::clone(&app);
                tokio::spawn(async move { post_under(&app, "k", PUBLISH, body).await })
            })
            .collect();
        mesh.questions(1).await;
        tokio::task::yield_now().await;
        mesh.release_answers_reversed();
        for asked in asking {
            let (status, _, answer) = asked.await.expect("no panic");
            assert_eq!((status, &answer["id"]), (200, &json!("m1")));
        }
        assert_eq!(mesh.published().len(), 1);
    });
}

#[test]
fn a_client_that_goes_away_does_not_undo_its_publication() {
    with_app(FakeMesh::new(1), &[], |app, mesh| async move {
        mesh.hold_answers(true);
        let body = r#"{"channel":"system:a","data":1}"#;
        let asking = tokio::spawn({
            let app = Arc::clone(&app);
            async move { post_under(&app, "k", PUBLISH, body).await }
        });
        mesh.questions(1).await;
        asking.abort();
        assert!(asking.await.is_err());
        mesh.release_answers_reversed();
        assert_eq!(post_under(&app, "k", PUBLISH, body).await.0, 200);
        assert_eq!(mesh.published().len(), 1);
    });
}

#[test]
fn the_keys_of_a_batch_hold_for_its_items_and_for_the_whole() {
    with_app(FakeMesh::new(2), &[], |app, mesh| async move {
        let batch = json!([
            { "channel": "system:a", "data": 1, "idempotency_key": "one" },
            { "channel": "system:a", "data": 1, "idempotency_key": "one" },
            { "channel": "system:a", "data": 2, "idempotency_key": "one" },
            { "channel": "system:overloaded", "data": 3 },
        ])
        .to_string();
        let (_, _, first) = post_under(&app, "all", PUBLISH, &batch).await;
        let statuses = |answer: &Value| -> Vec<u64> {
            let results = answer["results"].as_array().expect("a list").iter();
            results.map(|result| result["status"].as_u64().expect("a number")).collect()
        };
        assert_eq!(statuses(&first), [200, 200, 422, 503]);
        // Twice the first of two that are the same: `one` in the second place carries other JSON than in the third.
        assert_eq!(first["results"][0]["id"], first["results"][1]["id"]);
        assert_eq!(mesh.published().len(), 2);
        mesh.heal();
        let (_, _, second) = post_under(&app, "all", PUBLISH, &batch).await;
        assert_eq!(statuses(&second), [200, 200, 422, 200]);
        assert_eq!(mesh.published().len(), 3, "only what had failed for now");
        assert_eq!(post_under(&app, "all", PUBLISH, "[{}]").await.0, 422);
    });
}

#[test]
fn an_event_is_its_fields_on_the_channel_of_its_type() {
    with_app(FakeMesh::new(1), &[], |app, mesh| async move {
        for (body, channel, data, session) in [
            (r#"{"type":"job.done","id": 7}"#, "events:job.done", r#"{"event":"job.done","id":7}"#, None),
            (
                r#"{"event":"job.done","type":"pdf","session_id":"s"}"#,
                "events:job.done",
                r#"{"event":"job.done","session_id":"s","type":"pdf"}"#,
                Some("s"),
            ),
            (r#"{"type":"empty"}"#, "events:empty", r#"{"event":"empty"}"#, None),
        ] {
            assert_eq!(post(&app, EVENTS, body).await.0, 200, "{body}");
            let (_, publication) = mesh.published().pop().expect("published");
            assert_eq!((&*publication.channel, &*publication.data), (channel, data));
            assert_eq!(publication.session.as_ref().map(SessionId::as_str), session);
            assert_eq!(publication.by, Publisher::Server);
        }
        for (body, field) in [
            ("{}", "type"),
            (r#"{"type":7}"#, "type"),
            (r#"{"type":"a*"}"#, "channel"),
            (r#"{"type":"a","session_id":7}"#, "session_id"),
            (r#"{"type":"a","session_id":"a b"}"#, "session_id"),
        ] {
            let (status, problem) = post(&app, EVENTS, body).await;
            assert_eq!((status, &problem["field"]), (400, &json!(field)), "{body}: {problem}");
        }
        assert_eq!(post(&app, EVENTS, "[]").await.0, 400);
    });
}

#[test]
fn with_auth_on_an_admin_token_is_needed() {
    let settings = [("auth.mode", "jwt"), ("auth.hs256_secret", "0123456789abcdef0123456789abcdef")];
    with_app(FakeMesh::new(1), &settings, |app, mesh| async move {
        for (method, path) in [
            (Method::POST, PUBLISH),
            (Method::POST, EVENTS),
            (Method::GET, "/api/v1/dead-letters"),
            (Method::POST, "/api/v1/dead-letters/x/retry"),
            (Method::DELETE, "/api/v1/dead-letters/x"),
        ] {
            let (status, ..) = ask(&app, method, path, r#"{"type":"a","channel":"a:b","data":1}"#).await;
            assert_eq!(status, 401, "{path}");
        }
        assert!(mesh.published().is_empty());
    });
}

#[test]
fn what_a_batch_has_no_time_for_is_not_published() {
    with_app(FakeMesh::new(1), &[], |app, mesh| async move {
        let item: Box<RawValue> = serde_json::from_str(r#"{"channel":"user:1:a","data":1}"#).expect("JSON");
        let (over, deadline) = take_off(&app, &item, None, Instant::now()).await;
        let given = app.publishing.finish(&app.line, over, deadline).await;
        let problem: Value = serde_json::from_str(&given.json).expect("JSON");
        assert_eq!((given.status, &problem["reason"]), (503, &json!("overloaded")), "{problem}");
        let (begun, deadline) = take_off(&app, &item, None, Instant::now() + BATCH).await;
        assert_eq!(app.publishing.finish(&app.line, begun, deadline).await.status, 200);
        assert_eq!(mesh.published().len(), 1);
        assert_eq!(app.publishing.report().outcomes.iter().sum::<u64>(), 2, "both are counted");
    });
}
