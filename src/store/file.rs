//! Rooms in a file of redb's: one table with what changes, one with events in the portions in which they were written, one
//! for the store itself.
//!
//! A write is one transaction, which is durable when it returns and as a whole or not at all, whatever becomes of the process
//! or the host. When the disk fails redb refuses further writes until it is opened anew, which is what mending does.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{
    Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, StorageError, Table, TableDefinition,
    WriteTransaction,
};
use shards::core::SessionId;
use shards::core::memory::Remembered;

use super::form;
use super::{Broken, Found, Living, Mended, Store, Write};

const OWN: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("own");
const ROOMS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rooms");
/// By room, and the number of the portion's last event.
const EVENTS: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("events");

/// What the file holds, so that a later release knows what it has before it.
const FORMAT: &[u8] = b"voxhall rooms 1";
/// Memory for pages of the file. The system keeps them too.
const CACHE_BYTES: usize = 16 << 20;

/// See the module.
pub(super) struct FileStore {
    path: PathBuf,
    /// Nothing while it can't be opened.
    open: Option<Open>,
    /// Whether the process before this one ended in good order.
    clean: bool,
    /// Rooms of which it has not all there was even then.
    unclean: HashSet<String>,
    key: [u8; 32],
}

struct Open {
    database: Database,
    /// Device and number of the file: another may lie in its place by now.
    identity: (u64, u64),
}

impl FileStore {
    /// Opens the file, and makes it if there is none.
    ///
    /// # Errors
    /// A sentence with a remedy.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let open = Open::new(path).map_err(|error| refusal(path, &error))?;
        let (key, unclean) = (super::random_key(), HashSet::new());
        let mut store = Self { path: path.to_owned(), open: Some(open), clean: false, unclean, key };
        store.clean = store.begin().map_err(|Broken(cause)| {
            format!("store.path = {shown} can't be used: {cause}; see to the disk and to who may write there, or choose another file")
        })?;
        Ok(store)
    }

    /// Makes what is missing, and says whether the process before ended in good order. From here on this one has not.
    fn begin(&mut self) -> Result<bool, Broken> {
        let key = self.key;
        let (clean, unclean, key) = self.write(|transaction| {
            let mut own = transaction.open_table(OWN)?;
            let kept = |own: &Table<'_, &'static str, &'static [u8]>,
                        name|
             -> Result<Option<Vec<u8>>, redb::Error> {
                Ok(own.get(name)?.map(|value| value.value().to_vec()))
            };
            match kept(&own, "format")? {
                Some(format) if format != FORMAT => {
                    return Err(redb::Error::Corrupted("it is of another release".to_owned()));
                }
                Some(_) => {}
                None => drop(own.insert("format", FORMAT)?),
            }
            let key = match kept(&own, "resume_key")?.map(<[u8; 32]>::try_from) {
                Some(Ok(key)) => key,
                Some(Err(_)) => return Err(redb::Error::Corrupted("its key has another length".to_owned())),
                None => {
                    own.insert("resume_key", &key[..])?;
                    key
                }
            };
            let clean = own.remove("clean")?.is_some();
            let unclean = own.remove("unclean")?.map(|names| names.value().to_vec()).unwrap_or_default();
            transaction.open_table(ROOMS)?;
            transaction.open_table(EVENTS)?;
            Ok((clean, unclean, key))
        })?;
        let unclean = String::from_utf8_lossy(&unclean).into_owned();
        self.unclean = unclean.lines().map(ToOwned::to_owned).collect();
        self.key = key;
        Ok(clean)
    }

    /// One durable transaction.
    fn write<T>(&self, what: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> Result<T, Broken> {
        let database = &self.there()?.database;
        guarded(|| {
            let transaction = database.begin_write()?;
            let made = what(&transaction)?;
            transaction.commit()?;
            Ok(made)
        })
    }

    /// Whether the process before this one left all there was of a room.
    fn is_whole(&self, name: &str) -> bool {
        self.clean && !self.unclean.contains(name)
    }

    /// The open file, if it still is what lies under its name: otherwise what is written would be lost without an error.
    fn there(&self) -> Result<&Open, Broken> {
        let open = self.open.as_ref().ok_or_else(|| Broken("the file is not open".to_owned()))?;
        match identity(&self.path) {
            Ok(found) if found == open.identity => Ok(open),
            Ok(_) => Err(Broken("another file lies in its place".to_owned())),
            Err(error) => Err(Broken(format!("it is not there any more: {error}"))),
        }
    }
}

impl Store for FileStore {
    fn resume_key(&mut self) -> [u8; 32] {
        self.key
    }

    fn leftovers(&mut self) -> Result<Vec<SessionId>, Broken> {
        let database = &self.there()?.database;
        guarded(|| {
            let rooms = database.begin_read()?.open_table(ROOMS)?;
            let mut names = Vec::new();
            for room in rooms.iter()? {
                names.extend(SessionId::parse(room?.0.value()));
            }
            Ok(names)
        })
    }

    fn recall(&mut self, sessions: &[SessionId]) -> Result<Vec<Option<Found>>, Broken> {
        let database = &self.there()?.database;
        guarded(|| {
            let transaction = database.begin_read()?;
            let rooms = transaction.open_table(ROOMS)?;
            let events = transaction.open_table(EVENTS)?;
            let found = |session: &SessionId| -> Result<Option<Found>, redb::Error> {
                let Some(head) = rooms.get(session.as_str())? else { return Ok(None) };
                let mut portions = Vec::new();
                for portion in events.range((session.as_str(), 0)..=(session.as_str(), u64::MAX))? {
                    let (key, bytes) = portion?;
                    portions.push((key.value().1, bytes));
                }
                let portions = portions.iter().map(|(last, bytes)| (*last, bytes.value()));
                Ok(Some(match form::read(session.clone(), head.value(), portions) {
                    Ok(memory) => Found::Room(Remembered {
                        memory: Box::new(memory),
                        whole: self.is_whole(session.as_str()),
                    }),
                    Err(form::Unreadable) => Found::Unreadable,
                }))
            };
            sessions.iter().map(found).collect()
        })
    }

    fn commit(&mut self, writes: &[Write<'_>]) -> Result<(), Broken> {
        self.write(|transaction| {
            let mut rooms = transaction.open_table(ROOMS)?;
            let mut events = transaction.open_table(EVENTS)?;
            for write in writes {
                let name = write.session().as_str();
                let Write::Room { memory, appends } = write else {
                    rooms.remove(name)?;
                    remove(&mut events, name, u64::MAX)?;
                    continue;
                };
                let last_useless = if *appends { memory.oldest.saturating_sub(1) } else { u64::MAX };
                remove(&mut events, name, last_useless)?;
                if !memory.events.is_empty() {
                    events.insert((name, memory.seq), &form::events(&memory.events)[..])?;
                }
                rooms.insert(name, form::head(memory).as_bytes())?;
            }
            Ok(())
        })
    }

    fn check(&mut self, _living: &Living) -> Result<Vec<SessionId>, Broken> {
        self.there().map(|_| Vec::new())
    }

    fn mend(&mut self) -> Result<Mended, Broken> {
        // The lock on the file goes with it.
        let before = self.open.take().map(|open| open.identity);
        let open = Open::new(&self.path).map_err(|error| Broken(error.to_string()))?;
        let same = before == Some(open.identity);
        self.open = Some(open);
        self.begin()?;
        // Whatever it was before: rooms of this process have been numbered further than what it holds.
        self.clean = false;
        Ok(if same { Mended::Whole } else { Mended::Empty })
    }

    fn end(&mut self, sound: &Living) -> Result<(), Broken> {
        self.write(|transaction| {
            let mut unclean = String::new();
            for room in transaction.open_table(ROOMS)?.iter()? {
                let name = room?.0.value().to_owned();
                let is_sound = SessionId::parse(&name).is_ok_and(|session| sound.contains_key(&session));
                if !is_sound && !self.is_whole(&name) {
                    unclean.push_str(&name);
                    unclean.push('\n');
                }
            }
            let mut own = transaction.open_table(OWN)?;
            own.insert("clean", &b"yes"[..])?;
            own.insert("unclean", unclean.as_bytes())?;
            Ok(())
        })
    }
}

impl Open {
    fn new(path: &Path) -> Result<Self, DatabaseError> {
        let made = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error.into()),
        };
        let opened =
            catch_unwind(AssertUnwindSafe(|| Database::builder().set_cache_size(CACHE_BYTES).create(path)));
        let database =
            opened.unwrap_or_else(|_| Err(StorageError::Corrupted("it makes no sense".to_owned()).into()))?;
        if made {
            // The name has to last as long as what is written under it.
            File::open(folder(path))?.sync_all()?;
        }
        Ok(Self { database, identity: identity(path)? })
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Removes the portions of a room that end with this number or one before.
fn remove(
    events: &mut Table<'_, (&'static str, u64), &'static [u8]>,
    name: &str,
    last: u64,
) -> Result<(), redb::Error> {
    events.retain_in((name, 0)..=(name, last), |_, _| false)?;
    Ok(())
}

/// What redb does with a damaged file may be a panic: it is an error like any other.
fn guarded<T>(what: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, Broken> {
    match catch_unwind(AssertUnwindSafe(what)) {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(error)) => Err(Broken(error.to_string())),
        Err(_) => Err(Broken("the file is damaged".to_owned())),
    }
}

/// Why it can't start with this file: a sentence with the remedy. Nothing in the file is touched.
fn refusal(path: &Path, error: &DatabaseError) -> String {
    let shown = path.display();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => format!(
            "store.path = {shown} is in use by another process; end that one, or give each server its own file"
        ),
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
            foreign(path, "it is no store of rooms")
        }
        DatabaseError::Storage(StorageError::Io(error)) => format!(
            "store.path = {shown} can't be opened: {error}; the folder has to be there, and this process has to be allowed \
             to write in it"
        ),
        other => foreign(path, &other.to_string()),
    }
}

fn foreign(path: &Path, cause: &str) -> String {
    let shown = path.display();
    format!(
        "store.path = {shown} can't be read: {cause}; move the file away to begin without the rooms in it, or put a copy \
         that is whole in its place"
    )
}
