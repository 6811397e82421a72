//! The static agent and the discovery image.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::workspace::Workspace;

/// Largest agent, in bytes.
const AGENT_LIMIT: u64 = 4 * 1024 * 1024;
const TARGET: &str = "x86_64-unknown-linux-musl";

/// Builds agent and image; returns the folder with kernel and initramfs.
pub fn build(workspace: &Workspace) -> Result<PathBuf> {
    let agent = agent(workspace)?;
    compose(workspace, &agent)
}

/// Builds the static agent.
pub fn agent(workspace: &Workspace) -> Result<PathBuf> {
    let mut cargo =
        workspace.cargo(&["build", "--locked", "--profile", "agent", "--target", TARGET, "-p", "agent"])?;
    process::logged(&mut cargo, &workspace.target.join("xtask/agent.log")).context("building the agent")?;
    let agent = workspace.target.join(TARGET).join("agent/margay-agent");
    let size = std::fs::metadata(&agent).with_context(|| format!("reading {}", agent.display()))?.len();
    if size > AGENT_LIMIT {
        bail!("the agent has {size} bytes, more than its limit of {AGENT_LIMIT}");
    }
    Ok(agent)
}

/// Names and sizes of the image's files.
pub fn sizes(folder: &Path) -> Result<String> {
    let mut said = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            said.push(format!(
                "{} {} KiB",
                entry.file_name().to_string_lossy(),
                entry.metadata()?.len() / 1024
            ));
        }
    }
    said.sort();
    Ok(said.join(", "))
}

/// Puts kernel, modules, busybox and `agent` together.
pub fn compose(workspace: &Workspace, agent: &Path) -> Result<PathBuf> {
    let mut cargo =
        workspace.cargo(&["build", "--locked", "--profile", &workspace.profile, "-p", "genesis"])?;
    let log = workspace.target.join("xtask/genesis.log");
    process::logged(&mut cargo, &log).context("building margay-genesis")?;
    let out = workspace.target.join("genesis");
    let mut genesis = Command::new(workspace.program("margay-genesis", &workspace.profile));
    genesis.arg("--cache").arg(&workspace.cache).arg("--agent").arg(agent).arg("--out").arg(&out);
    process::logged(&mut genesis, &log).context("building the discovery image")?;
    Ok(out)
}
