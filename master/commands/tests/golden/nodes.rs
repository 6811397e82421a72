//! Nodes and an editor as programs of this machine, for the sessions that need them.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use commands::FanOut;
use commands::fanout::Folder;
use wire::op::{Event, Exec, Fault, NodeEvent, NodeOp, Stream};

use crate::world::{Ran, told};

/// Runs the command of a fan-out at every node one after the other; `u1` does not answer.
pub fn run(plan: &FanOut) -> Ran {
    let mut folder = Folder::new(plan, "mn01");
    let mut items = plan.output.items.clone();
    for node in &plan.nodes {
        let events = match &plan.op {
            NodeOp::Exec(exec) if node != "u1" => at_node(exec),
            _ => vec![Event::Failed { fault: Fault::Unreachable, text: "its agent is not connected".into() }],
        };
        for event in events {
            items.extend(folder.event(&NodeEvent { node: node.clone(), event }));
        }
    }
    told(&items, i64::from(folder.status().max(plan.output.status)))
}

fn at_node(exec: &Exec) -> Vec<Event> {
    let folder = tempfile::tempdir().unwrap();
    let line = match &exec.script {
        Some(script) => {
            let path = folder.path().join("script");
            std::fs::write(&path, script).unwrap();
            format!("sh {} {}", path.display(), exec.command)
        }
        None => exec.command.clone(),
    };
    let Output { status, stdout, stderr } =
        Command::new("bash").args(["-c", &line]).env("LANG", "C").stdin(Stdio::null()).output().unwrap();
    let output = |stream, bytes: Vec<u8>| (!bytes.is_empty()).then_some(Event::Output { stream, bytes });
    let lines = [output(Stream::Out, stdout), output(Stream::Err, stderr)];
    lines.into_iter().flatten().chain([Event::Exit(status.code().unwrap())]).collect()
}

/// What a script that is called as an editor makes of a text.
pub fn edited(script: &str, name: &str, text: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (program, path) = (folder.path().join("editor"), folder.path().join(Path::new(name)));
    std::fs::write(&program, script).unwrap();
    std::fs::write(&path, text).unwrap();
    assert!(Command::new("sh").arg(&program).arg(&path).status().unwrap().success());
    std::fs::read(&path).unwrap()
}
