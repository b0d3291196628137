//! Who serves a request.

use super::super::ids::SessionId;
use super::handshake::UpgradeKind;
use super::head::Request;
use super::query::decode;

/// Who serves a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// The shard that owns this room.
    Room(SessionId),
    /// `/v1/realtime`: the shard that owns this room, or whoever has the request when it names none.
    Realtime(Option<SessionId>),
    /// `/sse/{session_id}` with GET: the shard that owns this room.
    Sse(SessionId),
    /// The same with POST.
    SsePost(SessionId),
    /// The shard that has it: what `/sse/…` can do.
    SseOptions,
    /// The shard that has it: another method on `/sse/…`, which is refused.
    SseWrongMethod,
    /// The shard that has it: `/echo`.
    Echo,
    /// The shard that has it: `/events`.
    Feed {
        /// As server-sent events, and not over a WebSocket.
        as_stream: bool,
    },
    /// Nobody: what should be a session id can't be one, which is answered with 400.
    BadSessionId,
    /// The control plane: a plain request, or an upgrade of a path that shards don't know.
    ControlPlane,
}

/// Says who serves a request. A session id in a path may be percent-encoded, as builders of addresses do with `:` and `@`.
#[must_use]
pub fn classify(request: &Request<'_>, echo_endpoint: bool) -> Route {
    if let Some(id) = request.path.strip_prefix("/sse/") {
        // A stream of events is asked for without an upgrade; one that is asked for all the same is declined by silence.
        return match (SessionId::parse(&decode(id, false)), request.method) {
            (Err(_), _) => Route::BadSessionId,
            (Ok(session), "GET") => Route::Sse(session),
            (Ok(session), "POST") => Route::SsePost(session),
            (Ok(_), "OPTIONS") => Route::SseOptions,
            (Ok(_), _) => Route::SseWrongMethod,
        };
    }
    if request.upgrade() == UpgradeKind::None {
        let as_stream = request.path == "/events" && request.method == "GET" && takes_stream(request);
        return if as_stream { Route::Feed { as_stream } } else { Route::ControlPlane };
    }
    match request.path.strip_prefix("/ws/") {
        Some(id) => SessionId::parse(&decode(id, false)).map_or(Route::BadSessionId, Route::Room),
        None if request.path == "/v1/realtime" => {
            match request.query_pairs().find(|(name, _)| name == "session_id") {
                None => Route::Realtime(None),
                Some((_, id)) => {
                    SessionId::parse(&id).map_or(Route::BadSessionId, |id| Route::Realtime(Some(id)))
                }
            }
        }
        None if request.path == "/events" => Route::Feed { as_stream: false },
        None if echo_endpoint && request.path == "/echo" => Route::Echo,
        None => Route::ControlPlane,
    }
}

/// Whether a client asks for server-sent events by name.
fn takes_stream(request: &Request<'_>) -> bool {
    let named = |kind: &[u8]| {
        let kind = kind.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        kind.eq_ignore_ascii_case(b"text/event-stream")
    };
    request.header_values("accept").any(|value| value.split(|&byte| byte == b',').any(named))
}

#[cfg(test)]
mod tests {
    use super::super::head::{Parsed, parse};
    use super::*;

    fn route(target: &str, upgrade: bool, echo_endpoint: bool) -> Route {
        let upgrade = if upgrade { "Connection: Upgrade\r\nUpgrade: websocket\r\n" } else { "" };
        let head = format!("GET {target} HTTP/1.1\r\nHost: h\r\n{upgrade}\r\n");
        match parse(head.as_bytes(), 8_192) {
            Ok(Parsed::Complete(request)) => classify(&request, echo_endpoint),
            other => panic!("{other:?} for {target}"),
        }
    }

    #[test]
    fn upgrades_of_known_paths_are_the_shards_own() {
        let room = |id| Route::Room(SessionId::parse(id).expect("valid"));
        assert_eq!(route("/ws/a.B:1", true, false), room("a.B:1"));
        assert_eq!(route("/ws/a?token=x/y", true, false), room("a"));
        assert_eq!(route("http://h/ws/a", true, false), room("a"));
        assert_eq!(route("/ws/a%3A1%40b", true, false), room("a:1@b"));
        for none in ["/ws/a%20b", "/ws/a%2Fb", "/ws/a+b", "/ws/a%3", "/ws/%ff", "/ws/%"] {
            assert_eq!(route(none, true, false), Route::BadSessionId, "{none}");
        }
        assert_eq!(route("/echo", true, true), Route::Echo);
        assert_eq!(route("/echo?x", true, true), Route::Echo);
    }

    #[test]
    fn the_compatible_endpoint_names_its_room_in_the_query_or_not_at_all() {
        let room = |id| Route::Realtime(Some(SessionId::parse(id).expect("valid")));
        assert_eq!(route("/v1/realtime", true, false), Route::Realtime(None));
        assert_eq!(route("/v1/realtime?model=a/b", true, false), Route::Realtime(None));
        assert_eq!(route("/v1/realtime?model=m&session_id=a:1", true, false), room("a:1"));
        assert_eq!(route("/v1/realtime?session_id=a%3A1", true, false), room("a:1"));
        assert_eq!(route("/v1/realtime", false, false), Route::ControlPlane);
    }

    #[test]
    fn streams_of_events_are_the_shards_own_whatever_else_is_asked_for() {
        let by = |method: &str, id: &str| {
            let head = format!("{method} /sse/{id}?x HTTP/1.1\r\nHost: h\r\n\r\n");
            match parse(head.as_bytes(), 8_192) {
                Ok(Parsed::Complete(request)) => classify(&request, true),
                other => panic!("{other:?} for {head:?}"),
            }
        };
        let room = || SessionId::parse("a:1").expect("valid");
        assert_eq!(by("GET", "a:1"), Route::Sse(room()));
        assert_eq!(by("POST", "a%3a1"), Route::SsePost(room()));
        assert_eq!(route("/sse/a:1", true, false), Route::Sse(room()));
        assert_eq!(by("POST", "a:1"), Route::SsePost(room()));
        assert_eq!(by("OPTIONS", "a:1"), Route::SseOptions);
        for method in ["HEAD", "PUT", "DELETE", "get", "PRI"] {
            assert_eq!(by(method, "a:1"), Route::SseWrongMethod, "{method}");
        }
        for id in ["", "a/b", "a%20b"] {
            assert_eq!(by("GET", id), Route::BadSessionId, "{id}");
        }
    }

    #[test]
    fn the_feed_is_a_websocket_or_a_stream_as_it_is_asked_for() {
        assert_eq!(route("/events", true, false), Route::Feed { as_stream: false });
        assert_eq!(route("/events?types=a", true, false), Route::Feed { as_stream: false });
        let plain = |method: &str, accept: &str| {
            let head = format!("{method} /events HTTP/1.1\r\nHost: h\r\n{accept}\r\n");
            match parse(head.as_bytes(), 8_192) {
                Ok(Parsed::Complete(request)) => classify(&request, false),
                other => panic!("{other:?}"),
            }
        };
        for accept in
            ["Accept: text/event-stream\r\n", "accept: text/html, Text/Event-Stream;q=0.9\r\nAccept: a/b\r\n"]
        {
            assert_eq!(plain("GET", accept), Route::Feed { as_stream: true }, "{accept}");
            assert_eq!(plain("POST", accept), Route::ControlPlane);
        }
        for accept in ["", "Accept: */*\r\n", "Accept: application/json\r\n"] {
            assert_eq!(plain("GET", accept), Route::ControlPlane, "{accept}");
        }
    }

    #[test]
    fn a_bad_session_id_is_nobodys() {
        for target in [
            "/v1/realtime?session_id=",
            "/v1/realtime?session_id=a/b",
            "/ws/",
            "/ws/a/b",
            "/ws/a%20b",
            "/ws/a%",
            &format!("/ws/{}", "x".repeat(129)),
        ] {
            assert_eq!(route(target, true, true), Route::BadSessionId, "{target}");
        }
    }

    #[test]
    fn everything_else_is_the_control_planes() {
        for target in ["/", "/ws", "/wsx/a", "/echo", "/healthz", "*"] {
            assert_eq!(route(target, true, false), Route::ControlPlane, "{target}");
        }
        for target in ["/ws/a", "/ws/a%20b", "/ws/health", "/echo"] {
            assert_eq!(route(target, false, true), Route::ControlPlane, "{target}");
        }
    }
}
