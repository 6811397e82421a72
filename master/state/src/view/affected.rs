//! Which views a change of rows touches.

use std::collections::BTreeSet;

use super::{Row, Tables, bmc_name, column};

/// A row that changed.
#[derive(Debug, Clone, Copy)]
pub struct Touch<'a> {
    /// Its table.
    pub table: &'a str,
    /// As it was; none for a new row.
    pub old: Option<&'a Row>,
    /// As it is; none for a removed row.
    pub new: Option<&'a Row>,
}

/// What must be projected again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Affected {
    /// The cluster's part.
    pub site: bool,
    /// Every node.
    pub all: bool,
    /// These nodes (some may be gone).
    pub nodes: BTreeSet<String>,
}

impl Affected {
    /// Whether no view is touched.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        !self.site && !self.all && self.nodes.is_empty()
    }

    /// Adds what another change touches.
    pub fn merge(&mut self, other: Self) {
        self.site |= other.site;
        self.all |= other.all;
        self.nodes.extend(other.nodes);
    }
}

/// Tables whose rows, kept by node or group, show in a node's view.
const NODE_TABLES: &[&str] = &[
    "bootparams",
    "chain",
    "hosts",
    "identity",
    "ipmi",
    "mac",
    "nics",
    "nodehm",
    "nodelist",
    "nodemounts",
    "noderes",
    "noderoutes",
    "nodetype",
    "selfconf",
    "switch",
    "useraccounts",
    "vpd",
];

const CONFIG_TABLES: &[&str] = &[
    "hosts",
    "networks",
    "nics",
    "nodegroup",
    "nodelist",
    "nodemounts",
    "noderes",
    "noderoutes",
    "routes",
    "selfconf",
    "site",
    "useraccounts",
];

/// Columns that views do not show: a change of nothing else touches no view. Where the node's name is among
/// them, a row that holds nothing else does not either.
const UNSEEN: &[(&str, &[&str])] = &[
    ("nics", &["node", "nicsadapter", "comments"]),
    (
        "nodelist",
        &["statustime", "appstatus", "appstatustime", "updatestatus", "updatestatustime", "comments"],
    ),
    ("selfconf", &["node", "generation", "failedsteps", "startstatus", "reported", "comments"]),
    ("identity", &["node", "certserial", "level", "tokenhash", "uuid", "registered", "hostkeys", "comments"]),
];

/// `site` keys that show in every node's configuration.
const NODE_SITE_KEYS: &[&str] = &["domain", "nameservers"];

/// What a changed row touches.
#[must_use]
pub fn affected(tables: &dyn Tables, touch: Touch<'_>) -> Affected {
    let mut found = Affected::default();
    let Some(row) = touch.new.or(touch.old) else { return found };
    if !seen(touch) {
        return found;
    }
    match touch.table {
        "site" => {
            found.site = true;
            found.all = NODE_SITE_KEYS.contains(&column(row, "key"));
        }
        "networks" => (found.site, found.all) = (true, true),
        "routes" | "nodegroup" => found.all = true,
        "passwd" => found.all = column(row, "key") == "ipmi",
        "switches" | "servicenode" => found.site = true,
        table if NODE_TABLES.contains(&table) => {
            let owner = column(row, "node");
            found.site = matches!(table, "switch" | "hosts") || scope_changed(touch);
            found.nodes.extend(tables.members(owner));
            found.nodes.insert(owner.to_owned());
            if table == "hosts" {
                found.nodes.extend(users_of_name(tables, owner));
            }
        }
        _ => {}
    }
    found
}

/// Tables that have a part in nodes' own configurations.
#[must_use]
pub fn shows_config(table: &str) -> bool {
    CONFIG_TABLES.contains(&table)
}

/// Whether the change raises the generation of the node's own configuration, and whose it is.
#[must_use]
pub fn touches_config(touch: Touch<'_>) -> bool {
    let Some(row) = touch.new.or(touch.old) else { return false };
    if !seen(touch) {
        return false;
    }
    match touch.table {
        "site" => NODE_SITE_KEYS.contains(&column(row, "key")),
        "networks" | "routes" | "nodegroup" | "hosts" | "nics" | "nodemounts" | "useraccounts"
        | "noderoutes" | "selfconf" => true,
        "nodelist" => changed(touch, "groups") || touch.old.is_none(),
        "noderes" => changed(touch, "nameservers") || changed(touch, "routenames"),
        _ => false,
    }
}

fn changed(touch: Touch<'_>, name: &str) -> bool {
    let of = |row: Option<&Row>| row.map(|row| column(row, name).to_owned()).unwrap_or_default();
    of(touch.old) != of(touch.new)
}

/// A node came, went, or moved to another service node: the list of switches may change.
fn scope_changed(touch: Touch<'_>) -> bool {
    match touch.table {
        "nodelist" => touch.old.is_none() || touch.new.is_none(),
        "noderes" => changed(touch, "servicenode"),
        _ => false,
    }
}

/// Whether no view shows the column.
#[must_use]
pub fn is_unseen(table: &str, column: &str) -> bool {
    UNSEEN.iter().any(|(known, columns)| *known == table && columns.contains(&column))
}

/// Whether the table's rows show in any view.
#[must_use]
pub fn shows(table: &str) -> bool {
    NODE_TABLES.contains(&table)
        || matches!(
            table,
            "site" | "networks" | "routes" | "nodegroup" | "passwd" | "switches" | "servicenode"
        )
}

/// Whether a column changed that views show.
fn seen(touch: Touch<'_>) -> bool {
    let nothing = Row::new();
    let (old, new) = (touch.old.unwrap_or(&nothing), touch.new.unwrap_or(&nothing));
    let unseen =
        UNSEEN.iter().find(|(table, _)| *table == touch.table).map_or(&[] as &[&str], |(_, list)| list);
    old.keys()
        .chain(new.keys())
        .any(|name| !unseen.contains(&name.as_str()) && old.get(name) != new.get(name))
}

/// Nodes whose BMC goes by the name `host`: the node that the name is derived from (`n1-bmc` of `n1`), and
/// those with the name in a row of their own group.
fn users_of_name(tables: &dyn Tables, host: &str) -> Vec<String> {
    let ends = host.char_indices().skip(1).map(|(at, _)| at);
    ends.map(|at| &host[..at])
        .filter(|name| tables.is_node(name) && bmc_name(tables, name) == host)
        .map(str::to_owned)
        .collect()
}
