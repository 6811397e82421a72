//! A cluster in memory: the state, a client's files, the master's hosts file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::nodes;
use crate::renamed::Form;
use commands::notice::{Registration, calls};
use commands::{Change, Ctx, Edited, Effect, Inputs, Interface, Need, Plan, resolve};
use state::history::{Reading, Revision};
use state::{Entry, Files, PastRow, RowChange, State, Transaction};
use wire::op::Stream;

/// What a command gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    pub out: String,
    pub err: String,
    pub rc: i64,
}

pub struct World {
    pub state: State,
    /// Files of the client by path.
    pub disk: BTreeMap<String, String>,
    pub hosts: String,
    editor: Option<String>,
    environment: BTreeMap<String, String>,
    index: u64,
}

/// The folder of the observations.
pub fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

/// The text of a file, with the folder of the client's files filled in.
pub fn text(name: &str) -> String {
    std::fs::read_to_string(golden(name)).unwrap().replace("@F@", "/golden")
}

/// The objects of a file with one JSON object a line.
pub fn records(name: &str) -> Vec<serde_json::Value> {
    let text = text(name);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Input files by name.
pub fn files(name: &str) -> BTreeMap<String, String> {
    let map: BTreeMap<String, String> = serde_json::from_str(&text(name)).unwrap();
    map.into_iter().map(|(name, text)| (format!("/golden/{name}"), text)).collect()
}

impl World {
    /// No rows but those of a new cluster, no files.
    pub fn founded() -> World {
        let mut world = World {
            state: State::new(),
            disk: BTreeMap::new(),
            hosts: "127.0.0.1 localhost\n".to_owned(),
            editor: None,
            environment: BTreeMap::new(),
            index: 0,
        };
        let founding = state::initial::Founding {
            cluster: "mn01",
            admin: "root",
            domain: "cluster.test",
            master: "10.1.0.1",
            timezone: "",
        };
        world.apply(Transaction { changes: state::initial::rows(&founding), ..Transaction::default() });
        world
    }

    /// The database of the observations.
    pub fn observed(inputs: &str) -> World {
        World::observed_as(inputs, Form::Observed)
    }

    /// The database of the observations, as it was or with other names.
    pub fn observed_as(inputs: &str, form: Form) -> World {
        let mut world = World {
            state: State::new(),
            disk: files(inputs).into_iter().map(|(name, text)| (name, form.text(&text))).collect(),
            hosts: "127.0.0.1 localhost\n10.1.0.1 mn01.cluster.test mn01\n".to_owned(),
            editor: None,
            environment: form.environment(),
            index: 0,
        };
        let mut changes = Vec::new();
        for entry in std::fs::read_dir(golden("db")).unwrap() {
            let path = entry.unwrap().path();
            let table = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = form.text(&std::fs::read_to_string(&path).unwrap());
            let (columns, mut records) = commands::csv::parse(text.as_bytes()).unwrap();
            if form == Form::Renamed {
                records.reverse();
            }
            let def = world.state.named(&table).unwrap().def();
            for record in records {
                let cells: Vec<(String, String)> = columns.iter().cloned().zip(record.values).collect();
                let key = def.keys.iter().map(|&k| {
                    let name = def.columns[k].name;
                    cells.iter().find(|(column, _)| column == name).map(|(_, v)| v.clone()).unwrap()
                });
                changes.push(RowChange::Set { table: table.clone(), key: key.collect(), cells });
            }
        }
        world.apply(Transaction { changes, ..Transaction::default() });
        world
    }

    /// A cluster without rows.
    pub fn empty() -> World {
        World {
            state: State::new(),
            disk: BTreeMap::new(),
            hosts: String::new(),
            editor: None,
            environment: BTreeMap::new(),
            index: 0,
        }
    }

    /// Sets a row.
    pub fn set(&mut self, table: &str, key: &[&str], cells: &[(&str, &str)]) {
        let changes = vec![RowChange::set(table, key, cells)];
        self.apply(Transaction { changes, ..Transaction::default() });
    }

    /// The nodes of the sessions that run commands: k0001 to k0004 answer, u1 does not.
    pub fn with_answering_nodes(mut self) -> World {
        let names = ["k0001", "k0002", "k0003", "k0004", "u1"];
        let changes = names.map(|node| RowChange::set("nodelist", &[node], &[("groups", "k")])).to_vec();
        self.apply(Transaction { changes, ..Transaction::default() });
        self.disk.insert("/golden/s.sh".to_owned(), "#!/bin/sh\necho script $1\n".to_owned());
        self
    }

    fn apply(&mut self, transaction: Transaction) {
        self.index += 1;
        let applied = self.state.apply(self.index, &Entry::Transaction(transaction));
        assert_eq!(applied.outcome.unwrap().refused, None);
        let rows = applied.events.iter().map(PastRow::from).collect();
        let number = self.state.revision();
        self.tell(&Revision { number, author: String::new(), command: String::new(), time: 0, rows });
    }

    /// Does what the observed handler does: `echo "$@" >>@F@/notif.out; cat >>@F@/notif.out`.
    fn tell(&mut self, revision: &Revision) {
        let known = self.state.cursors().iter().filter(|(_, cursor)| cursor.at.revision <= revision.number);
        let registered: Vec<Registration> = known
            .filter(|(file, _)| self.disk.contains_key(*file))
            .filter_map(|(file, _)| Registration::find(&self.state, file))
            .collect();
        for registration in registered {
            for call in calls(revision).iter().filter(|call| registration.wants(call)) {
                let input = String::from_utf8(call.stdin(registration.format)).unwrap();
                let printed = self.disk.entry("/golden/notif.out".to_owned()).or_default();
                *printed += &format!("\n{input}");
            }
        }
    }

    /// Runs a command; `None` if it is not one of this crate or does something to nodes.
    pub fn run(&mut self, command: &[&str], stdin: &str) -> Option<Ran> {
        let args: Vec<String> = command[1..].iter().map(|a| (*a).to_owned()).collect();
        if let Some(ran) = self.shell(command) {
            return Some(ran);
        }
        if let ["env", setting, rest @ ..] = command {
            self.editor = setting.strip_prefix("EDITOR=").map(str::to_owned);
            return self.run(rest, stdin);
        }
        let (found, args) = resolve(command[0], &args)?;
        let mut sent = Files::new();
        let mut inputs = Inputs::default();
        let mut given = None;
        loop {
            let ctx = Ctx {
                state: &self.state,
                command: found.name,
                args,
                caller: "root",
                cluster: "mn01",
                now: 1_700_000_000,
                version: "0.1.0",
                environment: &self.environment,
                files: &sent,
                stdin: given,
                inputs: &inputs,
                named: None,
                sink: None,
            };
            match found.make(&ctx) {
                Plan::Answer(output) => return Some(ran(&output)),
                Plan::Change(change) => {
                    let Change { changes, preconditions, effects, output, notes } = change;
                    let mut answer = notes;
                    answer.append(output);
                    self.apply(Transaction { changes, preconditions, ..Transaction::default() });
                    for effect in effects {
                        match effect {
                            Effect::WriteHosts(text) => self.hosts = text,
                            Effect::TimeService { settings, .. } => {
                                self.disk.insert("/chrony.conf".to_owned(), settings);
                            }
                            Effect::ClientFile { path, bytes, .. } => {
                                self.disk.insert(path, String::from_utf8(bytes).unwrap());
                            }
                            Effect::ClientFiles(files) => {
                                let texts = files
                                    .into_iter()
                                    .map(|(path, bytes)| (path, String::from_utf8(bytes).unwrap()));
                                self.disk.extend(texts);
                            }
                            Effect::Monitor(_) => {}
                        }
                    }
                    return Some(ran(&answer));
                }
                Plan::Need(Need::Folder(path)) => {
                    let folder = format!("{path}/");
                    let names = self.disk.keys().filter_map(|file| file.strip_prefix(&folder));
                    let names: Vec<String> = names.map(str::to_owned).collect();
                    let names = Some(names).filter(|names| !names.is_empty());
                    assert!(inputs.folders.insert(path, names).is_none(), "a folder is asked for once");
                }
                Plan::Need(Need::Files { paths, .. }) => {
                    for path in paths {
                        let content = self.disk.get(&path).map(|text| text.clone().into_bytes());
                        assert!(sent.insert(path, content).is_none(), "a file is asked for once");
                    }
                }
                Plan::Need(Need::File { path, .. }) => {
                    let content = self.disk.get(&path).map(|text| text.clone().into_bytes());
                    assert!(sent.insert(path, content).is_none(), "a file is asked for once");
                }
                Plan::Need(Need::Stdin { .. }) => given = Some(stdin.as_bytes()),
                Plan::Need(Need::Hosts) => inputs.hosts = Some(self.hosts.clone()),
                Plan::Need(Need::Interfaces) => inputs.interfaces = Some(interfaces()),
                Plan::Need(Need::Edit(sheet)) => {
                    let script = self.editor.as_ref().and_then(|path| self.disk.get(path))?;
                    assert_eq!(sheet.complaint, None, "what is edited can be stored");
                    let text = Ok(nodes::edited(script, &sheet.name, &sheet.text));
                    inputs.edited = Some(Edited { sheet, text });
                }
                Plan::FanOut(plan) => return Some(nodes::run(&plan)),
                _ => return None,
            }
        }
    }

    /// The rows of a command that only reads.
    pub fn rows(&self, command: &[&str]) -> wire::client::Rows {
        let args: Vec<String> = command[1..].iter().map(|a| (*a).to_owned()).collect();
        let (found, args) = resolve(command[0], &args).unwrap();
        let mut inputs =
            Inputs { rows: true, status: Some(vec!["master m1: leader".to_owned()]), ..Inputs::default() };
        loop {
            let ctx = Ctx {
                state: &self.state,
                command: found.name,
                args,
                caller: "root",
                cluster: "mn01",
                now: 1_700_000_000,
                version: "0.1.0",
                environment: &BTreeMap::new(),
                files: &Files::new(),
                stdin: None,
                inputs: &inputs,
                named: None,
                sink: None,
            };
            match (found.plan)(&ctx) {
                Plan::Answer(output) => {
                    assert!(output.rows.is_some(), "{command:?} has no rows: {output:?}");
                    return *output.rows.unwrap();
                }
                Plan::Need(Need::Past(query)) => inputs.past = Some((query, Reading::default())),
                other => panic!("{command:?}: {other:?}"),
            }
        }
    }

    /// What the sessions do beside our commands.
    fn shell(&mut self, command: &[&str]) -> Option<Ran> {
        let quiet = |out: String| Some(Ran { out, err: String::new(), rc: 0 });
        match command {
            ["cat", "/etc/hosts"] => quiet(self.hosts.clone()),
            ["cat", path] => quiet(self.disk.get(*path).cloned().unwrap_or_default()),
            // Handlers are told at once here.
            ["sleep", _] => quiet(String::new()),
            ["cp", from, to] => {
                let text = self.disk.get(*from)?.clone();
                self.disk.insert((*to).to_owned(), text);
                quiet(String::new())
            }
            ["sh", "-c", line] => {
                let mut ran = Ran { out: String::new(), err: String::new(), rc: 0 };
                for part in line.split(" | ") {
                    let words: Vec<&str> = part.split('\'').flat_map(words).collect();
                    let (given, err) = (ran.out, ran.err);
                    ran = self.run(&words, &given)?;
                    ran.err.insert_str(0, &err);
                }
                Some(ran)
            }
            _ => None,
        }
    }
}

/// The words of a piece of a line: what stood in quotes ends in no blank and is one word.
fn words(piece: &str) -> Vec<&str> {
    if piece.ends_with(' ') || !piece.contains(' ') {
        piece.split_whitespace().collect()
    } else {
        vec![piece]
    }
}

fn ran(output: &commands::Output) -> Ran {
    told(&output.items, i64::from(output.status))
}

/// Pieces of output as the client shows them.
pub fn told(items: &[wire::client::Text], rc: i64) -> Ran {
    let (mut out, mut err) = (String::new(), String::new());
    for item in items {
        let text = String::from_utf8_lossy(&item.text);
        let target = if item.stream == Stream::Out { &mut out } else { &mut err };
        match &item.node {
            None => target.push_str(&text),
            Some(node) => text.lines().for_each(|line| target.push_str(&format!("{node}: {line}\n"))),
        }
    }
    Ran { out, err, rc }
}

/// The machine of the observations: the cluster's network and one that is not defined.
fn interfaces() -> Vec<Interface> {
    let interface = |name: &str, address: [u8; 4], prefix| Interface {
        name: name.to_owned(),
        address: address.into(),
        prefix,
        mtu: 1500,
        gateway: None,
    };
    vec![interface("eth0", [10, 1, 0, 1], 16), interface("eth1", [192, 168, 55, 1], 24)]
}
