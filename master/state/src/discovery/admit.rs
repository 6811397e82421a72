//! Whether a machine gets an identity, and whose.
//!
//! In this order: a key that is registered already; a one-time token of a known node; an administrator's
//! word; evidence (switch port, model and serial) that points to exactly one defined node that nobody
//! holds. Everything else is kept and listed with the reason of each method. A node that is held keeps its
//! holder: another key is a contest, which is audited and waits for an administrator.

use wire::agent::Phase;
use wire::hardware::Hardware;
use wire::rack::TokenProof;

use super::machine::{machine_key, machine_macs, text};
use super::{Enrolment, Outcome, Times, Verdict, Write, calendar, chain, inventory, report};
use crate::view::{Row, Tables, column, in_scope, parse_macs, site_value};

/// Methods whose word admits a machine.
const TRUSTED: &[&str] = &["switch", "mtms"];
/// Most methods whose reasons are kept of one machine.
const MAX_REASONS: usize = 16;
/// State of a machine that an administrator gave a node.
pub const APPROVED: &str = "approved";
/// State of a machine that waits for somebody to recognize it.
pub const PENDING: &str = "pending";
/// State of a machine that is a node.
pub const MATCHED: &str = "matched";

pub(super) fn enrol(tables: &dyn Tables, enrolment: &Enrolment, times: Times) -> Verdict {
    let hardware = &enrolment.request.hello.hardware;
    if let Some((node, identity)) = holder(tables, enrolment) {
        let outcome = Outcome::Admitted {
            node,
            method: column(&identity, "level").to_owned(),
            generation: generation(&identity),
        };
        return Verdict::new(outcome, Vec::new());
    }
    if let Some(proof) = &enrolment.request.token {
        return by_token(tables, enrolment, proof, times);
    }
    match candidate(tables, enrolment) {
        Ok((node, method)) => {
            let identity = tables.row("identity", &[&node]).unwrap_or_default();
            let held = !column(&identity, "fingerprint").is_empty();
            if held && !may_return(tables, enrolment, &node) {
                return contested(tables, enrolment, &node, &method, times);
            }
            admitted(tables, enrolment, &node, &method, times)
        }
        Err(reason) => Verdict::new(Outcome::Pending(reason), listed(tables, enrolment, hardware, times)),
    }
}

/// The node that holds the offered key already: the machine lost its answer.
fn holder(tables: &dyn Tables, enrolment: &Enrolment) -> Option<(String, Row)> {
    let request = &enrolment.request;
    let seen = tables.row("discoverydata", &[&machine_key(&request.hello.hardware)]).unwrap_or_default();
    let named = request.token.iter().map(|proof| proof.node.as_str());
    let named = named.chain(request.evidence.iter().map(|evidence| evidence.node.as_str()));
    named.chain([column(&seen, "node")]).filter(|node| !node.is_empty() && tables.is_node(node)).find_map(
        |node| {
            let identity = tables.row("identity", &[node])?;
            let same = !enrolment.fingerprint.is_empty()
                && column(&identity, "fingerprint") == enrolment.fingerprint;
            (same && in_scope(tables, node, &enrolment.rack)).then(|| (node.to_owned(), identity))
        },
    )
}

/// The boot generation in which the present key was registered: older tokens are void.
fn generation(identity: &Row) -> u64 {
    column(identity, "generation").parse().unwrap_or(0)
}

fn boot_generation(identity: &Row) -> u64 {
    column(identity, "bootgeneration").parse().unwrap_or(0).max(generation(identity))
}

fn by_token(tables: &dyn Tables, enrolment: &Enrolment, proof: &TokenProof, times: Times) -> Verdict {
    let node = proof.node.as_str();
    let identity = tables.row("identity", &[node]).unwrap_or_default();
    let hardware = &enrolment.request.hello.hardware;
    let reason = if !tables.is_node(node) {
        Some(format!("the boot token is for node {node}, which is not defined"))
    } else if !in_scope(tables, node, &enrolment.rack) {
        Some(format!("node {node} does not belong to service node {}", enrolment.rack))
    } else if column(&identity, "tokenhash") == proof.digest {
        Some(format!("the boot token of node {node} was used before"))
    } else if proof.expires < times.wall {
        Some(format!("the boot token of node {node} expired at {}", calendar::stamp(proof.expires)))
    } else if !(generation(&identity)..=boot_generation(&identity)).contains(&proof.generation) {
        Some(format!(
            "the boot token of node {node} is for boot generation {}, now is {}",
            proof.generation,
            boot_generation(&identity)
        ))
    } else if other_machine(tables, node, hardware) {
        Some(format!("the boot token of node {node} was used by a machine without any of its adapters"))
    } else {
        None
    };
    if let Some(reason) = reason {
        let what = format!("enrolment from {}: {reason}", text(&enrolment.request.address));
        return Verdict::refused(&enrolment.rack, &what, Outcome::Denied(reason));
    }
    let mut verdict = admitted(tables, enrolment, node, "token", times);
    verdict.writes.push(Write::node("identity", node, vec![("tokenhash", proof.digest.clone())]));
    verdict
}

/// Whether the node's adapters are known and the machine has none of them.
fn other_machine(tables: &dyn Tables, node: &str, hardware: &Hardware) -> bool {
    let known = parse_macs(node, &tables.attribute(node, "mac", "mac"));
    let own = machine_macs(hardware);
    !known.is_empty() && !own.is_empty() && !known.iter().any(|entry| own.contains(&entry.mac.to_string()))
}

/// What a machine that is not admitted is listed under. A stranger that shows the UUID of a node's machine
/// gets an entry of its own: it must not change what is known of that one.
fn entry_key(tables: &dyn Tables, enrolment: &Enrolment) -> String {
    let key = machine_key(&enrolment.request.hello.hardware);
    let seen = tables.row("discoverydata", &[&key]).unwrap_or_default();
    let identity = tables.row("identity", &[column(&seen, "node")]).unwrap_or_default();
    let holder = column(&identity, "fingerprint");
    if column(&seen, "node").is_empty() || holder.is_empty() || holder == enrolment.fingerprint {
        return key;
    }
    format!("{key}#{}", enrolment.fingerprint.chars().take(8).collect::<String>())
}

/// The one node that the machine is, and how that is known; or why nobody can say.
fn candidate(tables: &dyn Tables, enrolment: &Enrolment) -> Result<(String, String), String> {
    let request = &enrolment.request;
    let key = entry_key(tables, enrolment);
    let seen = tables.row("discoverydata", &[&key]).unwrap_or_default();
    let word = tables.row("discovered", &[&key]).unwrap_or_default();
    if column(&seen, "method") == "manual" && column(&word, "state") == APPROVED {
        let node = column(&seen, "node");
        let meant = column(&word, "fingerprint");
        if (meant.is_empty() || meant == enrolment.fingerprint) && acceptable(tables, enrolment, node).is_ok()
        {
            return Ok((node.to_owned(), "manual".to_owned()));
        }
    }
    let mut found: Vec<(&str, &str)> = Vec::new();
    let mut reasons = Vec::new();
    for evidence in &request.evidence {
        let method = evidence.method.as_str();
        if !TRUSTED.contains(&method) || evidence.node.is_empty() {
            reasons.push(format!("{}: {}", text(method), text(&evidence.reason)));
            continue;
        }
        match acceptable(tables, enrolment, &evidence.node) {
            Ok(()) if found.iter().any(|(node, _)| *node == evidence.node) => {}
            Ok(()) => found.push((&evidence.node, method)),
            Err(reason) => reasons.push(format!("{}: {reason}", text(method))),
        }
    }
    match found.as_slice() {
        [(node, method)] => Ok(((*node).to_owned(), (*method).to_owned())),
        [] if reasons.is_empty() => Err("no method of recognition knows this machine".to_owned()),
        [] => Err(reasons.join("; ")),
        several => {
            let said: Vec<String> =
                several.iter().map(|(node, method)| format!("{method} says {node}")).collect();
            Err(format!("the methods disagree: {}", said.join(", ")))
        }
    }
}

/// Whether a node may be given to a machine that this service node speaks for.
fn acceptable(tables: &dyn Tables, enrolment: &Enrolment, node: &str) -> Result<(), String> {
    if !tables.is_node(node) {
        return Err(format!("node {} is not defined", text(node)));
    }
    if !in_scope(tables, node, &enrolment.rack) {
        return Err(format!("node {node} does not belong to service node {}", enrolment.rack));
    }
    Ok(())
}

/// Whether a held node may be taken again without a token: only when the site says `enrol=open`, UUID,
/// serial, adapter and cable all are the node's own, and its agent is not connected.
fn may_return(tables: &dyn Tables, enrolment: &Enrolment, node: &str) -> bool {
    let hardware = &enrolment.request.hello.hardware;
    let same = |column, value: &str| {
        let known = tables.attribute(node, "vpd", column);
        !known.is_empty() && known.eq_ignore_ascii_case(value)
    };
    let cable = |method: &str| {
        enrolment.request.evidence.iter().any(|evidence| evidence.method == method && evidence.node == node)
    };
    site_value(tables, "enrol") == "open"
        && same("uuid", &hardware.uuid)
        && same("serial", &hardware.serial)
        && !parse_macs(node, &tables.attribute(node, "mac", "mac")).is_empty()
        && !other_machine(tables, node, hardware)
        && cable("switch")
        && !enrolment.connected.iter().any(|name| name == node)
}

fn contested(tables: &dyn Tables, enrolment: &Enrolment, node: &str, method: &str, times: Times) -> Verdict {
    let reason = format!(
        "{method}: node {node} is held by another machine; if this one replaces it, remove the row of {node} \
         from table identity"
    );
    let mut writes = listed(tables, enrolment, &enrolment.request.hello.hardware, times);
    // A machine asks again every few seconds: the alarm is given once for each change of its entry.
    if !writes.is_empty() {
        let what = format!(
            "enrolment from {}: key {} claims node {node}, which is held",
            text(&enrolment.request.address),
            enrolment.fingerprint
        );
        writes.push(Write::Audit { who: enrolment.rack.clone(), what, allowed: false });
    }
    Verdict::new(Outcome::Pending(reason), writes)
}

fn admitted(tables: &dyn Tables, enrolment: &Enrolment, node: &str, method: &str, times: Times) -> Verdict {
    let hello = &enrolment.request.hello;
    let hardware = &hello.hardware;
    let identity = tables.row("identity", &[node]).unwrap_or_default();
    let generation = boot_generation(&identity) + 1;
    let host_keys: Vec<String> = hardware.ssh_host_keys.iter().take(16).map(|key| long_text(key)).collect();
    let mut writes = vec![Write::node(
        "identity",
        node,
        vec![
            ("fingerprint", enrolment.fingerprint.clone()),
            ("generation", generation.to_string()),
            ("bootgeneration", generation.to_string()),
            ("level", method.to_owned()),
            ("uuid", text(&hardware.uuid).to_lowercase()),
            ("registered", times.wall.to_string()),
            ("hostkeys", host_keys.join("|")),
        ],
    )];
    writes.extend(inventory::hardware(tables, node, hardware));
    writes.extend(inventory::discovered(tables, node, hardware));
    let key = entry_key(tables, enrolment);
    let seen = tables.row("discoverydata", &[&key]).unwrap_or_default();
    // A node that comes back by its token keeps the method by which it was found.
    let known = method == "token" && column(&seen, "node") == node;
    let shown = if known { column(&seen, "method") } else { method };
    writes.push(inventory::listed(&key, hardware, node, shown, times.wall));
    let values = vec![("node", node.to_owned()), ("method", shown.to_owned()), ("state", MATCHED.to_owned())];
    let values = values.into_iter().chain([("reasons", String::new())]).collect();
    writes.push(machine_row(enrolment, &key, values, times));
    if method != "switch" && method != "token" {
        writes.extend(inventory::cable(tables, node, hardware));
    }
    if hello.phase == Phase::Genesis {
        writes.extend(destiny(tables, node, method, times));
    }
    let what = format!("machine {key} is node {node} (by {method}, key generation {generation})");
    writes.push(Write::Audit { who: enrolment.rack.clone(), what, allowed: true });
    Verdict::new(Outcome::Admitted { node: node.to_owned(), method: method.to_owned(), generation }, writes)
}

/// A machine that was just found begins its chain; a known one goes on where it is.
fn destiny(tables: &dyn Tables, node: &str, method: &str, times: Times) -> Vec<Write> {
    let text = |column| tables.attribute(node, "chain", column);
    let (state, chain) = (text("currstate"), text("chain"));
    let keep = !state.is_empty() && (method == "token" || chain.is_empty());
    if keep {
        return report::status(tables, node, chain::status(&state), times.wall);
    }
    chain::writes(tables, node, &chain::first(&chain), times.wall)
}

/// The machine's entry in the list, with the reason of each method; nothing when only the time differs.
fn listed(tables: &dyn Tables, enrolment: &Enrolment, hardware: &Hardware, times: Times) -> Vec<Write> {
    let key = entry_key(tables, enrolment);
    let mut reasons = Vec::new();
    for evidence in enrolment.request.evidence.iter().take(MAX_REASONS) {
        let node = text(&evidence.node);
        let held =
            tables.row("identity", &[&node]).is_some_and(|row| !column(&row, "fingerprint").is_empty());
        let fault = match acceptable(tables, enrolment, &node) {
            _ if node.is_empty() => String::new(),
            Err(fault) => format!(" ({fault})"),
            Ok(()) if held => format!(" (node {node} is held by another machine)"),
            Ok(()) => format!(" (points to {node})"),
        };
        reasons.push(format!("{}: {}{fault}", text(&evidence.method), text(&evidence.reason)));
    }
    let values = vec![
        ("node", String::new()),
        ("method", "undef".to_owned()),
        ("state", PENDING.to_owned()),
        ("reasons", reasons.join("; ")),
    ];
    let writes = vec![
        inventory::listed(&key, hardware, "", "undef", times.wall),
        machine_row(enrolment, &key, values, times),
    ];
    if writes.iter().all(|write| is_known(tables, write)) { Vec::new() } else { writes }
}

/// The machine's row in `discovered`.
fn machine_row(
    enrolment: &Enrolment,
    key: &str,
    mut values: Vec<(&'static str, String)>,
    times: Times,
) -> Write {
    let hardware = &enrolment.request.hello.hardware;
    values.extend([
        ("uuid", text(&hardware.uuid).to_lowercase()),
        ("serial", text(&hardware.serial)),
        ("mtm", text(&hardware.mtm)),
        ("macs", machine_macs(hardware).join(",")),
        ("arch", text(&hardware.arch)),
        ("servicenode", enrolment.rack.clone()),
        ("fingerprint", enrolment.fingerprint.clone()),
        ("seen", times.wall.to_string()),
    ]);
    Write::Set { table: "discovered", key: vec![("id", key.to_owned())], values }
}

/// Whether the row says all this already, but for the time.
fn is_known(tables: &dyn Tables, write: &Write) -> bool {
    let Write::Set { table, key, values } = write else { return false };
    let key: Vec<&str> = key.iter().map(|(_, value)| value.as_str()).collect();
    tables.row(table, &key).is_some_and(|row| {
        let lasting = values.iter().filter(|(name, _)| !matches!(*name, "discoverytime" | "seen"));
        lasting.into_iter().all(|(name, value)| column(&row, name) == value)
    })
}

/// A host key: longer than other texts.
fn long_text(value: &str) -> String {
    value.trim().chars().take(2048).filter(|letter| !letter.is_control() && *letter != '|').collect()
}

/// A service node joins with its token.
pub(super) fn join(
    tables: &dyn Tables,
    name: &str,
    digest: &str,
    fingerprint: &str,
    times: Times,
) -> Verdict {
    let row = tables.row("servicenodes", &[name]);
    let reason = match &row {
        None => Some(format!("no service node '{}' is expected; run margay sn add first", text(name))),
        Some(row) if column(row, "tokenhash") != digest || digest.is_empty() => {
            Some(format!("this is not the join token of service node {name}"))
        }
        // The same machine lost its answer.
        Some(row) if column(row, "expires").is_empty() && column(row, "fingerprint") == fingerprint => {
            return Verdict::new(Outcome::Joined, Vec::new());
        }
        Some(row) if column(row, "expires").is_empty() => {
            Some(format!("the join token of service node {name} was used before"))
        }
        Some(row) if column(row, "expires").parse::<u64>().unwrap_or(0) < times.wall => {
            Some(format!("the join token of service node {name} expired"))
        }
        Some(_) => None,
    };
    if let Some(reason) = reason {
        let who = format!("service node {}", text(name));
        return Verdict::refused(&who, &format!("join: {reason}"), Outcome::Denied(reason.clone()));
    }
    let values = vec![
        // No expiry: the token is used.
        ("expires", String::new()),
        ("fingerprint", fingerprint.to_owned()),
        ("joined", times.wall.to_string()),
    ];
    let audit = Write::Audit { who: format!("service node {name}"), what: "join".to_owned(), allowed: true };
    let set = Write::Set { table: "servicenodes", key: vec![("name", name.to_owned())], values };
    Verdict::new(Outcome::Joined, vec![set, audit])
}
