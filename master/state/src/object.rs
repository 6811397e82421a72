//! Objects: what lsdef shows, gathered from the columns of several tables.

use std::collections::{BTreeMap, BTreeSet};

use crate::apply::State;
use crate::row::Row;
use crate::schema::{AttributeDef, Source, TypeDef, schema};

/// The only object of type `site`.
pub const SITE: &str = "clustersite";

impl State {
    /// Names of all objects of a type, in byte order.
    pub fn object_names(&self, kind: &TypeDef) -> Vec<String> {
        let names: BTreeSet<&str> = match kind.name {
            "node" => self.node_names().collect(),
            "group" => self.group_names(),
            "site" => [SITE].into(),
            _ => {
                let home = kind.attributes.iter().find(|a| a.name == kind.key).or(kind.attributes.first());
                let Some(home) = home else { return Vec::new() };
                let table = self.table(home.table);
                let Some(column) = self.name_column(kind, home) else { return Vec::new() };
                table
                    .rows()
                    .filter(|(_, row)| table.enabled(row))
                    .filter_map(|(_, row)| row.get(column))
                    .collect()
            }
        };
        names.into_iter().map(str::to_owned).collect()
    }

    /// Whether the object exists.
    pub fn has_object(&self, kind: &TypeDef, name: &str) -> bool {
        match kind.name {
            "node" => self.is_node(name),
            "group" => self.group_names().contains(name),
            "site" => name == SITE,
            _ => kind.attributes.iter().any(|a| self.object_row(kind, a, name).is_some()),
        }
    }

    /// All attributes of an object that have a value, computed and inherited for nodes. The key is left out.
    pub fn object(&self, kind: &TypeDef, name: &str) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        if kind.name == "site" {
            if let Some(table) = self.named("site") {
                let rows = table.rows().filter(|(_, row)| table.enabled(row));
                let pairs =
                    rows.filter_map(|(_, row)| Some((row.get(0)?.to_owned(), row.get(1)?.to_owned())));
                out.extend(pairs);
            }
            return out;
        }
        for attribute in kind.names() {
            // Most columns are empty in every row.
            let filled = |def: &AttributeDef| self.table(def.table).fills(def.column);
            if !own(kind, attribute) && !kind.defs(attribute).any(filled) {
                continue;
            }
            if attribute != kind.key
                && let Some(value) = self.object_attribute(kind, name, attribute)
            {
                out.insert(attribute.to_owned(), value);
            }
        }
        out
    }

    /// The value of one attribute of an object.
    pub fn object_attribute(&self, kind: &TypeDef, name: &str, attribute: &str) -> Option<String> {
        if kind.name == "site" {
            return self.site(attribute).map(str::to_owned);
        }
        if kind.name == "group" && attribute == "members" {
            let members = self.members(name)?;
            return Some(members.join(","));
        }
        let filled = |def: &&AttributeDef| self.table(def.table).fills(def.column);
        let found = kind.defs(attribute).filter(filled).find_map(|def| {
            let legal = def.only_if.is_none_or(|(other, word)| {
                self.plain_attribute(kind, name, other).is_some_and(|text| has_word(&text, word))
            });
            if !legal {
                return None;
            }
            self.stored(kind, def, name)
        });
        match (kind.name, attribute) {
            ("group", "grouptype") if found.is_none() => Some("static".to_owned()),
            _ => found,
        }
    }

    /// The attribute by its first definition without a condition, if it has one: what conditions themselves look at.
    fn plain_attribute(&self, kind: &TypeDef, name: &str, attribute: &str) -> Option<String> {
        let mut defs = kind.defs(attribute);
        let def = defs.clone().find(|def| def.only_if.is_none()).or_else(|| defs.next())?;
        self.stored(kind, def, name)
    }

    fn stored(&self, kind: &TypeDef, def: &AttributeDef, name: &str) -> Option<String> {
        if kind.name == "node" && def.lookup.len() < 2 {
            return Some(self.value(name, def.table, def.column)?.text.into_owned());
        }
        Some(self.object_row(kind, def, name)?.1.get(def.column)?.to_owned())
    }

    /// The row that holds an attribute of an object, by name alone (no inheritance).
    pub fn object_row<'a>(
        &'a self,
        kind: &TypeDef,
        def: &AttributeDef,
        name: &str,
    ) -> Option<(u64, &'a Row)> {
        let table = self.table(def.table);
        let visible = |(_, row): &(u64, &Row)| table.enabled(row);
        if def.lookup.len() > 1 {
            let holds = |(_, row): &(u64, &Row)| {
                def.lookup.iter().all(|(column, source)| {
                    let wanted = match source {
                        Source::Name => name,
                        Source::Text(text) => text,
                    };
                    row.text(*column) == wanted
                })
            };
            return table.of_node(name).filter(visible).find(holds);
        }
        let column = self.name_column(kind, def)?;
        if schema().def(def.table).node == Some(column) {
            return table.of_node(name).find(visible);
        }
        if schema().def(def.table).keys[..] == [column] {
            return table.find(&[name]).filter(visible);
        }
        table.rows().filter(visible).find(|(_, row)| row.get(column) == Some(name))
    }

    /// The column in which an attribute's table holds the object's name.
    pub fn name_column(&self, kind: &TypeDef, def: &AttributeDef) -> Option<usize> {
        if let Some((column, Source::Name)) = def.lookup.first() {
            return Some(*column);
        }
        let table = schema().def(def.table);
        match kind.name {
            "node" => table.node,
            "group" if table.name != "nodegroup" => table.node,
            _ => table.column(kind.key).or_else(|| table.keys.first().copied()),
        }
    }
}

/// Whether an attribute is there without a value in a table.
fn own(kind: &TypeDef, attribute: &str) -> bool {
    kind.name == "group" && matches!(attribute, "members" | "grouptype")
}

/// Whether a comma list (or a single word) has this word.
fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}
