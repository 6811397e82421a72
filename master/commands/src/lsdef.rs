//! lsdef: objects and their attributes, gathered from all tables.

use std::collections::{BTreeMap, BTreeSet};

use state::schema;
use state::schema::TypeDef;

use crate::args::{Given, Opt, flag, read, value, word};
use crate::defs::{NICS, split_attribute, spread, types_text, with_types};
use crate::plan::{Ctx, Output, Plan};
use crate::registry::{Command, Range};
use crate::select::Conditions;
use crate::stanza::{HEADER, Stanza};
use crate::templates;

/// The command.
pub(crate) static COMMAND: Command = Command {
    name: "lsdef",
    aliases: &[],
    summary: "List objects and their attributes",
    usage: "\nUsage: lsdef - List xCAT data object definitions.\n\n  lsdef [-h | --help ] [-t object-types]\n\n  \
            lsdef [-l|--long] [-a|--all] [-t *object-types*] [-z|--stanza]\n        [-i attr-list] [--template \
            [template-object-name]] \n\n  lsdef [-V | --verbose] [-t object-types] [-o object-names]\n        \
            [ -l | --long] [-s | --short] [-a | --all] [-z | --stanza ] [-S]\n        [-i attr-list] [-c | \
            --compress] [--osimage] [--nics]\n        [-w attr==val [-w attr=~val] ...] [noderange]\n\n",
    writes: false,
    range: Range::Objects(OPTIONS),
    plan,
};

/// Attributes to which the row `xcatdefaults` of the table postscripts is put in front.
pub(crate) const DEFAULTED: [&str; 2] = ["postscripts", "postbootscripts"];

const OPTIONS: &[Opt] = &[
    flag('a', "all"),
    flag('c', "compress"),
    flag('h', "help"),
    flag('?', ""),
    value('i', "attrs"),
    flag('l', "long"),
    flag('s', "short"),
    value('o', "objects"),
    value('t', "type"),
    flag('v', "version"),
    flag('V', "verbose"),
    value('w', "where"),
    flag('z', "stanza"),
    flag('S', "S"),
    word("osimage"),
    word("nics"),
    word("template"),
];

fn plan(ctx: &Ctx<'_>) -> Plan {
    show(ctx).unwrap_or_else(|plan| plan)
}

fn show(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let given = read(ctx.args, OPTIONS, true).map_err(|_| wrong_option(ctx))?;
    if given.has("version") {
        let mut output = Output::new();
        output.line(&format!("lsdef - Version {}", ctx.version));
        return Err(output.into());
    }
    let kinds = types(ctx, &given)?;
    if given.has("help") || given.has("?") {
        let wanted = given.value("attrs");
        return Err(match given.has("type") || wanted.is_some() {
            true => describe(ctx, &kinds, wanted).into(),
            false => usage(0),
        });
    }
    if given.has("template") {
        return Ok(show_templates(ctx, &given, &kinds).into());
    }
    if given.has("compress") && !given.has("attrs") {
        return Err(Plan::error(ctx, "The '-c' flag must be used with the '-i' flag."));
    }
    let conditions = Conditions::parse(&given.values("where")).map_err(|text| Plan::error(ctx, &text))?;
    let mut output = Output::new();
    let mut objects: Vec<(&TypeDef, String)> = Vec::new();
    let named = names(&given);
    for kind in &kinds {
        for name in wanted(ctx, kind, named.as_deref(), &mut output)? {
            let hidden = kind.name == "node"
                && named.is_none()
                && !given.has("S")
                && ctx.state.attribute(&name, "nodelist.hidden").as_deref() == Some("1");
            if !hidden && (!given.has("where") || conditions.hold(ctx.state, kind, &name)) {
                objects.push((kind, name));
            }
        }
    }
    if objects.is_empty() {
        output.line("No object definitions have been found");
        return Ok(output.into());
    }
    let attributes = given.value("attrs").map(|list| chosen(ctx, &kinds, list, &mut output));
    let long = given.has("long") || named.is_some() || given.has("nics") || attributes.is_some();
    let long = long && !given.has("short");
    if ctx.inputs.rows {
        rows(ctx, &given, &objects, attributes.as_deref().filter(|_| long), long, &mut output);
        return Ok(output.into());
    }
    if given.has("stanza") {
        output.line(HEADER);
    }
    for (kind, name) in &objects {
        if given.has("stanza") {
            print_stanza(ctx, kind, name, attributes.as_deref(), &mut output);
        } else if long {
            print_long(ctx, &given, kind, name, attributes.as_deref(), &mut output);
        } else {
            output.line(&format!("{name}  ({})", kind.name));
        }
        if !ctx.stream(&mut output) {
            break;
        }
    }
    Ok(output.into())
}

/// The ready-made definitions of these types, or those that are named.
fn show_templates(ctx: &Ctx<'_>, given: &Given, kinds: &[&TypeDef]) -> Output {
    let mut output = Output::new();
    let named = names(given);
    let of_kinds =
        |template: &&Stanza| kinds.iter().any(|kind| template.objtype.as_deref() == Some(kind.name));
    let mut found: Vec<&Stanza> = Vec::new();
    for name in named.iter().flat_map(|names| names.split(',')) {
        match templates::all().iter().find(|template| of_kinds(template) && template.name == name) {
            Some(template) => found.push(template),
            None => output.error(ctx, &format!("Could not find {name} in xCAT templates.")),
        }
    }
    if named.is_none() {
        found = templates::all().iter().filter(of_kinds).collect();
    }
    if found.is_empty() && output.status == 0 {
        output.line("No object definitions have been found");
    }
    if given.has("stanza") {
        output.line(HEADER);
    }
    let wanted: Option<Vec<&str>> = given.value("attrs").map(|list| list.split(',').collect());
    for template in found {
        let (name, kind) = (&template.name, template.objtype.as_deref().unwrap_or("node"));
        match (given.has("stanza"), named.is_some() || given.has("long") || wanted.is_some()) {
            (true, _) => output.line(&format!("\n{name}:\n    objtype={kind}")),
            (_, true) if !given.has("short") => output.line(&format!("Object name: {name}")),
            _ => {
                output.line(&format!("{name}  ({kind})"));
                continue;
            }
        }
        for (attribute, value) in &template.attributes {
            if wanted.as_ref().is_none_or(|wanted| wanted.contains(&attribute.as_str())) {
                output.line(&format!("    {attribute}={value}"));
            }
        }
    }
    output
}

fn usage(status: u8) -> Plan {
    Plan::usage(&with_types(COMMAND.usage), status)
}

fn wrong_option(ctx: &Ctx<'_>) -> Plan {
    let mut output = Output::new();
    output.text(&with_types(COMMAND.usage));
    output.error(ctx, "Invalid option..");
    output.into()
}

fn types(ctx: &Ctx<'_>, given: &Given) -> Result<Vec<&'static TypeDef>, Plan> {
    if given.has("all") && !given.has("type") {
        return Ok(schema().types.iter().filter(|k| !matches!(k.name, "auditlog" | "eventlog")).collect());
    }
    given
        .value("type")
        .unwrap_or("node")
        .split(',')
        .map(|name| {
            schema()
                .object_type(name)
                .ok_or_else(|| Plan::error(ctx, &format!("\nType '{name}' is not a valid xCAT object type.")))
        })
        .collect()
}

fn names(given: &Given) -> Option<String> {
    let mut parts: Vec<&str> = given.values("objects");
    parts.extend(given.rest.first().map(String::as_str));
    (!parts.is_empty()).then(|| parts.join(","))
}

/// The names of a type to show; a name that is none is complained about.
fn wanted(
    ctx: &Ctx<'_>,
    kind: &TypeDef,
    names: Option<&str>,
    output: &mut Output,
) -> Result<Vec<String>, Plan> {
    let (mut found, missing) = match names {
        None => (ctx.state.object_names(kind), Vec::new()),
        Some(range) if kind.name == "node" => ctx.expand(range)?,
        Some(list) => list.split(',').map(str::to_owned).partition(|name| ctx.state.has_object(kind, name)),
    };
    for name in missing {
        output.error(ctx, &format!("Could not find an object named '{name}' of type '{}'.", kind.name));
    }
    if let Some(range) = names.filter(|_| kind.name == "node" && found.is_empty() && output.status == 0) {
        output.error(ctx, &format!("Could not find an object named '{range}' of type 'node'."));
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The attributes of `-i` that some type has, in byte order.
fn chosen(ctx: &Ctx<'_>, kinds: &[&TypeDef], list: &str, output: &mut Output) -> Vec<String> {
    let mut out = Vec::new();
    for text in list.split(',').filter(|t| !t.is_empty()) {
        let (name, _) = split_attribute(text);
        if kinds.iter().any(|kind| kind.has(name) || kind.name == "site") {
            out.push(text.to_owned());
        } else {
            let names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
            let text = format!(
                "'{text}' is not a valid attribute name for an object type of '{}'.",
                names.join(",")
            );
            output.error(ctx, &text);
        }
    }
    out.sort_unstable();
    out.dedup();
    out
}

/// All attributes that have a value, or the chosen ones with or without.
fn attributes_of(
    ctx: &Ctx<'_>,
    kind: &TypeDef,
    name: &str,
    chosen: Option<&[String]>,
    defaults: bool,
) -> Vec<(String, String)> {
    let put_in_front = |attribute: &str, value: Option<String>| {
        let own = value.filter(|v| !v.is_empty());
        if !defaults || kind.name != "node" || !DEFAULTED.contains(&attribute) || name == "xcatdefaults" {
            return own;
        }
        let column = format!("postscripts.{attribute}");
        let front = ctx.state.attribute("xcatdefaults", &column);
        match (front, own) {
            (Some(front), Some(own)) => Some(format!("{front},{own}")),
            (front, own) => front.or(own),
        }
    };
    let mut out = Vec::new();
    match chosen {
        Some(chosen) => {
            for text in chosen {
                let (attribute, part) = split_attribute(text);
                let value = put_in_front(attribute, ctx.state.object_attribute(kind, name, attribute));
                let pairs = spread(attribute, value.as_deref().unwrap_or(""));
                let before = out.len();
                out.extend(pairs.into_iter().filter(|(pair, _)| part.is_none() || pair == text));
                if out.len() == before {
                    out.push((text.clone(), String::new()));
                }
            }
        }
        None => {
            let mut values = ctx.state.object(kind, name);
            if kind.name == "node" {
                for attribute in DEFAULTED {
                    if let Some(value) = put_in_front(attribute, values.remove(attribute)) {
                        values.insert(attribute.to_owned(), value);
                    }
                }
            }
            for (attribute, value) in values {
                out.extend(spread(&attribute, &value));
            }
        }
    }
    out
}

fn print_long(
    ctx: &Ctx<'_>,
    given: &Given,
    kind: &TypeDef,
    name: &str,
    chosen: Option<&[String]>,
    output: &mut Output,
) {
    let mut pairs = attributes_of(ctx, kind, name, chosen, true);
    if given.has("nics") {
        pairs.retain(|(attribute, _)| NICS.contains(&split_attribute(attribute).0));
    }
    if given.has("osimage") && kind.name == "node" {
        pairs.extend(image_attributes(ctx, name, output));
    }
    if given.has("compress") {
        for (attribute, value) in pairs {
            output.line(&format!("{name}: {attribute}={value}"));
        }
        return;
    }
    output.line(&format!("Object name: {name}"));
    for (attribute, value) in pairs {
        let source = match given.has("verbose") {
            true => source(kind, &attribute),
            false => String::new(),
        };
        output.line(&format!("    {attribute}={value}{source}"));
    }
}

/// One row for each object; its attributes are the fields when they are wanted.
fn rows(
    ctx: &Ctx<'_>,
    given: &Given,
    objects: &[(&TypeDef, String)],
    chosen: Option<&[String]>,
    long: bool,
    output: &mut Output,
) {
    let mut found: Vec<BTreeMap<String, String>> = Vec::with_capacity(objects.len());
    let mut names: BTreeSet<String> = BTreeSet::new();
    for (kind, name) in objects.iter().filter(|_| long || given.has("stanza")) {
        let mut pairs = attributes_of(ctx, kind, name, chosen, !given.has("stanza"));
        if given.has("nics") {
            pairs.retain(|(attribute, _)| NICS.contains(&split_attribute(attribute).0));
        }
        names.extend(pairs.iter().map(|(attribute, _)| attribute.clone()));
        found.push(pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect());
    }
    let fields = ["name", "type"].into_iter().chain(names.iter().map(String::as_str));
    output.fields(&fields.collect::<Vec<_>>());
    for (number, (kind, name)) in objects.iter().enumerate() {
        let mut values = found.get_mut(number).map(std::mem::take).unwrap_or_default();
        let own = [Some(name.clone()), Some(kind.name.to_owned())];
        output.cells(own.into_iter().chain(names.iter().map(|name| values.remove(name))).collect());
    }
}

fn source(kind: &TypeDef, attribute: &str) -> String {
    let (name, _) = split_attribute(attribute);
    let Some(def) = kind.defs(name).next() else { return String::new() };
    let table = schema().def(def.table);
    let key = table.keys.first().map_or("", |key| table.columns[*key].name);
    format!("     (Table:{} - Key:{key} - Column:{})", table.name, table.columns[def.column].name)
}

fn image_attributes(ctx: &Ctx<'_>, node: &str, output: &mut Output) -> Vec<(String, String)> {
    let Some(kind) = schema().object_type("osimage") else { return Vec::new() };
    let [os, arch, profile, method] = ["os", "arch", "profile", "provmethod"]
        .map(|column| ctx.state.text(node, &format!("nodetype.{column}")));
    let image = match ctx.state.has_object(kind, &method) {
        true => method,
        false => format!("{os}-{arch}-{method}-{profile}"),
    };
    if !ctx.state.has_object(kind, &image) {
        output.error(
            ctx,
            &format!(
                "Missing attributes for node {node}, check the node attributes 'os', 'arch','profile' and \
                 'provmethod'."
            ),
        );
        output.warn(ctx, &format!("{node}: could not find information for osimage {image}"));
        return Vec::new();
    }
    ctx.state.object(kind, &image).into_iter().collect()
}

fn print_stanza(ctx: &Ctx<'_>, kind: &TypeDef, name: &str, chosen: Option<&[String]>, output: &mut Output) {
    output.line("");
    output.line(&format!("{name}:"));
    output.line(&format!("    objtype={}", kind.name));
    for (attribute, value) in attributes_of(ctx, kind, name, chosen, false) {
        output.line(&format!("    {attribute}={value}"));
    }
}

/// The attributes of the types, all or those that are wanted.
fn describe(ctx: &Ctx<'_>, kinds: &[&'static TypeDef], wanted: Option<&str>) -> Output {
    let mut output = Output::new();
    let wanted: Option<Vec<&str>> =
        wanted.map(|list| list.split(',').filter(|name| !name.is_empty()).collect());
    let is_wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| wanted.contains(&name));
    for kind in kinds {
        for name in wanted.iter().flatten().filter(|name| !kind.has(name) && kind.name != "site") {
            let text =
                format!("'{name}' is not a valid attribute name for an object type of '{}'.", kind.name);
            output.error(ctx, &text);
        }
        output.line(&format!("The valid attribute names for object type '{}' are:", kind.name));
        output.line("Attribute          Description\n");
        if kind.name == "site" {
            for key in schema().site.iter().filter(|key| is_wanted(key.name)) {
                output.line(&format!("{}:\t{}\n", key.name, key.description));
            }
            continue;
        }
        for name in kind.names().into_iter().filter(|name| is_wanted(name)) {
            let text = kind.defs(name).next().map_or("", |def| {
                schema().def(def.table).columns.get(def.column).map_or("", |column| column.description)
            });
            let tabs = if name.len() < 7 { "\t\t" } else { "\t" };
            output.line(&format!("{name}:{tabs}{text}\n"));
        }
    }
    if kinds.is_empty() {
        output.line(&types_text());
    }
    output
}
