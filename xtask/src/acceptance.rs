//! `cargo xtask acceptance`: what the project promises, proven on virtual racks from outside, with the
//! public commands and with other people's programs.
//!
//! Checks stand in groups; a group has a lab of its own and its checks follow one another, because each
//! finds the cluster as the one before left it. A check that fails does not keep the others from running.

mod adapters;
mod bench;
mod config;
mod faults;
mod full_disk;
mod garbage;
mod identity;
mod masters;
mod plan;
mod power;
mod refusals;
mod shell;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::lab::{self, Wanted};
use crate::stage::{Budget, Note, Stages};
use crate::workspace::Workspace;
use crate::{image, packages};

use bench::Bench;

/// Options of the acceptance command.
#[derive(Args)]
pub struct Options {
    /// Only groups whose name begins so, and checks whose sentence contains it.
    names: Vec<String>,
    /// Everything: three seeds of full racks with virtual machines, the slow checks too.
    #[arg(long)]
    full: bool,
    /// Run what was built before.
    #[arg(long)]
    no_build: bool,
    /// Leave the last lab up.
    #[arg(long)]
    keep: bool,
    /// Do not ask before installing packages.
    #[arg(long)]
    yes: bool,
}

/// One check: the sentence that holds, and how it is proven.
pub struct Check {
    /// The sentence.
    pub sentence: &'static str,
    /// Only with `--full`.
    pub full: bool,
    /// The proof.
    pub prove: fn(&Bench<'_>) -> Result<()>,
}

/// A check of the daily part.
const fn daily(sentence: &'static str, prove: fn(&Bench<'_>) -> Result<()>) -> Check {
    Check { sentence, full: false, prove }
}

/// A check that is too slow for every day.
const fn full(sentence: &'static str, prove: fn(&Bench<'_>) -> Result<()>) -> Check {
    Check { sentence, full: true, prove }
}

/// Checks with a lab of their own.
struct Group {
    name: &'static str,
    full: bool,
    lab: fn() -> Wanted,
    checks: &'static [&'static [Check]],
}

const GROUPS: &[Group] = &[
    Group {
        name: "racks",
        full: false,
        lab: || Wanted {
            masters: 1,
            racks: 2,
            nodes: 3,
            strangers: 1,
            swap: vec!["r1n01:r1n02".into()],
            ..Wanted::default()
        },
        checks: &[
            plan::CHECKS,
            power::CHECKS,
            identity::CHECKS,
            shell::CHECKS,
            config::CHECKS,
            adapters::CHECKS,
            refusals::CHECKS,
            garbage::CHECKS,
            faults::CHECKS,
            full_disk::CHECKS,
        ],
    },
    Group {
        name: "masters",
        full: false,
        lab: || Wanted { masters: 3, racks: 1, nodes: 2, power: true, ..Wanted::default() },
        checks: &[masters::CHECKS],
    },
    Group { name: "seed 101", full: true, lab: || full_racks(101, 1), checks: &[plan::DRAWN] },
    Group { name: "seed 202", full: true, lab: || full_racks(202, 0), checks: &[plan::DRAWN, config::MANY] },
    Group { name: "seed 303", full: true, lab: || full_racks(303, 0), checks: &[plan::DRAWN] },
];

fn full_racks(seed: u64, vms: u16) -> Wanted {
    Wanted { masters: 1, racks: 2, nodes: 8, vms, seed: Some(seed), power: true, ..Wanted::default() }
}

/// Runs the command.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let mut stages = Stages::new();
    if !options.no_build {
        stages.run("packages", Budget::seconds(240), |_| {
            packages::install(workspace, options.yes)?;
            Ok(String::new())
        })?;
        stages.run("programs, agent, discovery image", Budget::seconds(900), |_| {
            crate::rocksdb::ensure(workspace)?;
            lab::build_programs(workspace)?;
            let folder = image::build(workspace)?;
            image::sizes(&folder)
        })?;
    }
    let mut score = Score::default();
    for group in GROUPS.iter().filter(|group| options.full || !group.full) {
        let chosen = chosen(group, &options.names, options.full);
        if chosen.is_empty() {
            continue;
        }
        let name = format!("acceptance: {}", group.name);
        stages.run(&name, Budget::seconds(240), |note| {
            run_group(workspace, group, &chosen, note, &mut score);
            Ok(String::new())
        })?;
    }
    if !options.keep {
        lab::down(workspace)?;
    }
    stages.close();
    for (sentence, fault) in &score.failed {
        println!("FAILED: {sentence}\n    {}", fault.replace('\n', "\n    "));
    }
    println!("{} passed, {} failed", score.passed, score.failed.len());
    Ok(if score.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The daily part, as a stage of the test command; says how many checks passed.
pub fn daily_stage(workspace: &Workspace, note: &Note) -> Result<u64> {
    let mut score = Score::default();
    for group in GROUPS.iter().filter(|group| !group.full) {
        run_group(workspace, group, &chosen(group, &[], false), note, &mut score);
    }
    if !score.failed.is_empty() {
        let said: Vec<String> =
            score.failed.iter().map(|(sentence, fault)| format!("{sentence}: {fault}")).collect();
        bail!("{} of {} checks failed\n{}", said.len(), score.passed as usize + said.len(), said.join("\n"));
    }
    Ok(score.passed)
}

#[derive(Default)]
struct Score {
    passed: u64,
    failed: Vec<(String, String)>,
}

fn chosen(group: &Group, names: &[String], full: bool) -> Vec<&'static Check> {
    let whole = names.is_empty() || names.iter().any(|name| group.name.starts_with(name.as_str()));
    let of_group = |name: &str| GROUPS.iter().any(|group| group.name.starts_with(name));
    let sentences: Vec<&str> = names.iter().map(String::as_str).filter(|name| !of_group(name)).collect();
    let wanted = |check: &Check| whole || sentences.iter().any(|name| check.sentence.contains(name));
    let checks = group.checks.iter().flat_map(|part| part.iter());
    // What comes first prepares what comes later.
    let prepares =
        |check: &Check| plan::PREPARES.contains(&check.sentence) || config::PREPARES == check.sentence;
    let some = group.checks.iter().flat_map(|part| part.iter()).any(&wanted);
    checks.filter(|check| some && (full || !check.full) && (wanted(check) || prepares(check))).collect()
}

fn run_group(
    workspace: &Workspace,
    group: &Group,
    checks: &[&'static Check],
    note: &Note,
    score: &mut Score,
) {
    let begun = Instant::now();
    let lab = match lab::raise(workspace, &(group.lab)()).context("bringing the lab up") {
        Ok(lab) => lab,
        Err(fault) => {
            let sentence = format!("the lab of the group '{}' comes up", group.name);
            note.print(&format!("     FAILED {sentence}: {fault:#}"));
            score.failed.push((sentence, format!("{fault:#}")));
            return;
        }
    };
    note.print(&format!("     {:>6.1} s  lab up, seed {}", begun.elapsed().as_secs_f64(), lab.seed()));
    let bench = Bench { lab, note };
    for check in checks {
        note.say(check.sentence);
        let begun = Instant::now();
        let result = (check.prove)(&bench);
        let took = begun.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                note.print(&format!("     {took:>6.1} s  {}", check.sentence));
                score.passed += 1;
            }
            Err(fault) => {
                note.print(&format!("     {took:>6.1} s  FAILED {}", check.sentence));
                note.print(&format!("         {}", format!("{fault:#}").replace('\n', "\n         ")));
                score.failed.push((check.sentence.to_owned(), format!("{fault:#}")));
            }
        }
    }
}
