//! `rpower stat` of many simulated BMCs: wall time and processor seconds, with and without hung ones.
//!
//! The BMCs run in a process of their own, so that the client's processor time is its own.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bmc::{BmcTarget, Bmcs};
use clap::Parser;
use sim::bmc::{Config, Faults, Lamp, Running};
use tokio::task::JoinSet;
use tokio::time::Instant;
use wire::op::NodeOp;
use wire::secret::Secret;

const PASSWORD: &str = "bench";
/// Ticks of `/proc/PID/stat`, fixed in the kernel's interface.
const TICKS: f64 = 100.0;

/// Measures `rpower stat` of simulated BMCs.
#[derive(Parser)]
struct Arguments {
    /// How many BMCs.
    #[arg(default_values_t = [300, 1000])]
    counts: Vec<usize>,
    /// Operations at one time.
    #[arg(long, default_value_t = 64)]
    window: usize,
    /// Rounds of each kind.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Used by the bench itself: be the BMCs, the given number of them hung.
    #[arg(long, hide = true)]
    serve_hung: Option<usize>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(hung) = arguments.serve_hung {
        return serve(arguments.counts[0], hung).await;
    }
    let mut out = std::io::stdout();
    for count in &arguments.counts {
        for hung in [0, count / 100] {
            for _ in 0..arguments.rounds {
                let line = measure(*count, hung, arguments.window).await?;
                writeln!(out, "{line}")?;
            }
        }
    }
    Ok(())
}

async fn serve(count: usize, hung: usize) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for number in 0..count {
        let mut config = Config::new("n", SocketAddr::from(([127, 0, 0, 1], 0)), PASSWORD);
        config.faults = Faults { hang: number < hung, ..Faults::default() };
        all.push(Running::start(config, Arc::new(Lamp)).await?);
    }
    let mut out = std::io::stdout();
    for bmc in &all {
        writeln!(out, "{}", bmc.address())?;
    }
    // the parent closes our standard input when it has finished
    tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin())).await??;
    Ok(())
}

async fn measure(count: usize, hung: usize, window: usize) -> anyhow::Result<String> {
    let mut child = Command::new(std::env::current_exe()?)
        .args([&count.to_string(), "--serve-hung", &hung.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the BMCs")?;
    let output = child.stdout.take().context("no output of the BMCs")?;
    let addresses: Vec<SocketAddr> = BufReader::new(output)
        .lines()
        .take(count)
        .map(|line| anyhow::Ok(line?.parse()?))
        .collect::<anyhow::Result<_>>()?;
    let (own, theirs) = (cpu("self")?, cpu(&child.id().to_string())?);
    let bmcs = Bmcs::new()?;
    let began = Instant::now();
    let places = Arc::new(tokio::sync::Semaphore::new(window));
    let mut tasks = JoinSet::new();
    for address in addresses {
        let (bmcs, places) = (bmcs.clone(), Arc::clone(&places));
        tasks.spawn(async move {
            let _place = places.acquire_owned().await;
            let target = BmcTarget {
                node: "n".into(),
                address: address.ip().to_string(),
                port: address.port(),
                user: Secret::new("admin"),
                password: Secret::new(PASSWORD),
            };
            bmcs.run(&target, &NodeOp::PowerStat, Instant::now() + Duration::from_secs(3)).await.is_ok()
        });
    }
    let (mut good, mut failed, mut last) = (0, 0, Duration::ZERO);
    while let Some(answer) = tasks.join_next().await {
        if answer? {
            good += 1;
            last = began.elapsed();
        } else {
            failed += 1;
        }
    }
    let line = format!(
        "{count} BMCs, {hung} hung, window {window}: {good} answered in {:.3} s, {failed} given up; \
         processor seconds: client {:.2}, BMCs {:.2}",
        last.as_secs_f64(),
        cpu("self")? - own,
        cpu(&child.id().to_string())? - theirs,
    );
    drop(child.stdin.take());
    child.wait()?;
    Ok(line)
}

/// User and system seconds of a process.
fn cpu(process: &str) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("odd /proc/PID/stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks: f64 = fields
        .get(11..13)
        .context("short /proc/PID/stat")?
        .iter()
        .try_fold(0.0, |sum, field| anyhow::Ok(sum + field.parse::<f64>()?))?;
    Ok(ticks / TICKS)
}
