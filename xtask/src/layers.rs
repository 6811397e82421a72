//! The layer law: which crate may use which, read from the manifests and, for the pure crates, the sources.
//!
//! docs/architecture.md shows the same table (generated from here).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process;
use crate::workspace::Workspace;

/// One crate of the house: name, level, what it may use inside the workspace.
pub struct Room {
    /// Package name.
    pub name: &'static str,
    /// A crate uses lower levels only.
    pub level: u8,
    /// Packages of the workspace that it may use; `*` stands for all.
    pub uses: &'static [&'static str],
    /// Whether it must be free of input, output, clocks and chance.
    pub pure: bool,
}

const fn room(name: &'static str, level: u8, uses: &'static [&'static str]) -> Room {
    Room { name, level, uses, pure: false }
}

const fn pure(name: &'static str, level: u8, uses: &'static [&'static str]) -> Room {
    Room { name, level, uses, pure: true }
}

/// The house.
pub const ROOMS: &[Room] = &[
    pure("wire", 0, &[]),
    room("service", 0, &[]),
    room("genesis", 0, &[]),
    pure("noderange", 1, &["wire"]),
    room("link", 1, &["wire", "service"]),
    pure("state", 2, &["wire", "noderange"]),
    room("rawdev", 0, &[]),
    pure("netboot", 2, &["wire"]),
    room("bmc", 2, &["wire", "service"]),
    pure("commands", 3, &["wire", "noderange", "state"]),
    room("storage", 3, &["wire", "noderange", "state", "link", "service"]),
    room("master", 4, &["wire", "noderange", "link", "service", "state", "commands", "storage"]),
    room("cli", 4, &["wire", "noderange", "link", "service"]),
    room("servicenode", 4, &["wire", "noderange", "link", "service", "netboot", "bmc"]),
    room("agent", 4, &["rawdev", "wire", "noderange", "link", "service"]),
    room("sim", 5, &["wire", "noderange", "link", "service", "netboot", "bmc", "agent"]),
    room("rack", 5, &["*"]),
    room("suite", 5, &["*"]),
    room("xtask", 5, &[]),
];

/// Outside crates that no pure crate may use.
const IMPURE_CRATES: &[&str] =
    &["tokio", "quinn", "rustix", "libc", "socket2", "rand", "getrandom", "rocksdb", "mio", "chrono", "time"];
/// What no pure source may name.
const IMPURE_WORDS: &[&str] = &[
    "std::fs",
    "std::process",
    "std::env",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "UnixStream",
];
/// Crates whose closure may hold RocksDB.
const ROCKSDB_USERS: &[&str] = &["storage", "master", "suite"];
/// Crates from outside that may be compiled into the agent.
const AGENT_CRATES: usize = 80;
/// Test helpers that a crate of any level may use in its tests.
const TEST_HELPERS: &[&str] = &["sim"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    #[serde(default)]
    resolve: Option<Resolve>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    id: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    kind: Option<String>,
}

/// Every place where the law is broken, one line each.
pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let members = metadata(workspace, &["--no-deps"])?;
    let mut faults = edges(&members);
    for package in &members.packages {
        if ROOMS.iter().any(|room| room.pure && room.name == package.name) {
            let folder = package.manifest_path.parent().context("a manifest without folder")?;
            faults.extend(impurities(&folder.join("src"))?);
        }
    }
    if !faults.is_empty() {
        // A forbidden edge that was just written is not in Cargo.lock yet; naming it comes first.
        return Ok(faults);
    }
    faults.extend(closures(&metadata(
        workspace,
        &["--locked", "--filter-platform", "x86_64-unknown-linux-musl"],
    )?));
    let agent = outside_crates(&tree_of_agent(workspace)?);
    if agent > AGENT_CRATES {
        faults.push(format!(
            "{agent} crates from outside are compiled into the agent, more than {AGENT_CRATES}"
        ));
    }
    Ok(faults)
}

/// What is compiled into the agent, one crate a line; members show their folder.
fn tree_of_agent(workspace: &Workspace) -> Result<String> {
    let mut cargo = workspace.cargo(&["tree", "--locked", "--package", "agent", "--prefix", "none"])?;
    cargo.args(["--edges", "normal,no-proc-macro", "--target", "x86_64-unknown-linux-musl"]);
    process::text(&mut cargo)
}

fn outside_crates(tree: &str) -> usize {
    let crates: BTreeSet<&str> = tree
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .filter(|line| !line.is_empty() && !line.contains(" (/"))
        .collect();
    crates.len()
}

fn metadata(workspace: &Workspace, arguments: &[&str]) -> Result<Metadata> {
    let mut cargo = workspace.cargo(&["metadata", "--format-version", "1"])?;
    let text = process::text(cargo.args(arguments))?;
    serde_json::from_str(&text).context("reading cargo metadata")
}

/// Forbidden edges between members, and forbidden outside crates of pure members.
fn edges(metadata: &Metadata) -> Vec<String> {
    let mut faults = Vec::new();
    let member_names: BTreeSet<&str> =
        metadata.packages.iter().map(|package| package.name.as_str()).collect();
    for package in &metadata.packages {
        let Some(room) = ROOMS.iter().find(|room| room.name == package.name) else {
            faults.push(format!("{} has no place in the layer table (xtask/src/layers.rs)", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let inside = dependency.path.is_some() && member_names.contains(dependency.name.as_str());
            let test_only = dependency.kind.as_deref() == Some("dev");
            if !inside {
                if room.pure && !test_only && IMPURE_CRATES.contains(&dependency.name.as_str()) {
                    faults.push(format!("{} is pure and may not use {}", room.name, dependency.name));
                }
            } else if test_only && TEST_HELPERS.contains(&dependency.name.as_str()) {
                // Test helpers stand above everything and are no part of the product.
            } else if !room.uses.contains(&"*") && !room.uses.contains(&dependency.name.as_str()) {
                faults.push(format!(
                    "{} (level {}) may not use {} (level {})",
                    room.name,
                    room.level,
                    dependency.name,
                    level_of(&dependency.name)
                ));
            }
        }
    }
    faults
}

fn level_of(name: &str) -> String {
    ROOMS.iter().find(|room| room.name == name).map_or_else(|| "none".into(), |room| room.level.to_string())
}

/// RocksDB only where it belongs.
fn closures(metadata: &Metadata) -> Vec<String> {
    let Some(resolve) = &metadata.resolve else {
        return vec!["cargo metadata resolved nothing".into()];
    };
    let names: BTreeMap<&str, &str> =
        metadata.packages.iter().map(|package| (package.id.as_str(), package.name.as_str())).collect();
    let graph: BTreeMap<&str, &Node> = resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let mut faults = Vec::new();
    for room in ROOMS {
        let Some(package) = metadata.packages.iter().find(|package| package.name == room.name) else {
            continue;
        };
        let reached = closure(&graph, &package.id);
        let holds = |name: &str| reached.iter().any(|id| names.get(id).is_some_and(|found| *found == name));
        if holds("librocksdb-sys") && !ROCKSDB_USERS.contains(&room.name) {
            faults.push(format!("{} reaches RocksDB; only {} may", room.name, ROCKSDB_USERS.join(", ")));
        }
    }
    faults
}

/// Everything that is compiled into `start` (build scripts and tests not counted).
fn closure<'a>(graph: &BTreeMap<&'a str, &'a Node>, start: &'a str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::from([start]);
    let mut open = vec![start];
    while let Some(id) = open.pop() {
        for edge in graph.get(id).map(|node| node.deps.as_slice()).unwrap_or_default() {
            let compiled_in = edge.dep_kinds.iter().any(|kind| kind.kind.is_none());
            if compiled_in && reached.insert(&edge.pkg) {
                open.push(&edge.pkg);
            }
        }
    }
    reached
}

/// Forbidden words in the product part of the sources below `folder`.
fn impurities(folder: &Path) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test_file(&path) {
                let text =
                    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
                faults.extend(impure_lines(&text).map(|(line, word)| {
                    format!("{}:{line} is in a pure crate and names {word}", path.display())
                }));
            }
        }
    }
    faults.sort();
    Ok(faults)
}

fn is_test_file(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"))
        || path.components().any(|part| part.as_os_str() == "tests")
}

/// Line numbers and words; comments and everything after the test module's attribute do not count.
fn impure_lines(text: &str) -> impl Iterator<Item = (usize, &'static str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .filter_map(|(index, line)| {
            IMPURE_WORDS.iter().find(|word| line.contains(**word)).map(|word| (index + 1, *word))
        })
}

/// The law as a table for docs/architecture.md.
pub fn table() -> String {
    let mut text =
        String::from("| level | crate | may use inside the workspace | pure |\n|---|---|---|---|\n");
    for room in ROOMS {
        let uses = match room.uses {
            [] => "nothing".into(),
            ["*"] => "everything".into(),
            uses => uses.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        };
        let mark = if room.pure { "yes" } else { "" };
        text.push_str(&format!("| {} | `{}` | {uses} | {mark} |\n", room.level, room.name));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn planted(from: &str, to: &str, kind: Option<&str>, inside: bool) -> Vec<String> {
        let package = |name: &str, dependencies: Vec<Dependency>| Package {
            name: name.into(),
            id: name.into(),
            manifest_path: PathBuf::from("Cargo.toml"),
            dependencies,
        };
        let edge = Dependency {
            name: to.into(),
            kind: kind.map(str::to_owned),
            path: inside.then(|| PathBuf::from("somewhere")),
        };
        let mut packages = vec![package(from, vec![edge])];
        if inside {
            packages.push(package(to, Vec::new()));
        }
        edges(&Metadata { packages, resolve: None })
    }

    #[test]
    fn a_planted_edge_across_roles_is_found() {
        assert_eq!(planted("cli", "state", None, true), ["cli (level 4) may not use state (level 2)"]);
        assert_eq!(planted("bmc", "netboot", None, true), ["bmc (level 2) may not use netboot (level 2)"]);
        assert_eq!(planted("wire", "link", None, true), ["wire (level 0) may not use link (level 1)"]);
        assert!(planted("link", "wire", None, true).is_empty());
    }

    #[test]
    fn a_pure_crate_that_does_io_is_found() {
        assert_eq!(planted("state", "tokio", None, false), ["state is pure and may not use tokio"]);
        assert!(planted("state", "tokio", Some("dev"), false).is_empty());
        let source = "//! std::fs in a comment\nfn f() { std::fs::read(\"x\"); }\n#[cfg(test)]\nmod tests { use std::env; }\n";
        assert_eq!(impure_lines(source).collect::<Vec<_>>(), [(2, "std::fs")]);
    }

    #[test]
    fn tests_may_use_the_simulators_but_not_other_roles() {
        assert!(planted("bmc", "sim", Some("dev"), true).is_empty());
        assert_eq!(planted("bmc", "state", Some("dev"), true).len(), 1);
    }

    #[test]
    fn a_crate_without_a_place_is_found() {
        assert!(planted("newcomer", "wire", None, true)[0].contains("no place"));
    }

    #[test]
    fn rocksdb_in_the_agent_is_found() {
        let package = |name: &str| Package {
            name: name.into(),
            id: name.into(),
            manifest_path: PathBuf::from("Cargo.toml"),
            dependencies: Vec::new(),
        };
        let node = |from: &str, to: &[&str]| Node {
            id: from.into(),
            deps: to
                .iter()
                .map(|id| Edge { pkg: (*id).into(), dep_kinds: vec![Kind { kind: None }] })
                .collect(),
        };
        let resolve =
            Resolve { nodes: vec![node("agent", &["rocksdb"]), node("rocksdb", &["librocksdb-sys"])] };
        let packages = ["agent", "rocksdb", "librocksdb-sys"].map(package).into();
        let faults = closures(&Metadata { packages, resolve: Some(resolve) });
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("agent reaches RocksDB"));
    }

    #[test]
    fn crates_of_the_agent_are_counted_once_and_without_our_own() {
        let tree =
            "agent v0.1.0 (/x/agent)\nbytes v1.0.0\nlink v0.1.0 (/x/link)\nbytes v1.0.0 (*)\nlibc v0.2.0\n";
        assert_eq!(outside_crates(tree), 2);
    }

    #[test]
    fn every_crate_uses_lower_levels_only() {
        for room in ROOMS {
            for used in room.uses.iter().filter(|used| **used != "*") {
                let other = ROOMS.iter().find(|other| other.name == *used).unwrap();
                assert!(other.level < room.level, "{} uses {}", room.name, other.name);
            }
        }
    }
}
