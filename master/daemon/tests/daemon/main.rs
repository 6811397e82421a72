//! Masters in this process (or beside it, where they are killed), with clients and service nodes that
//! speak the real protocols over loopback.
#![allow(clippy::unwrap_used, missing_docs)]

mod actions;
mod atomicity;
mod cluster;
mod failover;
mod front;
mod helper;
mod history;
mod large;
mod monitoring;
mod notification;
mod policy;
mod process;
mod quorum;
mod rack;
mod retention;
mod watch;
