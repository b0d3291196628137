//! A server that is killed again and again, at any moment.

use std::hash::{BuildHasher as _, RandomState};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::rig::{Client, Folder, until};

const ROOMS: usize = 4;

/// After each kill the store opens again, each room is whole up to some event, and goes on. `VOXHALL_KILLS` says how often.
#[test]
fn no_kill_leaves_a_damaged_room() {
    let kills: u64 = std::env::var("VOXHALL_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(20);
    let folder = Folder::new("kills");
    let settings = ["store.lag_ms=10", "store.commit_ms=0", "server.shards=1", "room.history_events_max=64"];
    let mut pasts = Vec::new();
    let (mut recovered, mut events) = (0, 0);
    for kill in 0..kills {
        let mut server = folder.serve(&settings);
        assert_eq!(server.metric("voxhall_store_degraded"), 0.0);
        let mut clients: Vec<(Client, Client)> = Vec::new();
        for room in 0..ROOMS {
            let name = format!("room-{room}");
            let reader = match pasts.get(room) {
                None => Client::join(&server, &name),
                Some((past, seq)) => {
                    let (restored, mut reader) = Client::come_back_after(&server, past, *seq);
                    let saved = restored["last_seq"].as_u64().expect("a number");
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
                        assert!(saved < *seq || restored["reason"] == "room_ended", "{restored} after {seq}");
                        reader.seq = saved;
                    }
                    reader
                }
            };
            clients.push((Client::join(&server, &name), reader));
        }
        let random = RandomState::new().hash_one(kill);
        for number in 0..1 + random % 40 {
            for (writer, reader) in &mut clients {
                let data = json!([kill, number]);
                writer.tell(&data);
                reader.hear(&data);
                events += 1;
            }
        }
        if random % 4 == 0 {
            let written = server.metric("voxhall_store_commits_total");
            until("something is written", || server.metric("voxhall_store_commits_total") > written.min(1.0));
        }
        // Any moment: in the middle of a write, or of a lag.
        thread::sleep(Duration::from_micros(random >> 8 & 0x3fff));
        server.kill();
        pasts = clients.into_iter().map(|(_, reader)| (reader.past, reader.seq)).collect();
    }
    assert!(recovered > 0 && events > 0, "{recovered} of {events}");
}
