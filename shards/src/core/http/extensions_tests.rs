//! Every offer of permessage-deflate, and what is answered.

use super::head::{Parsed, parse};
use super::{HandshakeError, answer};

/// What is answered to these `Sec-WebSocket-Extensions`, each on a line of its own.
fn answer_to(lines: &[&str]) -> Result<Option<String>, HandshakeError> {
    let offers: String = lines.iter().map(|line| format!("Sec-WebSocket-Extensions: {line}\r\n")).collect();
    let head = format!(
        "GET /echo HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offers}\r\n"
    );
    let Ok(Parsed::Complete(request)) = parse(head.as_bytes(), 8_192) else { panic!("{head:?} is a head") };
    let handshake = request.websocket()?;
    let mut out = Vec::new();
    answer::switching_protocols(handshake.key, None, handshake.deflate, &mut out);
    let text = String::from_utf8(out).expect("ASCII");
    let found = text.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "));
    Ok(found.map(str::to_owned))
}

const AGREED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

#[track_caller]
fn assert_agreed(offer: &str, more: &str) {
    assert_eq!(answer_to(&[offer]), Ok(Some(format!("{AGREED}{more}"))), "{offer}");
}

#[track_caller]
fn assert_declined(offer: &str) {
    assert_eq!(answer_to(&[offer]), Ok(None), "{offer}");
}

#[test]
fn section_7_1_1_neither_side_keeps_a_context_whatever_is_offered() {
    for offer in [
        "permessage-deflate",
        "permessage-deflate; server_no_context_takeover",
        "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
        "permessage-deflate;client_no_context_takeover",
    ] {
        assert_agreed(offer, "");
    }
}

#[test]
fn section_7_1_2_1_the_window_that_a_client_asks_of_the_server_is_answered() {
    for bits in 9..=15 {
        let more = format!("; server_max_window_bits={bits}");
        assert_agreed(&format!("permessage-deflate{more}"), &more);
        assert_agreed(&format!("permessage-deflate; server_max_window_bits = \"{bits}\""), &more);
    }
}

#[test]
fn section_7_1_2_1_a_window_that_the_server_does_not_have_declines_the_offer() {
    assert_declined("permessage-deflate; server_max_window_bits=8");
}

#[test]
fn section_7_1_2_2_a_client_that_can_limit_its_window_need_not() {
    assert_agreed("permessage-deflate; client_max_window_bits", "");
    for bits in 8..=15 {
        assert_agreed(&format!("permessage-deflate; client_max_window_bits={bits}"), "");
    }
}

#[test]
fn section_7_1_an_offer_with_a_bad_parameter_is_declined() {
    for parameter in [
        "unknown",
        "server_no_context_takeover=1",
        "client_no_context_takeover=\"x\"",
        "server_max_window_bits",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=09",
        "server_max_window_bits=010",
        "server_max_window_bits=1",
        "server_max_window_bits=150",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=08",
        "client_max_window_bits=x",
        "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover; client_no_context_takeover",
        "client_max_window_bits; client_max_window_bits=10",
        "server_max_window_bits=10; server_max_window_bits=10",
        "Server_no_context_takeover",
    ] {
        assert_declined(&format!("permessage-deflate; {parameter}"));
    }
}

#[test]
fn section_5_1_the_first_offer_that_can_be_met_is_taken() {
    let bad = "permessage-deflate; server_max_window_bits=8";
    assert_agreed(
        &format!("{bad}, permessage-deflate; server_max_window_bits=10"),
        "; server_max_window_bits=10",
    );
    assert_agreed(
        "permessage-deflate; server_max_window_bits=12, permessage-deflate",
        "; server_max_window_bits=12",
    );
    assert_agreed("x-webkit-deflate-frame, permessage-bzip2; level=\"9\", permessage-deflate", "");
    assert_eq!(answer_to(&[bad, "permessage-deflate"]), Ok(Some(AGREED.to_owned())));
    for none in ["x-webkit-deflate-frame", "permessage-deflates", "PERMESSAGE-DEFLATE", ""] {
        assert_declined(none);
    }
    assert_eq!(answer_to(&[]), Ok(None));
}

#[test]
fn rfc_6455_section_9_1_what_is_no_list_of_extensions_fails_the_handshake() {
    for bad in [
        "permessage-deflate;",
        ";",
        "; permessage-deflate",
        "permessage-deflate; =1",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; server_max_window_bits=\"\"",
        "permessage-deflate; server_max_window_bits=\"10",
        "permessage-deflate; server_max_window_bits==10",
        "permessage-deflate; a b",
        "permessage deflate",
        "permessage-deflate, x; y=\"a b\"",
    ] {
        assert_eq!(answer_to(&[bad]), Err(HandshakeError::Extensions), "{bad}");
    }
}
