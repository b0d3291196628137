//! Jobs of rooms that have ended, from a client's words to whoever works on them: a real Redis, which comes and goes, and a
//! stock Celery worker.

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use redis::Commands as _;
use redis::streams::{StreamReadOptions, StreamReadReply};
use serde_json::{Value, json};
use support::{Member, PATIENCE, Server, ask, repository, voxhall};

/// A Redis of its own at a socket file; it can end and come back there.
struct Redis {
    folder: PathBuf,
    child: Option<Child>,
}

impl Redis {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("voxhall-jobs-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        Self { folder, child: None }
    }

    fn started(name: &str) -> Self {
        let mut redis = Self::new(name);
        redis.start();
        redis
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }

    fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    fn setting(&self) -> String {
        format!("jobs.redis_url={}", self.url())
    }

    /// Starts it with nothing in it.
    fn start(&mut self) {
        let mut child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--dir"])
            .arg(&self.folder)
            .arg("--unixsocket")
            .arg(self.socket())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server is installed");
        read_to(child.stdout.take().expect("piped"), "ready to accept connections at");
        self.child = Some(child);
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it runs");
            child.wait().expect("it ends");
        }
    }

    fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).expect("an address");
        let connection = client.get_connection().expect("a connection");
        connection.set_read_timeout(Some(PATIENCE)).expect("a socket takes that");
        connection
    }

    /// Waits for the next jobs of the stream, until there are so many.
    fn jobs(&self, count: usize) -> Vec<Value> {
        let mut connection = self.connection();
        let (mut jobs, mut after) = (Vec::new(), "0".to_owned());
        while jobs.len() < count {
            let options = StreamReadOptions::default().block(PATIENCE.as_millis() as usize);
            let reply: Option<StreamReadReply> =
                connection.xread_options(&["voxhall:rooms"], &[&after], &options).expect("a stream");
            let reply = reply.unwrap_or_else(|| panic!("{} of {count} jobs have come", jobs.len()));
            for entry in reply.keys.into_iter().flat_map(|key| key.ids) {
                let field = |name: &str| -> String { entry.get(name).expect("a field") };
                let job: Value = serde_json::from_str(&field("job")).expect("JSON");
                assert_eq!((field("type"), field("job_id")), (text(&job["type"]), text(&job["job_id"])));
                assert_eq!(field("session_id"), text(&job["session_id"]));
                jobs.push(job);
                after = entry.id.clone();
            }
        }
        jobs
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

/// Reads on to a line that contains this; what comes behind it is read and forgotten, so that the writer never waits.
fn read_to(from: impl Read + Send + 'static, words: &str) -> String {
    let mut lines = BufReader::new(from);
    let mut seen = String::new();
    loop {
        let mut line = String::new();
        let read = lines.read_line(&mut line).expect("text");
        assert!(read > 0, "no {words:?} in {seen}");
        seen.push_str(&line);
        if line.contains(words) {
            thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
            return seen;
        }
    }
}

/// Says something and reads the written answer to its end.
fn converse(member: &mut Member, words: &str) -> Value {
    let content = json!([{ "type": "input_text", "text": words }]);
    let item = json!({ "type": "message", "role": "user", "content": content });
    member.send(json!({ "type": "conversation.item.create", "item": item }).to_string());
    let request = json!({ "output_modalities": ["text"] });
    member.send(json!({ "type": "response.create", "response": request }).to_string());
    member.event("metrics")
}

/// A conversation in a room that ends with it, where rooms don't linger.
fn short_room(server: &Server, session: &str) {
    let mut member = server.join(session, None);
    converse(&mut member, "good morning");
    assert!(ask(server.admin, "POST", &format!("/api/v1/rooms/{session}/close"), "").contains("200 OK"));
    assert_eq!(member.goodbye(), 1_000);
}

/// Waits until a metric has reached a number.
fn wait_for(server: &Server, metric: &str, label: &str, least: f64) {
    while server.metric_where(metric, label) < least {
        thread::yield_now();
    }
}

#[test]
fn a_room_that_ends_is_in_the_stream_with_what_was_said() {
    let redis = Redis::started("stream");
    let server = Server::start(&["--shards", "2", "--set", &redis.setting(), "--set", "room.linger_s=0"]);
    let mut member = server.join("class-7", None);
    member.send(json!({ "type": "session.update", "state": { "page": 7 } }).to_string());
    let first = converse(&mut member, "good morning");
    assert_eq!(
        (&first["response"]["status"], &first["session"]["responses"]),
        (&json!("completed"), &json!(1))
    );
    converse(&mut member, "he said \"no\"\nand left");
    drop(member);
    let silent = server.join("silent", None);
    drop(silent);
    let job = redis.jobs(1).remove(0);
    assert_eq!(
        (&job["session_id"], &job["why"], &job["engine"]),
        (&json!("class-7"), &json!("lingered"), &json!("parrot"))
    );
    assert_eq!((&job["state"], &job["usage"]["completed"]), (&json!({ "page": 7 }), &json!(2)));
    assert_eq!(job["responses"][0]["id"], first["response"]["id"]);
    let said: Vec<_> = job["transcript"].as_array().expect("a list").iter().collect();
    let said: Vec<_> = said.iter().map(|said| (text(&said["role"]), text(&said["text"]))).collect();
    let both =
        |words: &str| [("user".to_owned(), words.to_owned()), ("assistant".to_owned(), words.to_owned())];
    assert_eq!(said, [both("good morning"), both("he said \"no\"\nand left")].concat());
    short_room(&server, "closed");
    let jobs = redis.jobs(2);
    assert_eq!((&jobs[1]["session_id"], &jobs[1]["why"]), (&json!("closed"), &json!("closed")));
    assert_ne!(jobs[0]["job_id"], jobs[1]["job_id"]);
    wait_for(&server, "voxhall_jobs_delivered_total", "receiver=\"stream\"", 2.0);
    assert_eq!(server.metric("voxhall_jobs_waiting"), 0.0);
    assert_eq!(server.metric("voxhall_room_reports_total"), 2.0, "of a silent room there is nothing to say");
    assert_eq!(server.metric_where("voxhall_responses_total", "status=\"completed\""), 3.0);
}

/// The worker of docs/jobs.md, as it stands there but for the address.
fn worker(redis: &Redis) -> Child {
    let page = fs::read_to_string(repository("docs/jobs.md")).expect("the page");
    let (_, rest) = page.split_once("```python\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    let broker = format!("redis+socket://{}", redis.socket().display());
    let example = example.replace("redis://127.0.0.1:6379/0", &broker);
    assert!(example.contains(&broker), "{example}");
    fs::write(redis.folder.join("rooms.py"), example).expect("a file");
    Command::new("timeout")
        .arg("300") // Installing takes the longest. It passes signals on.
        .arg(repository("tests/celery/run.sh"))
        .args(["-A", "rooms", "worker", "--loglevel", "INFO", "--concurrency", "1"])
        .current_dir(&redis.folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a shell")
}

#[test]
fn a_stock_celery_worker_receives_and_runs_the_job() {
    let redis = Redis::started("celery");
    let task = "jobs.celery_task=voxhall.room_ended";
    let server =
        Server::start(&["--shards", "1", "--set", &redis.setting(), "--set", "jobs.stream=", "--set", task]);
    short_room(&server, "class-8");
    wait_for(&server, "voxhall_jobs_delivered_total", "receiver=\"celery\"", 1.0);
    let mut worker = worker(&redis);
    let log = read_to(worker.stderr.take().expect("piped"), "succeeded in");
    let mut connection = redis.connection();
    while connection.exists(["celery", "unacked"].as_slice()).expect("a number of keys") {
        thread::yield_now(); // Until it is acknowledged.
    }
    let told = Command::new("kill").arg(worker.id().to_string()).status().expect("kill runs");
    assert!(told.success() && worker.wait().is_ok());
    assert!(log.contains("Task voxhall.room_ended["), "{log}");
    assert!(log.contains("class-8 closed: ['good morning', 'good morning']"), "{log}");
}

#[test]
fn jobs_wait_while_redis_is_away_and_too_many_are_counted() {
    let mut redis = Redis::started("away");
    let server = Server::start(&["--shards", "1", "--set", &redis.setting(), "--set", "jobs.queue_max=2"]);
    short_room(&server, "before");
    wait_for(&server, "voxhall_jobs_delivered_total", "", 1.0);
    assert_eq!(redis.jobs(1)[0]["session_id"], "before");
    redis.stop();
    for session in ["one", "two", "three"] {
        short_room(&server, session);
    }
    wait_for(&server, "voxhall_jobs_failed_attempts_total", "", 2.0);
    wait_for(&server, "voxhall_jobs_dropped_total", "reason=\"full\"", 1.0);
    assert_eq!(server.metric("voxhall_jobs_waiting"), 2.0);
    redis.start();
    let sessions: Vec<_> = redis.jobs(2).iter().map(|job| text(&job["session_id"])).collect();
    assert_eq!(sessions, ["one", "two"], "in order, and nothing twice");
    wait_for(&server, "voxhall_jobs_delivered_total", "", 3.0);
    assert_eq!(server.metric("voxhall_jobs_dropped_total"), 1.0);
    server.signal("TERM");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("the queue of jobs is full") && log.contains("jobs are delivered again"), "{log}");
}

#[test]
fn a_drain_delivers_the_jobs_of_all_rooms() {
    let redis = Redis::started("drain");
    let server = Server::start(&["--shards", "2", "--set", &redis.setting(), "--set", "server.drain_s=1"]);
    let mut members: Vec<Member> = (0..20).map(|room| server.join(&format!("room-{room}"), None)).collect();
    for member in &mut members {
        converse(member, "good night");
    }
    // Half of the rooms linger when it begins.
    members.truncate(10);
    wait_for(&server, "voxhall_rooms_lingering", "", 10.0);
    server.signal("TERM");
    members.iter_mut().for_each(|member| assert_eq!(member.goodbye(), 1_001));
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    let jobs = redis.jobs(20);
    let mut sessions: Vec<_> = jobs.iter().map(|job| text(&job["session_id"])).collect();
    sessions.sort_unstable();
    sessions.dedup();
    assert_eq!(sessions.len(), 20, "each once");
    assert!(jobs.iter().all(|job| job["why"] == "drained"));
    assert!(log.contains("all jobs are delivered"), "{log}");
}

#[test]
fn a_second_signal_still_hands_over_what_it_cuts_short() {
    let redis = Redis::started("twice");
    let server = Server::start(&["--shards", "1", "--set", &redis.setting(), "--set", "server.drain_s=600"]);
    let mut member = server.join("cut", None);
    converse(&mut member, "one more thing");
    server.signal("TERM");
    member.event("session.draining");
    server.signal("TERM");
    let job = redis.jobs(1).remove(0);
    assert_eq!((&job["session_id"], &job["why"]), (&json!("cut"), &json!("drained")));
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[cfg(debug_assertions)]
#[test]
fn when_a_shard_dies_the_rooms_of_the_others_are_handed_over() {
    let redis = Redis::started("dead");
    let server = Server::start(&["--shards", "2", "--set", &redis.setting()]);
    let mut members: Vec<Member> = (0..24).map(|room| server.join(&format!("room-{room}"), None)).collect();
    for member in &mut members {
        converse(member, "are you there?");
    }
    let rooms: Value =
        serde_json::from_str(&server.admin_get("/api/v1/rooms?shard=0&sort=id")).expect("a list");
    let mut rooms: Vec<_> =
        rooms["rooms"].as_array().expect("a list").iter().map(|room| text(&room["id"])).collect();
    assert!(!rooms.is_empty(), "a fair hash");
    // Nobody may be left to answer.
    let request = "POST /api/v1/faults/core?shard=1 HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    let mut operator = support::connect(server.admin);
    std::io::Write::write_all(&mut operator, request.as_bytes()).expect("the server reads");
    drop(members);
    let mut sessions: Vec<_> = redis.jobs(rooms.len()).iter().map(|job| text(&job["session_id"])).collect();
    sessions.sort_unstable();
    rooms.sort_unstable();
    assert_eq!(sessions, rooms);
    assert_eq!(server.wait().0.code(), Some(70));
}

/// The next command that a client of Redis sends; nothing when it sends no more.
fn command(from: &mut impl std::io::BufRead) -> Option<Vec<String>> {
    let mut count = String::new();
    from.read_line(&mut count).ok()?;
    let parts: usize = count.trim_end().strip_prefix('*')?.parse().ok()?;
    let mut words = Vec::new();
    for _ in 0..parts {
        let mut length = String::new();
        from.read_line(&mut length).ok()?;
        let mut bytes = vec![0; length.trim_end().strip_prefix('$')?.parse::<usize>().ok()? + 2];
        from.read_exact(&mut bytes).ok()?;
        bytes.truncate(bytes.len() - 2);
        words.push(String::from_utf8(bytes).ok()?);
    }
    Some(words)
}

/// A Redis that takes the first job and breaks the connection before it says so.
#[test]
fn a_job_that_nobody_confirmed_comes_again_under_its_name() {
    let redis = Redis::new("forgetful");
    let listener = UnixListener::bind(redis.socket()).expect("a socket");
    let seen = thread::spawn(move || {
        let mut seen: Vec<String> = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut from = BufReader::new(stream.try_clone().expect("a copy"));
            while let Some(words) = command(&mut from) {
                let job = words.iter().position(|word| word == "job_id");
                if let (true, Some(at)) = (words[0] == "XADD", job) {
                    seen.push(words[at + 1].clone());
                    if seen.len() == 1 {
                        break;
                    }
                }
                stream.write_all(b"+OK\r\n").expect("it listens");
                if seen.len() == 2 {
                    return (seen, stream);
                }
            }
        }
        unreachable!("connections never end");
    });
    let server = Server::start(&["--shards", "1", "--set", &redis.setting()]);
    short_room(&server, "again");
    let (seen, stream) = seen.join().expect("no panic");
    assert_eq!(seen[0], seen[1]);
    wait_for(&server, "voxhall_jobs_delivered_total", "", 1.0);
    assert_eq!(server.metric("voxhall_jobs_failed_attempts_total"), 1.0);
    drop(stream);
}

#[test]
fn the_end_does_not_wait_for_ever_and_says_what_is_lost() {
    let redis = Redis::new("nobody");
    let server = Server::start(&[
        "--shards",
        "1",
        "--set",
        &redis.setting(),
        "--set",
        "server.drain_s=0",
        "--set",
        "jobs.flush_s=1",
    ]);
    let mut member = server.join("unheard", None);
    converse(&mut member, "is anybody there?");
    server.signal("TERM");
    assert_eq!(member.goodbye(), 1_001);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("they are lost") && log.contains("jobs=1"), "{log}");
}

#[test]
fn a_password_is_never_shown_and_what_does_not_fit_is_refused() {
    let check = |settings: &[&str]| {
        let flags: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        let output = voxhall(&["check-config"]).args(flags).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text.into_owned())
    };
    let (code, text) = check(&["jobs.redis_url=redis://:hush-hush@127.0.0.1/3"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("redis_url is set and not shown") && !text.contains("hush"), "{text}");
    for (settings, words) in [
        (&["jobs.redis_url=http://hush-hush"][..], "is no address of a Redis"),
        (&["jobs.celery_task=rooms.ended"], "has no effect without jobs.redis_url"),
        (&["jobs.redis_url=redis://127.0.0.1", "jobs.stream="], "nobody gets the jobs"),
        (
            &["jobs.redis_url=redis://127.0.0.1", "jobs.celery_task=t", "jobs.celery_queue="],
            "jobs.celery_queue",
        ),
    ] {
        let (code, text) = check(settings);
        assert_eq!(code, Some(2), "{settings:?}: {text}");
        assert!(text.contains(words) && !text.contains("hush"), "{settings:?}: {text}");
    }
}
