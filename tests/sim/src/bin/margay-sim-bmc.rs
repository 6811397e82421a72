//! Runs simulated BMCs from a file with one JSON object a line (see `sim::bmc::Config`).

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use sim::bmc::{Config, Running};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// How long a machine's programs may take to end.
const STOP: Duration = Duration::from_secs(10);

/// Simulated BMCs: RMCP+ with cipher suites 3 and 17, one UDP address each.
#[derive(Parser)]
struct Arguments {
    /// File with one BMC a line; `-` reads standard input to its end.
    config: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    let text = if arguments.config.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?
    } else {
        std::fs::read_to_string(&arguments.config)
            .with_context(|| format!("cannot read {}", arguments.config.display()))?
    };
    let mut stop = signal(SignalKind::terminate()).context("cannot listen for the stop signal")?;
    let mut running = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let config: Config =
            serde_json::from_str(line).with_context(|| format!("line {} is not a BMC", number + 1))?;
        let (node, address) = (config.node.clone(), config.address);
        let bmc = Running::start_with_programs(config)
            .await
            .with_context(|| format!("cannot listen on {address} for the BMC of {node}"))?;
        // the reader learns here which port a BMC with port 0 got
        writeln!(std::io::stdout(), "{node} {}", bmc.address()).context("cannot print")?;
        running.push(bmc);
    }
    writeln!(std::io::stdout(), "ready {}", running.len()).context("cannot print")?;
    tokio::select! {
        _ = stop.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for the interrupt")?,
    }
    let mut ending: JoinSet<()> = running.into_iter().map(|bmc| bmc.stop(STOP)).collect();
    while ending.join_next().await.is_some() {}
    Ok(())
}
