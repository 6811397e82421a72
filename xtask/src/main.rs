//! The project's own commands: `cargo xtask <command>`.
//!
//! Everything that a developer or a machine of the build service does is one of these: preparing the
//! machine, checking, testing, measuring, running a throwaway cluster, running the virtual racks.

mod acceptance;
mod atomicity;
mod bench;
mod check;
mod crosscheck;
mod dev;
mod docs;
mod frozen;
mod image;
mod lab;
mod layers;
mod links;
mod packages;
mod process;
mod proofs;
mod rocksdb;
mod stage;
mod tables;
mod test;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use workspace::Workspace;

/// Margay's developer commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Options {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Formatting, lints with warnings denied, the layer law, frozen messages, generated documents.
    Check {
        /// Write generated documents instead of comparing them.
        #[arg(long)]
        write: bool,
    },
    /// Installs what is needed, then runs every check and every test.
    Test(test::Options),
    /// Says where the manifests break the layer law of docs/architecture.md.
    Layers,
    /// Proves on virtual racks what the project promises.
    Acceptance(acceptance::Options),
    /// Commands are whole or did nothing, under many writers and kills: a thousand rounds.
    Atomicity(atomicity::Options),
    /// Measures what docs/performance.md promises.
    Bench(bench::Options),
    /// Masters on loopback with a throwaway CA and data in DIR, in the foreground until interrupted.
    Dev(dev::Options),
    /// Links to the client for every command name, in DIR.
    Links {
        /// The folder; it is made.
        dir: PathBuf,
    },
    /// Virtual racks of unknown machines on this computer.
    Lab(lab::Options),
    /// Builds the agent and the discovery image.
    Image,
    /// Installs the distribution packages that the lab and the tests use.
    Packages {
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Prints the settings under which plain `cargo` builds as these commands do.
    Env,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(options.command) {
        Ok(code) => code,
        Err(fault) => {
            eprintln!("Error: {fault:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::find()?;
    match task {
        Task::Check { write } => return check::run(&workspace, write),
        Task::Test(options) => return test::run(&workspace, &options),
        Task::Layers => {
            let broken = layers::check(&workspace)?;
            for fault in &broken {
                println!("{fault}");
            }
            if !broken.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
            println!("The layer law holds.");
        }
        Task::Acceptance(options) => return acceptance::run(&workspace, &options),
        Task::Atomicity(options) => atomicity::run(&workspace, &options)?,
        Task::Bench(options) => bench::run(&workspace.for_measuring(), &options)?,
        Task::Dev(options) => dev::run(&workspace.for_measuring(), &options)?,
        Task::Links { dir } => {
            workspace.cargo_build(&["cli"], "release")?;
            links::make(&workspace.program("margay", "release"), &dir)?;
        }
        Task::Lab(options) => return lab::run(&workspace, options),
        Task::Image => {
            let built = image::build(&workspace)?;
            println!("{}", built.display());
        }
        Task::Packages { yes } => packages::install(&workspace, yes)?,
        Task::Env => {
            for (name, value) in workspace.settings()? {
                println!("export {name}={value}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
