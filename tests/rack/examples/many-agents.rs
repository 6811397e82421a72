//! Bench: `true` on many agents through one service node, all in this process.
//!
//! `many-agents [AGENTS]`, 200 when not said. Prints the best of five in wall time, and the processor time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rack::{Crowd, PATIENCE, Rack, finals};
use wire::op::{Event, Exec, NodeOp};

const ROUNDS: usize = 5;

fn main() -> Result<()> {
    let count = std::env::args().nth(1).map_or(Ok(200), |text| text.parse()).context("AGENTS")?;
    tokio::runtime::Runtime::new()?.block_on(measure(count))
}

async fn measure(count: usize) -> Result<()> {
    let rack = Rack::start().await?;
    let begun = Instant::now();
    let crowd = Crowd::gather(&rack, count).await?;
    println!("{count} agents connected and set up in {:.2?}", begun.elapsed());
    let names: Vec<_> = (0..count).map(|number| format!("n{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let command = Exec { command: "true".to_owned(), ..Exec::default() };
    let (mut best, before) = (Duration::MAX, processor()?);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let events = rack.fan_out(NodeOp::Exec(command.clone()), &names, PATIENCE).await?;
        best = best.min(begun.elapsed());
        let good = finals(&events).iter().filter(|(_, event)| *event == Event::Exit(0)).count();
        anyhow::ensure!(good == count, "{good} of {count} succeeded");
    }
    let each = (processor()? - before) / u32::try_from(ROUNDS)?;
    println!(
        "true on {count} agents: best {best:.1?}, {each:.1?} of processor time each (limit 500 ms for 200)"
    );
    let resident = service::Health::resident().unwrap_or_default() / 1024 / 1024;
    println!("resident memory of all of it: {resident} MiB");
    crowd.part().await
}

/// Processor time of this process and its ended children.
fn processor() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after = stat.rsplit(')').next().context("stat")?;
    let ticks: u64 =
        after.split_whitespace().skip(11).take(4).filter_map(|word| word.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}
