//! Who owns a session: the same answer on every shard, every node and in every release, so that a connection
//! moves at most once and a load balancer may compute it too.
//!
//! xxh3-64 with seed 0 over the bytes of the session id, then jump consistent hash (Lamping and Veach, "A Fast,
//! Minimal Memory, Consistent Hash Algorithm"): even, and when a shard is added only the sessions that it takes
//! move. Pure functions.

use xxhash_rust::xxh3::xxh3_64;

use super::ids::ShardId;

/// The shard that owns the session, of `shards`, which is at least one.
#[must_use]
pub fn owner(session_id: &str, shards: u16) -> ShardId {
    debug_assert!(shards > 0, "a node has at least one shard");
    ShardId(jump(hash(session_id), shards))
}

/// The session's place on the hash.
#[must_use]
pub fn hash(session_id: &str) -> u64 {
    xxh3_64(session_id.as_bytes())
}

/// Jump consistent hash, as published.
fn jump(mut key: u64, buckets: u16) -> u16 {
    let (mut bucket, mut next) = (0, 0);
    while next < i64::from(buckets) {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let draw = (1_u64 << 31) as f64 / ((key >> 33) + 1) as f64;
        next = ((bucket + 1) as f64 * draw) as i64;
    }
    bucket as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session id as a client might make it.
    fn id(number: usize) -> String {
        format!("room-{number}")
    }

    #[test]
    fn the_hash_is_xxh3_64_with_seed_0() {
        // From the algorithm's own specification and test suites.
        assert_eq!(hash(""), 0x2d06_8005_38d3_94c2);
        assert_eq!(hash("a"), 0xe6c6_32b6_1e96_4e1f);
        assert_eq!(hash("abc"), 0x78af_5f94_892f_3950);
    }

    #[test]
    fn the_jump_is_the_published_one() {
        // Vectors that implementations in other languages share.
        for (key, buckets, bucket) in
            [(1, 1, 0), (42, 57, 43), (0xdead_10cc, 1, 0), (0xdead_10cc, 666, 361), (256, 1024, 520)]
        {
            assert_eq!(jump(key, buckets), bucket, "{key} of {buckets}");
        }
    }

    #[test]
    fn no_release_moves_a_session() {
        // Computed with other implementations of both algorithms.
        let known: [(&str, u64, [u16; 6]); 8] = [
            ("a", 0xe6c6_32b6_1e96_4e1f, [0, 1, 1, 1, 14, 350]),
            ("0", 0x1982_e3a7_bb24_1055, [0, 1, 1, 5, 55, 278]),
            ("room-1", 0xcc6a_a4e1_a236_8e07, [0, 0, 0, 0, 28, 158]),
            ("room-19000", 0xb488_17ef_3e22_2c82, [0, 1, 1, 1, 51, 79]),
            ("demo", 0x07f7_2fb3_af45_6330, [0, 0, 0, 0, 59, 404]),
            ("alice@example.com", 0x76eb_8955_12bf_35ff, [0, 0, 0, 4, 4, 951]),
            ("550e8400-e29b-41d4-a716-446655440000", 0x05da_c8bd_cc9c_8ac3, [0, 0, 0, 4, 43, 767]),
            (&"x".repeat(128), 0x4ca3_7e83_f6cd_dd17, [0, 0, 2, 3, 19, 233]),
        ];
        for (id, place, owners) in known {
            assert_eq!(hash(id), place, "{id}");
            let now = [1, 2, 3, 7, 64, 1_024].map(|shards| owner(id, shards).0);
            assert_eq!(now, owners, "{id}");
        }
    }

    #[test]
    fn rooms_spread_evenly() {
        for (shards, rooms, slack) in [(2_u16, 19_000, 0.05), (7, 70_000, 0.05), (64, 64_000, 0.15)] {
            let mut counts = vec![0_usize; shards.into()];
            (0..rooms).for_each(|room| counts[owner(&id(room), shards).index()] += 1);
            let even = rooms as f64 / f64::from(shards);
            for (shard, &count) in counts.iter().enumerate() {
                let off = (count as f64 / even - 1.0).abs();
                assert!(off < slack, "shard {shard} of {shards} has {count} rooms of {rooms}");
            }
        }
    }

    #[test]
    fn a_new_shard_takes_its_share_and_nothing_else_moves() {
        let rooms = 20_000;
        for shards in 1..12_u16 {
            let mut moved = 0;
            for room in (0..rooms).map(id) {
                let (before, after) = (owner(&room, shards), owner(&room, shards + 1));
                if before != after {
                    assert_eq!(after, ShardId(shards), "{room} moved between old shards");
                    moved += 1;
                }
            }
            let share = f64::from(rooms as u32) / f64::from(shards + 1);
            assert!((f64::from(moved) / share - 1.0).abs() < 0.1, "{moved} moved at {shards} shards");
        }
    }
}
