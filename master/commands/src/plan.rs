//! What a command wants: the value that policy judges and the executor carries out.

use std::collections::BTreeMap;

use noderange::Options;
use state::history::{Query, Reading};
use state::{Files, Precondition, RowChange, Selection, State};
use wire::client::{Rows, Text};
use wire::ids::ActionId;
use wire::op::Stream;

pub use crate::fanout::FanOut;

/// Pieces of output are cut at about this size, in bytes.
const PIECE: usize = 64 * 1024;
/// An answer that has grown to so many pieces is handed on.
const AHEAD: usize = 8;
/// Largest file or standard input a command reads, in bytes.
pub const MAX_INPUT: u64 = 64 << 20;

/// Everything a command may look at.
#[derive(Debug, Clone, Copy)]
pub struct Ctx<'a> {
    /// The committed state.
    pub state: &'a State,
    /// The command's canonical name.
    pub command: &'a str,
    /// Arguments after the name.
    pub args: &'a [String],
    /// Who asks: the name in the certificate.
    pub caller: &'a str,
    /// The cluster's name, as messages show it in brackets.
    pub cluster: &'a str,
    /// Unix seconds.
    pub now: u64,
    /// Version text of the product.
    pub version: &'a str,
    /// The client's environment, as far as commands know it.
    pub environment: &'a BTreeMap<String, String>,
    /// Files of the client that it sent because a plan needed them.
    pub files: &'a Files,
    /// Standard input, if it was asked for.
    pub stdin: Option<&'a [u8]>,
    /// Facts about the master's machine that plans needed.
    pub inputs: &'a Inputs,
    /// The noderange of the arguments, looked up already.
    pub named: Option<(&'a str, &'a Selection)>,
    /// Who takes long answers piece by piece.
    pub sink: Option<&'a dyn Sink>,
}

/// Takes output while a plan is still being made.
pub trait Sink: std::fmt::Debug {
    /// Takes pieces of output; waits while earlier ones are not sent. False: nobody listens any more.
    fn take(&self, items: Vec<Text>) -> bool;
}

/// Facts about the master's own machine, given when a plan asked for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Content of the hosts file.
    pub hosts: Option<String>,
    /// Network interfaces.
    pub interfaces: Option<Vec<Interface>>,
    /// Membership of the masters and connected service nodes, one line each, for `lsxcatd` and `status`.
    pub status: Option<Vec<String>>,
    /// Names of the monitoring plug-ins that are there, in byte order.
    pub plugins: Option<Vec<String>>,
    /// What came back from the user's editor.
    pub edited: Option<Edited>,
    /// The part of the past that was asked for last.
    pub past: Option<(Query, Reading)>,
    /// Names of the files in folders of the client; none: it cannot read that folder.
    pub folders: BTreeMap<String, Option<Vec<String>>>,
    /// The newest revision at these unix seconds.
    pub instants: BTreeMap<u64, u64>,
    /// The answer is wanted as rows: [`Output::fields`] and [`Output::row`].
    pub rows: bool,
    /// Plain reads that this master answered, the oldest first.
    pub reads: Option<Vec<Record>>,
}

/// A request that was made before. Passwords in it are masked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Unix seconds.
    pub time: u64,
    /// Who.
    pub user: String,
    /// Address of the caller's machine.
    pub host: String,
    /// The command's canonical name.
    pub command: String,
    /// The noderange as typed.
    pub range: String,
    /// All arguments, joined by blanks.
    pub args: String,
    /// `Allowed` or `Denied`; empty for a read, which was allowed.
    pub status: String,
    /// Priority of the rule that decided.
    pub rule: String,
    /// Nodes that were touched beside those of the noderange, folded.
    pub touched: String,
    /// Rows of no node were touched.
    pub beyond: bool,
}

/// A text for the user's editor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sheet {
    /// Name of the file, as the user sees it in the editor.
    pub name: String,
    /// What it was made of; an edited text is compared with it.
    pub base: String,
    /// What is to be edited: the base, or what the user made of it before.
    pub text: Vec<u8>,
    /// Why the user must edit again.
    pub complaint: Option<String>,
}

/// A text that was edited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// What was given out.
    pub sheet: Sheet,
    /// The text, or why there is none.
    pub text: Result<Vec<u8>, String>,
}

/// A network interface of the master with one IPv4 address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Address.
    pub address: std::net::Ipv4Addr,
    /// Length of the network's prefix.
    pub prefix: u8,
    /// MTU.
    pub mtu: u32,
    /// Gateway reached through it, if it has a default route.
    pub gateway: Option<std::net::Ipv4Addr>,
}

/// What a command wants. Variants are added by the families that need them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Nothing is changed; this is the answer.
    Answer(Output),
    /// Rows are changed in one transaction, then the answer is given.
    Change(Change),
    /// Nodes are asked or told something.
    FanOut(FanOut),
    /// The adapters of nodes are wanted.
    Adapters(crate::getadapter::Adapters),
    /// The plan must be made again with this in the context.
    Need(Need),
    /// Show the output of an action, what was and what comes.
    Attach(ActionId),
    /// End an action.
    Cancel(ActionId),
    /// Admit a new service node: make a join token, store its digest, show the token once.
    Admit(String),
    /// Run a program on the master's machine.
    Helper(Helper),
    /// Forget what the revisions up to this one changed.
    Compact(u64),
    /// Show changes as they come.
    Watch(Box<crate::watch::Watch>),
}

/// A change of rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Rows.
    pub changes: Vec<RowChange>,
    /// Checked when the transaction is applied; on a conflict the plan is made again.
    pub preconditions: Vec<Precondition>,
    /// Done by the executor after the commit, in order.
    pub effects: Vec<Effect>,
    /// What there is to say of the change itself: in front of the answer, and of what `--plan` shows.
    pub notes: Output,
    /// The answer after the commit.
    pub output: Output,
}

/// Something on the master's machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The new content of the hosts file.
    WriteHosts(String),
    /// The settings of the time service, which is told of them.
    TimeService {
        /// What chrony reads.
        settings: String,
        /// Say each step.
        verbose: bool,
    },
    /// A file on the client's machine.
    ClientFile {
        /// Path as the user named it.
        path: String,
        /// Content.
        bytes: Vec<u8>,
    },
    /// Files on the client's machine, for its owner alone; their folder is made. Path and content.
    ClientFiles(Vec<(String, Vec<u8>)>),
    /// A monitoring plug-in starts or stops because its row changed: wait for it and show what it said.
    Monitor(crate::monitor::Order),
}

/// A program on the master's machine that makes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Helper {
    /// Builds the discovery image of this architecture.
    Genesis(String),
    /// Asks a monitoring plug-in, after this was said.
    Monitor(Box<(Output, crate::monitor::Order)>),
}

/// Something a plan needs to know first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// The content of a file on the client's machine.
    File {
        /// Path as the user named it.
        path: String,
        /// Most bytes.
        limit: u64,
    },
    /// The client's standard input.
    Stdin {
        /// Most bytes.
        limit: u64,
    },
    /// A text edited by the user: [`Inputs::edited`].
    Edit(Sheet),
    /// [`Inputs::hosts`].
    Hosts,
    /// [`Inputs::interfaces`].
    Interfaces,
    /// [`Inputs::status`].
    Status,
    /// [`Inputs::plugins`].
    Plugins,
    /// [`Inputs::past`].
    Past(Query),
    /// [`Inputs::reads`].
    Reads,
    /// The revision at this unix second, in [`Inputs::instants`].
    Instant(u64),
    /// The names of the files in a folder on the client's machine, in [`Inputs::folders`].
    Folder(String),
    /// The content of several files on the client's machine.
    Files {
        /// Paths.
        paths: Vec<String>,
        /// Most bytes of each.
        limit: u64,
    },
}

/// Lines for the client and an exit status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// In order.
    pub items: Vec<Text>,
    /// Exit status.
    pub status: u8,
    /// The same as rows, when they were wanted; they take the place of standard output.
    pub rows: Option<Box<Rows>>,
}

impl Output {
    /// No lines, status 0.
    pub fn new() -> Output {
        Output::default()
    }

    /// Adds a line to standard output.
    pub fn line(&mut self, text: &str) {
        self.push(Stream::Out, text, true);
    }

    /// Names the fields of the rows, which are the same in every release.
    pub fn fields<T: ToString>(&mut self, names: &[T]) {
        let fields = names.iter().map(ToString::to_string).collect();
        self.rows = Some(Box::new(Rows { fields, rows: Vec::new() }));
    }

    /// Adds a row; an empty cell has no value.
    pub fn row<T: ToString>(&mut self, cells: &[T]) {
        let cell = |text: &T| Some(text.to_string()).filter(|text| !text.is_empty());
        self.cells(cells.iter().map(cell).collect());
    }

    /// Adds a row of cells with or without values.
    pub fn cells(&mut self, cells: Vec<Option<String>>) {
        self.rows.get_or_insert_default().rows.push(cells);
    }

    /// Rows of the lines of standard output when the command knows no better: `node: text` of nodes, else the line.
    #[must_use]
    pub fn lines_as_rows(&self, is_node: impl Fn(&str) -> bool) -> Rows {
        let text = self.all(Stream::Out);
        let split = |line: &str| {
            let (node, text) = line.split_once(": ").filter(|(node, _)| is_node(node))?;
            Some(vec![Some(node.to_owned()), Some(text.to_owned())])
        };
        let named: Option<Vec<_>> = text.lines().map(split).collect();
        match named {
            Some(rows) if !rows.is_empty() => {
                Rows { fields: ["node", "text"].map(str::to_owned).to_vec(), rows }
            }
            _ => {
                let rows = text.lines().map(|line| vec![Some(line.to_owned())]).collect();
                Rows { fields: vec!["text".to_owned()], rows }
            }
        }
    }

    /// Adds text to standard output as it is.
    pub fn text(&mut self, text: &str) {
        self.push(Stream::Out, text, false);
    }

    /// Adds a line to standard error.
    pub fn complain(&mut self, text: &str) {
        self.push(Stream::Err, text, true);
    }

    /// Adds `Error: [cluster]: text` to standard error; the status becomes 1 if it is 0.
    pub fn error(&mut self, ctx: &Ctx<'_>, text: &str) {
        self.complain(&format!("Error: [{}]: {text}", ctx.cluster));
        self.status = self.status.max(1);
    }

    /// Adds `Warning: [cluster]: text` to standard error.
    pub fn warn(&mut self, ctx: &Ctx<'_>, text: &str) {
        self.complain(&format!("Warning: [{}]: {text}", ctx.cluster));
    }

    /// The same with another status.
    #[must_use]
    pub fn status(mut self, status: u8) -> Output {
        self.status = status;
        self
    }

    /// The other's lines behind its own, with the higher status of the two.
    pub fn append(&mut self, mut other: Output) {
        self.items.append(&mut other.items);
        self.status = self.status.max(other.status);
    }

    /// Everything of one stream as text.
    pub fn all(&self, stream: Stream) -> String {
        let bytes: Vec<u8> =
            self.items.iter().filter(|i| i.stream == stream).flat_map(|i| i.text.clone()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn push(&mut self, stream: Stream, text: &str, line: bool) {
        let fits = |item: &&mut Text| {
            item.stream == stream && item.node.is_none() && item.text.len() + text.len() < PIECE
        };
        let item = match self.items.last_mut().filter(fits) {
            Some(item) => item,
            None => {
                self.items.push(Text { stream, node: None, text: Vec::new() });
                match self.items.last_mut() {
                    Some(item) => item,
                    None => return,
                }
            }
        };
        item.text.extend_from_slice(text.as_bytes());
        if line {
            item.text.push(b'\n');
        }
    }
}

impl From<Output> for Plan {
    fn from(output: Output) -> Plan {
        Plan::Answer(output)
    }
}

impl Plan {
    /// An answer that is one error.
    pub fn error(ctx: &Ctx<'_>, text: &str) -> Plan {
        let mut output = Output::new();
        output.error(ctx, text);
        Plan::Answer(output)
    }

    /// The usage on standard output (where xCAT has it, also after a mistake) with a status.
    pub fn usage(usage: &str, status: u8) -> Plan {
        let mut output = Output::new();
        output.push(Stream::Out, usage, !usage.ends_with('\n'));
        Plan::Answer(output.status(status))
    }

    /// The answer to `-v`.
    pub fn version(ctx: &Ctx<'_>) -> Plan {
        let mut output = Output::new();
        output.line(&format!("Version {}", ctx.version));
        Plan::Answer(output)
    }
}

impl Ctx<'_> {
    /// How bare numbers become names, from the client's environment.
    pub fn range_options(&self) -> Options {
        let get = |key: &str| self.environment.get(key).cloned();
        Options {
            prefix: get("XCAT_NODE_PREFIX").unwrap_or_else(|| "node".to_owned()),
            suffix: get("XCAT_NODE_SUFFIX").unwrap_or_default(),
        }
    }

    /// Expands a noderange. `Err` is the plan to answer with: an error, or the need of a file.
    pub fn nodes(&self, range: &str) -> Result<Vec<String>, Plan> {
        let (nodes, missing) = self.expand(range)?;
        if missing.is_empty() {
            return Ok(nodes);
        }
        let mut output = Output::new();
        output.complain(&invalid(&missing));
        if let Some((position, what)) = malformed(range) {
            output.complain(&format!("noderange: {what} at position {position}"));
        }
        Err(Plan::Answer(output.status(1)))
    }

    /// Expands a noderange into existing nodes and missing names.
    pub fn expand(&self, range: &str) -> Result<(Vec<String>, Vec<String>), Plan> {
        let known = self.named.filter(|(text, _)| *text == range).map(|(_, found)| Ok(found.clone()));
        match known.unwrap_or_else(|| self.state.expand(range, self.files, &self.range_options())) {
            Ok(found) => Ok((found.nodes, found.missing.into_iter().map(|m| m.name).collect())),
            Err(noderange::Error::NeedFile(path)) => Err(Plan::Need(Need::File { path, limit: MAX_INPUT })),
            Err(error) => Err(Plan::error(self, &error.to_string())),
        }
    }

    /// Hands a long answer on as far as it is made. For commands that will answer with this output whatever comes;
    /// false when nobody listens any more.
    pub fn stream(&self, output: &mut Output) -> bool {
        match self.sink {
            Some(sink) if output.items.len() > AHEAD && !self.inputs.rows => {
                sink.take(std::mem::take(&mut output.items))
            }
            _ => true,
        }
    }

    /// The content of a file of the client. `Err` is the plan to answer with, `Ok(None)`: it has no such file.
    pub fn file(&self, path: &str) -> Result<Option<&[u8]>, Plan> {
        match self.files.get(path) {
            Some(content) => Ok(content.as_deref()),
            None => Err(Plan::Need(Need::File { path: path.to_owned(), limit: MAX_INPUT })),
        }
    }

    /// The names of the files in a folder of the client, in order. `Err` is the plan to answer with, `Ok(None)`:
    /// it cannot read it.
    pub fn folder(&self, path: &str) -> Result<Option<&[String]>, Plan> {
        match self.inputs.folders.get(path) {
            Some(names) => Ok(names.as_deref()),
            None => Err(Plan::Need(Need::Folder(path.to_owned()))),
        }
    }

    /// Standard input. `Err` is the plan to answer with.
    pub fn input(&self) -> Result<&[u8], Plan> {
        self.stdin.ok_or(Plan::Need(Need::Stdin { limit: MAX_INPUT }))
    }
}

/// xCAT's words for names that do not exist.
pub fn invalid(missing: &[String]) -> String {
    format!("Error: Invalid nodes and/or groups in noderange: {}", missing.join(","))
}

/// Where a noderange is not well formed, though it could be taken for a name: brackets without a partner.
fn malformed(range: &str) -> Option<(usize, &'static str)> {
    let mut open = None;
    for (index, c) in range.chars().enumerate() {
        match c {
            '[' if open.is_some() => return Some((index + 1, "'[' inside brackets")),
            '[' => open = Some(index + 1),
            ']' if open.take().is_none() => return Some((index + 1, "']' without '['")),
            _ => {}
        }
    }
    open.map(|position| (position, "'[' is not closed"))
}
