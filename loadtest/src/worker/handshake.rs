//! The opening handshake, client side: one prepared request per worker and a strict look at the answer.

use tungstenite::handshake::derive_accept_key;

use crate::plan::{Plan, Transport};
use crate::worker::conn::Resume;

/// Every connection asks with the same key, so that the answer is checked by comparing it. The server has to
/// compute it each time all the same.
const KEY: &str = "dm94aGFsbC1sb2FkdGVzdA==";

/// A response head beyond this is refused.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Builds requests and judges answers.
pub(super) struct Handshake {
    before_room: String,
    query: String,
    after_query: String,
    accept: String,
    subprotocol: Option<&'static str>,
    transport: Transport,
}

/// What an answer says so far.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// Upgraded; the head took this many bytes.
    Upgraded(usize),
    /// Not complete.
    More,
    /// Refused, or not an answer to what was asked.
    Failed(String),
}

impl Handshake {
    /// For all connections of a plan.
    pub(super) fn new(plan: &Plan) -> Self {
        let subprotocol = plan.subprotocol.offered();
        let offer = subprotocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
        let (path, upgrade) = match plan.transport {
            Transport::Sse => ("sse", "Accept: text/event-stream\r\n".to_owned()),
            Transport::WebSocket => (
                "ws",
                format!(
                    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: {KEY}\r\n{offer}"
                ),
            ),
        };
        Self {
            before_room: format!("GET /{path}/{}", plan.prefix),
            query: match plan.audio_rate {
                Some(rate) => format!("?engine={}&rate={rate}", plan.engine),
                None => format!("?engine={}", plan.engine),
            },
            after_query: format!(" HTTP/1.1\r\nHost: {}\r\n{upgrade}\r\n", plan.host),
            accept: derive_accept_key(KEY.as_bytes()),
            subprotocol,
            transport: plan.transport,
        }
    }

    /// The request for a room.
    pub(super) fn request(&self, room: u32, resume: Option<&Resume>) -> String {
        let Self { before_room, query, after_query, .. } = self;
        match resume {
            Some(Resume { token, after }) => {
                format!("{before_room}{room}{query}&resume={token}&after={after}{after_query}")
            }
            None => format!("{before_room}{room}{query}{after_query}"),
        }
    }

    /// Looks at the bytes received so far.
    pub(super) fn answer(&self, bytes: &[u8]) -> Answer {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let head_bytes = match response.parse(bytes) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Answer::More,
            Ok(httparse::Status::Partial) | Err(_) => return Answer::Failed("handshake_malformed".into()),
        };
        let header = |name: &str| {
            let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(found.value).ok()
        };
        if self.transport == Transport::Sse && response.code == Some(200) {
            let is =
                |name: &str, value: &str| header(name).is_some_and(|found| found.eq_ignore_ascii_case(value));
            let streams = is("content-type", "text/event-stream") && is("transfer-encoding", "chunked");
            return if streams {
                Answer::Upgraded(head_bytes)
            } else {
                Answer::Failed("handshake_no_stream".into())
            };
        }
        match response.code {
            Some(101) if self.transport == Transport::WebSocket => {}
            code => return Answer::Failed(format!("handshake_{}", code.unwrap_or(0))),
        }
        if header("sec-websocket-accept") != Some(&self.accept) {
            return Answer::Failed("handshake_accept_key".into());
        }
        if header("sec-websocket-protocol") != self.subprotocol {
            return Answer::Failed("handshake_subprotocol".into());
        }
        Answer::Upgraded(head_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;
    use crate::plan::{Scenario, Subprotocol};

    fn v1() -> Handshake {
        Handshake::new(&Plan { subprotocol: Subprotocol::V1, ..plan(Scenario::Echo, 1) })
    }

    #[test]
    fn a_room_is_asked_for_by_number_and_a_session_by_its_token() {
        let handshake = v1();
        assert!(handshake.request(7, None).starts_with("GET /ws/load-7?engine=echo HTTP/1.1\r\n"));
        assert!(handshake.request(7, None).contains("Sec-WebSocket-Protocol: voxhall.v1\r\n"));
        let resume = Resume { token: "t".into(), after: 3 };
        assert!(handshake.request(7, Some(&resume)).contains("&resume=t&after=3 HTTP/1.1"));
    }

    #[test]
    fn a_stream_is_asked_for_without_an_upgrade() {
        let handshake = Handshake::new(&Plan { transport: Transport::Sse, ..plan(Scenario::Idle, 1) });
        let request = handshake.request(7, None);
        assert!(
            request.starts_with("GET /sse/load-7?engine=echo HTTP/1.1\r\n") && !request.contains("Upgrade")
        );
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(handshake.answer(format!("{head}5").as_bytes()), Answer::Upgraded(head.len()));
        let failed = |from: &str, to: &str| handshake.answer(head.replace(from, to).as_bytes());
        assert_eq!(failed("event-stream", "html"), Answer::Failed("handshake_no_stream".into()));
        assert_eq!(failed("200", "101"), Answer::Failed("handshake_101".into()));
    }

    #[test]
    fn only_a_whole_and_right_answer_upgrades() {
        let handshake = v1();
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: voxhall.v1\r\n\r\n",
            handshake.accept
        );
        for cut in 0..head.len() {
            assert_eq!(handshake.answer(&head.as_bytes()[..cut]), Answer::More, "cut at {cut}");
        }
        assert_eq!(handshake.answer(format!("{head}frames").as_bytes()), Answer::Upgraded(head.len()));
        let failed = |from: &str, to: &str| handshake.answer(head.replace(from, to).as_bytes());
        assert_eq!(failed("101", "503"), Answer::Failed("handshake_503".into()));
        assert_eq!(failed(&handshake.accept, "x"), Answer::Failed("handshake_accept_key".into()));
        assert_eq!(failed("voxhall.v1", "other"), Answer::Failed("handshake_subprotocol".into()));
        assert_eq!(failed("HTTP/1.1", "SMTP"), Answer::Failed("handshake_malformed".into()));
    }
}
