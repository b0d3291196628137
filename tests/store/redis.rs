//! Rooms in a real Redis, which is killed, held and emptied.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::rig::{Client, until};
use crate::support::Server;

/// A Redis at a socket file; it can end and come back there.
struct Redis {
    folder: PathBuf,
    child: Option<Child>,
}

impl Redis {
    fn start(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("voxhall-stores-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut redis = Self { folder, child: None };
        redis.go_on();
        redis
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }

    /// Starts it with nothing in it.
    fn go_on(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--dir"])
            .arg(&self.folder)
            .arg("--unixsocket")
            .arg(self.socket())
            .stdout(Stdio::null())
            .spawn();
        self.child = Some(child.expect("redis-server is installed: tests/packages does it"));
        until("Redis answers", || self.ask(&["PING"]) == "PONG");
    }

    fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.expect("kill runs").success());
    }

    fn ask(&self, command: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.arg("-s").arg(self.socket()).args(command).stderr(Stdio::null());
        let output = cli.output().expect("redis-cli comes with it");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    fn serve(&self, more: &[&str]) -> Server {
        let url = format!("store.url=redis+unix://{}", self.socket().display());
        let mut arguments =
            vec!["--engine", "relay", "--shards", "2", "--set", "store.kind=redis", "--set", &url];
        arguments.extend(more.iter().flat_map(|setting| ["--set", *setting]));
        Server::start(&arguments)
    }

    /// The last number that it has of a room.
    fn has(&self, room: &str) -> u64 {
        let head = self.ask(&["HGET", &format!("voxhall:store:room:{room}"), "room"]);
        let head: serde_json::Value = serde_json::from_str(&head).unwrap_or_default();
        head["seq"].as_u64().unwrap_or(0)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn talk(writer: &mut Client, reader: &mut Client, words: &str) -> u64 {
    writer.tell(&json!(words));
    reader.hear(&json!(words));
    reader.seq
}

#[test]
fn rooms_in_redis_outlive_a_crash_and_an_orderly_end() {
    let redis = Redis::start("outlive");
    let mut server = redis.serve(&[]);
    let (mut writer, mut reader) = (Client::join(&server, "a"), Client::join(&server, "a"));
    let last = talk(&mut writer, &mut reader, "one");
    until("it is written", || redis.has("a") == last);
    server.kill();
    let server = redis.serve(&["server.drain_s=0"]);
    let (restored, mut reader) = Client::come_back_after(&server, &reader, last - 1);
    assert_eq!((&restored["recovered"], &restored["restarted"]), (&json!(true), &json!(true)), "{restored}");
    reader.hear(&json!("one"));
    let (restored, mut writer) = Client::come_back_after(&server, &writer, last);
    assert_eq!(restored["recovered"], true, "{restored}");
    let last = talk(&mut writer, &mut reader, "two");
    server.signal("TERM");
    let (status, log) = server.wait();
    assert!(status.success() && log.contains("the store has everything"), "{log}");
    let server = redis.serve(&[]);
    let (restored, back) = Client::come_back_after(&server, &reader, last);
    assert_eq!((&restored["recovered"], &restored["missed"]), (&json!(true), &json!(0)), "{restored}");
    assert_eq!(restored["epoch"], json!(reader.epoch), "nothing was lost: the numbering goes on");
    assert!(back.seq == 0 && reader.seq == last);
}

#[test]
fn a_redis_that_is_killed_held_or_emptied_stops_nobody_and_gets_everything_again() {
    let mut redis = Redis::start("away");
    let mut server = redis.serve(&[]);
    let (mut writer, mut reader) = (Client::join(&server, "a"), Client::join(&server, "a"));
    let quiet = Client::join(&server, "quiet");
    let degraded = |server: &Server| server.metric("voxhall_store_degraded") == 1.0;
    let last = talk(&mut writer, &mut reader, "first");
    until("it is written", || redis.has("a") == last);

    redis.stop();
    talk(&mut writer, &mut reader, "while it is away");
    until("that is noticed", || degraded(&server));
    let _new = Client::join(&server, "new");
    redis.go_on();
    let last = talk(&mut writer, &mut reader, "when it is back");
    until("it has all of it", || {
        redis.has("a") == last && redis.ask(&["XLEN", "voxhall:store:events:a"]) != "0"
    });
    until("quiet rooms are there too", || redis.ask(&["EXISTS", "voxhall:store:room:quiet"]) == "1");
    assert!(!degraded(&server));

    redis.signal("STOP");
    until("that is noticed", || {
        talk(&mut writer, &mut reader, "while it does not answer");
        degraded(&server)
    });
    let _newer = Client::join(&server, "newer");
    redis.signal("CONT");
    let last = talk(&mut writer, &mut reader, "when it answers");
    until("it has all of it", || redis.has("a") == last);

    redis.ask(&["FLUSHALL"]);
    until("it has all of it again", || {
        redis.has("a") == last && redis.ask(&["EXISTS", "voxhall:store:room:quiet"]) == "1"
    });
    assert!(server.metric("voxhall_store_lost_rooms_total") >= 2.0);
    server.kill();
    let server = redis.serve(&[]);
    let (restored, mut back) = Client::come_back_after(&server, &reader, 1);
    assert_eq!(restored["recovered"], true, "rooms were written whole: {restored}");
    back.hear_all(restored["missed"].as_u64().expect("a count"));
    assert!(back.heard.iter().any(|(_, data)| data == "while it is away"), "{:?}", back.heard);
    let (restored, _) = Client::come_back_after(&server, &quiet, 0);
    assert_eq!(restored["recovered"], true, "its key is the same: {restored}");
}

#[test]
fn a_redis_that_is_away_at_the_start_is_waited_for_in_the_background() {
    let mut redis = Redis::start("late");
    redis.stop();
    let mut server = redis.serve(&[]);
    assert_eq!(server.metric("voxhall_store_degraded"), 1.0);
    let (mut writer, mut reader) = (Client::join(&server, "a"), Client::join(&server, "a"));
    let last = talk(&mut writer, &mut reader, "early");
    redis.go_on();
    until("it has all of it", || redis.has("a") == last);
    server.kill();
    let server = redis.serve(&[]);
    let (restored, _) = Client::come_back_after(&server, &reader, last);
    assert_eq!(restored["recovered"], true, "{restored}");
}
