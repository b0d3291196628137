//! What clients say.

use super::plan::{Leave, weighted};
use super::wire::{self, Speech};
use super::{Reading, Stage, Target};
use crate::core::Micros;
use crate::sim::world::World;

impl World {
    /// Does the next thing of the plan.
    pub(super) fn client_act(&mut self, client: usize) {
        let now = self.now;
        let me = &mut self.clients[client];
        let Some(conn) = me.conn.as_mut() else { return };
        if conn.left == 0 || now >= self.scenario.play {
            return self.client_finish(client);
        }
        conn.left -= 1;
        let owed = conn.ledger.echoes && conn.ledger.outstanding() > 0;
        if owed && self.scenario.gentle && conn.plan.proper && now.since(conn.owed_since) > super::ECHO_MAX {
            let books = format!("{:?}: {:?}", conn.owed_since, conn.ledger);
            return self.fail(format!("client {client} waits for its echo since {books}"));
        }
        let (weights, pause_max) = (conn.plan.weights, conn.plan.pause_max.0);
        // A client whose bytes the network does not take does not pile up more.
        let action = if conn.out.len() > 20_000 { usize::MAX } else { weighted(&mut me.dice, &weights) };
        let breaks = me.dice.permille(self.scenario.faults.break_permille);
        let pause = Micros(me.dice.range(0, pause_max));
        match action {
            0 => self.client_speak(client, false),
            1 => self.client_speak(client, true),
            2 => self.client_event(client),
            3 => self.client_ping(client),
            4 => self.client_commit(client),
            5 => self.client_message(client),
            6 => (0..30).for_each(|_| self.client_speak(client, false)),
            7 => self.client_misbehave(client),
            _ => {}
        }
        if breaks {
            return self.client_end(client);
        }
        self.client_wake_in(client, pause);
    }

    /// The plan has come to its end: asks for what is outstanding, then leaves.
    fn client_finish(&mut self, client: usize) {
        let now = self.now;
        let Some(conn) = self.clients[client].conn.as_mut() else { return };
        let in_room = matches!(conn.plan.target, Target::Room(..));
        let stays = conn.plan.leave != Leave::Polite && now < self.scenario.play;
        if stays || !in_room || matches!(conn.plan.reading, Reading::Stopping(_)) {
            return self.client_leave(client);
        }
        conn.stage = Stage::Settling;
        conn.progress = now;
        self.client_commit(client);
        self.client_ping(client);
        self.client_wake_in(client, Micros::from_ms(100));
    }

    pub(super) fn client_frame(&mut self, client: usize, opcode: u8, payload: &[u8]) {
        let me = &mut self.clients[client];
        let key = (me.dice.number() as u32).to_le_bytes();
        if payload.len() > 1 && me.dice.permille(50) {
            return self.client_fragments(client, opcode, payload);
        }
        let bytes = wire::frame(0x80 | opcode, payload, key);
        self.client_send(client, &bytes);
    }

    /// One message in several frames, with a ping between them.
    fn client_fragments(&mut self, client: usize, opcode: u8, payload: &[u8]) {
        let dice = &mut self.clients[client].dice;
        let cut = dice.size(0, payload.len());
        let key = (dice.number() as u32).to_le_bytes();
        let mut bytes = wire::frame(opcode, &payload[..cut], key);
        bytes.extend(wire::frame(0x80 | wire::PING, b"between", key));
        bytes.extend(wire::frame(0, b"", key));
        bytes.extend(wire::frame(0x80, &payload[cut..], key));
        self.client_send(client, &bytes);
    }

    /// A frame of speech, binary or as an event.
    pub(super) fn client_speak(&mut self, client: usize, as_event: bool) {
        let now = self.now;
        let me = &mut self.clients[client];
        let number = me.number;
        let Some(conn) = me.conn.as_mut() else { return };
        let most = conn.plan.speech_bytes_max;
        let speech = Speech { client: client as u16, number, seq: conn.ledger.spoken };
        let payload = speech.bytes(if me.dice.permille(500) { most } else { me.dice.size(12, most) });
        if conn.ledger.outstanding() == 0 {
            conn.owed_since = now;
        }
        conn.ledger.spoken += 1;
        if as_event && matches!(conn.plan.target, Target::Room(..)) {
            let encoded = wire::base64(&payload);
            let text = format!("{{\"type\":\"input_audio_buffer.append\",\"audio\":\"{encoded}\"}}");
            return self.client_frame(client, wire::TEXT, text.as_bytes());
        }
        self.spoken += 1;
        self.client_frame(client, wire::BINARY, &payload);
    }

    pub(super) fn client_ping(&mut self, client: usize) {
        let Some(conn) = self.clients[client].conn.as_mut() else { return };
        let t = conn.ledger.pings;
        conn.ledger.pings += 1;
        let text = format!("{{\"type\":\"ping\",\"t\":{t}}}");
        self.client_frame(client, wire::TEXT, text.as_bytes());
    }

    fn client_commit(&mut self, client: usize) {
        let Some(conn) = self.clients[client].conn.as_mut() else { return };
        conn.ledger.commits += 1;
        self.client_frame(client, wire::TEXT, b"{\"type\":\"input_audio_buffer.commit\"}");
    }

    /// To everyone else in the room; with `voxhall.v1` now and then several at once.
    fn client_message(&mut self, client: usize) {
        let me = &mut self.clients[client];
        let Some(conn) = me.conn.as_mut() else { return };
        if !conn.arrival.done {
            // What it said before it knows which member it is, nobody could say again.
            return;
        }
        if me.dice.permille(80) {
            return self.client_repeats(client);
        }
        let times = if conn.plan.subprotocol == 2 { me.dice.range(1, 8) } else { 1 };
        let first = conn.messages + 1;
        conn.messages += times;
        let lines: Vec<String> = (first..first + times).map(|n| self.client_numbers(client, n)).collect();
        self.client_frame(client, wire::TEXT, lines.join("\n").as_bytes());
    }

    fn client_event(&mut self, client: usize) {
        let me = &mut self.clients[client];
        let Some(conn) = me.conn.as_mut() else { return };
        let mixed = matches!(conn.plan.target, Target::Room(_, "mixed"));
        let choice = me.dice.range(0, 17);
        if choice > 15 {
            return self.client_asks_for_words(client, choice == 16);
        }
        let text = match choice {
            0 => "{\"type\":\"input_audio_buffer.clear\"}",
            1 => "{\"type\":\"response.create\"}",
            2 => "{\"type\":\"response.cancel\"}",
            3 => "{\"type\":\"session.update\",\"session\":{\"turn_detection\":null}}",
            4 => "{\"type\":\"session.update\",\"state\":{\"page\":7,\"gone\":null}}",
            5 => "{\"type\":\"nonsense\",\"event_id\":\"e1\"}",
            6 => "{not json",
            7 => "[]",
            8 => "{\"type\":\"room.send\",\"data\":1,\"to\":1}",
            9 => {
                "{\"type\":\"conversation.item.create\",\"item\":{\"type\":\"message\",\"role\":\"user\",\
                  \"content\":[{\"type\":\"input_text\",\"text\":\"one two three\"}]}}"
            }
            10 => "{\"type\":\"session.update\",\"token\":\"x\"}",
            11 => "{\"type\":\"input_audio_buffer.append\",\"audio\":\"*\"}",
            12 if mixed => "{\"type\":\"session.update\",\"session\":{\"engine\":\"relay\"}}",
            13 if mixed => "{\"type\":\"session.update\",\"session\":{\"engine\":\"echo\"}}",
            14 if mixed => "{\"type\":\"session.update\",\"session\":{\"engine\":\"parrot\"}}",
            _ => "{\"type\":\"ping\",\"t\":[1]}",
        };
        self.client_frame(client, wire::TEXT, text.as_bytes());
    }

    /// A text, or the wish to hear it in words alone: those all come at once.
    fn client_asks_for_words(&mut self, client: usize, text: bool) {
        let words = self.clients[client].dice.size(5, 60);
        let event = if text {
            let text = "word ".repeat(words);
            format!(
                "{{\"type\":\"conversation.item.create\",\"item\":{{\"type\":\"message\",\"role\":\"user\",\
                 \"content\":[{{\"type\":\"input_text\",\"text\":\"{text}\"}}]}}}}"
            )
        } else {
            "{\"type\":\"response.create\",\"response\":{\"output_modalities\":[\"text\"]}}".to_owned()
        };
        self.client_frame(client, wire::TEXT, event.as_bytes());
    }

    /// Breaks the protocol.
    fn client_misbehave(&mut self, client: usize) {
        let key = [1, 2, 3, 4];
        if let Some(words) = self.clients[client].dice.words() {
            // As they are, or as an event.
            self.babbled = true;
            let bytes = if words.first() == Some(&b'{') { wire::frame(0x81, &words, key) } else { words };
            return self.client_send(client, &bytes);
        }
        let bytes = match self.clients[client].dice.range(0, 11) {
            0 => b"\x82\x03abc".to_vec(),
            1 => wire::frame(0xc1, b"{}", key),
            2 => wire::frame(0x83, b"reserved", key),
            3 => wire::frame(0x81, b"\xff\xfe", key),
            4 => wire::frame(0x09, b"in pieces", key),
            5 => wire::frame(0x80, b"continues nothing", key),
            6 => wire::frame(0x88, &[3, 0xed], key),
            7 => wire::frame(0x88, &[3], key),
            8 => b"\x82\xfe\x00\x01\0\0\0\0x".to_vec(),
            9 => b"\x82\xff\x7f\0\0\0\0\0\0\0\0\0\0\0".to_vec(),
            10 => wire::frame(0x8a, &[7; 126], key),
            _ => wire::frame(0x88, b"\x03\xe8\xff", key),
        };
        self.client_send(client, &bytes);
    }
}
