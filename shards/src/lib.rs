//! The data plane of Voxhall: what runs on every core.
