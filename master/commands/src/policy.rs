//! `margay policy`: the rules as they are asked, what they say to a request, and what other rules would have said.

use state::policy::{Misfit, Rule, Rules, Says, Step};

use crate::action::stamp;
use crate::args::{flag, head, read, word_value};
use crate::global::Global;
use crate::judge::{Asked, Scope, judge};
use crate::plan::{Ctx, Need, Output, Plan};
use crate::registry::{Command, Range, resolve};
use crate::rehearse;
use crate::when::When;

/// `margay policy`.
pub static POLICY: Command = Command {
    name: "policy",
    aliases: &[],
    summary: "Show, test and rehearse the rules of who may do what",
    usage: "Usage: margay policy list
       margay policy test [-v] [--host <address>] [--at <time>] <user> <command> [argument]...
       margay policy rehearse <policy.csv> [--since <time>]

   list       the rules in the order in which they are asked, with what cannot be read in them
   test       which rule decides about a request and why (-v: rule by rule); status 1 when it is denied
   rehearse   which recorded requests since then (24h) other rules would have judged otherwise
",
    writes: false,
    range: Range::None,
    plan,
};

/// Rules of a test that are shown by name of nodes.
const NAMED: usize = 5;

fn plan(ctx: &Ctx<'_>) -> Plan {
    let made = match ctx.args.split_first() {
        Some((verb, _)) if verb == "list" => list(ctx),
        Some((verb, rest)) if verb == "test" => test(ctx, rest),
        Some((verb, _)) if verb == "rehearse" => rehearse::plan(ctx),
        _ => {
            let known = ["host", "at", "since"].map(word_value);
            head(ctx, POLICY.usage, &known).map(|_| Plan::usage(POLICY.usage, 1))
        }
    };
    made.unwrap_or_else(|plan| plan)
}

fn list(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let given = head(ctx, POLICY.usage, &[])?;
    if given.rest.len() != 1 {
        return Err(Plan::usage(POLICY.usage, 1));
    }
    let mut output = Output::new();
    for rule in Rules::of(ctx.state).list() {
        output.line(&format!("{}: {}", rule.priority, rule.fields()));
        for (column, reason) in rule.faults(ctx.state) {
            let effect = match (column, rule.says.allows()) {
                ("priority", _) => "it is asked last",
                (_, true) => "it allows nothing",
                (_, false) => "it holds as if this were empty",
            };
            output.line(&format!("    {column}: {reason}; {effect}"));
        }
    }
    Ok(output.into())
}

fn test(ctx: &Ctx<'_>, words: &[String]) -> Result<Plan, Plan> {
    let usage = || Plan::usage(POLICY.usage, 1);
    let known = [flag('v', "verbose"), flag('h', "help"), word_value("host"), word_value("at")];
    let given = read(words, &known, false).map_err(|_| usage())?;
    if given.has("help") {
        return Err(Plan::usage(POLICY.usage, 0));
    }
    let [user, called, argv @ ..] = given.rest.as_slice() else { return Err(usage()) };
    let time = match given.value("at").map(|text| When::parse(text, ctx.now)) {
        None | Some(Ok(When::Now)) => ctx.now,
        Some(Ok(When::Time(time))) => time,
        Some(Ok(When::Revision(_))) => return Err(Plan::error(ctx, "--at wants a time, not a revision")),
        Some(Err(wrong)) => return Err(Plan::error(ctx, &wrong)),
    };
    let mut argv = argv.to_vec();
    Global::take(called, &mut argv).map_err(|wrong| Plan::error(ctx, &wrong))?;
    let Some((command, args)) = resolve(called, &argv) else {
        return Err(Plan::error(ctx, &format!("Unknown command: {called}")));
    };
    let asked = Asked { user, host: given.value("host").unwrap_or("127.0.0.1"), command, args, time };
    let theirs =
        Ctx { command: command.name, args, caller: user, now: time, named: None, sink: None, ..*ctx };
    let mut steps = Vec::new();
    let rules = Rules::of(ctx.state);
    let (judgment, plan) = judge(
        &rules,
        ctx.state,
        &theirs,
        &asked,
        &|ctx| command.make(ctx),
        &mut |scope, nodes, rule, step| {
            steps.push((scope, nodes.to_vec(), told(rule, &step)));
        },
    );
    // What is known only after the plan's needs is judged when they are there.
    let unplanned = match plan {
        Plan::Need(Need::Stdin { .. } | Need::Edit(_)) => true,
        Plan::Need(need) => return Err(Plan::Need(need)),
        _ => false,
    };
    let mut output = Output::new();
    if given.has("verbose") {
        let mut of = None;
        for (scope, nodes, line) in &steps {
            if of != Some(*scope) {
                output.line(&title(&asked, *scope, nodes));
                of = Some(*scope);
            }
            output.line(&format!("    {line}"));
        }
    }
    let verdict = &judgment.verdict;
    let rule = verdict.rule.as_ref().and_then(|name| rules.list().iter().find(|rule| rule.priority == *name));
    let fields = rule.map_or_else(String::new, |rule| format!(": {}", rule.fields()));
    match verdict.allowed {
        true => output.line(&format!("allowed ({}){fields}", judgment.reason())),
        false => {
            output.line(&format!("denied ({}){fields}", judgment.reason()));
            output.status = 1;
        }
    }
    if unplanned && verdict.allowed {
        output.line("what it touches depends on its input and is judged when it is there");
    }
    Ok(output.into())
}

fn title(asked: &Asked<'_>, scope: Scope, nodes: &[String]) -> String {
    let some = nodes.iter().take(NAMED).cloned().collect::<Vec<_>>().join(",");
    let more = nodes.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let nodes = if nodes.is_empty() { "no nodes".to_owned() } else { format!("nodes {some}{more}") };
    match scope {
        Scope::Request => format!(
            "request: {} by {} from {} at {}, {nodes}",
            asked.command.name,
            asked.user,
            asked.host,
            stamp(asked.time)
        ),
        Scope::Touched => format!("touched beside them: {nodes}"),
        Scope::Beyond => "touched beside them: rows that belong to no node".to_owned(),
    }
}

fn told(rule: &Rule, step: &Step) -> String {
    let what = match step {
        Step::Decides => match rule.says {
            Says::Allow => "decides: allowed".to_owned(),
            Says::Trust => "decides: allowed, and trusted".to_owned(),
            Says::Deny => "decides: denied".to_owned(),
        },
        Step::Takes(nodes) => format!("allows {}; the others are looked at further", nodes.join(",")),
        Step::Passed(misfit) => match misfit {
            Misfit::Name => format!("is for other users ({})", rule.name),
            Misfit::Host => format!("is for other hosts ({})", rule.host),
            Misfit::Commands => format!("is for other commands ({})", rule.commands),
            Misfit::Parameters => format!("is for other parameters ({})", rule.parameters),
            Misfit::Time => format!("is for other times ({})", rule.time),
            Misfit::Unreadable(column, reason) => format!("allows nothing: {column}: {reason}"),
            Misfit::NoNodes => format!("is for nodes ({}), and there are none", rule.noderange),
            Misfit::OtherNodes => format!("is for other nodes ({})", rule.noderange),
        },
    };
    format!("{} {what}", rule.priority)
}
