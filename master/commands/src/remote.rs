//! xdsh and psh as plans.

use wire::op::NodeOp;

use crate::fanout::{FanOut, Style};
use crate::plan::{Ctx, Output, Plan};
use crate::registry::{Command, Range};
use crate::shell::{self, Refusal, Remote};

/// Largest script that is sent to nodes, in bytes.
const SCRIPT: usize = 1024 * 1024;

/// xdsh.
pub static XDSH: Command = Command {
    name: "xdsh",
    aliases: &["run"],
    summary: "Run a command on nodes",
    usage: shell::XDSH_USAGE,
    writes: true,
    range: Range::First,
    plan: xdsh,
};

/// psh.
pub static PSH: Command = Command {
    name: "psh",
    aliases: &[],
    summary: "Run a command on nodes",
    usage: shell::PSH_USAGE,
    writes: true,
    range: Range::First,
    plan: psh,
};

fn xdsh(ctx: &Ctx<'_>) -> Plan {
    let remote = match shell::xdsh(ctx.args, ctx.environment) {
        Ok(remote) => remote,
        Err(refusal) => return refused(ctx, shell::XDSH_USAGE, refusal),
    };
    let nodes = match ctx.nodes(&remote.noderange) {
        Ok(nodes) => nodes,
        Err(plan) => return plan,
    };
    if nodes.is_empty() {
        return Plan::error(ctx, "Unless using -i option,  noderange is required.");
    }
    let style = Style::Xdsh(remote.shown.clone());
    plan(ctx, remote, nodes, style, Output::new()).unwrap_or_else(|plan| plan)
}

fn psh(ctx: &Ctx<'_>) -> Plan {
    let remote = match shell::psh(ctx.args, ctx.environment) {
        Ok(remote) => remote,
        Err(refusal) => return refused(ctx, shell::PSH_USAGE, refusal),
    };
    let (nodes, missing) = match ctx.expand(&remote.noderange) {
        Ok(found) => found,
        Err(plan) => return plan,
    };
    let mut output = Output::new();
    if !missing.is_empty() {
        output.line(&format!("Warning: Invalid nodes in noderange:{}", missing.join(",")));
    }
    if nodes.is_empty() {
        return output.into();
    }
    plan(ctx, remote, nodes, Style::Psh, output).unwrap_or_else(|plan| plan)
}

fn plan(
    ctx: &Ctx<'_>,
    remote: Remote,
    nodes: Vec<String>,
    style: Style,
    output: Output,
) -> Result<Plan, Plan> {
    let mut exec = remote.exec;
    if let Some(path) = &remote.script {
        let script =
            ctx.file(path)?.ok_or_else(|| Plan::error(ctx, &format!("File {path} does not exist")))?;
        if script.len() > SCRIPT {
            return Err(Plan::error(ctx, &format!("{path} is larger than {SCRIPT} bytes")));
        }
        exec.script = Some(script.to_vec());
    }
    if let Some(path) = &remote.environment_file {
        let text = ctx.file(path)?.ok_or_else(|| Plan::error(ctx, &format!("File {path} does not exist")))?;
        exec.environment.extend(shell::environment_file(&String::from_utf8_lossy(text)));
    }
    Ok(Plan::FanOut(FanOut {
        op: NodeOp::Exec(exec),
        nodes,
        window: remote.fanout,
        // The command may run as long as it likes; with -t the agent ends it, and this is for a silent agent.
        deadline: remote.timeout.map(|timeout| timeout + std::time::Duration::from_secs(5)),
        style,
        acts: true,
        lock: false,
        stdin: remote.stdin,
        then_status: None,
        keep_life: false,
        detach: remote.detach,
        output,
    }))
}

fn refused(ctx: &Ctx<'_>, usage: &str, refusal: Refusal) -> Plan {
    let mut output = Output::new();
    match refusal {
        Refusal::Help => return Plan::usage(usage, 0),
        Refusal::Version => {
            output.line(&format!("Version {}\n", ctx.version));
            return output.into();
        }
        Refusal::Settings => {
            output.text(&settings(ctx));
            return output.into();
        }
        Refusal::Out(text) => output.text(&text),
        Refusal::Err(text) => output.error(ctx, &text),
    }
    output.status(1).into()
}

/// What `xdsh -q` prints: the variables that are looked at, with their values.
fn settings(ctx: &Ctx<'_>) -> String {
    const NAMES: [&str; 24] = [
        "DCP_DEVICE_OPTS",
        "DCP_DEVICE_RCP",
        "DCP_NODE_OPTS",
        "DCP_NODE_RCP",
        "DSH_CONTEXT",
        "DSH_DEVICE_LIST",
        "DSH_DEVICE_OPTS",
        "DSH_DEVICE_RCP",
        "DSH_DEVICE_RSH",
        "DSH_ENVIRONMENT",
        "DSH_FANOUT",
        "DSH_LOG",
        "DSH_NODEGROUP_PATH",
        "DSH_NODE_LIST",
        "DSH_NODE_OPTS",
        "DSH_NODE_RCP",
        "DSH_NODE_RSH",
        "DSH_OUTPUT",
        "DSH_PATH",
        "DSH_REPORT",
        "DSH_SYNTAX",
        "DSH_TIMEOUT",
        "DSH_VERIFY",
        "RSYNC_RSH",
    ];
    let mut text: String = NAMES
        .iter()
        .map(|name| format!("DSH:{name}={}\n", ctx.environment.get(*name).map_or("", String::as_str)))
        .collect();
    text.push_str("XCAT:RemoteCopyCmd=/usr/bin/scp\nXCAT:RemoteShell=/usr/bin/ssh\n");
    text
}
