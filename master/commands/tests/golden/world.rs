//! A cluster in memory: the state, a client's files, the master's hosts file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use commands::{Change, Ctx, Effect, Inputs, Interface, Need, Plan, resolve};
use state::{Entry, Files, RowChange, State, Transaction};
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
    /// The database of the observations.
    pub fn observed(inputs: &str) -> World {
        let mut world = World {
            state: State::new(),
            disk: files(inputs),
            hosts: "127.0.0.1 localhost\n10.1.0.1 mn01.cluster.test mn01\n".to_owned(),
            index: 0,
        };
        let mut changes = Vec::new();
        for entry in std::fs::read_dir(golden("db")).unwrap() {
            let path = entry.unwrap().path();
            let table = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let (columns, records) = commands::csv::parse(&std::fs::read(&path).unwrap()).unwrap();
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

    fn apply(&mut self, transaction: Transaction) {
        self.index += 1;
        let outcome = self.state.apply(self.index, &Entry::Transaction(transaction)).outcome.unwrap();
        assert_eq!(outcome.refused, None);
    }

    /// Runs a command; `None` if it is not one of this crate or does something to nodes.
    pub fn run(&mut self, command: &[&str], stdin: &str) -> Option<Ran> {
        let args: Vec<String> = command[1..].iter().map(|a| (*a).to_owned()).collect();
        if let Some(ran) = self.shell(command) {
            return Some(ran);
        }
        let (found, args) = resolve(command[0], &args)?;
        let mut sent = Files::new();
        let mut inputs = Inputs::default();
        let mut given = None;
        loop {
            let environment = BTreeMap::new();
            let ctx = Ctx {
                state: &self.state,
                command: found.name,
                args,
                caller: "root",
                cluster: "mn01",
                now: 1_700_000_000,
                version: "0.1.0",
                environment: &environment,
                files: &sent,
                stdin: given,
                inputs: &inputs,
            };
            match (found.plan)(&ctx) {
                Plan::Answer(output) => return Some(ran(&output)),
                Plan::Change(change) => {
                    let Change { changes, preconditions, effects, output, .. } = change;
                    self.apply(Transaction { changes, preconditions, ..Transaction::default() });
                    for effect in effects {
                        match effect {
                            Effect::WriteHosts(text) => self.hosts = text,
                            Effect::ClientFile { path, bytes, .. } => {
                                self.disk.insert(path, String::from_utf8(bytes).unwrap());
                            }
                        }
                    }
                    return Some(ran(&output));
                }
                Plan::Need(Need::File { path, .. }) => {
                    let content = self.disk.get(&path).map(|text| text.clone().into_bytes());
                    assert!(sent.insert(path, content).is_none(), "a file is asked for once");
                }
                Plan::Need(Need::Stdin { .. }) => given = Some(stdin.as_bytes()),
                Plan::Need(Need::Hosts) => inputs.hosts = Some(self.hosts.clone()),
                Plan::Need(Need::Interfaces) => inputs.interfaces = Some(interfaces()),
                _ => return None,
            }
        }
    }

    /// What the sessions do beside our commands.
    fn shell(&mut self, command: &[&str]) -> Option<Ran> {
        let quiet = |out: String| Some(Ran { out, err: String::new(), rc: 0 });
        match command {
            ["cat", "/etc/hosts"] => quiet(self.hosts.clone()),
            ["cp", from, to] => {
                let text = self.disk.get(*from)?.clone();
                self.disk.insert((*to).to_owned(), text);
                quiet(String::new())
            }
            _ => None,
        }
    }
}

fn ran(output: &commands::Output) -> Ran {
    let (mut out, mut err) = (String::new(), String::new());
    for item in &output.items {
        let text = String::from_utf8_lossy(&item.text);
        let target = if item.stream == Stream::Out { &mut out } else { &mut err };
        match &item.node {
            None => target.push_str(&text),
            Some(node) => text.lines().for_each(|line| target.push_str(&format!("{node}: {line}\n"))),
        }
    }
    Ran { out, err, rc: i64::from(output.status) }
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
