//! A server that is killed again and again, at any moment.

use std::hash::{BuildHasher as _, RandomState};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::rig::{Client, Folder, Past, until};
use crate::window::{Ages, Word};

const ROOMS: usize = 4;

/// A member until its server was killed.
struct Life {
    past: Past,
    /// The last event it heard, and when it heard each.
    seq: u64,
    seen: Vec<(Instant, u64)>,
    /// What the server said before.
    word: Word,
    killed: Instant,
}

/// After each kill the store opens again, each room is whole up to some event, which is no older than the server has said, and
/// goes on. `VOXHALL_KILLS` says how often.
#[test]
fn no_kill_leaves_a_damaged_room() {
    let kills: u64 = std::env::var("VOXHALL_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(20);
    let folder = Folder::new("kills");
    let settings =
        ["store.lag_ms=50", "store.commit_ms=20", "server.shards=1", "room.history_events_max=512"];
    let mut pasts: Vec<Life> = Vec::new();
    let (mut recovered, mut events, mut ages) = (0, 0, Ages::default());
    for kill in 0..kills {
        let mut server = folder.serve(&settings);
        assert_eq!(server.metric("voxhall_store_degraded"), 0.0);
        let mut clients: Vec<(Client, Client)> = Vec::new();
        for room in 0..ROOMS {
            let name = format!("room-{room}");
            let reader = match pasts.get(room) {
                None => Client::join(&server, &name),
                Some(Life { past, seq, seen, word, killed }) => {
                    let (restored, mut reader) = Client::come_back_after(&server, past, *seq);
                    let last = restored["last_seq"].as_u64().expect("a number");
                    let saved = if restored["reason"] == "room_ended" { 0 } else { last };
                    ages.lost(word.judge(seen, saved, *killed));
                    if restored["recovered"] == true {
                        recovered += 1;
                        reader.seq = *seq;
                        // Only messages to this member: each is the number that it carries, and none is missing.
                        reader.hear_all(restored["missed"].as_u64().expect("a count"));
                    } else {
                        assert!(
                            matches!(restored["reason"].as_str(), Some("lost" | "room_ended")),
                            "{restored}"
                        );
                        assert!(saved < *seq, "{restored} after {seq}");
                        reader.seq = last;
                    }
                    reader
                }
            };
            clients.push((Client::join(&server, &name), reader));
        }
        let random = RandomState::new().hash_one(kill);
        let (begun, lives) = (Instant::now(), Duration::from_millis(random % 256));
        for number in 0.. {
            for (writer, reader) in &mut clients {
                let data = json!([kill, number]);
                writer.tell(&data);
                reader.hear(&data);
                events += 1;
            }
            if begun.elapsed() >= lives {
                break;
            }
        }
        // Now and then there is nothing to lose, and everybody has to be told all of it.
        if kill % 4 == 0 {
            until("everything is saved", || Word::of(&server).unsaved == Duration::ZERO);
        }
        let word = Word::of(&server);
        ages.said(&word);
        // Any moment: in the middle of a write, or of a lag.
        thread::sleep(Duration::from_micros(random >> 8 & 0x3fff));
        server.kill();
        let killed = Instant::now();
        let life = |(_, reader): (_, Client)| Life {
            past: reader.past,
            seq: reader.seq,
            seen: reader.seen,
            word,
            killed,
        };
        pasts = clients.into_iter().map(life).collect();
    }
    ages.show("killed again and again");
    ages.check();
    assert!(recovered > 0 && events > 0, "{recovered} of {events}");
}
