//! What the profiles, the checks and the files beside them promise, on hosts made of files.

mod cores;
mod fake;
mod files;
mod hosts;
mod irq;
