//! Policy on a command: on what was asked, and again on what its plan touches.
//!
//! The request is judged before there is a plan. A plan that touches other nodes than the request names is judged for
//! those it touches; one that also changes rows of no node is judged once more as a request without nodes, so that a
//! rule for some nodes allows nothing beside them.

use state::policy::{DENIED, Question, Rule, Rules, Step, Verdict};
use state::{Files, State};

use crate::plan::{Ctx, Output, Plan};
use crate::registry::{Command, Range};
use crate::touch::Touched;

/// Nodes that a denial names.
const NAMED: usize = 3;

/// Who asks for what.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The name in the certificate.
    pub user: &'a str,
    /// Address of the caller's machine.
    pub host: &'a str,
    /// The command.
    pub command: &'static Command,
    /// Its arguments.
    pub args: &'a [String],
    /// Unix seconds.
    pub time: u64,
}

/// What a verdict is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The request as it was typed.
    Request,
    /// The nodes that the plan touches.
    Touched,
    /// The rows of no node that the plan touches.
    Beyond,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgment {
    /// Of the first scope that is denied, else of the request.
    pub verdict: Verdict,
    /// What the verdict is about.
    pub scope: Scope,
    /// Nodes that the request names.
    pub named: Vec<String>,
    /// What the plan touches beside them; nothing when it was not planned.
    pub touched: Touched,
    /// How many nodes the plan touches in all.
    pub reach: usize,
}

/// Told of each rule that is asked: for what, for which nodes, which rule, what became of it.
pub type Tell<'t> = &'t mut dyn FnMut(Scope, &[String], &Rule, Step);

/// Judges a request and makes its plan when it is allowed; a denied one has an empty answer as its plan.
pub fn judge(
    rules: &Rules<'_>,
    now: &State,
    ctx: &Ctx<'_>,
    asked: &Asked<'_>,
    make: &dyn Fn(&Ctx<'_>) -> Plan,
    tell: Tell<'_>,
) -> (Judgment, Plan) {
    let range = asked.command.range_text(asked.args);
    let found =
        range.as_ref().and_then(|range| ctx.state.expand(range, ctx.files, &ctx.range_options()).ok());
    let ctx = &Ctx { named: range.as_deref().zip(found.as_ref()), ..*ctx };
    let named = found.as_ref().map_or_else(Vec::new, |found| found.nodes.clone());
    let judgment = decide(rules, asked, named, Touched::default(), tell);
    if !judgment.verdict.allowed {
        return (judgment, Plan::Answer(Output::new()));
    }
    let plan = make(ctx);
    let touched = plan.touches(now);
    let judgment = Judgment { reach: touched.nodes.len(), ..judgment };
    let beside = |node: &String| judgment.named.binary_search(node).is_err();
    let nodes = if touched.nodes.iter().any(beside) { touched.nodes } else { Vec::new() };
    if nodes.is_empty() && !touched.beyond {
        return (judgment, plan);
    }
    let touched = Touched { nodes, ..touched };
    let judgment = rest(rules, asked, judgment, touched, tell);
    (judgment, plan)
}

/// Judges a request that names these nodes and whose plan touches these beside them.
pub fn decide(
    rules: &Rules<'_>,
    asked: &Asked<'_>,
    named: Vec<String>,
    touched: Touched,
    tell: Tell<'_>,
) -> Judgment {
    let verdict = of_scope(rules, asked, Scope::Request, &named, tell);
    let judgment = Judgment { verdict, scope: Scope::Request, named, touched: Touched::default(), reach: 0 };
    if judgment.verdict.allowed { rest(rules, asked, judgment, touched, tell) } else { judgment }
}

fn rest(
    rules: &Rules<'_>,
    asked: &Asked<'_>,
    request: Judgment,
    touched: Touched,
    tell: Tell<'_>,
) -> Judgment {
    let mut scopes = Vec::new();
    if !touched.nodes.is_empty() {
        scopes.push((Scope::Touched, touched.nodes.as_slice()));
    }
    // A request without nodes was judged as one already.
    if touched.beyond && !request.named.is_empty() {
        scopes.push((Scope::Beyond, &[]));
    }
    let judged = scopes.into_iter().map(|(scope, nodes)| (scope, of_scope(rules, asked, scope, nodes, tell)));
    let denied = judged.into_iter().find(|(_, verdict)| !verdict.allowed);
    match denied {
        Some((scope, verdict)) => Judgment { verdict, scope, touched, ..request },
        None => Judgment { touched, ..request },
    }
}

fn of_scope(rules: &Rules<'_>, asked: &Asked<'_>, scope: Scope, nodes: &[String], tell: Tell<'_>) -> Verdict {
    let question = Question {
        user: Some(asked.user),
        host: asked.host,
        command: asked.command.name,
        aliases: asked.command.aliases,
        arguments: asked.args,
        nodes,
        time: asked.time,
    };
    rules.explain(&question, &mut |rule, step| tell(scope, nodes, rule, step))
}

impl Judgment {
    /// What a denied client is told.
    pub fn denial(&self) -> String {
        format!("{DENIED} ({})", self.reason())
    }

    /// Which rule, and for what.
    pub fn reason(&self) -> String {
        let rule = match &self.verdict.rule {
            Some(rule) => format!("policy rule {rule}"),
            None => "no policy rule allows it".to_owned(),
        };
        let nodes = match (self.scope, self.verdict.nodes.as_slice()) {
            (Scope::Touched, []) => self.touched.nodes.as_slice(),
            (_, nodes) => nodes,
        };
        let some = nodes.iter().take(NAMED).cloned().collect::<Vec<_>>().join(",");
        let more =
            if nodes.len() > NAMED { format!(" and {} more", nodes.len() - NAMED) } else { String::new() };
        match self.scope {
            Scope::Request if some.is_empty() => rule,
            Scope::Request => format!("{rule}, for {some}{more}"),
            Scope::Touched => format!("{rule}, for {some}{more}, which the command would touch"),
            Scope::Beyond => format!("{rule}, for rows that belong to no node"),
        }
    }
}

/// Nodes of a request that was made before: those that are gone keep their names when the command could have made them.
pub fn named_then(state: &State, command: &Command, range: &str) -> (Vec<String>, Vec<String>) {
    let Ok(found) = state.expand(range, &Files::new(), &noderange::Options::default()) else {
        return (Vec::new(), Vec::new());
    };
    let made = match command.range {
        Range::New => found.missing.into_iter().map(|missing| missing.name).collect(),
        _ => Vec::new(),
    };
    (found.nodes, made)
}
