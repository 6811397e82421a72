//! `margay-agent`: one node's agent, and the first process of the discovery image.

use std::path::PathBuf;
use std::process::ExitCode;

use agent::boot::{self, BootError};
use agent::{Outcome, init};
use service::Drain;
use tracing::error;

fn main() -> ExitCode {
    let word = std::env::args().nth(1).unwrap_or_default();
    if init::is_lease_script(&word) {
        return match init::lease_script(&word) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("margay-agent: {error}");
                ExitCode::FAILURE
            }
        };
    }
    if init::is_first() {
        init::first_process();
    }
    if matches!(word.as_str(), "--help" | "-h") {
        print!("{}", boot::USAGE);
        return ExitCode::SUCCESS;
    }
    if word == "--probe" {
        let root = std::env::args().nth(2).unwrap_or_else(|| "/".to_owned());
        println!("{:#?}", agent::probe::hardware(std::path::Path::new(&root), ""));
        return ExitCode::SUCCESS;
    }
    if word == "--version" {
        println!("margay-agent {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    if let Some(complaint) = service::log::init("info") {
        eprintln!("margay-agent: {complaint}");
    }
    let console = std::env::var_os("MARGAY_CONSOLE").map(PathBuf::from);
    let config = match boot::config(std::env::args().skip(1), console) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("margay-agent: {error}");
            if matches!(error, BootError::Usage(_)) {
                eprint!("{}", boot::USAGE);
            }
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "no runtime");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        let drain = Drain::new();
        drain.stop_on_signals()?;
        let outcome = agent::run(config, &drain).await?;
        anyhow::Ok(outcome)
    });
    runtime.shutdown_background();
    match outcome {
        Ok(outcome) => ExitCode::from(Outcome::exit_code(outcome)),
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
