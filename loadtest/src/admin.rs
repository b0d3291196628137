//! Reads the server's own counters off `/metrics`, to lay beside the generator's.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// How long the server has for its answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The counters that are read, by the names on `/metrics`.
pub(crate) const CONNECTIONS: &str = "websocket_connections";
/// Messages dropped from outboxes.
pub(crate) const DROPPED: &str = "ws_outbox_dropped_messages_total";
/// Frames the server took in.
pub(crate) const FRAMES_RECEIVED: &str = "voxhall_frames_received_total";
/// Frames the server gave out.
pub(crate) const FRAMES_SENT: &str = "voxhall_frames_sent_total";

/// Values by metric name, summed over labels.
pub(crate) type Metrics = BTreeMap<String, f64>;

/// Fetches `/metrics` from an admin address (`http://host:port`).
pub(crate) fn fetch(admin: &str) -> Result<Metrics, String> {
    fetch_page(admin).map(|page| parse(&page))
}

/// Fetches one metric, summed over the rows that are wanted.
pub(crate) fn fetch_where(admin: &str, name: &str, wanted: impl Fn(&str) -> bool) -> Result<f64, String> {
    let page = fetch_page(admin)?;
    let rows: Vec<&str> = page.lines().filter(|row| wanted(row)).collect();
    Ok(parse(&rows.join("\n")).get(name).copied().unwrap_or(0.0))
}

fn fetch_page(admin: &str) -> Result<String, String> {
    let authority = authority(admin)?;
    let failed = |error: std::io::Error| format!("--admin {admin}: {error}");
    let mut stream = TcpStream::connect(authority).map_err(failed)?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(failed)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split_whitespace().nth(1) != Some("200") {
        let line = head.lines().next().unwrap_or("nothing");
        return Err(format!("--admin {admin}: /metrics answered {line:?}"));
    }
    Ok(body.to_owned())
}

/// The `host:port` of an `http://` address.
pub(crate) fn authority(admin: &str) -> Result<&str, String> {
    let rest = admin.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    rest.filter(|rest| rest.contains(':') && !rest.contains('/'))
        .ok_or_else(|| format!("--admin {admin}: expected http://HOST:PORT"))
}

/// Reads the Prometheus text format and sums each name over its labels.
fn parse(text: &str) -> Metrics {
    let mut metrics = Metrics::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = match line.split_once('{') {
            Some((name, rest)) => (name, rest.rsplit_once('}').map_or("", |(_, rest)| rest)),
            None => line.split_once(' ').unwrap_or((line, "")),
        };
        let value = rest.split_whitespace().next().and_then(|value| value.parse::<f64>().ok());
        if let Some(value) = value {
            *metrics.entry(name.to_owned()).or_default() += value;
        }
    }
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_the_sum_over_its_labels() {
        let text = "# HELP x y\n# TYPE websocket_connections gauge\nwebsocket_connections{shard=\"0\"} 4\n\
                    websocket_connections{shard=\"1\",odd=\"a } b\"} 6 1700000000\nplain 2.5\n# EOF\n";
        let metrics = parse(text);
        assert_eq!(metrics.get(CONNECTIONS), Some(&10.0));
        assert_eq!(metrics.get("plain"), Some(&2.5));
        assert_eq!(metrics.len(), 2);
    }

    #[test]
    fn an_admin_address_is_http_with_a_port() {
        assert_eq!(authority("http://127.0.0.1:9090/"), Ok("127.0.0.1:9090"));
        for wrong in ["127.0.0.1:9090", "https://127.0.0.1:9090", "http://127.0.0.1", "http://127.0.0.1:9/x"]
        {
            assert!(authority(wrong).is_err(), "{wrong}");
        }
    }
}
