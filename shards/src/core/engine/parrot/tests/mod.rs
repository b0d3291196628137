//! What is promised of the parrot, sentence by sentence.

mod answers;
mod listening;
mod room;
