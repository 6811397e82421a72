//! `cargo xtask atomicity`: the tests of whole-or-nothing commands, in a larger amount than with every test run.

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::rocksdb;
use crate::workspace::Workspace;

/// Options of the atomicity command.
#[derive(Args)]
pub struct Options {
    /// Runs of nodels under writers, and rounds with a kill.
    #[arg(long, default_value_t = 1000)]
    rounds: u32,
    /// Repeat the run that printed this number.
    #[arg(long)]
    seed: Option<u64>,
    /// Only tests whose name contains this.
    #[arg(default_value = "atomicity")]
    name: String,
}

/// Runs the tests one after the other; their figures go to the terminal.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    rocksdb::ensure(workspace)?;
    let mut cargo =
        workspace.cargo(&["test", "--locked", "-p", "master", "--test", "daemon", &options.name])?;
    cargo.args(["--", "--nocapture", "--test-threads", "1"]);
    cargo.env("MARGAY_ROUNDS", options.rounds.to_string());
    if let Some(seed) = options.seed {
        cargo.env("MARGAY_SEED", seed.to_string());
    }
    if !cargo.status().context("starting cargo")?.success() {
        bail!("a command was seen in half, or the tests could not run");
    }
    Ok(())
}
