//! Moves bytes and messages for the core; decides nothing.
