//! Choices drawn from the seed, or read from a script as long as it lasts.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::core::rng::SplitMix64;

/// Longest run of bytes that a script may have somebody say.
const WORDS_MAX: usize = 64;

/// A stream of choices that its seed determines, and its script.
#[derive(Clone, Debug)]
pub(super) struct Dice {
    rng: SplitMix64,
    /// Shared by all who follow it: whoever chooses next reads on.
    script: Option<Rc<RefCell<VecDeque<u8>>>>,
}

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self { rng: SplitMix64::new(seed), script: None }
    }

    /// Follows the script, and the seed from its end on.
    pub(super) fn scripted(seed: u64, script: &[u8]) -> Self {
        let script = Rc::new(RefCell::new(script.to_vec().into()));
        Self { rng: SplitMix64::new(seed), script: Some(script) }
    }

    /// A stream of its own, so that more choices here don't change those made there; but for a script, which is one.
    pub(super) fn split(&mut self) -> Self {
        Self { rng: SplitMix64::new(self.number()), script: self.script.clone() }
    }

    /// The same stream, following no script.
    pub(super) fn without_script(self) -> Self {
        Self { script: None, ..self }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// What the script has somebody say now. Nothing when there is no script, or no more of it.
    pub(super) fn words(&mut self) -> Option<Vec<u8>> {
        let mut script = self.script.as_ref()?.borrow_mut();
        let len = usize::from(script.pop_front()?) % WORDS_MAX;
        let len = len.min(script.len());
        Some(script.drain(..len).collect())
    }

    /// A number in `0..bound`.
    fn below(&mut self, bound: u64) -> u64 {
        if let Some(script) = &self.script {
            let mut script = script.borrow_mut();
            let bytes = if bound <= 256 { 1 } else { 2 };
            if script.len() >= bytes {
                let read = script.drain(..bytes).fold(0, |number, byte| number << 8 | u64::from(byte));
                // Of a long span a coarse part is enough.
                return if bound > 1 << 16 { (read * (bound >> 16)).min(bound - 1) } else { read % bound };
            }
        }
        self.rng.below(bound)
    }

    /// A number in `low..=high`.
    pub(super) fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    pub(super) fn size(&mut self, low: usize, high: usize) -> usize {
        self.range(low as u64, high as u64) as usize
    }

    /// True so many times in a thousand.
    pub(super) fn permille(&mut self, times: u64) -> bool {
        self.below(1_000) < times
    }

    /// One of several.
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}
