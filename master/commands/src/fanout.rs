//! Asking many nodes: what is asked, and how the answers become lines and an exit status.
//!
//! Knows nothing of service nodes or connections: the executor feeds [`Folder::event`] with what comes
//! back, in the order of arrival. Invariant: each node counts once, however often it is heard of.

use std::collections::BTreeSet;
use std::time::Duration;

use wire::client::Text;
use wire::op::{Event, Fault, NodeEvent, NodeOp, NodeReply, Stream};

use crate::plan::Output;

/// A question or an order for many nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FanOut {
    /// What.
    pub op: NodeOp,
    /// Where, each node once.
    pub nodes: Vec<String>,
    /// How many at a time; 0 leaves it to the service nodes.
    pub window: u32,
    /// Each node's own deadline; none for commands that may run as long as they like.
    pub deadline: Option<Duration>,
    /// How answers are told.
    pub style: Style,
    /// It changes machines: it is written down before it is sent, and the nodes are locked if [`Self::lock`].
    pub acts: bool,
    /// No other action that locks may run at the same nodes meanwhile.
    pub lock: bool,
    /// The client's standard input goes to every node.
    pub stdin: bool,
    /// Word for `nodelist.status` of the nodes that did it.
    pub then_status: Option<&'static str>,
    /// What the nodes' life was found to be goes into `nodelist`: [`life_cells`].
    pub keep_life: bool,
    /// Give back the action's number only.
    pub detach: bool,
    /// Said before the first node answers; its status joins that of the nodes.
    pub output: Output,
}

/// How answers are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Style {
    /// `node: text`, errors as `node: [server]: Error: text`, status 1 when any.
    Hardware,
    /// A remote command as xdsh tells it.
    Xdsh(Xdsh),
    /// A remote command as psh tells it.
    Psh,
    /// As hardware; of a node's state only whether it can be reached.
    Ping,
}

/// Which parts xdsh shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Xdsh {
    /// Show each successful node's status (`-z`).
    pub exit_status: bool,
    /// Nothing but errors (`-Q`).
    pub quiet: bool,
    /// Only this stream (`-s`).
    pub only: Option<Stream>,
    /// Say for each node that could not be reached that it is left out (`-v`).
    pub verify: bool,
}

impl FanOut {
    /// A question about hardware with the usual deadline.
    #[must_use]
    pub fn hardware(op: NodeOp, nodes: Vec<String>) -> Self {
        Self {
            op,
            nodes,
            window: 0,
            deadline: Some(Duration::from_secs(30)),
            style: Style::Hardware,
            acts: false,
            lock: false,
            stdin: false,
            then_status: None,
            keep_life: false,
            detach: false,
            output: Output::new(),
        }
    }
}

/// Turns events into output, one fan-out.
#[derive(Debug)]
pub struct Folder {
    style: Style,
    server: String,
    open: BTreeSet<String>,
    of: usize,
    failed: usize,
    good: Vec<String>,
    worst: u8,
}

impl Folder {
    /// Expects one final event of each node; `server` is the name in error texts.
    #[must_use]
    pub fn new(plan: &FanOut, server: &str) -> Self {
        let open: BTreeSet<String> = plan.nodes.iter().cloned().collect();
        let of = open.len();
        Self {
            style: plan.style.clone(),
            server: server.to_owned(),
            open,
            of,
            failed: 0,
            good: Vec::new(),
            worst: 0,
        }
    }

    /// Lines for one event.
    pub fn event(&mut self, event: &NodeEvent) -> Vec<Text> {
        let node = event.node.as_str();
        if !self.open.contains(node) {
            return Vec::new();
        }
        if !matches!(event.event, Event::Output { .. }) {
            self.open.remove(node);
        }
        match &event.event {
            Event::Output { stream, bytes } => self.output(node, *stream, bytes),
            Event::Reply(reply) => {
                self.good.push(node.to_owned());
                let reached = Style::Ping == self.style;
                let lines = if reached { vec![ping(reply)] } else { reply_lines(reply) };
                lines.into_iter().map(|line| of_node(node, Stream::Out, &line)).collect()
            }
            Event::Exit(status) => self.exit(node, *status),
            Event::Failed { fault, text } => self.failure(node, *fault, text),
        }
    }

    /// Lines for the nodes that were never heard of, because the fan-out ended early for `reason`.
    pub fn abandon(&mut self, fault: Fault, reason: &str) -> Vec<Text> {
        let open: Vec<String> = self.open.iter().cloned().collect();
        let event = |node| NodeEvent { node, event: Event::Failed { fault, text: reason.to_owned() } };
        open.into_iter().flat_map(|node| self.event(&event(node))).collect()
    }

    /// Nodes done, and nodes in all.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        ((self.of - self.open.len()) as u64, self.of as u64)
    }

    /// Nodes that have not had their final event.
    pub fn open(&self) -> impl Iterator<Item = &str> {
        self.open.iter().map(String::as_str)
    }

    /// Nodes that did what was asked.
    #[must_use]
    pub fn good(&self) -> &[String] {
        &self.good
    }

    /// The exit status: for xdsh the number of nodes that failed, else 1 when any did.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self.style {
            Style::Xdsh(_) => u8::try_from(self.failed).unwrap_or(u8::MAX),
            Style::Hardware | Style::Psh | Style::Ping => self.worst,
        }
    }

    fn output(&self, node: &str, stream: Stream, bytes: &[u8]) -> Vec<Text> {
        match &self.style {
            Style::Xdsh(xdsh) => {
                if xdsh.only.is_some_and(|only| only != stream) || (xdsh.quiet && stream == Stream::Out) {
                    return Vec::new();
                }
                match stream {
                    Stream::Out => vec![of_node(node, Stream::Out, &complete(bytes))],
                    Stream::Err => vec![self.server_text(node, bytes)],
                }
            }
            // psh joins the two streams of a node, as one terminal would show them.
            Style::Psh | Style::Hardware | Style::Ping => vec![of_node(node, Stream::Out, &complete(bytes))],
        }
    }

    fn exit(&mut self, node: &str, status: i32) -> Vec<Text> {
        if status == 0 {
            self.good.push(node.to_owned());
        } else {
            self.failed += 1;
            self.worst = 1;
        }
        match &self.style {
            Style::Xdsh(xdsh) if xdsh.exit_status && status == 0 => {
                vec![of_node(node, Stream::Out, b"Remote_command_rc = 0\n")]
            }
            Style::Psh if status != 0 => {
                let line = format!("*** ssh exited with error code {status}.\n");
                vec![of_node(node, Stream::Err, line.as_bytes())]
            }
            _ => Vec::new(),
        }
    }

    fn failure(&mut self, node: &str, fault: Fault, text: &str) -> Vec<Text> {
        self.failed += 1;
        self.worst = 1;
        let text = one_line(text);
        match &self.style {
            Style::Hardware | Style::Ping => vec![node_error(node, &self.server, &text)],
            Style::Xdsh(xdsh) => {
                let mut lines = vec![self.server_text(node, format!("{text}\n").as_bytes())];
                if xdsh.verify && fault == Fault::Unreachable {
                    let dropped = format!(
                        "Error: [{}]: {node} is not responding. No command will be issued to this host.\n",
                        self.server
                    );
                    lines.push(plain(Stream::Err, &dropped));
                }
                lines
            }
            Style::Psh => vec![of_node(node, Stream::Err, format!("{text}\n").as_bytes())],
        }
    }

    /// `[server]: node: line` on standard error.
    fn server_text(&self, node: &str, bytes: &[u8]) -> Text {
        let mut text = Vec::with_capacity(bytes.len() + 32);
        for line in complete(bytes).split_inclusive(|byte| *byte == b'\n') {
            text.extend_from_slice(format!("[{}]: {node}: ", self.server).as_bytes());
            text.extend_from_slice(line);
        }
        Text { stream: Stream::Err, node: None, text }
    }
}

/// `node: [server]: Error: text` on standard error.
#[must_use]
pub fn node_error(node: &str, server: &str, text: &str) -> Text {
    plain(Stream::Err, &format!("{node}: [{server}]: Error: {text}\n"))
}

/// A whole line (or several) that no node's name goes in front of.
#[must_use]
pub fn plain(stream: Stream, text: &str) -> Text {
    Text { stream, node: None, text: text.as_bytes().to_vec() }
}

fn of_node(node: &str, stream: Stream, bytes: &[u8]) -> Text {
    Text { stream, node: Some(node.to_owned()), text: bytes.to_vec() }
}

fn reply_lines(reply: &NodeReply) -> Vec<Vec<u8>> {
    let line = |text: &String| format!("{}\n", one_line(text)).into_bytes();
    match reply {
        NodeReply::Text(text) => vec![line(text)],
        NodeReply::Texts(texts) => texts.iter().map(line).collect(),
        NodeReply::Adapters(_) | NodeReply::Hardware(_) | NodeReply::Done => Vec::new(),
    }
}

/// Columns of `nodelist` that follow from a state as nodestat tells it. A node whose agent spoke for itself keeps its
/// status.
#[must_use]
pub fn life_cells(state: &str) -> Vec<(&'static str, String)> {
    let mut parts = state.split(',');
    let first = parts.next().unwrap_or_default();
    let apps: Vec<&str> =
        [first].into_iter().filter(|word| matches!(*word, "sshd" | "pbs" | "xend")).chain(parts).collect();
    let apps = ("appstatus", apps.join(","));
    match first {
        "ping" | "sshd" | "pbs" | "xend" => vec![("status", "alive".to_owned()), apps],
        silent if silent.starts_with("noping") => {
            vec![("status", "unreachable".to_owned()), ("appstatus", String::new())]
        }
        _ => vec![apps],
    }
}

/// `ping` or `noping` for a state as nodestat tells it.
fn ping(reply: &NodeReply) -> Vec<u8> {
    let away = matches!(reply, NodeReply::Text(state) if state.starts_with("noping"));
    if away { b"noping\n".to_vec() } else { b"ping\n".to_vec() }
}

/// The bytes with a line feed at their end.
fn complete(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if !bytes.ends_with(b"\n") {
        bytes.push(b'\n');
    }
    bytes
}

/// A text from a node may not break the line structure of the answer.
fn one_line(text: &str) -> String {
    text.trim_end().replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(style: Style, nodes: &[&str], events: &[(&str, Event)]) -> (String, String, u8) {
        let mut plan =
            FanOut::hardware(NodeOp::PowerStat, nodes.iter().map(|node| (*node).to_owned()).collect());
        plan.style = style;
        let mut folder = Folder::new(&plan, "mn01");
        let (mut out, mut err) = (String::new(), String::new());
        for (node, event) in events {
            for text in folder.event(&NodeEvent { node: (*node).to_owned(), event: event.clone() }) {
                let sink = if text.stream == Stream::Out { &mut out } else { &mut err };
                for line in String::from_utf8_lossy(&text.text).split_inclusive('\n') {
                    if let Some(node) = &text.node {
                        sink.push_str(&format!("{node}: "));
                    }
                    sink.push_str(line);
                }
            }
        }
        (out, err, folder.status())
    }

    fn output(stream: Stream, text: &str) -> Event {
        Event::Output { stream, bytes: text.as_bytes().to_vec() }
    }

    #[test]
    fn power_answers_are_a_line_per_node_and_an_error_names_the_server() {
        let failed = Event::Failed { fault: Fault::Timeout, text: "timeout".into() };
        let on = Event::Reply(NodeReply::Text("on".into()));
        let (out, err, status) =
            run(Style::Hardware, &["n1", "n2"], &[("n1", on.clone()), ("n2", failed), ("n1", on)]);
        assert_eq!((out.as_str(), err.as_str(), status), ("n1: on\n", "n2: [mn01]: Error: timeout\n", 1));
    }

    #[test]
    fn xdsh_shows_streams_as_the_observations_d003_to_d007_do() {
        let style = Style::Xdsh(Xdsh::default());
        let events = [
            ("k0001", output(Stream::Out, "out\n")),
            ("k0001", output(Stream::Err, "err\n")),
            ("k0001", Event::Exit(0)),
        ];
        assert_eq!(
            run(style.clone(), &["k0001"], &events),
            ("k0001: out\n".into(), "[mn01]: k0001: err\n".into(), 0)
        );
        assert_eq!(run(style, &["k0001"], &[("k0001", Event::Exit(3))]), (String::new(), String::new(), 1));
        let style = Style::Xdsh(Xdsh { exit_status: true, ..Xdsh::default() });
        let events = [("a", Event::Exit(3)), ("b", Event::Exit(3)), ("c", Event::Exit(3))];
        assert_eq!(run(style.clone(), &["a", "b", "c"], &events), (String::new(), String::new(), 3));
        let events = [("k0001", Event::Exit(0))];
        assert_eq!(run(style, &["k0001"], &events).0, "k0001: Remote_command_rc = 0\n");
    }

    #[test]
    fn psh_says_the_status_as_the_observation_d025_does() {
        let (out, err, status) = run(Style::Psh, &["k0001"], &[("k0001", Event::Exit(1))]);
        assert_eq!(
            (out.as_str(), err.as_str(), status),
            ("", "k0001: *** ssh exited with error code 1.\n", 1)
        );
    }

    #[test]
    fn pping_says_only_whether_a_node_can_be_reached() {
        let state = |text: &str| Event::Reply(NodeReply::Text(text.into()));
        let events = [("n1", state("sshd")), ("n2", state("noping")), ("n3", state("booted"))];
        let (out, err, status) = run(Style::Ping, &["n1", "n2", "n3"], &events);
        assert_eq!((out.as_str(), err.as_str(), status), ("n1: ping\nn2: noping\nn3: ping\n", "", 0));
    }

    #[test]
    fn what_is_kept_of_a_node_s_life() {
        let check = |state: &str, expected: &[(&str, &str)]| {
            let cells = life_cells(state);
            let cells: Vec<(&str, &str)> =
                cells.iter().map(|(column, text)| (*column, text.as_str())).collect();
            assert_eq!(cells, expected, "{state}");
        };
        check("sshd", &[("status", "alive"), ("appstatus", "sshd")]);
        check("ping", &[("status", "alive"), ("appstatus", "")]);
        check("sshd,db", &[("status", "alive"), ("appstatus", "sshd,db")]);
        check("noping(off)", &[("status", "unreachable"), ("appstatus", "")]);
        check("installing,db", &[("appstatus", "db")]);
    }

    #[test]
    fn a_node_that_was_not_asked_is_not_believed() {
        assert_eq!(run(Style::Psh, &["n1"], &[("n2", Event::Exit(1))]), (String::new(), String::new(), 0));
    }

    #[test]
    fn nodes_never_heard_of_are_told_one_by_one() {
        let plan = FanOut::hardware(NodeOp::PowerStat, vec!["n1".into(), "n2".into()]);
        let mut folder = Folder::new(&plan, "mn01");
        assert_eq!(folder.abandon(Fault::Cancelled, "cancelled").len(), 2);
        assert_eq!((folder.progress(), folder.status()), ((2, 2), 1));
    }
}
