//! What one member has heard of another, held against what that one said.

/// What became of a message that came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Hearing {
    /// It is the next, or the first behind a gap.
    New,
    /// It fills a gap.
    Late,
    /// It came before.
    Again,
}

/// The messages of one speaker, numbered from 1, as one listener has them.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    next: u32,
    /// What is missing, without a word so far: first and last.
    open: Vec<(u32, u32)>,
    /// The server has said that something is missing, and what follows may begin anywhere.
    may_skip: bool,
    /// Messages that the server said it could not tell.
    pub(super) told: u64,
}

impl Default for Heard {
    fn default() -> Self {
        Self { next: 1, open: Vec::new(), may_skip: false, told: 0 }
    }
}

impl Heard {
    /// A message has come.
    pub(super) fn hear(&mut self, number: u32) -> Hearing {
        if number < self.next {
            return if self.fill(number) { Hearing::Late } else { Hearing::Again };
        }
        self.skip_to(number);
        self.next = number + 1;
        self.may_skip = false;
        Hearing::New
    }

    /// The server says that not everything can be told.
    pub(super) fn give_up(&mut self) {
        let open = std::mem::take(&mut self.open);
        self.told += open.iter().map(|&(first, last)| u64::from(last - first + 1)).sum::<u64>();
        self.may_skip = true;
    }

    /// Whether all up to this number has been heard or told to be missing.
    pub(super) fn has_all(&self, last: u32) -> bool {
        self.open.is_empty() && (self.next > last || self.may_skip)
    }

    /// How many of the messages up to this number are missing without a word; `excused` says which never have to come.
    pub(super) fn silent(&mut self, last: u32, excused: &[u32]) -> u64 {
        self.skip_to(last + 1);
        let missing = self.open.iter().flat_map(|&(first, last)| first..=last);
        missing.filter(|number| !excused.contains(number)).count() as u64
    }

    fn skip_to(&mut self, number: u32) {
        if number > self.next {
            if self.may_skip {
                self.told += u64::from(number - self.next);
            } else {
                self.open.push((self.next, number - 1));
            }
        }
    }

    fn fill(&mut self, number: u32) -> bool {
        let Some(at) = self.open.iter().position(|&(first, last)| (first..=last).contains(&number)) else {
            return false;
        };
        let (first, last) = self.open.swap_remove(at);
        if first < number {
            self.open.push((first, number - 1));
        }
        if number < last {
            self.open.push((number + 1, last));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_silent_until_they_are_filled_or_told() {
        let mut heard = Heard::default();
        assert_eq!([1, 2, 5].map(|n| heard.hear(n)), [Hearing::New; 3]);
        assert!(!heard.has_all(5));
        assert_eq!(heard.hear(4), Hearing::Late);
        assert_eq!(heard.hear(4), Hearing::Again);
        assert_eq!(heard.hear(5), Hearing::Again);
        assert_eq!(heard.silent(5, &[]), 1);
        assert_eq!(heard.silent(5, &[3]), 0);
        heard.give_up();
        assert_eq!(heard.told, 1);
        assert_eq!(heard.hear(9), Hearing::New);
        assert_eq!(heard.told, 4);
        assert!(heard.has_all(9) && !heard.has_all(10));
        assert_eq!(heard.hear(11), Hearing::New);
        assert_eq!(heard.silent(12, &[]), 2);
    }
}
