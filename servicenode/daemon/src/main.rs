//! `margay-sn`: the service node daemon.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use service::{Config as _, Drain};
use servicenode::{Config, ServiceNode, join};
use tracing::warn;

/// Tasks that have not ended by then are aborted.
const GRACE: Duration = Duration::from_secs(5);

/// Serves the machines of a rack.
#[derive(Parser)]
#[command(name = "margay-sn", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Args)]
struct Daemon {
    /// Configuration file.
    #[arg(long, default_value = "/etc/margay/sn.toml")]
    config: PathBuf,
    /// Print the default configuration with explanations.
    #[arg(long)]
    print_config: bool,
    /// Check the configuration file and end.
    #[arg(long)]
    check_config: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Exchange the token of "margay sn add" for an identity.
    Join {
        /// Name given to "margay sn add".
        #[arg(long)]
        name: String,
        /// The token.
        #[arg(long)]
        token: String,
        /// Masters, address:port; several with commas.
        #[arg(long, value_delimiter = ',', required = true)]
        master: Vec<String>,
        /// SHA-256 of the cluster's CA certificate.
        #[arg(long)]
        ca_pin: String,
        /// Where identity and state are kept.
        #[arg(long, default_value = "/var/lib/margay-sn")]
        state: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(complaint) = service::log::init("info") {
        eprintln!("margay-sn: {complaint}");
    }
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("margay-sn: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let daemon = &arguments.daemon;
    if daemon.print_config {
        print!("{}", Config::DOCUMENT);
        return Ok(());
    }
    let runtime = tokio::runtime::Runtime::new().context("no runtime")?;
    if let Some(Verb::Join { name, token, master, ca_pin, state }) = arguments.verb {
        runtime.block_on(join::join(&state, &name, &token, &master, &ca_pin))?;
        println!("{name} has joined; its identity is in {}", state.display());
        return Ok(());
    }
    let config: Config = match service::config::load(&daemon.config) {
        Ok(config) => config,
        Err(error) => bail!("{error}"),
    };
    if daemon.check_config {
        println!("{}: good", daemon.config.display());
        return Ok(());
    }
    runtime.block_on(async {
        let drain = Drain::new();
        drain.stop_on_signals().context("signals")?;
        let node = ServiceNode::start(config, &drain).await?;
        println!("margay-sn: ready on {}", node.agent_address()?);
        drain.stopping().await;
        let late = drain.finish(GRACE).await;
        if !late.is_empty() {
            warn!(tasks = ?late, "did not stop by themselves");
        }
        node.close().await;
        Ok(())
    })
}
