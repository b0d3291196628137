//! The API as its caller sees it, over shards that answer at once.

use axum::http::Method;
use serde_json::json;
use shards::core::ShardId;

use super::super::admin::tests::ask;
use super::super::testing::{FakeMesh, with_app};

#[test]
fn lists_are_put_together_sorted_and_cut() {
    with_app(FakeMesh::new(3), &[], |app, mesh| async move {
        let ids = |body: &serde_json::Value| -> Vec<String> {
            let rooms = body["rooms"].as_array().expect("a list").iter();
            rooms.map(|room| room["id"].as_str().expect("text").to_owned()).collect()
        };
        let (_, all, _) = ask(&app, Method::GET, "/api/v1/rooms", "").await;
        assert_eq!(ids(&all), ["room-0", "room-1", "room-2"]);
        let (_, largest, _) = ask(&app, Method::GET, "/api/v1/rooms?sort=members&limit=2", "").await;
        assert_eq!(ids(&largest), ["room-2", "room-1"]);
        let (_, of_one, _) = ask(&app, Method::GET, "/api/v1/rooms?shard=1", "").await;
        assert_eq!(ids(&of_one), ["room-1"]);
        mesh.fill(ShardId(1));
        let (_, rest, _) = ask(&app, Method::GET, "/api/v1/rooms", "").await;
        assert_eq!(
            (ids(&rest), &rest["silent_shards"]),
            (vec!["room-0".into(), "room-2".into()], &json!([1]))
        );
    });
}

#[test]
fn wrong_parameters_and_fields_are_named() {
    with_app(FakeMesh::new(2), &[("limits.json_depth_max", "4")], |app, _| async move {
        let connection = "/api/v1/connections/sess_000000000100000000/close";
        for (method, path, body, field, word) in [
            (Method::GET, "/api/v1/rooms?limit=0", "", "limit", "1 to 1000"),
            (Method::GET, "/api/v1/rooms?limit=all", "", "limit", "1 to 1000"),
            (Method::GET, "/api/v1/rooms?shard=2", "", "shard", "below 2"),
            (Method::GET, "/api/v1/rooms?sort=colour", "", "sort", "members"),
            (Method::GET, "/api/v1/rooms/a%20b", "", "id", "session id"),
            (Method::POST, "/api/v1/rooms/room-0/send", "{}", "data", "missing"),
            (
                Method::POST,
                "/api/v1/rooms/room-0/send",
                r#"{"data":[[[[[]]]]]}"#,
                "data",
                "json_depth_max = 4",
            ),
            (Method::POST, "/api/v1/rooms/room-0/send", r#"{"data":1,"to":0}"#, "to", "member"),
            (Method::POST, "/api/v1/rooms/room-0/send", r#"{"data":1,"to":"x"}"#, "to", "member"),
            (Method::POST, connection, r#"{"code":1006}"#, "code", "close code"),
            (Method::POST, connection, r#"{"reason":7}"#, "reason", "123"),
            (Method::POST, "/api/v1/connections/x/close", "", "id", "sess_"),
        ] {
            let (status, problem, _) = ask(&app, method, path, body).await;
            assert_eq!(
                (status.as_u16(), &problem["field"]),
                (400, &json!(field)),
                "{path} {body}: {problem}"
            );
            assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(word)), "{problem}");
        }
        for (path, body, word) in [
            ("/api/v1/rooms/room-0/send", "{\"data\":", "not a JSON object"),
            ("/api/v1/rooms/room-0/send", "[1]", "not a JSON object"),
            ("/api/v1/rooms/room-0/send", r#"{"data":1,"too":1}"#, "\\\"too\\\""),
            (connection, "{", "not a JSON object"),
        ] {
            let (status, problem, _) = ask(&app, Method::POST, path, body).await;
            assert_eq!(status, 400, "{path} {body}");
            assert!(problem["detail"].to_string().contains(word), "{problem}");
        }
    });
}

#[test]
fn a_post_reaches_its_room_without_the_space_between_its_tokens() {
    with_app(FakeMesh::new(2), &[], |app, mesh| async move {
        let body = "{ \"data\": {\"text\": \"a b\\n\",\n \"n\": [1, 2.50]}, \"to\": 3 }";
        let (status, answer, _) = ask(&app, Method::POST, "/api/v1/rooms/room-x/send", body).await;
        assert_eq!((status.as_u16(), answer), (200, json!({ "delivered": 1 })));
        assert_eq!(mesh.posts(), [("room-x".into(), r#"{"text":"a b\n","n":[1,2.50]}"#.into(), Some(3))]);
        let (status, ..) =
            ask(&app, Method::POST, "/api/v1/rooms/room-y/send", r#"{"data":null,"to":null}"#).await;
        assert_eq!(
            (status.as_u16(), mesh.posts().pop()),
            (200, Some(("room-y".into(), "null".into(), None)))
        );
    });
}

#[test]
fn what_is_not_there_is_404_and_a_full_shard_503() {
    with_app(FakeMesh::new(2), &[], |app, mesh| async move {
        let there = "/api/v1/connections/sess_000100000100000000/close";
        let gone = "/api/v1/connections/sess_000100000200000000/close";
        let no_such_shard = "/api/v1/connections/sess_000900000100000000/close";
        for (path, body, status) in [
            ("/api/v1/rooms/none/send", r#"{"data":1}"#, 404),
            ("/api/v1/rooms/none/close", "", 404),
            ("/api/v1/rooms/room-0/close", "", 200),
            (there, "", 200),
            (there, r#"{"code":4001,"reason":"moved"}"#, 200),
            (there, r#"{"code":null,"reason":null}"#, 200),
            (gone, "", 404),
            (no_such_shard, "", 404),
        ] {
            assert_eq!(ask(&app, Method::POST, path, body).await.0, status, "{path}");
        }
        assert_eq!(ask(&app, Method::GET, "/api/v1/rooms/none", "").await.0, 404);
        mesh.fill(ShardId(0));
        mesh.fill(ShardId(1));
        assert_eq!(ask(&app, Method::GET, "/api/v1/rooms/none", "").await.0, 503);
        assert_eq!(ask(&app, Method::GET, "/api/v1/rooms", "").await.0, 503);
    });
}

#[test]
fn a_body_is_bounded_by_the_longest_message() {
    with_app(FakeMesh::new(1), &[("limits.message_bytes_max", "1024")], |app, _| async move {
        let body = format!("{{\"data\":\"{}\"}}", "x".repeat(2_000));
        let (status, problem, _) = ask(&app, Method::POST, "/api/v1/rooms/room-0/send", &body).await;
        assert_eq!((status.as_u16(), &problem["status"]), (413, &json!(413)));
    });
}
