//! `cargo xtask bench`: measures in the running lab and on throwaway masters what docs/performance.md promises.

mod db;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::process;
use crate::stage::children_cpu;
use crate::workspace::Workspace;

/// Options of the bench command.
#[derive(Args, Clone)]
pub struct Options {
    /// What is measured; without it what needs no large tables.
    #[arg(value_enum)]
    what: Option<What>,
    /// Run what was built before.
    #[arg(long)]
    no_build: bool,
    /// With how many nodes the database is measured.
    #[arg(long, value_delimiter = ',', default_value = "11000,100000")]
    nodes: Vec<u64>,
    /// Folder of a running `cargo xtask dev DIR`; without it a cluster of one is made for the time of the bench.
    #[arg(long)]
    dir: Option<std::path::PathBuf>,
    /// Measure many machines, too: puts a lab of 300 soft nodes up for the time of the bench.
    #[arg(long)]
    lab: bool,
    /// Leave out the benches that are programs of their crates (many BMCs, many agents).
    #[arg(long)]
    no_programs: bool,
}

/// A bench of its own.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum What {
    /// Speed and size of the database.
    Db,
}

/// Runs of each timed command.
const RUNS: u32 = 50;
/// Requests of the write bench.
const WRITES: u32 = 100;

/// Measures and prints; fails only when something cannot be measured.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if let Some(What::Db) = options.what {
        return db::run(workspace, options);
    }
    let cluster = Cluster::of(workspace, options)?;
    println!("{:<44} {:>12} {:>14}", "what", "wall", "cpu (client)");
    cluster.command(&["nodeadd", "bench0001-bench1000", "groups=bench,all"])?;
    cluster.timed("nodels of one node", RUNS, &["nodels", "bench0500"])?;
    cluster.timed("nodels of 1,000 nodes", RUNS, &["nodels", "bench"])?;
    cluster.timed("tabdump of 1,000 rows", RUNS, &["tabdump", "nodelist"])?;
    cluster.fsyncs(1)?;
    cluster.fsyncs(20)?;
    drop(cluster);
    if !options.no_programs {
        programs(workspace, &workspace.profile)?;
    }
    if options.lab {
        racks(workspace)?;
    }
    Ok(())
}

/// Many machines at once, in a lab of 300 soft nodes.
fn racks(workspace: &Workspace) -> Result<()> {
    crate::lab::build_programs(workspace)?;
    crate::image::build(workspace)?;
    crate::lab::down(workspace)?;
    let result = crate::lab::many(workspace, 150).and_then(|()| {
        let lab = crate::lab::inside(workspace)?;
        println!("{:<44} {:>12}", "300 soft nodes", "best of 5");
        for words in [
            &["rpower", "machines", "stat"][..],
            &["xdsh", "r1n01-r1n100,r2n01-r2n100", "true"],
            &["xdsh", "machines", "true"],
            &["getadapter", "machines", "-f"],
            &["nodels", "machines", "vpd.serial", "mac.mac"],
        ] {
            let mut best = std::time::Duration::MAX;
            for _ in 0..5 {
                let begun = Instant::now();
                lab.run("core", words)?;
                best = best.min(begun.elapsed());
            }
            println!("{:<44} {:>9.1} ms", words.join(" "), best.as_secs_f64() * 1e3);
        }
        Ok(())
    });
    crate::lab::down(workspace)?;
    result
}

/// Benches that are programs of their crates.
fn programs(workspace: &Workspace, profile: &str) -> Result<()> {
    for (package, folder, example) in [
        ("sim", "tests/sim", "bmc-bench"),
        ("storage", "master/storage", "propose"),
        ("rack", "tests/rack", "many-agents"),
    ] {
        if !workspace.root.join(folder).join("examples").join(format!("{example}.rs")).exists() {
            continue;
        }
        let mut cargo =
            workspace.cargo(&["run", "--locked", "--quiet", "--profile", profile, "-p", package])?;
        println!("\n{example}:");
        let status =
            cargo.args(["--example", example]).status().with_context(|| format!("starting {example}"))?;
        if !status.success() {
            bail!("{example} failed");
        }
    }
    Ok(())
}

/// A cluster on loopback that is measured.
struct Cluster {
    dir: std::path::PathBuf,
    own: Option<Own>,
}

/// The process that was started for it, and the pipe it writes to: closed, it would end.
struct Own {
    child: std::process::Child,
    _output: std::io::BufReader<std::process::ChildStdout>,
}

impl Cluster {
    fn of(workspace: &Workspace, options: &Options) -> Result<Self> {
        if let Some(dir) = &options.dir {
            return Ok(Self { dir: std::path::absolute(dir)?, own: None });
        }
        let dir = workspace.target.join("xtask/bench");
        if dir.exists() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
        }
        if !options.no_build {
            workspace.cargo_build(&["master", "cli"], &workspace.profile)?;
        }
        let program = std::env::current_exe().context("own path")?;
        let mut dev = Command::new("setpriv");
        dev.args(["--pdeathsig", "TERM"])
            .arg(program)
            .args(["dev", "--no-build"])
            .arg(&dir)
            .stdout(std::process::Stdio::piped());
        let mut child = dev.spawn().context("starting a cluster")?;
        let mut out = std::io::BufReader::new(child.stdout.take().context("the cluster's output")?);
        let mut line = String::new();
        while !line.starts_with("Ready.") {
            line.clear();
            if std::io::BufRead::read_line(&mut out, &mut line)? == 0 {
                bail!("the cluster did not start");
            }
        }
        Ok(Self { dir, own: Some(Own { child, _output: out }) })
    }

    fn command(&self, words: &[&str]) -> Result<String> {
        let [name, arguments @ ..] = words else { bail!("no command") };
        let mut command = Command::new(self.dir.join("bin").join(name));
        command.args(arguments).env("MARGAY_CONFIG", self.dir.join("admin/client.toml"));
        process::text(&mut command)
    }

    fn timed(&self, what: &str, runs: u32, words: &[&str]) -> Result<()> {
        let mut walls = Vec::new();
        let cpu = children_cpu();
        for _ in 0..runs {
            let begun = Instant::now();
            self.command(words)?;
            walls.push(begun.elapsed());
        }
        walls.sort();
        let cpu = (children_cpu().saturating_sub(cpu)) / runs;
        let median = walls[walls.len() / 2];
        println!("{what:<44} {:>9.1} ms {:>11.1} ms", median.as_secs_f64() * 1e3, cpu.as_secs_f64() * 1e3);
        Ok(())
    }

    /// Counts the leader's fsyncs during acknowledged writes: there must be some, and fewer than writes when
    /// many are made at once.
    fn fsyncs(&self, writers: u32) -> Result<()> {
        let members = std::fs::read_to_string(self.dir.join("members")).context("reading the members")?;
        let pid = members.split_whitespace().nth(1).context("no member")?.to_owned();
        let trace = self.dir.join("fsyncs");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-q", "-e", "trace=fsync,fdatasync", "-o"]).arg(&trace).args(["-p", &pid]);
        let mut child = strace.spawn().context("starting strace")?;
        wait_for_trace(&pid)?;
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..writers)
                .map(|writer| {
                    scope.spawn(move || -> Result<()> {
                        for number in 0..WRITES / writers {
                            let node = format!("fsync{writers:02}-{writer:02}-{number:03}");
                            self.command(&["nodeadd", &node, "groups=bench"])?;
                        }
                        Ok(())
                    })
                })
                .collect();
            threads.into_iter().try_for_each(|thread| {
                thread.join().map_err(|_| anyhow::anyhow!("a writer panicked")).and_then(|ended| ended)
            })
        })?;
        let took = begun.elapsed();
        // An interrupt lets strace detach and write everything.
        let strace =
            i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw).context("strace's id")?;
        rustix::process::kill_process(strace, rustix::process::Signal::INT).context("ending strace")?;
        child.wait().context("waiting for strace")?;
        let count = syncs(&trace)?;
        println!(
            "{:<44} {:>9.1} ms {:>14}",
            format!("nodeadd, {WRITES} by {writers} writers"),
            took.as_secs_f64() * 1e3 / f64::from(WRITES),
            format!("{:.2} fsyncs", count as f64 / f64::from(WRITES)),
        );
        if count == 0 {
            bail!("writes were acknowledged without an fsync");
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(Own { child, .. }) = &mut self.own {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until the process is traced.
fn wait_for_trace(pid: &str) -> Result<()> {
    let deadline = Instant::now() + std::time::Duration::from_secs(10);
    while Instant::now() < deadline {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        if status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0")) {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    bail!("strace does not attach to process {pid}")
}

fn syncs(trace: &Path) -> Result<usize> {
    let text = std::fs::read_to_string(trace).context("reading strace's output")?;
    // A call that another thread interrupts stands in two lines; only its beginning is counted.
    Ok(text.lines().filter(|line| line.contains("sync(") && !line.contains("resumed")).count())
}
