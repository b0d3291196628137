//! Slots addressed by a small index, kept in pages so that growing never moves what is there: no pause for a
//! large copy, and no twice-the-size moment in the memory of a full shard.

/// Slots per page: a page of connections is some tens of kilobytes.
const PAGE_SLOTS: usize = 64;

/// A table from index to value.
#[derive(Debug)]
pub(super) struct Paged<T> {
    pages: Vec<Box<[Option<T>]>>,
    len: usize,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), len: 0 }
    }
}

impl<T> Paged<T> {
    /// Puts a value into a slot; what was there comes back.
    pub(super) fn insert(&mut self, index: u32, value: T) -> Option<T> {
        let (page, slot) = Self::place(index);
        while self.pages.len() <= page {
            self.pages.push((0..PAGE_SLOTS).map(|_| None).collect());
        }
        let before = self.pages[page][slot].replace(value);
        self.len += usize::from(before.is_none());
        before
    }

    /// Empties a slot.
    pub(super) fn remove(&mut self, index: u32) -> Option<T> {
        let (page, slot) = Self::place(index);
        let value = self.pages.get_mut(page)?[slot].take();
        self.len -= usize::from(value.is_some());
        value
    }

    /// The value in a slot.
    pub(super) fn get(&self, index: u32) -> Option<&T> {
        let (page, slot) = Self::place(index);
        self.pages.get(page)?[slot].as_ref()
    }

    /// The value in a slot, to be changed.
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let (page, slot) = Self::place(index);
        self.pages.get_mut(page)?[slot].as_mut()
    }

    /// How many slots are filled.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Every filled slot, by index.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.pages
            .iter()
            .flat_map(|page| page.iter())
            .enumerate()
            .filter_map(|(index, slot)| Some((index as u32, slot.as_ref()?)))
    }

    /// Bytes of the pages.
    pub(super) fn bytes(&self) -> usize {
        self.pages.len() * PAGE_SLOTS * size_of::<Option<T>>()
    }

    const fn place(index: u32) -> (usize, usize) {
        (index as usize / PAGE_SLOTS, index as usize % PAGE_SLOTS)
    }
}

/// A value that is found by a key, which names its slot and which use of that slot it is.
pub(super) trait Keyed {
    /// The key.
    type Key: Copy;

    /// Slot and generation that a key names.
    fn slot(key: Self::Key) -> (u32, u32);

    /// Which use of its slot the value is.
    fn generation(&self) -> u32;
}

impl<T: Keyed> Paged<T> {
    /// The value with this key; nothing when it has gone, even if its slot is in use again.
    pub(super) fn find(&self, key: T::Key) -> Option<&T> {
        let (index, generation) = T::slot(key);
        self.get(index).filter(|value| value.generation() == generation)
    }

    /// The value with this key, to be changed.
    pub(super) fn find_mut(&mut self, key: T::Key) -> Option<&mut T> {
        let (index, generation) = T::slot(key);
        self.get_mut(index).filter(|value| value.generation() == generation)
    }
}
