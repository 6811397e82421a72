//! Commands as plans: (arguments, committed state, what the client sent) to a [`Plan`] value.
//!
//! Each command is one function without side effects. It answers, or says which rows to change, or what to do
//! with which nodes, or what it still needs to know. One executor in the daemon carries plans out, so policy can
//! judge what a plan touches and a command is tested without a network.
//!
//! The crate knows nothing of sockets, files and time. No command knows another.

// The error of a planning step is the plan to answer with, made once a request.
#![allow(clippy::result_large_err)]

pub mod action;
pub mod args;
pub mod audit;
pub mod compact;
pub mod complete;
pub mod csv;
pub mod digest;
pub mod dump;
pub mod export;
pub mod fanout;
pub mod getadapter;
pub mod global;
pub mod hardware;
pub mod help;
pub mod judge;
pub mod log;
pub mod manual;
pub mod migrate;
pub mod monitor;
pub mod nodediscover;
pub mod nodeset;
pub mod notice;
pub mod notif;
pub mod operate;
pub mod plan;
pub mod policy;
pub mod power;
pub mod pping;
pub mod registry;
pub mod remote;
pub mod roff;
pub mod shell;
pub mod sn;
pub mod touch;
pub mod undo;
pub mod watch;
pub mod web;
pub mod when;

mod cells;
mod checked;
mod chtab;
mod defs;
mod edit;
mod gettab;
mod knownhosts;
mod lsdef;
mod lsxcatd;
mod makedhcp;
mod makehosts;
mod makenetworks;
mod makentp;
mod mkdef;
mod node_edit;
mod nodels;
mod nodepurge;
mod object_edit;
mod range;
mod rehearse;
mod rmdef;
mod select;
mod stanza;
mod tabdump;
mod tabedit;
mod tabgrep;
mod tabprune;
mod tabrestore;
mod templates;
mod xcoll;
mod xdshbak;

pub use plan::{
    Change, Ctx, Edited, Effect, FanOut, Helper, Inputs, Interface, Need, Output, Plan, Record, Sheet, Sink,
};
pub use registry::{Command, Range, commands, find, resolve};
