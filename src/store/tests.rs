//! Both stores against the real thing, and the thread that keeps them.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::form::tests::memory;
use super::testing as server;
use super::*;

/// A folder of a test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("voxhall-store-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("rooms.redb")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn session(name: &str) -> SessionId {
    SessionId::parse(name).expect("valid")
}

fn put(store: &mut dyn Store, name: &str, numbers: RangeInclusive<u64>, oldest: u64, appends: bool) {
    let memory = Memory { oldest, ..memory(name, 1, numbers) };
    store.commit(&[Write::Room { memory: &memory, appends }]).expect("written");
}

fn get(store: &mut dyn Store, name: &str) -> Option<Remembered> {
    match store.recall(&[session(name)]).expect("it can say").pop().expect("one answer")? {
        Found::Room(room) => Some(room),
        Found::Unreadable => panic!("readable"),
    }
}

/// The numbers of the events that it has.
fn numbers(store: &mut dyn Store, name: &str) -> Option<RangeInclusive<u64>> {
    let memory = get(store, name)?.memory;
    assert_eq!(memory.events.len() as u64, memory.seq + 1 - memory.oldest);
    Some(memory.oldest..=memory.seq)
}

/// What every store has to do.
fn keeps_rooms(store: &mut dyn Store) {
    assert_eq!(get(store, "a"), None);
    put(store, "a", 1..=3, 1, false);
    put(store, "a", 4..=6, 1, true);
    put(store, "a", 7..=9, 4, true);
    put(store, "a-b", 1..=1, 1, false);
    let whole = get(store, "a").expect("a room").memory;
    assert_eq!(*whole, memory("a", 1, 4..=9));
    put(store, "a", 20..=25, 20, false);
    assert_eq!(numbers(store, "a"), Some(20..=25), "what does not follow takes the place of what was there");
    let silent = Memory { oldest: 26, events: Vec::new(), ..memory("a", 1, 25..=25) };
    store.commit(&[Write::Room { memory: &silent, appends: true }]).expect("written");
    assert_eq!(get(store, "a").map(|room| *room.memory), Some(silent));
    let both = [session("a-b"), session("a")];
    let found = store.recall(&both).expect("it can say");
    let named = |found: &Option<Found>| match found {
        Some(Found::Room(room)) => room.memory.session.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(found.iter().map(named).collect::<Vec<_>>(), both);
    let gone = session("a");
    store.commit(&[Write::Forget(&gone)]).expect("written");
    assert_eq!(get(store, "a"), None);
    assert_eq!(numbers(store, "a-b"), Some(1..=1), "only the room of that name is gone");
}

#[test]
fn a_file_keeps_rooms() {
    let folder = Folder::new("keeps");
    keeps_rooms(&mut FileStore::open(&folder.file()).expect("a store"));
}

#[test]
fn a_file_that_is_opened_again_has_what_was_written_its_key_and_how_it_ended() {
    let folder = Folder::new("again");
    let mut store = FileStore::open(&folder.file()).expect("a store");
    let key = store.resume_key();
    put(&mut store, "a", 1..=3, 1, false);
    drop(store);
    for clean in [false, true, false] {
        let mut store = FileStore::open(&folder.file()).expect("a store");
        assert_eq!(store.resume_key(), key);
        assert_eq!(store.leftovers(), Ok(vec![session("a")]));
        assert_eq!(get(&mut store, "a").map(|room| room.whole), Some(clean));
        if !clean {
            store.end(&Living::from([(session("a"), None)])).expect("ended");
        }
    }
}

#[test]
fn a_room_of_a_process_that_was_killed_stays_one_however_the_next_ends() {
    let folder = Folder::new("unclean");
    let mut store = FileStore::open(&folder.file()).expect("a store");
    put(&mut store, "lost", 1..=3, 1, false);
    drop(store);
    let mut store = FileStore::open(&folder.file()).expect("a store");
    put(&mut store, "sound", 1..=3, 1, false);
    store.end(&Living::from([(session("sound"), None)])).expect("ended");
    drop(store);
    // The next time nobody asks for any of them; the time after that, the lost one has been told of.
    for (sound, whole) in
        [(Living::new(), false), (Living::from([(session("lost"), None)]), false), (Living::new(), true)]
    {
        let mut store = FileStore::open(&folder.file()).expect("a store");
        let is_whole = |store: &mut FileStore, name| get(store, name).map(|room| room.whole);
        assert_eq!((is_whole(&mut store, "lost"), is_whole(&mut store, "sound")), (Some(whole), Some(true)));
        store.end(&sound).expect("ended");
    }
}

#[test]
fn a_file_that_is_no_store_or_in_use_is_refused_with_a_remedy_and_left_as_it_is() {
    let folder = Folder::new("refused");
    let refusal = |path: &std::path::Path| FileStore::open(path).err().expect("refused");
    let foreign = folder.0.join("notes.txt");
    std::fs::write(&foreign, "buy milk\n".repeat(1_000)).expect("written");
    assert!(refusal(&foreign).contains("move the file away"), "{}", refusal(&foreign));
    assert_eq!(std::fs::read_to_string(&foreign).expect("text"), "buy milk\n".repeat(1_000));
    assert!(refusal(&folder.0.join("none/rooms")).contains("the folder has to be there"));
    let held = FileStore::open(&folder.file()).expect("a store");
    assert!(refusal(&folder.file()).contains("in use by another process"));
    drop(held);
    // Damage in the middle, where the trees are.
    let mut store = FileStore::open(&folder.file()).expect("a store");
    put(&mut store, "a", 1..=200, 1, false);
    drop(store);
    let mut bytes = std::fs::read(folder.file()).expect("bytes");
    for byte in &mut bytes[4_096..] {
        *byte ^= 0xa5;
    }
    std::fs::write(folder.file(), &bytes).expect("written");
    assert!(refusal(&folder.file()).contains("store.path"), "{}", refusal(&folder.file()));
}

#[test]
fn a_file_that_is_taken_away_is_missed_and_made_anew() {
    let folder = Folder::new("taken");
    let mut store = FileStore::open(&folder.file()).expect("a store");
    put(&mut store, "a", 1..=3, 1, false);
    let key = store.resume_key();
    std::fs::remove_dir_all(&folder.0).expect("removed");
    assert!(store.check(&Living::new()).is_err());
    let forget = session("a");
    assert!(
        store.commit(&[Write::Forget(&forget)]).is_err(),
        "nothing is written into a file without a name"
    );
    assert!(store.mend().is_err());
    std::fs::create_dir_all(&folder.0).expect("a folder");
    assert_eq!(store.mend(), Ok(Mended::Empty));
    assert_eq!((get(&mut store, "a"), store.resume_key()), (None, key));
    put(&mut store, "a", 1..=3, 1, false);
    assert_eq!(numbers(&mut store, "a"), Some(1..=3));
}

#[test]
fn redis_keeps_rooms() {
    let server = server::Redis::start("keeps");
    let mut store = server.store();
    assert!(store.commit(&[]).is_ok() && store.recall(&[session("a")]).is_err(), "it is not connected yet");
    assert_eq!(store.mend(), Ok(Mended::Empty));
    keeps_rooms(&mut store);
}

#[test]
fn what_one_server_leaves_in_redis_another_finds_for_a_time() {
    let server = server::Redis::start("leaves");
    let (mut one, mut two) = (server.store(), server.store());
    one.mend().expect("connected");
    two.mend().expect("connected");
    assert_eq!(one.resume_key(), two.resume_key());
    put(&mut one, "a", 1..=3, 1, false);
    put(&mut one, "b", 1..=3, 1, false);
    let living = Living::from([(session("a"), None)]);
    one.end(&living).expect("ended");
    for (name, whole) in [("a", true), ("a", false), ("b", false)] {
        assert_eq!(get(&mut two, name).map(|room| room.whole), Some(whole), "{name}");
    }
    let ttl = |key: &str| server.ask(&["PTTL", key]).parse::<u64>().expect("a time to live");
    assert!(ttl("t:room:a") <= 60_000 && ttl("t:events:a") <= 60_000);
}

#[test]
fn rooms_that_redis_has_lost_are_missed() {
    let server = server::Redis::start("lost");
    let mut store = server.store();
    store.mend().expect("connected");
    put(&mut store, "a", 1..=3, 1, false);
    let living = Living::from([(session("a"), Some((1, 3)))]);
    assert_eq!(store.check(&living), Ok(Vec::new()));
    server.ask(&["FLUSHALL"]);
    assert_eq!(store.check(&living), Ok(vec![session("a")]));
    assert_eq!(store.check(&living), Ok(Vec::new()), "it is told once");
    server.ask(&["DEL", "t:room:a"]);
    assert_eq!(store.touch(&living), Ok(vec![session("a")]));
}
