//! The rack side of a master, over real connections: a simulated service node speaks the wire's words, a
//! simulated client runs commands.
#![allow(clippy::unwrap_used, missing_docs)]

mod answers;
mod client;
mod cluster;
mod crowd;
mod getadapter;
mod identity;
mod mirror;
mod orders;
mod rack;
mod resumed;
