//! The thread that keeps a store, over one that breaks when it is told to.

#![expect(clippy::disallowed_methods, reason = "a test that waits has a clock")]

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use shards::core::memory::Remember;

use super::form::tests::memory;
use super::*;

/// What the store holds, and how it behaves.
#[derive(Default)]
struct World {
    rooms: BTreeMap<String, Memory>,
    broken: bool,
    /// What it had is gone when it works again.
    forgetful: bool,
    ended: bool,
    /// The process before was killed.
    unclean: bool,
    /// Rooms that the next process may go on with as they are.
    sound: Vec<String>,
    attempts: u64,
    /// It opens and reads, and has no room for more.
    full: bool,
    /// What happens meanwhile, when something is written.
    meanwhile: Option<Box<dyn FnOnce() + Send>>,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<World>>);

impl Fake {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("nobody panics")
    }

    fn used(&self) -> Result<MutexGuard<'_, World>, Broken> {
        let mut world = self.world();
        world.attempts += 1;
        if world.broken { Err(Broken("no".to_owned())) } else { Ok(world) }
    }

    /// The numbers of the events that it has.
    fn has(&self, name: &str) -> Option<RangeInclusive<u64>> {
        self.world().rooms.get(name).map(|memory| memory.seq + 1 - memory.events.len() as u64..=memory.seq)
    }
}

impl Store for Fake {
    fn resume_key(&mut self) -> [u8; 32] {
        [1; 32]
    }

    fn leftovers(&mut self) -> Result<Vec<SessionId>, Broken> {
        Ok(self.used()?.rooms.keys().map(|name| session(name)).collect())
    }

    fn recall(&mut self, sessions: &[SessionId]) -> Result<Vec<Option<Found>>, Broken> {
        let world = self.used()?;
        let found = |session: &SessionId| {
            let memory = Box::new(world.rooms.get(session.as_str())?.clone());
            Some(Found::Room(Remembered { memory, whole: !world.unclean }))
        };
        Ok(sessions.iter().map(found).collect())
    }

    fn commit(&mut self, writes: &[Write<'_>]) -> Result<(), Broken> {
        let meanwhile = self.world().meanwhile.take();
        meanwhile.into_iter().for_each(|happens| happens());
        let mut world = self.used()?;
        if world.full {
            return Err(Broken("no room".to_owned()));
        }
        for write in writes {
            let name = write.session().to_string();
            let Write::Room { memory, appends } = write else {
                world.rooms.remove(&name);
                continue;
            };
            let before = world.rooms.remove(&name).filter(|_| *appends);
            let events = before.into_iter().flat_map(|before| before.events).chain(memory.events.clone());
            let events = events.collect();
            world.rooms.insert(name, Memory { events, ..(*memory).clone() });
        }
        Ok(())
    }

    fn check(&mut self, _living: &Living) -> Result<Vec<SessionId>, Broken> {
        self.used().map(|_| Vec::new())
    }

    fn mend(&mut self) -> Result<Mended, Broken> {
        let mut world = self.used()?;
        if world.forgetful {
            world.rooms.clear();
        }
        Ok(if world.forgetful { Mended::Empty } else { Mended::Whole })
    }

    fn end(&mut self, sound: &Living) -> Result<(), Broken> {
        let mut world = self.used()?;
        world.ended = true;
        world.sound = sound.keys().map(ToString::to_string).collect();
        world.sound.sort();
        Ok(())
    }
}

fn session(name: &str) -> SessionId {
    SessionId::parse(name).expect("valid")
}

/// A store with its thread.
struct Rig {
    fake: Fake,
    stores: Stores,
    voice: mpsc::UnboundedReceiver<Said>,
    runtime: tokio::runtime::Runtime,
}

impl Rig {
    fn start(fake: Fake, linger: Duration) -> Self {
        let config = StoreConfig {
            place: StorePlace::File(PathBuf::new()),
            commit: Duration::from_millis(1),
            lag: Duration::from_millis(1),
            recall: Duration::from_secs(20),
            linger,
            queue_bytes_max: 1 << 20,
        };
        let (said, voice) = mpsc::unbounded_channel();
        let clock = Clock::start();
        let desk = Arc::new(Desk::new(&config, said, move || clock.now()));
        let keeper = Keeper::new(Box::new(fake.clone()), Arc::clone(&desk), 1, linger, None);
        std::thread::spawn(move || keeper.run());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        Self { fake, stores: Stores(desk), voice, runtime: runtime.expect("a runtime") }
    }

    fn tell(&self, name: &str, numbers: RangeInclusive<u64>) {
        self.remember(Remember::Room(Box::new(memory(name, 1, numbers))));
    }

    fn remember(&self, told: Remember) {
        self.stores.remember(Remembers { since: self.stores.0.now(), all: vec![told] });
    }

    fn hear(&mut self) -> Said {
        let heard = self
            .runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(20), self.voice.recv()).await });
        heard.expect("in time").expect("the thread lives")
    }

    fn recall(&mut self, name: &str) -> Result<Option<Remembered>, StoreFailed> {
        self.stores.recall(Recall { shard: ShardId(0), session: session(name) });
        match self.hear() {
            Said::Recalled(_, recalled) => recalled.memory,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until it is so.
    fn until(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
            std::thread::yield_now();
        }
    }

    fn is_broken(&self) -> bool {
        self.stores.0.lock().is_broken()
    }

    fn end(&self) {
        self.runtime.block_on(self.stores.finish(tokio::time::Instant::now() + Duration::from_secs(20)));
    }
}

const LONG: Duration = Duration::from_secs(600);

#[test]
fn what_is_told_is_written_and_goes_on_where_it_was() {
    let mut rig = Rig::start(Fake::default(), LONG);
    rig.tell("a", 1..=3);
    rig.until("it is written", |rig| rig.fake.has("a") == Some(1..=3));
    rig.tell("a", 4..=5);
    rig.until("it is written", |rig| rig.fake.has("a") == Some(1..=5));
    let room = rig.recall("a").expect("it can say").expect("a room");
    assert!(!room.whole, "this process has told of it: more may be missing");
    assert_eq!(rig.recall("b"), Ok(None));
    rig.remember(Remember::Forget(session("a")));
    assert_eq!(rig.recall("a"), Ok(None), "what is asked comes behind what was told");
    rig.end();
    assert!(!rig.fake.world().ended, "the shard has not said that it was all");
}

#[test]
fn a_store_that_breaks_is_mended_and_told_what_it_lacks() {
    for forgetful in [false, true] {
        let mut rig = Rig::start(Fake::default(), LONG);
        for name in ["quiet", "busy", "over"] {
            rig.tell(name, 1..=3);
        }
        rig.until("they are written", |rig| rig.fake.world().rooms.len() == 3);
        rig.fake.world().forgetful = forgetful;
        rig.fake.world().broken = true;
        rig.tell("busy", 4..=5);
        rig.until("that is noticed", Rig::is_broken);
        assert_eq!(rig.recall("quiet"), Err(StoreFailed), "nobody waits for it");
        rig.tell("new", 1..=1);
        rig.remember(Remember::Forget(session("over")));
        rig.fake.world().broken = false;
        let mut lacking = if forgetful { vec!["busy", "new", "quiet"] } else { vec!["busy", "new"] };
        while !lacking.is_empty() {
            let Said::Again(session) = rig.hear() else { panic!("nothing was asked") };
            lacking.retain(|name| *name != session.as_str());
            let numbers = if session.as_str() == "new" { 1..=1 } else { 1..=6 };
            rig.tell(session.as_str(), numbers);
        }
        rig.until("it has all of it", |rig| {
            rig.fake.has("busy") == Some(1..=6) && rig.fake.has("new") == Some(1..=1)
        });
        assert_eq!(rig.fake.has("over"), None);
        let quiet = if forgetful { 1..=6 } else { 1..=3 };
        rig.until("quiet rooms are there", |rig| rig.fake.has("quiet") == Some(quiet.clone()));
        rig.remember(Remember::Complete(ShardId(0)));
        rig.end();
        assert!(rig.fake.world().ended, "everything was told");
    }
}

#[test]
fn a_store_that_opens_and_does_not_write_stays_broken_until_it_has_written_everything() {
    let mut rig = Rig::start(Fake::default(), LONG);
    let degraded = |rig: &Rig| !rig.stores.0.lock().is_well();
    rig.fake.world().full = true;
    rig.tell("a", 1..=3);
    rig.tell("b", 1..=3);
    rig.until("that is noticed", degraded);
    let tell_again = |rig: &mut Rig| {
        let Said::Again(session) = rig.hear() else { panic!("nothing was asked") };
        assert!(degraded(rig), "it has not written anything");
        rig.tell(session.as_str(), 1..=3);
    };
    for _ in 0..5 {
        tell_again(&mut rig);
    }
    rig.fake.world().full = false;
    while rig.fake.world().rooms.len() < 2 {
        tell_again(&mut rig);
        rig.until("it is written or asked for again", |rig| {
            let ledger = rig.stores.0.lock();
            ledger.waiting() == (0, 0) || ledger.behind() > 0
        });
    }
    rig.until("it is well", |rig| !degraded(rig));
}

#[test]
fn a_room_that_ends_while_something_is_written_does_not_come_back() {
    let mut rig = Rig::start(Fake::default(), LONG);
    rig.tell("a", 1..=3);
    rig.until("it is written", |rig| rig.fake.has("a").is_some());
    let stores = rig.stores.clone();
    rig.fake.world().meanwhile = Some(Box::new(move || {
        let since = stores.0.now();
        stores.remember(Remembers { since, all: vec![Remember::Forget(session("a"))] });
        stores.recall(Recall { shard: ShardId(0), session: session("a") });
    }));
    rig.tell("other", 1..=1);
    match rig.hear() {
        Said::Recalled(_, recalled) => assert_eq!(recalled.memory, Ok(None)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_store_that_lacks_something_is_not_ended_as_if_it_had_everything() {
    let rig = Rig::start(Fake::default(), LONG);
    rig.fake.world().broken = true;
    rig.tell("a", 1..=3);
    rig.until("that is noticed", Rig::is_broken);
    rig.remember(Remember::Complete(ShardId(0)));
    rig.end();
    assert!(!rig.fake.world().ended);
    assert!(rig.stores.0.is_gone());
}

#[test]
fn a_room_of_a_killed_process_is_whole_again_only_when_it_was_told() {
    let fake = Fake::default();
    fake.world().unclean = true;
    for name in ["asked", "told"] {
        fake.world().rooms.insert(name.to_owned(), memory(name, 1, 1..=3));
    }
    let mut rig = Rig::start(fake, LONG);
    for name in ["asked", "told"] {
        assert!(rig.recall(name).expect("it can say").is_some_and(|room| !room.whole));
    }
    rig.tell("told", 4..=4);
    rig.remember(Remember::Complete(ShardId(0)));
    rig.end();
    assert!(rig.fake.world().ended);
    assert_eq!(rig.fake.world().sound, ["told"]);
}

#[test]
fn rooms_of_an_earlier_process_go_when_nobody_comes_back_to_them() {
    let fake = Fake::default();
    for name in ["told", "asked", "forsaken"] {
        fake.world().rooms.insert(name.to_owned(), memory(name, 1, 1..=3));
    }
    // Nothing is dropped before these two are known: the thread has been told of both when the time is over.
    let mut rig = Rig::start(fake, Duration::from_secs(2));
    rig.tell("told", 1..=1);
    assert!(rig.recall("asked").expect("it can say").is_some_and(|room| room.whole));
    rig.until("it is written", |rig| rig.fake.has("told") == Some(1..=1));
    rig.until("it is dropped", |rig| rig.fake.has("forsaken").is_none());
    assert!(rig.fake.has("told").is_some() && rig.fake.has("asked").is_some());
}
