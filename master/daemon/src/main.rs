//! `margayd`: the master.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};
use master::{Config, Master, Surroundings, init, monitor, notify};
use service::Drain;

/// The Margay master.
#[derive(Parser)]
#[command(name = "margayd", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Configuration file
    #[arg(long)]
    config: Option<PathBuf>,
    /// Check the configuration and end
    #[arg(long, value_name = "FILE")]
    check_config: Option<PathBuf>,
    /// Print the default configuration with explanations
    #[arg(long)]
    print_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Make a new cluster: CA, first admin, configuration of its masters
    Init(init::Init),
    /// Call handlers of changes for a daemon; not for people
    #[command(hide = true)]
    Deliver {
        /// File that remembers what was called
        journal: PathBuf,
    },
    /// Ask a monitoring plug-in for a daemon; not for people
    #[command(hide = true)]
    Perform,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Init(arguments)) => {
            print!("{}", init::init(&arguments)?);
            return Ok(());
        }
        Some(Command::Deliver { journal }) => return notify::runner::main(&journal),
        Some(Command::Perform) => return monitor::perform::main(),
        None => {}
    }
    if arguments.print_config {
        print!("{}", <Config as service::Config>::DOCUMENT);
        return Ok(());
    }
    if let Some(path) = arguments.check_config {
        Config::read(&path)?;
        println!("{}: good", path.display());
        return Ok(());
    }
    let path = arguments.config.context("--config FILE is missing ('margayd init' makes one)")?;
    let config = Config::read(&path)?;
    if let Some(complaint) = service::log::init("info") {
        eprintln!("{complaint}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(config))
}

async fn run(config: Config) -> anyhow::Result<()> {
    let drain = Drain::new();
    drain.stop_on_signals()?;
    let name = config.name.clone();
    let master = Master::spawn(config, drain.clone(), Surroundings::default())?;
    println!("margayd: member {name} ready on {}", master.address());
    let mut status = master.core().group.status();
    tokio::select! {
        () = drain.stopping() => {}
        // The consensus thread ended by itself: a master without it is of no use.
        _ = status.wait_for(|status| status.fault.is_some()) => {}
    }
    let late = master.finish().await;
    if !late.is_empty() {
        tracing::warn!(tasks = ?late, "these did not stop in time");
    }
    Ok(())
}
