//! What a client is to be told of messages that were dropped.

/// Drops of one class that the client has not been told of yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropNote {
    /// How many.
    pub count: u64,
    /// The number of the first that had one; 0 when none had.
    pub first_seq: u64,
    /// The number of the last.
    pub last_seq: u64,
}

impl DropNote {
    /// One more, of this number; 0 when it has none.
    pub(super) fn add(&mut self, seq: u64) {
        self.count += 1;
        if seq > 0 {
            self.first_seq = if self.last_seq == 0 { seq } else { self.first_seq.min(seq) };
            self.last_seq = self.last_seq.max(seq);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_number_is_counted_and_moves_no_bound() {
        let mut note = DropNote::default();
        [0, 7, 0, 5, 9, 0].into_iter().for_each(|seq| note.add(seq));
        assert_eq!(note, DropNote { count: 6, first_seq: 5, last_seq: 9 });
        let mut note = DropNote::default();
        note.add(0);
        assert_eq!(note, DropNote { count: 1, first_seq: 0, last_seq: 0 });
    }
}
