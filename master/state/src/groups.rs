//! What nodes and groups there are, for noderange.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use noderange::{Error, File, Groups, Matcher, Missing, Options, Selector};

use crate::apply::State;
use crate::schema::schema;
use crate::tree::Tree;

/// Content of files that the client sent, by path; `None`: it has no such file.
pub type Files = BTreeMap<String, Option<Vec<u8>>>;

/// Deepest nesting of groups in groups.
const MAX_DEPTH: usize = 16;

/// The answer to a noderange.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Unique, in byte order, without the excluded ones.
    pub nodes: Vec<String>,
    /// Names that are neither node nor group.
    pub missing: Vec<Missing>,
}

impl State {
    /// Looks a noderange up; nodes of `site.excludenodes` are taken away.
    ///
    /// # Errors
    /// What [`noderange::expand`] cannot answer; a name that does not exist is part of the answer.
    pub fn expand(&self, text: &str, files: &Files, options: &Options) -> Result<Selection, Error> {
        let names = Names { state: self, files };
        let found = noderange::expand(&noderange::parse(text)?, &names, options)?;
        let mut nodes: Vec<String> = found.nodes.into_iter().map(Cow::into_owned).collect();
        if let Some(hidden) = self.site("excludenodes").filter(|text| !text.is_empty()) {
            let hidden = noderange::expand(&noderange::parse(hidden)?, &names, options)?;
            nodes.retain(|node| hidden.nodes.binary_search_by(|h| (**h).cmp(node)).is_err());
        }
        Ok(Selection { nodes, missing: found.missing })
    }

    /// Existing nodes of a noderange in byte order, those of `site.excludenodes` included: for policy.
    ///
    /// # Errors
    /// What [`noderange::expand`] cannot answer.
    pub fn expand_all(&self, text: &str, files: &Files) -> Result<Vec<String>, Error> {
        let names = Names { state: self, files };
        let found = noderange::expand(&noderange::parse(text)?, &names, &Options::default())?;
        Ok(found.nodes.into_iter().map(Cow::into_owned).collect())
    }

    /// The members of a group in the order of nodelist; `None` if there is no such group.
    pub fn members(&self, group: &str) -> Option<Vec<&str>> {
        let found = self.group(group, 0)?;
        let Some(nodelist) = self.named("nodelist") else { return Some(found) };
        let place = |name: &str| nodelist.find(&[name]).map_or(u64::MAX, |(id, _)| id);
        let mut found: Vec<(u64, &str)> = found.into_iter().map(|name| (place(name), name)).collect();
        found.sort_unstable();
        Some(found.into_iter().map(|(_, name)| name).collect())
    }

    /// Names of all groups: those that nodes name and those of the table nodegroup.
    pub fn group_names(&self) -> BTreeSet<&str> {
        let mut names: BTreeSet<&str> = self.members.keys().map(|g| &**g).collect();
        if let Some(table) = self.named("nodegroup") {
            names.extend(table.rows().filter(|(_, row)| table.enabled(row)).map(|(_, row)| row.text(0)));
        }
        names
    }

    fn group(&self, name: &str, depth: usize) -> Option<Vec<&str>> {
        let own = self.members.get(name);
        let table = self.named("nodegroup")?;
        let row = table.find(&[name]).map(|(_, row)| row).filter(|row| table.enabled(row));
        let mut members: Vec<&str> = own.into_iter().flat_map(Tree::keys).map(|n| &**n).collect();
        let Some(row) = row else {
            return own.map(|_| members);
        };
        let def = table.def();
        let text = |column: &str| def.column(column).map_or("", |c| row.text(c));
        if text("grouptype") == "dynamic" {
            members.extend(self.dynamic(text("wherevals")).unwrap_or_default());
        }
        if depth < MAX_DEPTH {
            for inner in text("membergroups").split(',').filter(|g| !g.is_empty()) {
                members.extend(self.group(inner, depth + 1).unwrap_or_default());
            }
        }
        members.sort_unstable();
        members.dedup();
        Some(members)
    }

    /// Nodes for which all conditions (`attr==value`, separated by `::`) hold; none if one cannot be read.
    fn dynamic(&self, conditions: &str) -> Option<Vec<&str>> {
        let kind = schema().object_type("node")?;
        let tests: Vec<(String, Matcher)> = conditions
            .split("::")
            .map(|text| {
                let selector = Selector::parse(text, false)?;
                Some((selector.attribute.clone(), selector.matcher().ok()?))
            })
            .collect::<Option<_>>()?;
        let holds = |node: &&str| {
            tests.iter().all(|(attribute, matcher)| {
                let value = match attribute.contains('.') {
                    true => self.attribute(node, attribute),
                    false => self.object_attribute(kind, node, attribute),
                };
                matcher.matches(value.as_deref())
            })
        };
        Some(self.node_names().filter(holds).collect())
    }
}

/// Short names that stand for a column in noderanges and node commands.
pub const SHORT_NAMES: [(&str, &str); 4] = [
    ("groups", "nodelist.groups"),
    ("tags", "nodelist.groups"),
    ("mgt", "nodehm.mgt"),
    ("switch", "switch.switch"),
];

struct Names<'a> {
    state: &'a State,
    files: &'a Files,
}

impl Groups for Names<'_> {
    fn node(&self, name: &str) -> Option<&str> {
        self.state.nodes.get_key_value(name).map(|(name, _)| &**name)
    }

    fn members(&self, group: &str) -> Option<Vec<&str>> {
        self.state.group(group, 0)
    }

    fn names(&self) -> Vec<&str> {
        self.state.node_names().collect()
    }

    fn select(&self, selector: &Selector) -> Result<Vec<&str>, Error> {
        let long = SHORT_NAMES.iter().find(|(short, _)| *short == selector.attribute).map(|(_, long)| *long);
        let Some((table, column)) = schema().column(long.unwrap_or(&selector.attribute)) else {
            return Ok(Vec::new());
        };
        let matcher = selector.matcher()?;
        let names = self.state.node_names();
        Ok(names
            .filter(|name| {
                let value = self.state.value(name, table, column);
                matcher.matches(value.as_ref().map(|found| &*found.text))
            })
            .collect())
    }

    fn file(&self, path: &str) -> File<'_> {
        match self.files.get(path) {
            None => File::Unknown,
            Some(None) => File::Missing,
            Some(Some(bytes)) => File::Text(String::from_utf8_lossy(bytes)),
        }
    }
}
