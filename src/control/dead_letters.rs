//! `/dead-letters`: what could not be delivered, seen, tried again and removed by the operator.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query as Parameters, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use humantime::format_rfc3339_millis;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use shards::core::SessionId;
use shards::core::channel::{Publication, Publisher, UNDELIVERABLES};

use super::App;
use super::problem::Problem;
use super::publications::{carried_out, one};
use crate::publish::{Given, Letter, NoLetter, Wanted};

/// Letters in a list unless the caller says otherwise, and at most.
const LETTERS: usize = 100;
const LETTERS_MAX: usize = 1_000;

type PathText = Result<Path<String>, PathRejection>;

/// `GET /dead-letters?limit=&reason=`, the latest first
pub(crate) async fn list(
    State(app): State<App>,
    parameters: Result<Parameters<HashMap<String, String>>, QueryRejection>,
) -> Result<Response, Problem> {
    let Parameters(parameters) =
        parameters.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let (limit, reason) = which(&parameters)?;
    let (letters, total) = app.publishing.letters.list(reason, limit);
    let letters: Vec<Box<RawValue>> = letters.iter().map(|(id, letter)| shown(id, letter)).collect();
    Ok(Json(json!({ "total": total, "dead_letters": letters })).into_response())
}

/// `POST /dead-letters/{id}/retry`
pub(crate) async fn retry(State(app): State<App>, path: PathText) -> Response {
    let begun = id(path).and_then(|id| {
        let retry = app.publishing.letters.begin_retry(&id).map_err(|why| refusal(&id, why))?;
        Ok((id, retry))
    });
    let (id, retry) = match begun {
        Ok(begun) => begun,
        Err(problem) => return problem.into_response(),
    };
    carried_out(async move {
        // What the first publisher may not, the operator may.
        let publication = Publication { by: Publisher::Admin, ..retry.publication.clone() };
        let given = one(&app, Wanted { publication, key: None }).await;
        let mut body: Value = serde_json::from_str(&given.json).expect("answers are JSON");
        body["dead_letter"] = id.into();
        if given.status == 200 {
            retry.went_out();
        } else if UNDELIVERABLES.iter().any(|reason| body["reason"] == *reason) {
            retry.refused();
        }
        Arc::new(Given { status: given.status, json: body.to_string() })
    })
    .await
}

/// `DELETE /dead-letters/{id}`
pub(crate) async fn remove(State(app): State<App>, path: PathText) -> Result<Json<Value>, Problem> {
    let id = id(path)?;
    app.publishing.letters.remove(&id).map_err(|why| refusal(&id, why))?;
    Ok(Json(json!({ "removed": 1 })))
}

fn id(path: PathText) -> Result<String, Problem> {
    path.map(|Path(id)| id).map_err(|error| Problem::field("id", error.body_text()))
}

fn refusal(id: &str, why: NoLetter) -> Problem {
    match why {
        NoLetter::Unknown => Problem::not_found(format!("there is no dead letter {id}")),
        NoLetter::Busy => {
            Problem::new(StatusCode::CONFLICT, format!("the dead letter {id} is just being tried again"))
        }
    }
}

fn which(parameters: &HashMap<String, String>) -> Result<(usize, Option<&'static str>), Problem> {
    let (mut limit, mut reason) = (LETTERS, None);
    for (name, value) in parameters {
        match name.as_str() {
            "limit" => {
                let number = value.parse().ok().filter(|limit| (1..=LETTERS_MAX).contains(limit));
                limit = number.ok_or_else(|| {
                    Problem::field("limit", format!("\"limit\" is a number from 1 to {LETTERS_MAX}"))
                })?;
            }
            "reason" => {
                let known = UNDELIVERABLES.into_iter().find(|known| known == value);
                let names = UNDELIVERABLES.join(", ");
                let wrong = || Problem::field("reason", format!("\"reason\" is one of {names}"));
                reason = Some(known.ok_or_else(wrong)?);
            }
            _ => {
                let detail = format!("there is no parameter {name:?}; there are limit and reason");
                return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
            }
        }
    }
    Ok((limit, reason))
}

/// A letter for the operator. Its data is shown as it was published.
fn shown(id: &str, letter: &Letter) -> Box<RawValue> {
    #[derive(serde::Serialize)]
    struct Shown<'a> {
        id: &'a str,
        at: String,
        reason: &'a str,
        channel: &'a str,
        data: &'a RawValue,
        #[serde(skip_serializing_if = "Option::is_none")]
        dedupe: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ttl_s: Option<f64>,
        require_subscriber: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        session_id: Option<&'a str>,
        by: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<&'a str>,
        retries: u32,
        retrying: bool,
    }
    let Publication { channel, data, dedupe, ttl, needs_subscriber, session, by } = &letter.publication;
    let (by, user) = match by {
        Publisher::Admin => ("admin", None),
        Publisher::Server => ("server", None),
        Publisher::User(user) => ("user", user.as_deref()),
    };
    let shown = Shown {
        id,
        at: format_rfc3339_millis(letter.at).to_string(),
        reason: letter.reason.name(),
        channel,
        data: serde_json::from_str(data).unwrap_or(RawValue::NULL),
        dedupe: dedupe.as_deref(),
        ttl_s: ttl.map(|ttl| ttl.0 as f64 / 1e6),
        require_subscriber: *needs_subscriber,
        session_id: session.as_ref().map(SessionId::as_str),
        by,
        user,
        retries: letter.retries,
        retrying: letter.retrying,
    };
    serde_json::value::to_raw_value(&shown).expect("texts and numbers are JSON")
}

#[cfg(test)]
mod tests {
    use axum::http::Method;

    use super::super::admin::tests::ask;
    use super::super::testing::{FakeMesh, with_app};
    use super::*;

    const LIST: &str = "/api/v1/dead-letters";

    async fn listed(app: &App, query: &str) -> Value {
        let (status, list, _) = ask(app, Method::GET, &format!("{LIST}{query}"), "").await;
        assert_eq!(status, 200);
        list
    }

    async fn publish(app: &App, body: &str) {
        ask(app, Method::POST, "/api/v1/publish", body).await;
    }

    #[test]
    fn letters_are_listed_the_latest_first_and_by_reason() {
        with_app(FakeMesh::new(2), &[("publish.dead_letters_max", "3")], |app, _| async move {
            assert_eq!(listed(&app, "").await, json!({ "total": 0, "dead_letters": [] }));
            for reason in ["expired", "refused", "no_subscriber"] {
                publish(&app, &format!(r#"{{"channel":"user:1:{reason}","data":{{"a":1e2}}}}"#)).await;
            }
            publish(
                &app,
                r#"{"channel":"user:2:refused","data":"x","session_id":"s","ttl_s":2,"dedupe":"d"}"#,
            )
            .await;
            let all = listed(&app, "").await;
            let reasons: Vec<&str> = all["dead_letters"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|letter| letter["reason"].as_str().expect("a word"))
                .collect();
            assert_eq!((reasons, &all["total"]), (vec!["refused", "no_subscriber", "refused"], &json!(3)));
            let first = &all["dead_letters"][0];
            for (field, value) in [
                ("channel", json!("user:2:refused")),
                ("data", json!("x")),
                ("session_id", json!("s")),
                ("ttl_s", json!(2.0)),
                ("dedupe", json!("d")),
                ("by", json!("admin")),
                ("retries", json!(0)),
            ] {
                assert_eq!(first[field], value, "{field}");
            }
            assert!(humantime::parse_rfc3339(first["at"].as_str().expect("a time")).is_ok());
            let few = listed(&app, "?reason=refused&limit=1").await;
            assert_eq!((&few["total"], &few["dead_letters"][0]["id"]), (&json!(2), &first["id"]));
            assert_eq!(few["dead_letters"].as_array().map(Vec::len), Some(1));
            for (query, field) in [("?limit=0", "limit"), ("?reason=none", "reason"), ("?page=2", "")] {
                let (status, problem, _) = ask(&app, Method::GET, &format!("{LIST}{query}"), "").await;
                assert_eq!((status.as_u16(), problem["field"].as_str().unwrap_or("")), (400, field));
            }
            let counts = app.publishing.letters.counts();
            assert_eq!((counts.came, counts.pushed_out), ([1, 2, 0, 1, 0], 1));
        });
    }

    #[test]
    fn a_letter_is_tried_again_until_it_goes_out() {
        with_app(FakeMesh::new(2), &[], |app, mesh| async move {
            publish(&app, r#"{"channel":"user:1:no_subscriber","data":1,"require_subscriber":true}"#).await;
            let id = listed(&app, "").await["dead_letters"][0]["id"].as_str().expect("a text").to_owned();
            let retry = format!("{LIST}/{id}/retry");
            let (status, problem, _) = ask(&app, Method::POST, &retry, "").await;
            assert_eq!((status.as_u16(), &problem["reason"]), (409, &json!("no_subscriber")));
            assert_eq!(problem["dead_letter"], json!(id));
            let list = listed(&app, "").await;
            assert_eq!((&list["total"], &list["dead_letters"][0]["retries"]), (&json!(1), &json!(1)));
            mesh.heal();
            let (status, answer, _) = ask(&app, Method::POST, &retry, "").await;
            assert_eq!((status.as_u16(), &answer["subscribers"]), (200, &json!(11)), "{answer}");
            assert!(mesh.published().iter().all(|(_, publication)| publication.needs_subscriber));
            assert_eq!(listed(&app, "").await["total"], 0);
            assert_eq!(ask(&app, Method::POST, &retry, "").await.0, 404);
        });
    }

    #[test]
    fn what_nobody_heard_under_a_key_goes_out_when_it_is_tried_again() {
        with_app(FakeMesh::new(1), &[], |app, mesh| async move {
            for key in [r#""dedupe":"d""#, r#""idempotency_key":"i""#] {
                let body =
                    format!(r#"{{"channel":"user:1:unheard","data":1,"require_subscriber":true,{key}}}"#);
                publish(&app, &body).await;
            }
            mesh.heal();
            for letter in listed(&app, "").await["dead_letters"].as_array().expect("a list") {
                assert_eq!((&letter["reason"], letter.get("dedupe")), (&json!("no_subscriber"), None));
                let retry = format!("{LIST}/{}/retry", letter["id"].as_str().expect("a text"));
                let (status, answer, _) = ask(&app, Method::POST, &retry, "").await;
                assert_eq!((status.as_u16(), &answer["duplicate"]), (200, &json!(false)), "{answer}");
                assert_eq!(answer["subscribers"], 1);
            }
            assert_eq!(listed(&app, "").await["total"], 0);
        });
    }

    #[test]
    fn a_letter_can_be_removed() {
        with_app(FakeMesh::new(1), &[], |app, _| async move {
            publish(&app, r#"{"channel":"user:1:refused","data":1}"#).await;
            let id = listed(&app, "").await["dead_letters"][0]["id"].as_str().expect("a text").to_owned();
            let path = format!("{LIST}/{id}");
            assert_eq!(ask(&app, Method::DELETE, &path, "").await.0, 200);
            assert_eq!(ask(&app, Method::DELETE, &path, "").await.0, 404);
            assert_eq!(listed(&app, "").await["total"], 0);
        });
    }
}
