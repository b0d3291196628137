//! What is promised of the parrot, sentence by sentence.

mod answers;
mod items;
mod listening;
mod pace;
mod room;
