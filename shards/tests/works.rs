//! What a shard hands to workers and takes from them, over the core as the pump drives it.

mod support;

use std::sync::Arc;

use shards::core::work::{Matter, RequestId, Work, WorkFailure, WorkNews, WorkOrder, Worked};
use shards::core::{
    Caller, ConnKey, Effect, Effects, Ended, Gather, Input, Micros, SendOutcome, Shard, ShardConfig, ShardId,
};

const KEY: ConnKey = ConnKey { index: 0, generation: 1 };
const ITEM: &str = r#"{"type":"conversation.item.create","item":{"type":"message","role":"user","content":[{"type":"input_text","text":"hi"}]}}"#;
const CREATE: &str = r#"{"type":"response.create"}"#;

struct Rig {
    shard: Shard,
    now: Micros,
    fx: Effects,
    /// Everything sent to the connection, as it would be on the wire.
    sent: Vec<u8>,
    /// What was to be carried to the control plane.
    works: Vec<Work>,
    /// Whether there is no room for it there.
    full: bool,
}

impl Rig {
    /// A member of a room with the engine `worker`.
    fn join() -> Self {
        let mut config = ShardConfig::default();
        config.worker.available = true;
        config.room.linger = Micros(0);
        let shard = Shard::new(ShardId(0), Arc::new(config), 1);
        let (fx, sent, works) = (Vec::new(), Vec::new(), Vec::new());
        let mut rig = Self { shard, now: Micros::from_s(1), fx, sent, works, full: false };
        let peer = Caller::At("127.0.0.1:1000".parse().expect("an address"));
        rig.handle(Input::Accepted { conn: KEY, peer });
        let mut head =
            "GET /ws/a?engine=worker HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                .as_bytes()
                .to_vec();
        rig.handle(Input::Received { conn: KEY, bytes: &mut head });
        rig.turn();
        assert!(rig.said("101 Switching"));
        rig
    }

    fn handle(&mut self, input: Input<'_>) {
        self.shard.handle(self.now, input, &mut self.fx);
    }

    fn text(&mut self, text: &str) {
        let mut frame = support::masked(1, text.as_bytes());
        self.handle(Input::Received { conn: KEY, bytes: &mut frame });
        self.turn();
    }

    fn turn(&mut self) {
        self.shard.end_turn(self.now, &mut self.fx);
        while !self.fx.is_empty() {
            for effect in std::mem::take(&mut self.fx) {
                match effect {
                    Effect::Send(conn) => self.send(conn),
                    Effect::Close(conn, _) => self.handle(Input::Closed { conn }),
                    Effect::Work(work) => self.carry(*work),
                    _ => {}
                }
            }
            self.shard.end_turn(self.now, &mut self.fx);
        }
    }

    fn send(&mut self, conn: ConnKey) {
        let mut gather = Gather::default();
        self.shard.gather(conn, &mut gather);
        let bytes: Vec<u8> = gather.slices().flatten().copied().collect();
        self.sent.extend_from_slice(&bytes);
        self.handle(Input::Sent { conn, outcome: SendOutcome::Sent(bytes.len()) });
    }

    /// As the pump does, which finds the control plane's queue full or not.
    fn carry(&mut self, work: Work) {
        if self.full
            && let WorkOrder::Ask(request) = &work.order
        {
            return self.worked(&work, request.id, WorkNews::Failed(WorkFailure::busy()));
        }
        self.works.push(work);
    }

    fn worked(&mut self, work: &Work, request: RequestId, news: WorkNews) {
        self.handle(Input::Worked(Box::new(Worked { room: work.room, request, news })));
    }

    /// Whether it was sent since the last question.
    fn said(&mut self, words: &str) -> bool {
        let sent = std::mem::take(&mut self.sent);
        sent.windows(words.len()).any(|window| window == words.as_bytes())
    }
}

#[test]
fn a_request_leaves_with_its_turn_and_its_answer_reaches_the_members() {
    let mut rig = Rig::join();
    rig.text(ITEM);
    assert!(rig.works.is_empty(), "nobody has asked for a response");
    rig.text(CREATE);
    let work = rig.works.pop().expect("it is asked");
    let WorkOrder::Ask(request) = &work.order else { panic!("{work:?}") };
    assert_eq!((&request.matter, work.session.as_str()), (&Matter::Text("hi".into()), "a"));
    rig.worked(&work, request.id, WorkNews::Audio { bytes: b"seven bytes and more".to_vec(), last: true });
    rig.turn();
    assert!(rig.said("seven bytes and more"));
    rig.worked(&work, request.id, WorkNews::Done);
    rig.turn();
    assert!(rig.said(r#""status":"completed""#));
}

#[test]
fn where_the_control_plane_takes_nothing_the_client_may_try_again() {
    let mut rig = Rig::join();
    rig.full = true;
    rig.text(ITEM);
    rig.text(CREATE);
    let sent = String::from_utf8_lossy(&std::mem::take(&mut rig.sent)).into_owned();
    assert!(sent.contains(r#""code":"worker_busy""#) && sent.contains(r#""retryable":true"#), "{sent}");
    assert!(sent.contains(r#""status":"failed""#), "{sent}");
    rig.full = false;
    rig.text(ITEM);
    rig.text(CREATE);
    assert_eq!(rig.works.len(), 1);
}

#[test]
fn a_room_that_ends_wants_nothing_more_and_hears_nothing_more() {
    let mut rig = Rig::join();
    rig.text(ITEM);
    rig.text(CREATE);
    let asked = rig.works.pop().expect("it is asked");
    rig.handle(Input::Ended { conn: KEY, how: Ended::Broken });
    rig.turn();
    let cancel = rig.works.pop().expect("it is called off");
    assert!(matches!(cancel.order, WorkOrder::Cancel(id) if id == asked.order.request()), "{cancel:?}");
    rig.worked(&asked, asked.order.request(), WorkNews::Done);
    rig.turn();
    assert!(rig.works.is_empty());
}
