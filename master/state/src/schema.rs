//! What tables, columns and object types there are: data, read once.
//!
//! The files below `schema/` are the truth. Columns are stored by their number, so lines may be appended to a
//! table but never moved or removed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, OnceLock};

const TABLES: &str = include_str!("schema/tables.tsv");
const OWN: &str = include_str!("schema/own.tsv");
const OBJECTS: &str = include_str!("schema/objects.tsv");
const SITE: &str = include_str!("schema/site.tsv");

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::read);

/// Names of the first xCAT that live on in other tables: a table, or `table.column`, and what it is now.
const LEGACY: [(&str, &str); 4] = [
    ("hmc", "ppchcp"),
    ("ivm", "ppchcp"),
    ("nodelist.group", "nodelist.groups"),
    ("noderes.serialport", "nodehm.serialport"),
];

/// The one schema.
pub fn schema() -> &'static Schema {
    &SCHEMA
}

/// Number of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub usize);

/// Everything that is fixed about tables.
#[derive(Debug, Default)]
pub struct Schema {
    /// All tables, xCAT's first.
    pub tables: Vec<TableDef>,
    /// Object types, sorted by name.
    pub types: Vec<TypeDef>,
    /// Documented keys of `site`.
    pub site: Vec<SiteKey>,
    names: HashMap<&'static str, usize>,
}

/// A table.
#[derive(Debug)]
pub struct TableDef {
    /// Its name.
    pub name: &'static str,
    /// Numbers of the key columns.
    pub keys: Vec<usize>,
    /// Number of the column that holds a node's or group's name.
    pub node: Option<usize>,
    /// Whether nodes inherit from their groups' rows.
    pub inherits: bool,
    /// One sentence.
    pub description: &'static str,
    /// In the order of tabdump.
    pub columns: Vec<ColumnDef>,
    /// Number of the column `disable`.
    pub disable: Option<usize>,
    /// One of ours, not in the list of xCAT's tables.
    pub own: bool,
}

/// A column.
#[derive(Debug)]
pub struct ColumnDef {
    /// Its name.
    pub name: &'static str,
    /// A number that the store gives to a new row.
    pub auto: bool,
    /// Not shown by tabdump.
    pub hidden: bool,
    /// One sentence.
    pub description: &'static str,
}

/// An object type of lsdef and its relatives.
#[derive(Debug)]
pub struct TypeDef {
    /// Its name.
    pub name: &'static str,
    /// The attribute that names the object.
    pub key: &'static str,
    /// In the order of the schema; an attribute may occur several times with different conditions.
    pub attributes: Vec<AttributeDef>,
    index: OnceLock<BTreeMap<&'static str, Vec<usize>>>,
}

/// Where an attribute is kept.
#[derive(Debug, Clone)]
pub struct AttributeDef {
    /// Its name.
    pub name: &'static str,
    /// Table.
    pub table: TableId,
    /// Column.
    pub column: usize,
    /// Legal only if this attribute contains this word.
    pub only_if: Option<(&'static str, &'static str)>,
    /// How the row is found when it is not by the object's name.
    pub lookup: Vec<(usize, Source)>,
}

/// Where the value of a key column comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The name of the object.
    Name,
    /// This text.
    Text(&'static str),
}

/// A documented key of `site`.
#[derive(Debug)]
pub struct SiteKey {
    /// Its name.
    pub name: &'static str,
    /// What holds when it is not set.
    pub default: Option<&'static str>,
    /// One sentence.
    pub description: &'static str,
}

impl Schema {
    /// The table of this name, or of this legacy name.
    pub fn table(&self, name: &str) -> Option<TableId> {
        self.names.get(name).or_else(|| self.names.get(legacy(name)?)).copied().map(TableId)
    }

    /// The definition of a table.
    pub fn def(&self, table: TableId) -> &TableDef {
        &self.tables[table.0]
    }

    /// `table.column`.
    pub fn column(&self, text: &str) -> Option<(TableId, usize)> {
        let (table, column) = legacy(text).unwrap_or(text).split_once('.')?;
        let table = self.table(table)?;
        Some((table, self.def(table).column(column)?))
    }

    /// The object type of this name.
    pub fn object_type(&self, name: &str) -> Option<&TypeDef> {
        self.types.iter().find(|kind| kind.name == name)
    }

    /// The numbers of all tables in which a row belongs to a node.
    pub fn node_tables(&self) -> impl Iterator<Item = TableId> + '_ {
        (0..self.tables.len()).filter(|&i| self.tables[i].node.is_some()).map(TableId)
    }

    fn read() -> Schema {
        let mut schema = Schema::default();
        schema.read_tables(TABLES, false);
        schema.read_tables(OWN, true);
        schema.read_objects(OBJECTS);
        schema.site = lines(SITE)
            .filter_map(|f| match f[..] {
                [name, default, description] => {
                    Some(SiteKey { name, default: (default != "-").then_some(default), description })
                }
                _ => None,
            })
            .collect();
        schema
    }

    fn read_tables(&mut self, text: &'static str, own: bool) {
        let mut at = 0;
        let mut keys: Vec<(usize, Vec<&str>, &str)> = Vec::new();
        for fields in lines(text) {
            match fields[..] {
                ["T", name, key, node, inherits, description] => {
                    at = match self.names.get(name) {
                        Some(&known) => known,
                        None => {
                            let index = self.tables.len();
                            self.names.insert(name, index);
                            self.tables.push(TableDef {
                                name,
                                keys: Vec::new(),
                                node: None,
                                inherits: inherits == "1",
                                description,
                                columns: Vec::new(),
                                disable: None,
                                own,
                            });
                            index
                        }
                    };
                    keys.push((at, key.split(',').collect(), node));
                }
                ["C", name, kind, description] => {
                    let column = ColumnDef { name, auto: kind == "a", hidden: kind == "h", description };
                    self.tables[at].columns.push(column);
                }
                _ => {}
            }
        }
        for (at, key, node) in keys {
            let table = &mut self.tables[at];
            table.keys = key.iter().filter_map(|name| table.column(name)).collect();
            table.node = table.column(node);
            table.disable = table.column("disable");
        }
    }

    fn read_objects(&mut self, text: &'static str) {
        for fields in lines(text) {
            match fields[..] {
                ["O", name, key] => {
                    self.types.push(TypeDef { name, key, attributes: Vec::new(), index: OnceLock::new() })
                }
                ["A", name, column, only_if, lookup] => {
                    let Some((table, column)) = self.column(column) else { continue };
                    let only_if = only_if.split_once('=');
                    let lookup = self.read_lookup(lookup);
                    if let Some(kind) = self.types.last_mut() {
                        kind.attributes.push(AttributeDef { name, table, column, only_if, lookup });
                    }
                }
                _ => {}
            }
        }
    }

    /// `ppcdirect.hcp=attr:node::ppcdirect.username=str:HMC`
    fn read_lookup(&self, text: &'static str) -> Vec<(usize, Source)> {
        let part = |part: &'static str| {
            let (column, source) = part.split_once('=')?;
            let (_, column) = self.column(column)?;
            let source = match source.split_once(':')? {
                ("str", text) => Source::Text(text),
                _ => Source::Name,
            };
            Some((column, source))
        };
        text.split("::").filter_map(part).collect()
    }
}

impl TableDef {
    /// The number of the column of this name.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The columns that tabdump shows.
    pub fn shown(&self) -> impl Iterator<Item = (usize, &ColumnDef)> {
        self.columns.iter().enumerate().filter(|(_, column)| !column.hidden)
    }
}

impl TypeDef {
    /// Whether the type has this attribute, under any condition.
    pub fn has(&self, attribute: &str) -> bool {
        self.index().contains_key(attribute)
    }

    /// All definitions of an attribute.
    pub fn defs<'a>(&'a self, attribute: &str) -> impl Iterator<Item = &'a AttributeDef> + Clone + use<'a> {
        let places = self.index().get(attribute).map_or(&[] as &[usize], Vec::as_slice);
        places.iter().filter_map(|at| self.attributes.get(*at))
    }

    /// Unique attribute names in byte order.
    pub fn names(&self) -> Vec<&'static str> {
        self.index().keys().copied().collect()
    }

    /// The places of each attribute's definitions.
    fn index(&self) -> &BTreeMap<&'static str, Vec<usize>> {
        self.index.get_or_init(|| {
            let mut index: BTreeMap<_, Vec<usize>> = BTreeMap::new();
            for (at, attribute) in self.attributes.iter().enumerate() {
                index.entry(attribute.name).or_default().push(at);
            }
            index
        })
    }
}

/// What a legacy name stands for.
fn legacy(name: &str) -> Option<&'static str> {
    LEGACY.iter().find(|(old, _)| *old == name).map(|(_, new)| *new)
}

fn lines(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t').collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_schema_has_all_tables_and_types_of_xcat() {
        let schema = schema();
        assert_eq!(schema.tables.iter().filter(|t| !t.own).count(), 73);
        assert_eq!(schema.types.len(), 23);
        assert!(schema.site.len() >= 100);
        for table in &schema.tables {
            assert!(!table.keys.is_empty(), "{} has a key", table.name);
        }
    }

    #[test]
    fn every_attribute_has_a_column() {
        let lines = OBJECTS.lines().filter(|line| line.starts_with("A\t")).count();
        assert_eq!(schema().types.iter().map(|t| t.attributes.len()).sum::<usize>(), lines);
    }

    #[test]
    fn legacy_names_mean_what_they_became() {
        let schema = schema();
        assert_eq!(schema.table("hmc"), schema.table("ppchcp"));
        assert_eq!(schema.table("ivm"), schema.table("ppchcp"));
        assert_eq!(schema.column("noderes.serialport"), schema.column("nodehm.serialport"));
        assert_eq!(schema.column("nodelist.group"), schema.column("nodelist.groups"));
        assert!(LEGACY.iter().all(|(old, _)| !schema.tables.iter().any(|table| table.name == *old)));
    }

    #[test]
    fn keys_of_several_columns_are_known() {
        let schema = schema();
        let networks = schema.def(schema.table("networks").unwrap());
        let names: Vec<_> = networks.keys.iter().map(|&k| networks.columns[k].name).collect();
        assert_eq!(names, ["net", "mask"]);
    }
}
