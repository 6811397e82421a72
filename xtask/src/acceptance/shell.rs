//! Commands on nodes: xdsh and psh through the agents.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::bench::{Bench, until};
use super::{Check, daily};

/// In any order.
pub const CHECKS: &[Check] = &[
    daily("xdsh and psh answer as xCAT was observed to", observed),
    daily("the lines of a node keep their order", ordered),
    daily("standard input reaches every node", standard_input),
    daily("Ctrl-C ends the command on the node", interrupted),
    daily("a hung node delays nobody and has its own line at its deadline", hung),
    daily("a detached command gives every line to who attaches", detached),
    daily("a killed client loses no line when somebody attaches", client_killed),
];

/// The transcripts d003 to d025 of the observations, at nodes of the lab.
fn observed(bench: &Bench<'_>) -> Result<()> {
    let server = bench.server()?;
    let said = bench.say(&["xdsh", "r1n01,r2n01", "echo out; echo err >&2"])?;
    let mut errors: Vec<&str> = said.err.lines().collect();
    errors.sort_unstable();
    let wanted = [format!("[{server}]: r1n01: err"), format!("[{server}]: r2n01: err")];
    let good = said.sorted() == ["r1n01: out", "r2n01: out"] && errors == wanted && said.status == 0;
    said.expect(good, "d003: both streams of two nodes")?;
    for (words, status, out) in [
        (&["xdsh", "r1n01", "false"][..], 1, ""),
        (&["xdsh", "r1n01", "exit 3"], 1, ""),
        (&["xdsh", "r1n01,r1n02,r2n01", "-z", "exit 3"], 3, ""),
        (&["xdsh", "r1n01", "-z", "true"], 0, "r1n01: Remote_command_rc = 0\n"),
        (&["psh", "r1n01", "echo", "hi"], 0, "r1n01: hi\n"),
    ] {
        let said = bench.say(words)?;
        said.expect(said.status == status && said.out == out && said.err.is_empty(), &words.join(" "))?;
    }
    let said = bench.say(&["xdsh", "r1n01,nosuch", "echo", "hi"])?;
    let good = said.err == "Error: Invalid nodes and/or groups in noderange: nosuch\n"
        && said.out.is_empty()
        && said.status == 1;
    said.expect(good, "d010: an unknown node")?;
    let said = bench.say(&["xdsh", "r1n01", "nosuchcommand_x"])?;
    let good = said.err.starts_with(&format!("[{server}]: r1n01: ")) && said.err.contains("not found");
    said.expect(good && said.status == 1, "d014: an unknown command")?;
    let said = bench.say(&["psh", "r1n01", "false"])?;
    let good = said.err == "r1n01: *** ssh exited with error code 1.\n" && said.status == 1;
    said.expect(good && said.out.is_empty(), "d025: psh of a command that fails")?;
    let script = bench.lab.path("check-script").display().to_string();
    std::fs::write(&script, "#!/bin/sh\necho script $1\n").context("writing a script")?;
    let said = bench.say(&["xdsh", "r1n01", "-e", &script, "arg"])?;
    said.expect(said.out == "r1n01: script arg\n" && said.status == 0, "d013: a script")
}

fn ordered(bench: &Bench<'_>) -> Result<()> {
    let said = bench.ok(&["xdsh", "r1n01,r2n01", "seq 1 5000"])?;
    for node in ["r1n01", "r2n01"] {
        let mark = format!("{node}: ");
        let mut numbers = said.lines().filter_map(|line| line.strip_prefix(&mark));
        ensure!(
            (1..=5000).all(|number| numbers.next() == Some(&number.to_string())) && numbers.next().is_none(),
            "the lines of {node} are not 1 to 5000 in order"
        );
    }
    Ok(())
}

fn standard_input(bench: &Bench<'_>) -> Result<()> {
    let lines: String = (0..2000).map(|number| format!("line {number} of the input\n")).collect();
    let said = bench.fed(&["xdsh", "r1n01,r2n01", "cat; echo end"], &lines)?;
    for node in ["r1n01", "r2n01"] {
        let mark = format!("{node}: ");
        let got: String = said
            .out
            .lines()
            .filter_map(|line| line.strip_prefix(&mark))
            .map(|line| format!("{line}\n"))
            .collect();
        said.expect(got == format!("{lines}end\n"), &format!("{node} did not get its input"))?;
    }
    Ok(())
}

fn interrupted(bench: &Bench<'_>) -> Result<()> {
    let command = bench.begin(&["xdsh", "r1n01", "echo begun; exec sleep 76543.21"])?;
    until("the command to begin", 20, || Ok(command.so_far().out.contains("begun").then_some(())))?;
    let remote = until("the remote process", 10, || Ok(bench.pids("^sleep 76543.21")?.into_iter().next()))?;
    command.signal("INT")?;
    let said = command.wait(Duration::from_secs(15))?;
    said.expect(said.status == 130, "the client's status after Ctrl-C is not 130")?;
    bench.until_gone(&remote)
}

fn hung(bench: &Bench<'_>) -> Result<()> {
    let agent = bench.agent_pid("r1n01")?.context("no agent in r1n01")?;
    // The machine in the place r1n01 may be another node: its cable counts.
    let hung = bench
        .defined()
        .into_iter()
        .find(|node| bench.lab.at_port_of(&node.name).is_ok_and(|machine| machine.name == "r1n01"))
        .context("no node for r1n01")?
        .name;
    let others = bench.column("machines", "nodelist.node")?.len() - 1;
    bench.lab.signal("STOP", &agent)?;
    let begun = Instant::now();
    let command = bench.begin(&["xdsh", "machines", "-t", "4", "echo hi"])?;
    let answered = until("the others", 4, || {
        Ok((command.so_far().out.lines().count() == others).then(|| begun.elapsed()))
    });
    let said = command.wait(Duration::from_secs(30));
    let took = begun.elapsed();
    bench.lab.signal("CONT", &agent)?;
    let said = said?;
    let answered = answered.with_context(|| said.all())?;
    said.expect(said.status == 1, "one node failed, so the status is 1")?;
    let lines: Vec<&str> = said.err.lines().filter(|line| line.contains(&format!("{hung}: "))).collect();
    said.expect(lines.len() == 1 && lines[0].contains("timeout"), &format!("no line of its own for {hung}"))?;
    bench.note.print(&format!(
        "              others answered after {:.2} s, the hung one's line came after {:.2} s",
        answered.as_secs_f64(),
        took.as_secs_f64()
    ));
    ensure!(answered < Duration::from_secs(3), "the others waited {answered:.1?}");
    ensure!(took < Duration::from_secs(12), "its line came after {took:.1?} with a deadline of 4 s");
    bench.until_agents("machines", 60)
}

fn detached(bench: &Bench<'_>) -> Result<()> {
    let said = bench.ok(&[
        "xdsh",
        "r1n01,r2n01",
        "--detach",
        "for i in $(seq 100); do echo $i; sleep 0.01; done",
    ])?;
    let id: String = said.chars().filter(char::is_ascii_digit).collect();
    ensure!(!id.is_empty(), "no id in: {said}");
    let said = bench.say(&["margay", "action", "attach", &id])?;
    let good = said.out.lines().count() == 200 && said.status == 0;
    said.expect(good, &format!("action {id} did not give its 200 lines"))?;
    let again = bench.say(&["margay", "action", "attach", &id])?;
    again.expect(again.sorted() == said.sorted(), "a second look shows something else")?;
    let shown = bench.ok(&["margay", "action", "show", &id])?;
    ensure!(shown.contains("state=done") || shown.contains("status=0"), "{shown}");
    Ok(())
}

fn client_killed(bench: &Bench<'_>) -> Result<()> {
    let command =
        bench.begin(&["xdsh", "r1n01,r2n01", "for i in $(seq 150); do echo mark $i; sleep 0.02; done"])?;
    until("the first lines", 20, || Ok((command.so_far().out.lines().count() > 20).then_some(())))?;
    command.signal("KILL")?;
    let said = command.wait(Duration::from_secs(10))?;
    said.expect(said.status == 137, "the client was not killed")?;
    let list = bench.ok(&["margay", "action", "list"])?;
    let id = list
        .lines()
        .rev()
        .find(|line| line.contains("mark"))
        .and_then(|line| line.split_whitespace().next())
        .with_context(|| format!("the command is not listed:\n{list}"))?;
    let attached = bench.say(&["margay", "action", "attach", id])?;
    for node in ["r1n01", "r2n01"] {
        let wanted: Vec<String> = (1..=150).map(|number| format!("{node}: mark {number}")).collect();
        let mark = format!("{node}: ");
        let got: Vec<&str> = attached.out.lines().filter(|line| line.starts_with(&mark)).collect();
        attached.expect(got == wanted, &format!("action {id} did not give the 150 lines of {node}"))?;
    }
    attached.expect(attached.status == 0, "the command went on to its end")
}
