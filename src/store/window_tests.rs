//! How much a crash can lose, in a world where time is a number and nobody is late: shards that tell when the lag is over, the
//! store's thread without a thread, and a store that takes its time, fails, and has too little room.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use shards::core::memory::Remember;

use super::form::tests::memory;
use super::*;

const LAG: Micros = Micros::from_ms(500);
const COMMIT: Micros = Micros::from_ms(100);
const ROOMS: u64 = 12;
const END: Micros = Micros::from_s(60);

/// A room on its shard.
#[derive(Default)]
struct Room {
    /// When each event was made.
    made: Vec<Micros>,
    told: u64,
    /// When the first was made that was not told, since which the lag runs.
    changed: Option<Micros>,
}

/// Everything but the store's thread.
struct World {
    now: Arc<AtomicU64>,
    stores: Stores,
    voice: mpsc::UnboundedReceiver<Said>,
    random: u64,
    next_event: Micros,
    rooms: BTreeMap<String, Room>,
    /// What the store has of each room: to the event of this number.
    saved: BTreeMap<String, u64>,
    /// How long a write takes.
    write: Micros,
    /// Whether it fails now and then.
    fails: bool,
    /// The oldest that a change got without being saved.
    oldest: Micros,
    /// The oldest that the store has said.
    said: Micros,
}

impl World {
    fn now(&self) -> Micros {
        Micros(self.now.load(Ordering::Relaxed))
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    /// When the next thing happens on a shard.
    fn next(&self) -> Micros {
        let told = self.rooms.values().filter_map(|room| room.changed).map(|changed| changed + LAG);
        told.min().map_or(self.next_event, |told| told.min(self.next_event))
    }

    fn run_until(&mut self, end: Micros) {
        while self.next() <= end {
            self.now.store(self.next().0, Ordering::Relaxed);
            self.look();
            self.happen();
            self.look();
        }
        self.now.store(end.0, Ordering::Relaxed);
        self.look();
    }

    fn happen(&mut self) {
        let now = self.now();
        if self.next_event <= now {
            self.next_event = now + Micros(1 + self.random(80_000));
            let name = format!("r{}", self.random(ROOMS));
            let room = self.rooms.entry(name).or_default();
            room.made.push(now);
            room.changed.get_or_insert(now);
        }
        while let Ok(said) = self.voice.try_recv() {
            let Said::Again(session) = said else { panic!("nothing was asked") };
            let room = self.rooms.get_mut(session.as_str()).expect("a room");
            (room.told, room.changed) = (0, room.changed.or(Some(now)));
        }
        for (name, room) in &mut self.rooms {
            let Some(since) = room.changed.filter(|&changed| changed + LAG <= now) else { continue };
            let told = std::mem::replace(&mut room.told, room.made.len() as u64);
            room.changed = None;
            let memory = Memory { oldest: 1, ..memory(name, 1, told + 1..=room.told) };
            self.stores.remember(Remembers { since, all: vec![Remember::Room(Box::new(memory))] });
        }
    }

    /// Whether what the store says of itself holds.
    fn look(&mut self) {
        let now = self.now();
        let unsaved = |(name, room): (&String, &Room)| {
            let saved = self.saved.get(name).copied().unwrap_or(0);
            room.made.get(saved as usize).copied()
        };
        let oldest = self.rooms.iter().filter_map(unsaved).min();
        let age = oldest.map_or(Micros(0), |oldest| now.since(oldest));
        let untold = self.rooms.values().filter_map(|room| room.changed).min();
        let said = self.stores.report([Some(untold)].into_iter()).unsaved.expect("every shard has said it");
        let said = Micros((said * 1e6).round() as u64);
        assert!(said >= age, "at {now:?} it says {said:?}, and a crash would lose {age:?}");
        (self.oldest, self.said) = (self.oldest.max(age), self.said.max(said));
    }
}

/// The store's side of it.
struct Slow(Arc<Mutex<World>>);

impl Slow {
    fn may_fail(&self) -> Result<(), Broken> {
        let mut world = self.0.lock().expect("nobody panics");
        let fails = world.fails && world.random(3) == 0;
        if fails { Err(Broken("no".to_owned())) } else { Ok(()) }
    }
}

impl Store for Slow {
    fn resume_key(&mut self) -> [u8; 32] {
        [1; 32]
    }

    fn leftovers(&mut self) -> Result<Vec<SessionId>, Broken> {
        Ok(Vec::new())
    }

    fn recall(&mut self, sessions: &[SessionId]) -> Result<Vec<Option<Found>>, Broken> {
        Ok(sessions.iter().map(|_| None).collect())
    }

    fn commit(&mut self, writes: &[Write<'_>]) -> Result<(), Broken> {
        {
            let mut world = self.0.lock().expect("nobody panics");
            let end = world.now() + world.write;
            world.run_until(end);
        }
        self.may_fail()?;
        let mut world = self.0.lock().expect("nobody panics");
        for write in writes {
            let Write::Room { memory, appends } = write else { panic!("no room ends here") };
            let name = memory.session.to_string();
            let before = world.saved.insert(name, memory.seq).unwrap_or(0);
            let first = memory.seq + 1 - memory.events.len() as u64;
            assert_eq!(first, if *appends { before + 1 } else { 1 }, "nothing is taken from what it has");
        }
        Ok(())
    }

    fn check(&mut self, _living: &Living) -> Result<Vec<SessionId>, Broken> {
        self.may_fail().map(|()| Vec::new())
    }

    fn mend(&mut self) -> Result<Mended, Broken> {
        self.may_fail().map(|()| Mended::Whole)
    }

    fn end(&mut self, _living: &Living) -> Result<(), Broken> {
        Ok(())
    }
}

/// Runs the world for a minute: the oldest that a change got without being saved, what the store said of that at most, and how
/// large it says that its window is.
fn run(seed: u64, write: Micros, fails: bool, queue_bytes_max: usize) -> (Micros, Micros, Micros) {
    let config = StoreConfig {
        place: StorePlace::File(PathBuf::new()),
        commit: Duration::from_micros(COMMIT.0),
        lag: Duration::from_micros(LAG.0),
        recall: Duration::from_secs(600),
        linger: Duration::from_secs(600),
        queue_bytes_max,
    };
    let now = Arc::new(AtomicU64::new(1));
    let (said, voice) = mpsc::unbounded_channel();
    let clock = Arc::clone(&now);
    let desk = Arc::new(Desk::new(&config, said, move || Micros(clock.load(Ordering::Relaxed))));
    let world = Arc::new(Mutex::new(World {
        now,
        stores: Stores(Arc::clone(&desk)),
        voice,
        random: seed,
        next_event: Micros::from_ms(1),
        rooms: BTreeMap::new(),
        saved: BTreeMap::new(),
        write,
        fails,
        oldest: Micros(0),
        said: Micros(0),
    }));
    let mut keeper =
        Keeper::new(Box::new(Slow(Arc::clone(&world))), Arc::clone(&desk), 1, config.linger, None);
    while desk.now() < END {
        let next = keeper.next(&desk.lock(), desk.now());
        if next <= desk.now() {
            keeper.turn();
            continue;
        }
        let mut world = world.lock().expect("nobody panics");
        let until = next.min(world.next());
        world.run_until(until);
    }
    let window = desk.counts.report(false, Micros(0), (0, 0), 0, None).gauges[1];
    let world = world.lock().expect("nobody panics");
    (world.oldest, world.said, Micros((window * 1e6).round() as u64))
}

/// The lag, the commit interval and the write; where a write takes longer than the interval, the one before takes its place.
#[test]
fn nothing_is_unsaved_for_longer_than_the_window_however_slow_the_disk_is() {
    for (write_ms, window_ms) in [(0, 600), (20, 620), (100, 700), (400, 1_300), (2_000, 4_500)] {
        for seed in 1..=8 {
            let (oldest, said, window) = run(seed, Micros::from_ms(write_ms), false, 1 << 30);
            assert_eq!(window, Micros::from_ms(window_ms), "what is stated");
            assert!(oldest <= window && said <= window, "{oldest:?} and {said:?} with {write_ms} ms a write");
            assert!(
                oldest.0 * 20 > window.0 * 19,
                "it is no larger than it has to be: {oldest:?} of {window:?}"
            );
        }
    }
}

#[test]
fn the_store_never_says_less_than_a_crash_would_lose_whatever_fails() {
    for seed in 1..=40 {
        let slow = Micros::from_ms([5, 300, 2_000][seed as usize % 3]);
        let room = [1 << 30, 3_000][seed as usize % 2];
        let (oldest, said, _) = run(seed, slow, seed % 5 > 0, room);
        assert!(said >= oldest && oldest > LAG);
    }
}
