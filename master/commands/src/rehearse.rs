//! `margay policy rehearse`: recorded requests before other rules. Changes nothing.

use std::collections::{BTreeMap, HashMap};

use noderange::Options;
use state::policy::{Rule, Rules};
use state::{Files, schema};

use crate::action::stamp;
use crate::args::{head, word_value};
use crate::cells::count;
use crate::judge::{Asked, Judgment, decide, named_then};
use crate::plan::{Ctx, Need, Output, Plan, Record};
use crate::policy::POLICY;
use crate::registry::find;
use crate::tabrestore;
use crate::touch::Touched;
use crate::when::{DAY, When};

/// Groups of equal changes that are shown.
const SHOWN: usize = 50;

/// The plan.
///
/// # Errors
/// The plan to answer with otherwise.
pub(crate) fn plan(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let given = head(ctx, POLICY.usage, &[word_value("since")])?;
    let [_, path] = given.rest.as_slice() else { return Err(Plan::usage(POLICY.usage, 1)) };
    let since = since(ctx, given.value("since"))?;
    let Some(bytes) = ctx.file(path)? else {
        return Err(Plan::error(ctx, &format!("Unable to open {path} for reading.")));
    };
    let fail = |text: &str| Plan::error(ctx, &format!("{path}: {text}"));
    let table = ctx.state.named("policy").ok_or_else(|| fail("there is no table policy"))?;
    let rows = tabrestore::rows(table, bytes, |_| false).map_err(|(_, text)| fail(&text))?;
    let enabled = rows.iter().filter(|row| row.text("disable").is_empty());
    let new = Rules::new(ctx.state, enabled.map(|row| Rule::read(|column| row.text(column))).collect());
    let Some(reads) = &ctx.inputs.reads else { return Err(Plan::Need(Need::Reads)) };
    let written = recorded(ctx, since);
    let read: Vec<&Record> = reads.iter().filter(|record| record.time >= since).collect();
    let mut output = Output::new();
    for rule in new.list() {
        for (column, reason) in rule.faults(ctx.state) {
            output.warn(ctx, &format!("rule {}: {column}: {reason}", rule.priority));
        }
    }
    output.line(&format!(
        "{} since {}: {} of the audit log, {} of this master",
        count(written.len() + read.len(), "request"),
        stamp(since),
        written.len(),
        count(read.len(), "read"),
    ));
    let mut replay = Replay { ctx, old: Rules::of(ctx.state), new, named: HashMap::new() };
    let mut changes: BTreeMap<(bool, String, String, String), (usize, Record)> = BTreeMap::new();
    let mut unknown = 0;
    for record in written.iter().chain(read) {
        match replay.change(record) {
            None => unknown += 1,
            Some(None) => {}
            Some(Some((allowed, why))) => {
                let key = (allowed, record.user.clone(), record.command.clone(), why);
                let entry = changes.entry(key).or_insert_with(|| (0, record.clone()));
                entry.0 += 1;
                if record.time >= entry.1.time {
                    entry.1 = record.clone();
                }
            }
        }
    }
    tell(changes, &mut output);
    if unknown > 0 {
        output.line(&format!("{} of commands that are not known here", count(unknown, "request")));
    }
    Ok(output.into())
}

/// The unix second that `--since` means; a day ago when it is not given.
pub(crate) fn since(ctx: &Ctx<'_>, text: Option<&str>) -> Result<u64, Plan> {
    match text.map(|text| When::parse(text, ctx.now)) {
        None => Ok(ctx.now.saturating_sub(DAY)),
        Some(Ok(When::Time(time))) => Ok(time),
        Some(Ok(When::Now)) => Ok(ctx.now),
        Some(Ok(When::Revision(_))) => Err(Plan::error(ctx, "--since wants a time, not a revision")),
        Some(Err(wrong)) => Err(Plan::error(ctx, &wrong)),
    }
}

/// What the audit log tells since then, oldest first.
pub(crate) fn recorded(ctx: &Ctx<'_>, since: u64) -> Vec<Record> {
    let Some(table) = ctx.state.named("auditlog") else { return Vec::new() };
    let def = schema().table("auditlog").map(|table| schema().def(table));
    let read = |row: &state::Row| {
        let text =
            |column: &str| def.and_then(|def| def.column(column)).map_or("", |at| row.text(at)).to_owned();
        Some(Record {
            time: crate::tabprune::instant(&text("audittime"))?,
            user: text("userid"),
            host: text("clientname"),
            command: text("command"),
            range: text("noderange"),
            args: text("args"),
            status: text("status"),
            rule: text("rule"),
            touched: text("touched"),
            beyond: !text("beyond").is_empty(),
        })
    };
    table.rows().filter_map(|(_, row)| read(row)).filter(|record| record.time >= since).collect()
}

/// Nodes that exist, and names that could be made.
type Named = (Vec<String>, Vec<String>);

struct Replay<'a> {
    ctx: &'a Ctx<'a>,
    old: Rules<'a>,
    new: Rules<'a>,
    /// By noderange and command.
    named: HashMap<(String, &'static str), Named>,
}

impl Replay<'_> {
    /// Whether the new rules allow what the old ones deny, or the other way round, and which rules say so. The outer
    /// none: the command is not known.
    fn change(&mut self, record: &Record) -> Option<Option<(bool, String)>> {
        let command = find(&record.command)?;
        let key = (record.range.clone(), command.name);
        let named = self.named.entry(key).or_insert_with(|| match record.range.is_empty() {
            true => (Vec::new(), Vec::new()),
            false => named_then(self.ctx.state, command, &record.range),
        });
        let mut touched = Touched { nodes: named.1.clone(), beyond: record.beyond };
        if !record.touched.is_empty()
            && let Ok(found) = self.ctx.state.expand(&record.touched, &Files::new(), &Options::default())
        {
            let missing = found.missing.into_iter().map(|missing| missing.name);
            touched.nodes.extend(found.nodes.into_iter().chain(missing));
            touched.nodes.sort_unstable();
            touched.nodes.dedup();
        }
        let args = [record.args.clone()];
        let asked = Asked { user: &record.user, host: &record.host, command, args: &args, time: record.time };
        let judged =
            |rules: &Rules<'_>| decide(rules, &asked, named.0.clone(), touched.clone(), &mut |_, _, _, _| ());
        let (old, new) = (judged(&self.old), judged(&self.new));
        let differs = old.verdict.allowed != new.verdict.allowed;
        Some(differs.then(|| (new.verdict.allowed, format!("{}; now {}", by(&new), by(&old)))))
    }
}

fn by(judgment: &Judgment) -> String {
    match &judgment.verdict.rule {
        Some(rule) => format!("rule {rule}"),
        None => "no rule".to_owned(),
    }
}

fn tell(changes: BTreeMap<(bool, String, String, String), (usize, Record)>, output: &mut Output) {
    if changes.is_empty() {
        output.line("No verdict would be another one.");
        return;
    }
    for (allowed, title) in
        [(false, "would be denied and are allowed now"), (true, "would be allowed and are denied now")]
    {
        let mut groups: Vec<_> = changes.iter().filter(|((new, ..), _)| *new == allowed).collect();
        let sum: usize = groups.iter().map(|(_, (number, _))| number).sum();
        if groups.is_empty() {
            continue;
        }
        output.line(&format!("{sum} {title}:"));
        groups.sort_by_key(|(_, (number, _))| std::cmp::Reverse(*number));
        for ((_, user, command, why), (number, last)) in groups.iter().take(SHOWN) {
            output.line(&format!("  {number:>6}  {user}  {command}  ({why})  {}", example(last)));
        }
        if groups.len() > SHOWN {
            output.line(&format!("          and {} more users and commands", groups.len() - SHOWN));
        }
    }
}

/// The newest of them, cut to a line.
fn example(record: &Record) -> String {
    let text: String = record.args.chars().take(60).collect();
    format!("last {} from {}: {} {text}", stamp(record.time), record.host, record.command)
}
