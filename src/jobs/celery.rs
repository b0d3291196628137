//! A job as Celery's own producers would send it: message protocol 2, JSON, in the envelope of kombu's Redis transport. A
//! stock worker runs the task with the job as its one argument.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::job::{Job, uuid};

/// Who sends, as workers show it.
static ORIGIN: LazyLock<String> = LazyLock::new(|| {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("voxhall{}@{host}", std::process::id())
});

/// What is pushed onto the list that is the queue.
pub(super) fn message(job: &Job, task: &str, queue: &str) -> String {
    let argument: Value = serde_json::from_str(job.payload()).expect("it was made from a value");
    let embed = json!({ "callbacks": null, "errbacks": null, "chain": null, "chord": null });
    let body = json!([[argument], {}, embed]).to_string();
    json!({
        "body": BASE64_STANDARD.encode(body),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": task,
            "id": job.id(),
            "root_id": job.id(),
            "parent_id": null,
            "group": null,
            "group_index": null,
            "shadow": null,
            "eta": null,
            "expires": null,
            "retries": 0,
            "timelimit": [null, null],
            // What monitors show: the whole job would be too much.
            "argsrepr": format!("({{'job_id': '{}', 'session_id': '{}', ...}},)", job.id(), job.session()),
            "kwargsrepr": "{}",
            "origin": *ORIGIN,
            "ignore_result": true,
            "replaced_task_nesting": 0,
            "stamped_headers": null,
            "stamps": {},
        },
        "properties": {
            "correlation_id": job.id(),
            "delivery_mode": 2,
            "delivery_info": { "exchange": "", "routing_key": queue },
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": uuid(),
        },
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::super::job::tests::job;
    use super::*;

    #[test]
    fn the_envelope_holds_the_job_as_the_only_argument() {
        let job = job("class-7");
        let message: Value =
            serde_json::from_str(&message(&job, "voxhall.room_ended", "rooms")).expect("JSON");
        assert_eq!(message["headers"]["task"], "voxhall.room_ended");
        assert_eq!(message["headers"]["id"], job.id());
        assert_eq!(message["properties"]["correlation_id"], job.id());
        assert_eq!(message["properties"]["delivery_info"]["routing_key"], "rooms");
        let body = BASE64_STANDARD.decode(message["body"].as_str().expect("text")).expect("base64");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body[0].as_array().map(Vec::len), Some(1));
        assert_eq!(body[0][0]["session_id"], "class-7");
        assert_eq!((&body[1], &body[2]["chord"]), (&json!({}), &Value::Null));
    }
}
