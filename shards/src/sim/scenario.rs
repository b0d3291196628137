//! What a seed decides before its world begins. Swarm testing: each seed picks its own mix of clients, faults and
//! limits, so that what one fault hides another world shows.

use std::sync::Arc;

use super::dice::Dice;
use super::gate::NameGate;
use super::stored::StorePlan;
use crate::core::Micros;
use crate::core::config::ShardConfig;
use crate::core::engine::EngineKind;

/// Clients of a small world, and how long they come and go.
const SMALL_CLIENTS_MAX: usize = 4;
const SMALL_PLAY: Micros = Micros::from_s(2);

/// One world's conditions.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) config: ShardConfig,
    /// No faults and roomy limits: here nothing may be lost and nobody may be turned out.
    pub(super) gentle: bool,
    /// Much is said to clients that read slowly, through small lanes.
    pub(super) crowded: bool,
    pub(super) clients: usize,
    /// How many rooms are shared; besides, every client has one of its own.
    pub(super) rooms: u64,
    /// How long clients come and go.
    pub(super) play: Micros,
    pub(super) faults: Faults,
    pub(super) mix: Mix,
    /// When the node drains, and over which window.
    pub(super) drain: Option<(Micros, Micros)>,
    /// When a share of the connections is cut at once.
    pub(super) storm: Option<Micros>,
    /// How often the control plane does something; never when zero.
    pub(super) control_every: Micros,
    /// Whether the control plane may close rooms and connections.
    pub(super) control_closes: bool,
    /// Turns between two looks of the oracle.
    pub(super) look_every: u64,
    /// What rooms remember lasts, as this says, if they have a store.
    pub(super) store: Option<StorePlan>,
}

/// What the network, the kernel and the scheduler do to everybody.
#[derive(Clone, Debug)]
pub(super) struct Faults {
    pub(super) latency_max: Micros,
    /// Bytes of one receive at most.
    pub(super) receive_bytes_max: usize,
    /// Smallest and largest capacity of a direction.
    pub(super) capacity: (usize, usize),
    /// How often the kernel takes less than it could.
    pub(super) short_send_permille: u64,
    /// How often it takes nothing though it could.
    pub(super) refused_send_permille: u64,
    pub(super) completion_delay_max: Micros,
    /// How often something written stalls the direction for a while.
    pub(super) stall_permille: u64,
    pub(super) stall_max: Micros,
    /// How often a client's action is to break its connection.
    pub(super) break_permille: u64,
    /// How late a turn may begin.
    pub(super) turn_delay_max: Micros,
    /// How often a shard does not run for up to `pause_max`.
    pub(super) pause_permille: u64,
    pub(super) pause_max: Micros,
    /// Messages that a lane between two parties holds.
    pub(super) mesh_queue_max: usize,
    pub(super) mesh_delay_max: Micros,
    /// Completions, and sends, of one turn at most.
    pub(super) turn_budget: usize,
}

/// How likely each kind of client behaviour is, as weights.
#[derive(Clone, Debug)]
pub(super) struct Mix {
    pub(super) talker: u64,
    pub(super) eventful: u64,
    pub(super) listener: u64,
    pub(super) slow: u64,
    pub(super) hostile: u64,
    pub(super) bad_head: u64,
    pub(super) slow_head: u64,
    pub(super) plain_http: u64,
    pub(super) echo_path: u64,
    /// Engine preferences: echo, relay, parrot, changing.
    pub(super) engines: [u64; 4],
}

impl Scenario {
    pub(super) fn new(seed: u64) -> Self {
        Self::draw(&mut Dice::new(seed ^ 0x5ce7_a210))
    }

    /// A small world, so that many can be run.
    pub(super) fn small(dice: &mut Dice) -> Self {
        let mut scenario = Self::draw(dice);
        scenario.clients = scenario.clients.min(SMALL_CLIENTS_MAX);
        scenario.play = scenario.play.min(SMALL_PLAY);
        scenario
    }

    pub(super) fn draw(dice: &mut Dice) -> Self {
        let gentle = dice.permille(250);
        let clients = if dice.permille(150) { dice.size(20, 40) } else { dice.size(2, 14) };
        let play = Micros::from_ms(dice.range(2_000, 15_000));
        let mut scenario = Self {
            config: config(dice, gentle),
            gentle,
            crowded: false,
            clients,
            rooms: dice.range(1, 4),
            play,
            faults: if gentle { Faults::none(dice) } else { Faults::some(dice) },
            mix: Mix::some(dice, gentle),
            drain: (!gentle && dice.permille(300))
                .then(|| (Micros(dice.range(play.0 / 4, play.0)), Micros::from_ms(dice.range(0, 5_000)))),
            storm: (!gentle && dice.permille(300)).then(|| Micros(dice.range(play.0 / 4, play.0 / 4 * 3))),
            control_every: Micros::from_ms(if dice.permille(500) { dice.range(20, 500) } else { 0 }),
            control_closes: !gentle && dice.permille(300),
            look_every: dice.range(1, 6),
            store: None,
        };
        if !gentle && dice.permille(350) {
            scenario.crowd(dice);
        }
        scenario
    }

    fn crowd(&mut self, dice: &mut Dice) {
        self.crowded = true;
        self.rooms = 1;
        self.clients = self.clients.min(10);
        self.config.outbox.messages_max = dice.size(4, 40);
        self.config.outbox.slow_client = Micros::from_s(60);
        self.config.limits.members_per_room_max = 64;
        self.config.limits.connections_max = 100_000;
        (self.config.limits.connections_per_user_max, self.config.limits.connections_per_ip_max) = (0, 0);
        self.faults.capacity = (300, 3_000);
        self.faults.receive_bytes_max = self.faults.receive_bytes_max.max(64);
        let of_words = [0, 0, 1, 0];
        self.mix.engines =
            dice.pick(&[[1, 5, 1, 0], [5, 1, 1, 1], [0, 1, 0, 0], [1, 0, 0, 0], of_words, of_words]);
        if self.mix.engines == of_words {
            // Deltas give way to what has to be told, and can be told again.
            (self.mix.eventful, self.mix.talker) = (20, 1);
            self.config.room.linger = Micros::from_s(6);
        }
    }
}

fn config(dice: &mut Dice, gentle: bool) -> ShardConfig {
    let mut config = ShardConfig { shards: dice.range(1, 4) as u16, ..ShardConfig::default() };
    config.audit = true;
    config.echo_endpoint = dice.permille(700);
    config.room.engine = dice.pick(&[EngineKind::Echo, EngineKind::Relay, EngineKind::Parrot]);
    config.room.linger = Micros::from_ms(dice.pick(&[0, 50, 1_000, 6_000]));
    config.room.history_events_max = dice.pick(&[0, 4, 16, 64, 256, 256]);
    config.room.history_bytes_max = dice.pick(&[1_024, 8_192, 65_536, 65_536]);
    // What is refused for its rate is not accounted for by the clients' ledgers.
    (config.limits.messages_per_s, config.limits.bytes_per_s) = (0, 0);
    if dice.permille(300) {
        config.gate = Some(Arc::new(NameGate));
    }
    // Counted, and for nobody too few.
    (config.limits.connections_per_user_max, config.limits.connections_per_ip_max) = (1_000, 1_000);
    config.limits.close = Micros::from_ms(dice.range(200, 5_000));
    config.heartbeat.ping = Micros::from_ms(dice.range(500, 4_000));
    // The timer of a head is that of the first heartbeat too.
    config.limits.head = Micros::from_ms(dice.range(200, config.heartbeat.ping.as_ms()));
    config.heartbeat.idle = config.heartbeat.ping + Micros::from_ms(dice.range(300, 5_000));
    config.outbox.coalesce = Micros::from_ms(dice.pick(&[0, 5, 25, 200]));
    config.outbox.audio_age_max = Micros::from_ms(dice.pick(&[20, 200, 2_000]));
    let patience = if dice.permille(400) { 60_000 } else { dice.range(300, 6_000) };
    config.outbox.slow_client = Micros::from_ms(patience);
    if gentle {
        return config;
    }
    let small =
        |dice: &mut Dice, low, high, usual| if dice.permille(400) { dice.size(low, high) } else { usual };
    config.shed_lag = Micros::from_ms(if dice.permille(200) { 8 } else { 250 });
    config.outbox.messages_max = small(dice, 4, 64, 512);
    config.outbox.bytes_max = small(dice, 2_000, 40_000, 1_048_576);
    config.audio.inbound_frames_max = small(dice, 1, 8, 32);
    config.limits.head_bytes_max = small(dice, 300, 600, 8_192);
    config.limits.upgrades_in_flight_max = small(dice, 1, 4, 1_024);
    config.limits.connections_max = small(dice, 2, 8, 100_000);
    config.limits.connections_per_user_max = small(dice, 1, 3, 0);
    config.limits.connections_per_ip_max = small(dice, 1, 3, 0);
    config.limits.upgrades_per_s_per_ip = small(dice, 2, 20, 200) as u64;
    config.limits.rooms_max = small(dice, 1, 6, 1_000_000);
    config.limits.members_per_room_max = small(dice, 1, 4, 64);
    config.limits.message_bytes_max = small(dice, 1_000, 8_000, 1_048_576);
    config
}

impl Faults {
    fn none(dice: &mut Dice) -> Self {
        Self {
            latency_max: Micros::from_ms(dice.range(0, 20)),
            receive_bytes_max: dice.pick(&[50, 1_460, 16_384]),
            capacity: (200_000, 400_000),
            short_send_permille: 0,
            refused_send_permille: 0,
            completion_delay_max: Micros(dice.range(0, 500)),
            stall_permille: 0,
            stall_max: Micros(0),
            break_permille: 0,
            turn_delay_max: Micros(dice.range(0, 2_000)),
            pause_permille: 0,
            pause_max: Micros(0),
            mesh_queue_max: 64,
            mesh_delay_max: Micros(dice.range(0, 1_000)),
            turn_budget: 2_048,
        }
    }

    fn some(dice: &mut Dice) -> Self {
        let sometimes = |dice: &mut Dice, most| if dice.permille(500) { dice.range(0, most) } else { 0 };
        Self {
            latency_max: Micros::from_ms(dice.pick(&[0, 1, 30, 200])),
            receive_bytes_max: dice.pick(&[1, 3, 64, 1_460, 16_384]),
            capacity: dice.pick(&[(300, 2_000), (2_000, 16_000), (16_000, 300_000), (300, 300_000)]),
            short_send_permille: sometimes(dice, 300),
            refused_send_permille: sometimes(dice, 200),
            completion_delay_max: Micros(sometimes(dice, 10_000)),
            stall_permille: sometimes(dice, 20),
            stall_max: Micros::from_ms(dice.pick(&[50, 1_000, 8_000])),
            break_permille: sometimes(dice, 10),
            turn_delay_max: Micros(sometimes(dice, 10_000)),
            pause_permille: sometimes(dice, 5),
            pause_max: Micros::from_ms(dice.pick(&[20, 500])),
            mesh_queue_max: dice.pick(&[1, 2, 8, 64]),
            mesh_delay_max: Micros(dice.pick(&[0, 1_000, 50_000])),
            turn_budget: dice.pick(&[1, 4, 64, 2_048]),
        }
    }

    /// How late something may happen without anybody being at fault.
    pub(super) fn slack(&self) -> Micros {
        let turns = 4 * (self.turn_delay_max.0 + self.completion_delay_max.0 + self.mesh_delay_max.0);
        let pauses = if self.pause_permille > 0 { 2 * self.pause_max.0 } else { 0 };
        // A small budget lets completions wait for some turns.
        let queued = if self.turn_budget < 64 { 200 * self.turn_delay_max.0 } else { 0 };
        Micros::from_ms(100) + Micros(turns + pauses + queued)
    }
}

impl Mix {
    fn some(dice: &mut Dice, gentle: bool) -> Self {
        let weight = |dice: &mut Dice| if dice.permille(600) { dice.range(0, 10) } else { 0 };
        let hostile = |dice: &mut Dice| if gentle { 0 } else { weight(dice) };
        Self {
            talker: 1 + weight(dice),
            eventful: weight(dice),
            listener: weight(dice),
            slow: hostile(dice),
            hostile: hostile(dice),
            bad_head: hostile(dice),
            slow_head: hostile(dice),
            plain_http: hostile(dice),
            echo_path: weight(dice),
            engines: [1 + weight(dice), weight(dice), weight(dice), weight(dice)],
        }
    }
}
