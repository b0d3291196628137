//! Worlds with a store: how it behaves, and when the node ends.

use super::dice::Dice;
use super::scenario::Scenario;
use crate::core::Micros;
use crate::core::config::Store;

/// Times that a node ends at most.
const FATES_MAX: usize = 4;
/// Signs the tokens of all lives: the store keeps it.
const RESUME_KEY: [u8; 32] = [7; 32];

/// What a store does to everybody, and what becomes of the node.
#[derive(Clone, Debug)]
pub(super) struct StorePlan {
    /// How long changes are gathered before they are written.
    pub(super) commit_max: Micros,
    /// How long one write takes.
    pub(super) write_max: Micros,
    /// How long an answer takes.
    pub(super) answer_max: Micros,
    /// How often it takes longer than anybody waits, or for ever.
    pub(super) late_permille: u64,
    /// How often nobody can say.
    pub(super) fail_permille: u64,
    /// How often there is no room for a change: the room has to be told whole.
    pub(super) drop_permille: u64,
    /// When it is broken.
    pub(super) broken: Option<(Micros, Micros)>,
    /// Whether it knows of each room by itself that it was told all of it; otherwise only of all at once.
    pub(super) marks_rooms: bool,
    /// How the node ends, again and again.
    pub(super) fates: Vec<(Micros, Fate)>,
    /// How long it is away then.
    pub(super) down_max: Micros,
}

/// How a node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// At once, with everything that the store does not have.
    Crash,
    /// It drains over the window, and leaves some time after that whoever is still there.
    Shutdown { window: Micros, patience: Micros },
}

impl Scenario {
    /// A world with a store.
    pub(super) fn stored(seed: u64) -> Self {
        let dice = &mut Dice::new(seed ^ 0x0570_12ed);
        let mut scenario = Self::draw(dice);
        let config = &mut scenario.config;
        let recall = if scenario.gentle { 1_000 } else { dice.pick(&[100, 500, 2_000]) };
        config.store =
            Some(Store { lag: Micros::from_ms(dice.pick(&[10, 100, 500])), recall: Micros::from_ms(recall) });
        config.resume_key = RESUME_KEY;
        config.room.linger = Micros::from_ms(dice.pick(&[500, 3_000, 20_000, 20_000]));
        if dice.permille(700) {
            config.room.history_events_max = 256;
            config.room.history_bytes_max = 65_536;
        }
        // Rooms have much to remember.
        scenario.mix.eventful += 15;
        scenario.play = scenario.play.max(Micros::from_s(5));
        scenario.drain = None;
        // The oracle sees rooms begin.
        scenario.look_every = 1;
        scenario.store = Some(StorePlan::draw(dice, &scenario));
        scenario
    }
}

impl StorePlan {
    fn draw(dice: &mut Dice, scenario: &Scenario) -> Self {
        let play = scenario.play.0;
        let sometimes = |dice: &mut Dice, most| if dice.permille(300) { dice.range(1, most) } else { 0 };
        let mut fates: Vec<_> = (0..dice.size(1, FATES_MAX))
            .map(|_| (Micros(dice.range(play / 6, play / 10 * 9)), Fate::draw(dice)))
            .collect();
        fates.sort_by_key(|(at, _)| *at);
        let broken = (!scenario.gentle && dice.permille(150)).then(|| {
            let from = dice.range(play / 8, play / 2);
            (Micros(from), Micros(from + dice.range(play / 20, play / 3)))
        });
        Self {
            commit_max: Micros::from_ms(dice.pick(&[0, 20, 100, 400])),
            write_max: Micros::from_ms(dice.pick(&[0, 5, 50, 300])),
            answer_max: Micros::from_ms(dice.pick(&[1, 20, 80])),
            late_permille: sometimes(dice, 300),
            fail_permille: sometimes(dice, 200),
            drop_permille: if scenario.gentle { 0 } else { sometimes(dice, 100) },
            broken,
            marks_rooms: dice.permille(500),
            fates,
            down_max: Micros::from_ms(dice.pick(&[1, 200, 2_000])),
        }
    }
}

impl Fate {
    fn draw(dice: &mut Dice) -> Self {
        if dice.permille(600) {
            return Self::Crash;
        }
        let window = Micros::from_ms(dice.range(0, 2_000));
        Self::Shutdown { window, patience: Micros::from_ms(dice.pick(&[0, 500, 5_000])) }
    }
}
