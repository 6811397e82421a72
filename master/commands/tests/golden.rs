//! The observed behavior of xCAT against our commands, in process: registry, plans and state without a network.
//!
//! The data lie in `tests/golden` at the root of the repository.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "golden/bad_input.rs"]
mod bad_input;
#[path = "golden/definitions.rs"]
mod definitions;
#[path = "golden/files.rs"]
mod files;
#[path = "golden/noderange.rs"]
mod noderange;
#[path = "golden/nodes.rs"]
mod nodes;
#[path = "golden/options.rs"]
mod options;
#[path = "golden/pages.rs"]
mod pages;
#[path = "golden/policy.rs"]
mod policy;
#[path = "golden/renamed.rs"]
mod renamed;
#[path = "golden/rows.rs"]
mod rows;
#[path = "golden/tables.rs"]
mod tables;
#[path = "golden/transcripts.rs"]
mod transcripts;
#[path = "golden/world.rs"]
mod world;
