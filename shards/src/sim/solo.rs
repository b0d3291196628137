//! An engine without a shard around it, for tests and fuzz targets outside of this crate.

use crate::core::engine::{Engine, EngineContext, EngineKind, EngineOutput};
use crate::core::event::SessionSettings;
use crate::core::frame::FramePool;
use crate::core::rng::SplitMix64;
use crate::core::{Micros, ShardConfig};

/// One engine, on a clock that its owner moves.
#[derive(Debug)]
pub struct Solo {
    /// The engine.
    pub engine: Engine,
    /// What a shard would be told when it starts.
    pub config: ShardConfig,
    /// The room's settings.
    pub settings: SessionSettings,
    /// Where drafts come from.
    pub pool: FramePool,
    /// Now.
    pub now: Micros,
    rng: SplitMix64,
    last_id: u64,
    out: Vec<EngineOutput>,
}

impl Solo {
    /// A fresh engine of this kind.
    #[must_use]
    pub fn new(kind: EngineKind, config: ShardConfig, settings: SessionSettings) -> Self {
        let (engine, pool, now, rng) =
            (Engine::start(kind), FramePool::default(), Micros::from_s(1), SplitMix64::new(1));
        Self { engine, config, settings, pool, now, rng, last_id: 0, out: Vec::new() }
    }

    /// One turn: what is asked of the engine, then what comes out, one after the other. Flushes find every lane empty.
    pub fn turn(
        &mut self,
        what: impl FnOnce(&mut Engine, &mut EngineContext<'_>),
        mut each: impl FnMut(&mut FramePool, EngineOutput),
    ) {
        let mut out = std::mem::take(&mut self.out);
        self.run(what, &mut out);
        let mut at = 0;
        while at < out.len() {
            if let EngineOutput::Flush(response) = out[at] {
                self.run(|engine, cx| engine.flushed(response, 0, cx), &mut out);
            }
            at += 1;
        }
        out.drain(..).for_each(|output| each(&mut self.pool, output));
        self.out = out;
    }

    fn run(&mut self, what: impl FnOnce(&mut Engine, &mut EngineContext<'_>), out: &mut Vec<EngineOutput>) {
        let cx = &mut EngineContext {
            now: self.now,
            config: &self.config,
            rng: &mut self.rng,
            pool: &mut self.pool,
            settings: &self.settings,
            extras: None,
            claim: None,
            only_events: false,
            last_id: &mut self.last_id,
            out,
        };
        what(&mut self.engine, cx);
        self.engine.settle(cx);
    }
}
