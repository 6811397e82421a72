//! Objects to rows: which rows change when an object is made, changed or renamed.

use std::collections::BTreeSet;

use state::schema::{AttributeDef, Source, TypeDef};
use state::{RowChange, TableId, schema};

use crate::defs::{append, append_by, merge_part, separator, split_attribute, subtract, subtract_by};
use crate::edit::Edit;
use crate::lsdef::DEFAULTED;
use crate::mkdef::SOME_FAILED;
use crate::node_edit::own_key;
use crate::plan::{Change, Ctx, Output, Plan, invalid};

/// An object with the attributes it is to have.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub kind: &'static TypeDef,
    pub name: String,
    pub attributes: Vec<(String, String)>,
}

/// How attributes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// mkdef: the object must not exist.
    Make,
    /// mkdef -f: what exists is removed first.
    Replace,
    /// chdef: values are replaced.
    Change,
    /// chdef -p
    Append,
    /// chdef -m
    Subtract,
}

/// Writes objects one after the other and counts.
pub(crate) struct Writer<'a> {
    ctx: &'a Ctx<'a>,
    mode: Mode,
    edit: Edit<'a>,
    output: Output,
    written: usize,
    created: Vec<String>,
    failed: bool,
    existing: bool,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(ctx: &'a Ctx<'a>, mode: Mode) -> Writer<'a> {
        Writer {
            ctx,
            mode,
            edit: Edit::new(ctx.state),
            output: Output::new(),
            written: 0,
            created: Vec::new(),
            failed: false,
            existing: false,
        }
    }

    pub(crate) fn write(&mut self, request: &Request) {
        let exists = self.ctx.state.has_object(request.kind, &request.name);
        if exists && self.mode == Mode::Make {
            let text = format!(
                "A definition for '{}' already exists. No changes will be made.  Run again with '-f' option to \
                 force replace.",
                request.name
            );
            self.output.warn(self.ctx, &text);
            self.existing = true;
            self.output.status = 1;
            return;
        }
        if !self.check(request, exists) {
            return;
        }
        if request.attributes.is_empty() && exists {
            return;
        }
        if exists && self.mode == Mode::Replace {
            for change in removal(self.ctx, request.kind, &request.name) {
                self.edit.remove(change);
            }
        }
        if self.fill(request, exists) {
            self.written += 1;
            if !exists {
                self.created.push(request.name.clone());
            }
        }
    }

    pub(crate) fn finish(mut self) -> Plan {
        if self.failed {
            self.output.error(self.ctx, SOME_FAILED);
        }
        let count = format!("{} object definitions have been created or modified.", self.written);
        if self.written > 0 {
            self.output.line(&count);
        } else if self.existing {
            self.output.error(self.ctx, &count);
        } else if self.output.status == 0 {
            self.output.line("No object definitions have been created or modified.");
        }
        if matches!(self.mode, Mode::Change | Mode::Append | Mode::Subtract) && !self.created.is_empty() {
            self.output
                .line(&format!("New object definitions '{}' have been created.", self.created.join(",")));
        }
        if self.written == 0 {
            return Plan::Answer(self.output);
        }
        Plan::Change(self.edit.finish(self.output))
    }

    /// What must hold before anything of the object is written.
    fn check(&mut self, request: &Request, exists: bool) -> bool {
        let (kind, name) = (request.kind, request.name.as_str());
        if !valid_name(kind, name) {
            let text = format!(
                "The object name '{name}' is invalid, please refer to \"man xcatdb\" for the valid \"xCAT \
                 Object Name Format\""
            );
            self.output.error(self.ctx, &text);
            return false;
        }
        for (attribute, _) in &request.attributes {
            let (plain, part) = split_attribute(attribute);
            if kind.name != "site" && !kind.has(plain) {
                let text = format!(
                    "'{attribute}' is not a valid attribute name for an object type of '{}'.",
                    kind.name
                );
                self.output.error(self.ctx, &text);
                self.output.error(self.ctx, "Skipping to the next attribute.");
                self.failed |= !matches!(self.mode, Mode::Make | Mode::Replace);
                return false;
            }
            if part.is_some() && matches!(self.mode, Mode::Append | Mode::Subtract) {
                let text = "chdef does not support to change the nic related attributes with -m or -p flag.";
                self.output.error(self.ctx, text);
                return false;
            }
        }
        let given = |wanted: &str| request.attributes.iter().any(|(a, v)| a == wanted && !v.is_empty());
        let fresh = !exists || self.mode == Mode::Replace;
        if fresh && kind.name == "node" && !given("groups") {
            let text =
                format!("Attribute 'groups' is not specified for node '{name}', skipping to the next node.");
            self.output.error(self.ctx, &text);
            self.failed = true;
            return false;
        }
        if fresh && kind.name == "network" && !(given("net") && given("mask")) {
            let text = format!("Net or mask value should not be empty for xCAT network object '{name}'.");
            self.output.error(self.ctx, &text);
            self.failed = true;
            return false;
        }
        if fresh && kind.name == "node" && name.contains(|c: char| c.is_ascii_uppercase()) {
            let text = format!(
                "The node name '{name}' contains capital letters which may not be resolved correctly by the \
                 dns server."
            );
            self.output.warn(self.ctx, &text);
        }
        true
    }

    fn fill(&mut self, request: &Request, exists: bool) -> bool {
        let (kind, name) = (request.kind, request.name.as_str());
        // Everything that can be refused is looked at before the first value is set.
        let mut places = Vec::new();
        for (attribute, value) in &request.attributes {
            let (plain, part) = split_attribute(attribute);
            if kind.name == "group" && plain == "members" {
                continue;
            }
            if kind.name == "site" {
                continue;
            }
            match self.place(request, plain) {
                Ok(place) => places.push((place, part, plain, value)),
                Err(text) => {
                    self.output.error(self.ctx, &text);
                    self.failed = true;
                    return false;
                }
            }
        }
        if kind.name == "site" {
            return self.fill_site(request);
        }
        if kind.name == "group" && !self.fill_members(request, exists) {
            return false;
        }
        for ((table, key, column), part, plain, value) in places {
            let key: Vec<&str> = key.iter().map(String::as_str).collect();
            let stored = self.edit.text(table, &key, column);
            let value = match (part, self.mode) {
                (None, _) if (kind.name, plain) == ("group", "grouptype") => value.clone(),
                (None, mode)
                    if kind.name == "node" && DEFAULTED.contains(&plain) && mode != Mode::Subtract =>
                {
                    let own = self.without_defaults(name, plain, value);
                    if mode == Mode::Append {
                        self.edit.guard(table, &key);
                        append(&self.current(kind, name, plain, stored), &own)
                    } else {
                        own
                    }
                }
                (Some(nic), _) => {
                    self.edit.guard(table, &key);
                    merge_part(&stored, nic, value)
                }
                (None, Mode::Append) => {
                    self.edit.guard(table, &key);
                    append_by(&self.current(kind, name, plain, stored), value, separator(plain))
                }
                (None, Mode::Subtract) => {
                    let old = self.current(kind, name, plain, stored);
                    let new = subtract_by(&old, value, separator(plain));
                    if new == old {
                        let text = format!("'{value}' is not in the attribute '{plain}' of '{name}'.");
                        self.output.error(self.ctx, &text);
                        self.failed = true;
                        return false;
                    }
                    self.edit.guard(table, &key);
                    new
                }
                _ => value.clone(),
            };
            self.name_row(kind, name, table, &key);
            self.edit.set(table, &key, column, &value);
        }
        true
    }

    /// A list of scripts without those that every node runs anyway.
    fn without_defaults(&mut self, node: &str, attribute: &str, value: &str) -> String {
        if node == "xcatdefaults" {
            return value.to_owned();
        }
        let always = self.ctx.state.attribute("xcatdefaults", &format!("postscripts.{attribute}"));
        let always: Vec<String> = always.iter().flat_map(|list| list.split(',')).map(str::to_owned).collect();
        let mut own = Vec::new();
        for script in value.split(',') {
            match always.iter().any(|known| known == script) {
                true => {
                    let text =
                        format!("{node}: {attribute} '{script}' is already included in the 'xcatdefaults'.");
                    self.output.warn(self.ctx, &text);
                }
                false => own.push(script),
            }
        }
        own.join(",")
    }

    /// What a list has now: the object's own value, else the inherited one.
    fn current(&self, kind: &TypeDef, name: &str, attribute: &str, stored: String) -> String {
        match stored.is_empty() && self.mode != Mode::Replace {
            true => self.ctx.state.object_attribute(kind, name, attribute).unwrap_or_default(),
            false => stored,
        }
    }

    /// A new row of an object gets the object's name.
    fn name_row(&mut self, kind: &TypeDef, name: &str, table: TableId, key: &[&str]) {
        if self.ctx.state.table(table).find(key).is_some() && self.mode != Mode::Replace {
            return;
        }
        let def = schema().def(table);
        if matches!(kind.name, "node" | "group") {
            return;
        }
        if let Some(column) = def.column(kind.key) {
            self.edit.set(table, key, column, name);
        }
    }

    /// The cell of an attribute. The error is a text for the admin.
    fn place(&self, request: &Request, attribute: &str) -> Result<(TableId, Vec<String>, usize), String> {
        let (kind, name) = (request.kind, request.name.as_str());
        let mut refused: Option<(&str, Vec<&str>)> = None;
        for def in kind.defs(attribute) {
            if let Some((other, word)) = def.only_if {
                let given = request.attributes.iter().find(|(a, _)| a == other).map(|(_, v)| v.clone());
                let value = match given {
                    Some(value) => value,
                    None if self.mode == Mode::Replace => self.inherited(request, other),
                    None => self
                        .ctx
                        .state
                        .object_attribute(kind, name, other)
                        .unwrap_or_else(|| self.inherited(request, other)),
                };
                if !value.split(',').any(|part| part == word) {
                    let entry = refused.get_or_insert((other, Vec::new()));
                    if value.is_empty() {
                        entry.1.clear();
                    } else {
                        entry.1.push(word);
                    }
                    continue;
                }
            }
            return Ok((def.table, self.key(request, def), def.column));
        }
        Err(match refused {
            Some((other, words)) if !words.is_empty() => {
                format!(
                    "Cannot set the attr='{attribute}' attribute unless {other} value is {}.",
                    words.join("|")
                )
            }
            Some((other, _)) => {
                format!("Cannot set the '{attribute}' attribute unless a value is provided for '{other}'.")
            }
            None => {
                format!("'{attribute}' is not a valid attribute name for an object type of '{}'.", kind.name)
            }
        })
    }

    /// What a new node would get from the groups it is given.
    fn inherited(&self, request: &Request, attribute: &str) -> String {
        let groups = request.attributes.iter().find(|(a, _)| a == "groups").map_or("", |(_, v)| v.as_str());
        let Some(def) = request.kind.defs(attribute).find(|def| def.only_if.is_none()) else {
            return String::new();
        };
        let table = self.ctx.state.table(def.table);
        let value = |group: &str| {
            let mut rows = table.of_node(group).filter(|(_, row)| table.enabled(row));
            rows.find_map(|(_, row)| row.get(def.column)).map(str::to_owned)
        };
        groups.split(',').find_map(value).unwrap_or_default()
    }

    /// The key of the row that holds an attribute: that of the row there is, else that of a new one.
    fn key(&self, request: &Request, def: &AttributeDef) -> Vec<String> {
        let (kind, name) = (request.kind, request.name.as_str());
        let table = self.ctx.state.table(def.table);
        if let Some((_, row)) = self.ctx.state.object_row(kind, def, name) {
            return table.key_of(row).into_iter().map(str::to_owned).collect();
        }
        let keys = &schema().def(def.table).keys;
        if !def.lookup.is_empty() {
            let text = |key: &usize| {
                let source = def.lookup.iter().find(|(column, _)| column == key).map(|(_, source)| source);
                match source {
                    Some(Source::Name) => name.to_owned(),
                    Some(Source::Text(text)) => (*text).to_owned(),
                    None => String::new(),
                }
            };
            return keys.iter().map(text).collect();
        }
        if matches!(kind.name, "node" | "group")
            && schema().def(def.table).name != "nodegroup"
            && let Some(key) = own_key(def.table, name)
        {
            return key;
        }
        let name_column = self.ctx.state.name_column(kind, def);
        let text = |key: &usize| {
            if Some(*key) == name_column {
                return name.to_owned();
            }
            let own = kind.attributes.iter().find(|a| a.table == def.table && a.column == *key);
            let given = own.and_then(|a| request.attributes.iter().find(|(name, _)| name == a.name));
            given.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        keys.iter().map(text).collect()
    }

    fn fill_site(&mut self, request: &Request) -> bool {
        let Some((table, column)) = schema().column("site.value") else { return false };
        for (attribute, value) in &request.attributes {
            let stored = self.edit.text(table, &[attribute], column);
            let value = match self.mode {
                Mode::Append => append(&stored, value),
                Mode::Subtract => subtract(&stored, value),
                _ => value.clone(),
            };
            if matches!(self.mode, Mode::Append | Mode::Subtract) {
                self.edit.guard(table, &[attribute]);
            }
            self.edit.set(table, &[attribute], column, &value);
        }
        true
    }

    /// Members of a static group are kept in the groups of the nodes.
    fn fill_members(&mut self, request: &Request, exists: bool) -> bool {
        let (Some((groups, type_column)), Some((nodelist, column))) =
            (schema().column("nodegroup.grouptype"), schema().column("nodelist.groups"))
        else {
            return false;
        };
        let group = request.name.as_str();
        let value = |wanted: &str| {
            request.attributes.iter().find(|(a, _)| a == wanted).map(|(_, value)| value.as_str())
        };
        let dynamic = value("grouptype") == Some("dynamic");
        if (!exists || self.mode == Mode::Replace) && value("grouptype").is_none() {
            self.edit.set(groups, &[group], type_column, "static");
        }
        let Some(members) = value("members") else { return true };
        if dynamic {
            if let Some((table, column)) = schema().column("nodegroup.members") {
                self.edit.set(table, &[group], column, members);
            }
            return true;
        }
        let (nodes, missing) = match self.ctx.expand(members) {
            Ok(found) => found,
            Err(_) => (Vec::new(), vec![members.to_owned()]),
        };
        if !missing.is_empty() {
            self.output.complain(&invalid(&missing));
            self.output.status = 1;
            return false;
        }
        let now: BTreeSet<&str> = self.ctx.state.members(group).unwrap_or_default().into_iter().collect();
        let wanted: BTreeSet<&str> = nodes.iter().map(String::as_str).collect();
        let (added, removed): (Vec<&str>, Vec<&str>) = match self.mode {
            Mode::Append => (wanted.difference(&now).copied().collect(), Vec::new()),
            Mode::Subtract => (Vec::new(), wanted.intersection(&now).copied().collect()),
            _ => (wanted.difference(&now).copied().collect(), now.difference(&wanted).copied().collect()),
        };
        for node in added {
            self.edit.guard(nodelist, &[node]);
            let list = append(&self.edit.text(nodelist, &[node], column), group);
            self.edit.set(nodelist, &[node], column, &list);
        }
        for node in removed {
            self.edit.guard(nodelist, &[node]);
            let list = subtract(&self.edit.text(nodelist, &[node], column), group);
            self.edit.set(nodelist, &[node], column, &list);
        }
        true
    }
}

/// The changes that remove an object.
pub(crate) fn removal(ctx: &Ctx<'_>, kind: &TypeDef, name: &str) -> Vec<RowChange> {
    let mut changes = Vec::new();
    let mut delete = |table: TableId, key: Vec<&str>| {
        let change = RowChange::delete(schema().def(table).name, &key);
        if !changes.contains(&change) {
            changes.push(change);
        }
    };
    match kind.name {
        "node" => {
            for def in kind.attributes.iter().filter(|def| !def.lookup.is_empty()) {
                if let Some((_, row)) = ctx.state.object_row(kind, def, name) {
                    delete(def.table, ctx.state.table(def.table).key_of(row));
                }
            }
            changes.insert(0, RowChange::ForgetNode { node: name.to_owned() });
        }
        "site" => changes.push(RowChange::Clear { table: "site".to_owned() }),
        "group" => return group_removal(ctx, name),
        _ => {
            for def in &kind.attributes {
                if let Some((_, row)) = ctx.state.object_row(kind, def, name) {
                    delete(def.table, ctx.state.table(def.table).key_of(row));
                }
            }
        }
    }
    changes
}

/// A group goes: from the groups of its members, from nodegroup, and its rows in node tables unless a node has
/// the same name.
fn group_removal(ctx: &Ctx<'_>, group: &str) -> Vec<RowChange> {
    let mut changes = Vec::new();
    let Some((nodelist, column)) = schema().column("nodelist.groups") else { return changes };
    for (_, row) in ctx.state.table(nodelist).rows() {
        let groups = row.text(column);
        if groups.split(',').any(|name| name == group) {
            let left: Vec<&str> = groups.split(',').filter(|name| *name != group).collect();
            changes.push(RowChange::set("nodelist", &[row.text(0)], &[("groups", &left.join(","))]));
        }
    }
    changes.push(RowChange::delete("nodegroup", &[group]));
    if !ctx.state.is_node(group) {
        for table in schema().node_tables() {
            let rows = ctx.state.table(table);
            for (_, row) in rows.of_node(group) {
                changes.push(RowChange::delete(schema().def(table).name, &rows.key_of(row)));
            }
        }
    }
    changes
}

/// The change that gives an object another name in all its rows. Values that groups give stay the groups'; but what
/// a pattern of a group made of the old name is kept as the node's own when the new name has another form.
pub(crate) fn renamed(ctx: &Ctx<'_>, kind: &TypeDef, old: &str, new: &str, output: Output) -> Change {
    let mut edit = Edit::new(ctx.state);
    if kind.name == "node" {
        for table in schema().node_tables() {
            let Some(column) = schema().def(table).node else { continue };
            for (_, row) in ctx.state.table(table).of_node(old) {
                let key = ctx.state.table(table).key_of(row);
                edit.guard(table, &key);
                edit.set(table, &key, column, new);
            }
        }
        if form(old) != form(new) {
            keep_computed(ctx, &mut edit, old, new);
        }
        return edit.finish(output);
    }
    for def in &kind.attributes {
        let (Some((_, row)), Some(column)) =
            (ctx.state.object_row(kind, def, old), ctx.state.name_column(kind, def))
        else {
            continue;
        };
        let key = ctx.state.table(def.table).key_of(row);
        edit.guard(def.table, &key);
        edit.set(def.table, &key, column, new);
    }
    edit.finish(output)
}

/// A name with its numbers taken out: patterns compute the same of names of one form.
fn form(name: &str) -> String {
    let mut form = String::new();
    for c in name.chars() {
        let c = if c.is_ascii_digit() { '0' } else { c };
        if c != '0' || !form.ends_with('0') {
            form.push(c);
        }
    }
    form
}

/// Makes a node's own what patterns of its groups computed of its old name.
fn keep_computed(ctx: &Ctx<'_>, edit: &mut Edit<'_>, old: &str, new: &str) {
    for id in schema().node_tables() {
        let (def, table) = (schema().def(id), ctx.state.table(id));
        let [key] = def.keys[..] else { continue };
        for column in (0..def.columns.len()).filter(|column| *column != key) {
            let Some(found) = ctx.state.value(old, id, column) else { continue };
            let Some(group) = found.group else { continue };
            let mut rows = table.of_node(group).filter(|(_, row)| table.enabled(row));
            if rows.find_map(|(_, row)| row.get(column)).is_none_or(|text| text == found.text) {
                continue;
            }
            let key = if table.find(&[old]).is_some() { old } else { new };
            edit.set(id, &[key], column, &found.text);
        }
    }
}

fn valid_name(kind: &TypeDef, name: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match kind.name {
        "node" | "group" => {
            !name.is_empty() && name.len() <= 255 && name.chars().all(fine) && !name.starts_with('-')
        }
        _ => !name.is_empty() && name.len() <= 255 && !name.contains(|c: char| c.is_control()),
    }
}
