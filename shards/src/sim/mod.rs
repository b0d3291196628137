//! The same core in a seeded, simulated world.
