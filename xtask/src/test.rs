//! `cargo xtask test`: prepares the machine, checks, tests, and proves the whole on a small lab.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;

use crate::stage::{Budget, Note, Stages};
use crate::workspace::Workspace;
use crate::{acceptance, check, crosscheck, image, lab, packages, process};

/// Options of the test command.
#[derive(Args)]
pub struct Options {
    /// Do not ask before installing packages.
    #[arg(long)]
    yes: bool,
    /// Leave out the lab (for a machine without namespaces).
    #[arg(long)]
    no_lab: bool,
}

/// Tests that passed and failed, over all test programs.
#[derive(Default, Clone, Copy)]
struct Count {
    passed: u64,
    failed: u64,
}

/// Runs everything; the last line is `N passed, N failed`.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let mut stages = Stages::new();
    let mut count = Count::default();
    let result = all(workspace, options, &mut stages, &mut count);
    stages.close();
    if let Err(fault) = &result {
        count.failed = count.failed.max(1);
        eprintln!("Error: {fault:#}");
    }
    println!("{} passed, {} failed", count.passed, count.failed);
    Ok(if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn all(workspace: &Workspace, options: &Options, stages: &mut Stages, count: &mut Count) -> Result<()> {
    stages.run("packages", Budget::seconds(240), |_| {
        packages::install(workspace, options.yes)?;
        Ok(String::new())
    })?;
    check::stages_of(workspace, stages, false)?;
    count.passed += 5;
    stages.run("licenses and sources", Budget::seconds(900), |note| deny(workspace, note))?;
    count.passed += 1;
    stages.run("build tests", Budget::seconds(900), |_| {
        let mut cargo = workspace.cargo(&["test", "--locked", "--workspace", "--no-run"])?;
        process::logged(&mut cargo, &workspace.target.join("xtask/test-build.log"))?;
        Ok(String::new())
    })?;
    stages.run("tests", Budget::seconds(300), |_| tests(workspace, count))?;
    stages.run("agent and image", Budget::seconds(300), |_| {
        let folder = image::build(workspace)?;
        image::sizes(&folder)
    })?;
    count.passed += 1;
    if options.no_lab {
        return Ok(());
    }
    stages.run("lab programs", Budget::seconds(900), |_| {
        lab::build_programs(workspace)?;
        Ok(String::new())
    })?;
    stages.run("lab: racks to nodes", Budget::seconds(240), |note| lab::smoke(workspace, note))?;
    count.passed += 1;
    let checked = stages.run("lab: other programs agree", Budget::seconds(120), |note| {
        let done = crosscheck::run(workspace, note)?;
        count.passed += done;
        Ok(format!("{done} checks"))
    });
    let proven = checked.and_then(|()| {
        stages.run("acceptance", Budget::seconds(400), |note| {
            let done = acceptance::daily_stage(workspace, note)?;
            count.passed += done;
            Ok(format!("{done} checks"))
        })
    });
    stages.run("lab: down", Budget::seconds(10), |_| {
        lab::down(workspace)?;
        Ok(String::new())
    })?;
    proven
}

fn tests(workspace: &Workspace, count: &mut Count) -> Result<String> {
    let log = workspace.target.join("xtask/tests.log");
    if log.exists() {
        std::fs::remove_file(&log).context("removing the old log")?;
    }
    let cargo = workspace.cargo(&["test", "--locked", "--workspace", "--no-fail-fast"])?;
    let result = process::logged(&mut with_namespaces(cargo), &log);
    let seen = counted(&std::fs::read_to_string(&log).context("reading the tests' log")?);
    count.passed += seen.passed;
    count.failed += seen.failed;
    result?;
    Ok(format!("{} tests", seen.passed))
}

/// Tests make network namespaces. Who is not root gets that right in a user namespace of their own.
fn with_namespaces(cargo: Command) -> Command {
    if rustix::process::geteuid().is_root() {
        return cargo;
    }
    let mut inside = Command::new("unshare");
    inside.args([
        "--user",
        "--map-root-user",
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "sh",
        "-c",
    ]);
    inside.arg("mount -t tmpfs tmpfs /run && ip link set lo up && exec \"$@\"").arg("tests");
    inside.arg(cargo.get_program()).args(cargo.get_args());
    for (name, value) in cargo.get_envs() {
        match value {
            Some(value) => inside.env(name, value),
            None => inside.env_remove(name),
        };
    }
    if let Some(folder) = cargo.get_current_dir() {
        inside.current_dir(folder);
    }
    inside
}

/// Sums up the lines `test result: ok. 3 passed; 0 failed; ...`.
fn counted(log: &str) -> Count {
    let mut count = Count::default();
    for line in log.lines().filter(|line| line.starts_with("test result:")) {
        let number = |word: &str| -> u64 {
            let words: Vec<&str> = line.split([' ', ';']).filter(|piece| !piece.is_empty()).collect();
            let at = words.iter().position(|piece| *piece == word);
            at.and_then(|at| words.get(at.checked_sub(1)?)?.parse().ok()).unwrap_or(0)
        };
        count.passed += number("passed");
        count.failed += number("failed");
    }
    count
}

/// cargo-deny over licenses, sources and doubles; the tool is built once into the cache.
fn deny(workspace: &Workspace, note: &Note) -> Result<String> {
    let tools = workspace.cache.join("tools");
    let program = tools.join("bin/cargo-deny");
    let log = workspace.target.join("xtask/deny.log");
    if !program.exists() {
        note.say("building cargo-deny, once");
        let mut install = Command::new("cargo");
        install
            .args(["install", "--locked", "--quiet", "cargo-deny", "--root"])
            .arg(&tools)
            .env("CARGO_TARGET_DIR", workspace.target.join("tools"));
        process::logged(&mut install, &log).context("building cargo-deny")?;
    }
    let mut run = Command::new(&program);
    run.current_dir(&workspace.root).args(["check", "bans", "licenses", "sources"]);
    process::logged(&mut run, &log)?;
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_and_failed_tests_are_added_up() {
        let log = "test result: ok. 3 passed; 0 failed; 0 ignored\nnoise\ntest result: FAILED. 4 passed; 2 failed; x\n";
        let count = counted(log);
        assert_eq!((count.passed, count.failed), (7, 2));
    }
}
