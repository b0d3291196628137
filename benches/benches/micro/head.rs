//! The request head of an upgrade, as a browser sends it: read, given to who serves it, checked as an opening
//! handshake, and answered with 101. The answer's key takes a SHA-1, as RFC 6455 section 4.2.2 has it.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use shards::core::http::{Parsed, Request, Route, answer, classify, parse};

const HEAD_BYTES_MAX: usize = 8_192;

const BROWSER: &[u8] = b"GET /ws/550e8400-e29b-41d4-a716-446655440000?engine=echo&rate=24000 HTTP/1.1\r\n\
    Host: voice.example.com\r\n\
    Connection: Upgrade\r\n\
    Pragma: no-cache\r\n\
    Cache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    Upgrade: websocket\r\n\
    Origin: https://voice.example.com\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Cookie: session=8c6e0c2f4b7a4d0e9a3f5b1c7d2e6f80; theme=dark; consent=1.0.1\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
    Sec-WebSocket-Protocol: voxhall.v1, voxhall.v1.plain\r\n\r\n";

fn request(head: &[u8]) -> Request<'_> {
    match parse(head, HEAD_BYTES_MAX) {
        Ok(Parsed::Complete(request)) => request,
        other => panic!("the head is complete, not {other:?}"),
    }
}

/// Reading alone.
#[divan::bench]
fn read(bencher: Bencher) {
    bencher.counter(BytesCount::new(BROWSER.len())).bench_local(|| request(black_box(BROWSER)).len);
}

/// Everything, up to the answer.
#[divan::bench]
fn read_to_answer(bencher: Bencher) {
    let mut out = Vec::with_capacity(512);
    bencher.counter(BytesCount::new(BROWSER.len())).bench_local(|| {
        let request = request(black_box(BROWSER));
        let Route::Room(room) = classify(&request, false) else { panic!("it asks for a room") };
        let handshake = request.websocket().expect("a valid handshake");
        out.clear();
        answer::switching_protocols(handshake.key, handshake.subprotocols.first().copied(), None, &mut out);
        black_box(out.len());
        room
    });
}
