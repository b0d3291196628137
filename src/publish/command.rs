//! `voxhall publish`: publishes through the management API of a running server, and says what became of it.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use ureq::Agent;
use ureq::http::StatusCode;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::{Failure, out};

/// Where a server with the default configuration has its management API.
const ADMIN: &str = "http://127.0.0.1:9090";
/// Where the token may be, so that it does not have to be on the command line, which others see.
const TOKEN_VARIABLE: &str = "VOXHALL_TOKEN";
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// What one request of a batch has at most, well below what a server takes.
const BATCH_ITEMS: usize = 500;
const BATCH_BYTES: usize = 512 * 1_024;
/// Longest answer: a thousand results stay below it.
const ANSWER_BYTES_MAX: u64 = 16 * 1_024 * 1_024;

/// What to publish, and through which server.
#[derive(Args, Debug)]
pub(crate) struct PublishOptions {
    /// The channel, such as system:notice or user:42:operation:7
    #[arg(value_name = "CHANNEL", required_unless_present = "batch", conflicts_with = "batch")]
    channel: Option<String>,
    /// What is published: any JSON, or - to read it from standard input
    #[arg(value_name = "JSON", required_unless_present = "batch", conflicts_with = "batch")]
    data: Option<String>,
    /// The server's management address
    #[arg(long, value_name = "URL", default_value = ADMIN)]
    admin: String,
    /// An admin token, where the server asks for one [default: the environment's VOXHALL_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Certificates (PEM) that an https address is trusted by, instead of the host's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// For how many seconds it may be delivered [default: as long as its namespace keeps it]
    #[arg(long, value_name = "SECONDS", conflicts_with = "batch")]
    ttl_s: Option<f64>,
    /// Publish nothing if this key was published on the channel of late
    #[arg(long, value_name = "KEY", conflicts_with = "batch")]
    dedupe: Option<String>,
    /// The session that it is about
    #[arg(long, value_name = "ID", conflicts_with = "batch")]
    session_id: Option<String>,
    /// Fail if nobody hears it
    #[arg(long, conflicts_with = "batch")]
    require_subscriber: bool,
    /// Publish every line of a file, each an object as the management API takes it; - is standard input
    #[arg(long, value_name = "FILE")]
    batch: Option<PathBuf>,
    /// Print the server's answers as JSON, one a line
    #[arg(long)]
    json: bool,
}

/// Publishes.
///
/// # Errors
/// A sentence: what is wrong with the command, or why the server did not do as it was told.
pub(crate) fn run(options: &PublishOptions) -> Result<(), Failure> {
    let server = Server::new(options)?;
    match &options.batch {
        Some(file) => batch(options, &server, file),
        None => single(options, &server),
    }
}

fn single(options: &PublishOptions, server: &Server) -> Result<(), Failure> {
    let channel = options.channel.as_deref().unwrap_or_default();
    let (status, body) = server.ask(&publication(options, channel)?)?;
    if status != StatusCode::OK {
        print_refusal(options, &body)?;
        return Err(Failure::Fault(refused(status, &body)));
    }
    let answer: Value = serde_json::from_str(&body).map_err(|_| nonsense(&server.admin))?;
    let line = if options.json { body } else { told(channel, &answer) };
    Ok(out::print(&format!("{line}\n"))?)
}

fn publication(options: &PublishOptions, channel: &str) -> Result<String, Failure> {
    let given = options.data.as_deref().unwrap_or_default();
    let text = if given == "-" { read(Path::new("-"))? } else { given.to_owned() };
    let data: Box<RawValue> = serde_json::from_str(text.trim()).map_err(|error| {
        let remedy = "a text needs quotes of its own, such as '\"hello\"'";
        Failure::Usage(format!("what is to be published is not JSON: {error}; {remedy}"))
    })?;
    let mut fields = Map::new();
    fields.insert("channel".to_owned(), channel.into());
    for (name, value) in [
        ("ttl_s", options.ttl_s.map(Value::from)),
        ("dedupe", options.dedupe.as_deref().map(Value::from)),
        ("session_id", options.session_id.as_deref().map(Value::from)),
        ("require_subscriber", options.require_subscriber.then_some(json!(true))),
    ] {
        fields.extend(value.map(|value| (name.to_owned(), value)));
    }
    let fields = Value::Object(fields).to_string();
    // As it was written: numbers keep every digit.
    Ok(format!("{},\"data\":{data}}}", fields.trim_end_matches('}')))
}

fn batch(options: &PublishOptions, server: &Server, file: &Path) -> Result<(), Failure> {
    let text = read(file)?;
    let lines: Vec<(usize, &str)> =
        (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty()).collect();
    for (number, line) in &lines {
        if let Err(error) = serde_json::from_str::<Map<String, Value>>(line) {
            let file = file.display();
            return Err(Failure::Usage(format!("{file}:{number} is not a JSON object: {error}")));
        }
    }
    let (mut published, mut failed) = (0, 0);
    let (mut rest, mut most) = (&lines[..], BATCH_ITEMS);
    while !rest.is_empty() {
        let (part, behind) = rest.split_at(together(rest, most));
        let items: Vec<&str> = part.iter().map(|(_, line)| *line).collect();
        let (status, body) = server.ask(&format!("[{}]", items.join(",")))?;
        if status == StatusCode::PAYLOAD_TOO_LARGE && part.len() > 1 {
            // This server takes less at once. It has published none of it.
            most = part.len() / 2;
            continue;
        }
        rest = behind;
        if status != StatusCode::OK {
            print_refusal(options, &body)?;
            let after = if published + failed > 0 {
                format!(" after {published} were published")
            } else {
                String::new()
            };
            return Err(Failure::Fault(format!("{}{after}", refused(status, &body))));
        }
        let answer: Value = serde_json::from_str(&body).map_err(|_| nonsense(&server.admin))?;
        let results = answer["results"].as_array().ok_or_else(|| nonsense(&server.admin))?;
        for ((number, _), result) in part.iter().zip(results) {
            let good = result["status"] == 200;
            *(if good { &mut published } else { &mut failed }) += 1;
            if options.json {
                out::print(&format!("{result}\n"))?;
            } else if !good {
                let detail = result["detail"].as_str().unwrap_or("it was refused");
                out::print(&format!("line {number}: {detail}\n"))?;
            }
        }
    }
    if !options.json {
        out::print(&format!("published {published} of {}\n", published + failed))?;
    }
    match failed {
        0 => Ok(()),
        failed => Err(Failure::Fault(format!("{failed} of {} were not published", published + failed))),
    }
}

/// How many lines, of at most so many, go into one request.
fn together(lines: &[(usize, &str)], most: usize) -> usize {
    let mut bytes = 0;
    let fits = |(_, line): &&(usize, &str)| {
        bytes += line.len() + 1;
        bytes <= BATCH_BYTES
    };
    lines.iter().take(most).take_while(fits).count().max(1)
}

/// Prints what a server has against a request, for programs.
fn print_refusal(options: &PublishOptions, body: &str) -> Result<(), Failure> {
    let problem = serde_json::from_str::<Value>(body).ok().filter(|_| options.json);
    Ok(problem.map_or(Ok(()), |problem| out::print(&format!("{problem}\n")))?)
}

fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    let name = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    read.map_err(|error| Failure::Usage(format!("{name} can't be read: {error}")))
}

/// What became of it, for people.
fn told(channel: &str, answer: &Value) -> String {
    let count = |field: &str, one: &str| match answer[field].as_u64().unwrap_or(0) {
        1 => format!("1 {one}"),
        many => format!("{many} {one}s"),
    };
    let id = answer["id"].as_str().unwrap_or("?");
    if answer["duplicate"] == true {
        return format!("had been published on {channel}: id {id}");
    }
    let silent = match answer["late_shards"].as_u64() {
        None => String::new(),
        Some(silent) => format!("; {silent} did not say in time who hears it"),
    };
    format!(
        "published on {channel}: id {id}, {} on {}{silent}",
        count("subscribers", "subscriber"),
        count("shards", "shard"),
    )
}

/// Why the server did not do it.
fn refused(status: StatusCode, body: &str) -> String {
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    let detail = problem["detail"].as_str().unwrap_or("it says no more");
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if problem["reason"].is_null() => {
            format!(
                "the server refuses with {status}: {detail}; `voxhall token --role admin` makes a token for --token"
            )
        }
        _ => format!("the server refuses with {status}: {detail}"),
    }
}

fn nonsense(admin: &str) -> Failure {
    Failure::Fault(format!("{admin} answers what no voxhall server does; is it the management address?"))
}

/// A server's management API.
struct Server {
    agent: Agent,
    admin: String,
    token: Option<String>,
}

impl Server {
    fn new(options: &PublishOptions) -> Result<Self, Failure> {
        let admin = options.admin.trim_end_matches('/');
        if admin.starts_with("unix:") {
            let remedy = "give an http:// or https:// address";
            return Err(Failure::Usage(format!("--admin can't be a Unix-domain socket; {remedy}")));
        }
        let admin = if admin.contains("://") { admin.to_owned() } else { format!("http://{admin}") };
        let roots = match &options.ca {
            None => RootCerts::PlatformVerifier,
            Some(file) => RootCerts::new_with_certs(&certificates(file)?),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider).root_certs(roots).build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .user_agent(concat!("voxhall/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        let token = options.token.clone().or_else(|| std::env::var(TOKEN_VARIABLE).ok());
        Ok(Self { agent, admin, token: token.filter(|token| !token.is_empty()) })
    }

    fn ask(&self, body: &str) -> Result<(StatusCode, String), Failure> {
        let mut request = self.agent.post(format!("{}/api/v1/publish", self.admin));
        request = request.header("content-type", "application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut answer = request.send(body).map_err(|error| self.unreachable(error))?;
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        Ok((answer.status(), body.map_err(|error| self.unreachable(error))?))
    }

    fn unreachable(&self, error: ureq::Error) -> Failure {
        let admin = &self.admin;
        match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                Failure::Usage(format!("--admin {admin} is no address; write it like {ADMIN}"))
            }
            ureq::Error::Timeout(_) => Failure::Fault(format!(
                "the server at {admin} does not answer; it may have published all the same"
            )),
            error => Failure::Fault(format!(
                "no server can be reached at {admin}: {error}; see whether it runs, and where its ready line says admin"
            )),
        }
    }
}

fn certificates(file: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
    let wrong = |problem: String| Failure::Usage(format!("--ca {} {problem}", file.display()));
    let pem = std::fs::read(file).map_err(|error| wrong(format!("can't be read: {error}")))?;
    let parsed: Result<Vec<_>, _> = ureq::tls::parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(ureq::tls::PemItem::Certificate(certificate)) => Some(Ok(certificate)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
        .collect();
    let found = parsed.map_err(|error| wrong(format!("is no PEM file: {error}")))?;
    if found.is_empty() { Err(wrong("has no certificate".to_owned())) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_where_a_request_would_be_too_long() {
        let cut = |lines: &[(usize, &str)]| {
            let (mut rest, mut counts) = (lines, Vec::new());
            while !rest.is_empty() {
                counts.push(together(rest, BATCH_ITEMS));
                rest = &rest[counts[counts.len() - 1]..];
            }
            counts
        };
        assert_eq!(cut(&[]), [0; 0]);
        assert_eq!(cut(&vec![(1, "{}"); 1_001]), [500, 500, 1]);
        let long = "x".repeat(200_000);
        assert_eq!(cut(&[(1, &*long); 5]), [2, 2, 1]);
        let longest = "x".repeat(BATCH_BYTES + 1);
        assert_eq!(cut(&[(1, &longest), (2, "{}")]), [1, 1], "the server says what is wrong with it");
    }

    #[test]
    fn what_became_of_it_is_a_sentence() {
        let answer = json!({ "id": "e-1", "offset": 1, "duplicate": false, "shards": 1, "subscribers": 3 });
        assert_eq!(told("a:b", &answer), "published on a:b: id e-1, 3 subscribers on 1 shard");
        let answer = json!({ "id": "e-1", "shards": 2, "subscribers": 1, "late_shards": 1 });
        let late = "published on a:b: id e-1, 1 subscriber on 2 shards; 1 did not say in time who hears it";
        assert_eq!(told("a:b", &answer), late);
        let answer = json!({ "id": "e-1", "offset": 1, "duplicate": true, "shards": 0, "subscribers": 0 });
        assert_eq!(told("a:b", &answer), "had been published on a:b: id e-1");
    }
}
