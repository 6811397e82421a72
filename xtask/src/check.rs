//! What must hold before a change is looked at: form, lints, layers, frozen messages, documents.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::stage::{Budget, Stages};
use crate::workspace::Workspace;
use crate::{docs, frozen, layers, process, proofs, rocksdb};

/// `cargo xtask check`.
pub fn run(workspace: &Workspace, write: bool) -> Result<ExitCode> {
    let mut stages = Stages::new();
    let result = stages_of(workspace, &mut stages, write);
    stages.close();
    result.map(|()| ExitCode::SUCCESS)
}

/// The stages of the check, also part of the test command.
pub fn stages_of(workspace: &Workspace, stages: &mut Stages, write: bool) -> Result<()> {
    stages.run("generated documents", Budget::seconds(5), |_| none(docs::check(workspace, write)?))?;
    stages.run("format", Budget::seconds(10), |_| {
        let mut cargo = workspace.cargo(&["fmt", "--all", "--check"])?;
        process::logged(&mut cargo, &workspace.target.join("xtask/fmt.log"))?;
        Ok(String::new())
    })?;
    stages.run("layers", Budget::seconds(20), |_| none(layers::check(workspace)?))?;
    stages.run("frozen messages", Budget::seconds(5), |_| none(frozen::check(workspace)?))?;
    stages.run("tables of checks", Budget::seconds(5), |_| none(proofs::check(workspace)?))?;
    stages.run("RocksDB library", Budget::seconds(900), |note| {
        if rocksdb::ready(workspace)? {
            return Ok("there".into());
        }
        note.say("compiled once for this version, about ten minutes on two cores");
        rocksdb::ensure(workspace)?;
        Ok("built".into())
    })?;
    stages.run("lints", Budget::seconds(600), |_| {
        let mut cargo = workspace.cargo(&[
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])?;
        process::logged(&mut cargo, &workspace.target.join("xtask/clippy.log"))?;
        Ok(String::new())
    })
}

fn none(faults: Vec<String>) -> Result<String> {
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    Ok(String::new())
}
