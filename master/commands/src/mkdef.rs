//! mkdef and chdef: make and change objects.

use noderange::generic;
use state::schema;
use state::schema::TypeDef;

use crate::args::{Given, Opt, flag, read, value, word_value};
use crate::defs::with_types;
use crate::object_edit::{Mode, Request, Writer};
use crate::plan::{Ctx, Output, Plan};
use crate::registry::{Command, Range};
use crate::stanza::{self, Stanza};
use crate::templates::{self, Wish};

/// Makes objects.
pub(crate) static MKDEF: Command = Command {
    name: "mkdef",
    aliases: &[],
    summary: "Create objects",
    usage: "\nUsage: mkdef - Create xCAT data object definitions.\n\n  mkdef [-h | --help ] [-t object-types]\n\n  \
            mkdef [-V | --verbose] [-t object-types] [--template template-object-name]\n      [-o object-names] \
            [-z|--stanza ]\n      [-d | --dynamic] [-w attr==val [-w attr=~val] ...]\n      [-f | --force] \
            [noderange] [attr=val [attr=val...]]\n\n  mkdef -u ... [-t osimage] provmethod=.. profile=.. \
            osvers=.. osarch=..\n",
    writes: true,
    range: Range::Objects(OPTIONS),
    plan: mkdef,
};

/// Changes objects.
pub(crate) static CHDEF: Command = Command {
    name: "chdef",
    aliases: &[],
    summary: "Change objects",
    usage: "\nUsage: chdef - Change xCAT data object definitions.\n\n  chdef [-h | --help ] [-t object-types]\n\n  \
            chdef [-t object-types] [-o object-names] [-n new-name] [node]\n\n  chdef [-V | --verbose] [-t \
            object-types] [-o object-names] [-d | --dynamic]\n    [-z | --stanza] [-m | --minus] [-p | \
            --plus]\n    [-w attr==val [-w attr=~val] ... ] [noderange] [attr=val [attr=val...]]\n\n",
    writes: true,
    range: Range::Objects(OPTIONS),
    plan: chdef,
};

/// What xCAT says when something went wrong for some objects.
pub(crate) const SOME_FAILED: &str =
    "One or more errors occured when attempting to create or modify xCAT object definitions.";

const OPTIONS: &[Opt] = &[
    flag('a', "all"),
    flag('d', "dynamic"),
    flag('f', "force"),
    flag('h', "help"),
    flag('?', ""),
    flag('m', "minus"),
    value('n', "new-name"),
    value('o', "objects"),
    flag('p', "plus"),
    value('t', "type"),
    flag('u', "u"),
    flag('v', "version"),
    flag('V', "verbose"),
    value('w', "where"),
    flag('z', "stanza"),
    word_value("template"),
];

fn mkdef(ctx: &Ctx<'_>) -> Plan {
    run(ctx, &MKDEF, true).unwrap_or_else(|plan| plan)
}

fn chdef(ctx: &Ctx<'_>) -> Plan {
    run(ctx, &CHDEF, false).unwrap_or_else(|plan| plan)
}

fn run(ctx: &Ctx<'_>, command: &Command, make: bool) -> Result<Plan, Plan> {
    let given = opened(ctx, command)?;
    if let Some(new) = given.value("new-name").filter(|_| !make) {
        let requests = requests(ctx, &given, make)?;
        return rename(ctx, &requests, new);
    }
    let requests = requests(ctx, &given, make)?;
    let mode = match (make, given.has("force"), given.has("plus"), given.has("minus")) {
        (true, true, _, _) => Mode::Replace,
        (true, _, _, _) => Mode::Make,
        (false, _, true, _) => Mode::Append,
        (false, _, _, true) => Mode::Subtract,
        (false, ..) => Mode::Change,
    };
    let mut writer = Writer::new(ctx, mode);
    for request in &requests {
        writer.write(request);
    }
    Ok(writer.finish())
}

fn opened(ctx: &Ctx<'_>, command: &Command) -> Result<Given, Plan> {
    let usage = with_types(command.usage);
    let given = read(ctx.args, OPTIONS, true).map_err(|_| {
        let mut output = Output::new();
        output.text(&usage);
        output.error(ctx, "Invalid option..");
        Plan::Answer(output)
    })?;
    if given.has("version") {
        let mut output = Output::new();
        output.line(&format!("{} - Version {}", command.name, ctx.version));
        return Err(output.into());
    }
    if ctx.args.is_empty() || given.has("help") || given.has("?") {
        return Err(Plan::usage(&usage, 0));
    }
    Ok(given)
}

/// What is asked for: from the arguments, or from stanzas on standard input.
fn requests(ctx: &Ctx<'_>, given: &Given, make: bool) -> Result<Vec<Request>, Plan> {
    let mut names: Vec<&str> = given.values("objects");
    let mut attributes: Vec<(String, String)> = Vec::new();
    for (index, text) in given.rest.iter().enumerate() {
        match text.split_once('=') {
            Some((attribute, value)) => attributes.push((attribute.to_owned(), value.to_owned())),
            None if index == 0 => names.push(text),
            None => return Err(Plan::error(ctx, &format!("'{text}' is not an attribute=value pair."))),
        }
    }
    if given.has("stanza") {
        return from_stanzas(ctx, given);
    }
    let kind = object_type(ctx, given.value("type").unwrap_or("node"))?;
    if given.has("dynamic") {
        if kind.name != "group" {
            return Err(Plan::error(ctx, "The '-d' flag is valid only for groups."));
        }
        for attribute in ["grouptype", "members"] {
            attributes.push((attribute.to_owned(), "dynamic".to_owned()));
        }
    }
    if let Some(template) = given.value("template").filter(|_| make) {
        attributes.extend(of_template(ctx, kind, template, &attributes)?);
    }
    if given.has("u") && make {
        if kind.name != "osimage" {
            return Err(Plan::error(ctx, "The '-u' flag is valid only for the type 'osimage'."));
        }
        let name = image_attributes(ctx, &mut attributes)?;
        if names.is_empty() {
            return Ok(vec![Request { kind, name, attributes }]);
        }
    }
    let wheres = given.values("where");
    if kind.name == "group" && !wheres.is_empty() {
        crate::select::Conditions::parse(&wheres).map_err(|text| Plan::error(ctx, &text))?;
        attributes.push(("wherevals".to_owned(), wheres.join("::")));
    }
    let names = match (names.is_empty(), kind.name) {
        (true, "site") => vec!["clustersite".to_owned()],
        (true, _) if !make && !wheres.is_empty() => {
            let conditions =
                crate::select::Conditions::parse(&wheres).map_err(|text| Plan::error(ctx, &text))?;
            let all = ctx.state.object_names(kind);
            all.into_iter().filter(|name| conditions.hold(ctx.state, kind, name)).collect()
        }
        (true, _) => return Err(Plan::error(ctx, "No object names were provided.")),
        (false, "node") => node_names(ctx, &names.join(","), make)?,
        (false, _) => names.join(",").split(',').map(str::to_owned).collect(),
    };
    Ok(names.into_iter().map(|name| Request { kind, name, attributes: attributes.clone() }).collect())
}

/// Attributes of a node that belong to one machine and are not copied from a template.
const OF_MACHINE: [&str; 9] =
    ["mac", "serial", "uuid", "status", "statustime", "appstatus", "appstatustime", "currstate", "currchain"];

/// What an object that serves as template gives: the values it has itself, those not given otherwise.
fn of_template(
    ctx: &Ctx<'_>,
    kind: &'static TypeDef,
    template: &str,
    given: &[(String, String)],
) -> Result<Vec<(String, String)>, Plan> {
    if let Some(ready) = templates::find(kind.name, template) {
        return of_ready_made(ctx, ready, given);
    }
    if !ctx.state.has_object(kind, template) {
        let text = format!("Could not find the template object named '{template}' of type '{}'.", kind.name);
        return Err(Plan::error(ctx, &text));
    }
    let own = |attribute: &str| {
        ctx.state.object_attribute(kind, template, attribute)?;
        let mut values = kind.defs(attribute).filter_map(|def| {
            let (_, row) = ctx.state.object_row(kind, def, template)?;
            row.get(def.column).map(str::to_owned)
        });
        values.next()
    };
    let wanted = |attribute: &&str| {
        *attribute != kind.key
            && !OF_MACHINE.contains(attribute)
            && !given.iter().any(|(name, _)| name == attribute)
    };
    let names = kind.names().into_iter().filter(wanted);
    Ok(names.filter_map(|attribute| Some((attribute.to_owned(), own(attribute)?))).collect())
}

/// What a ready-made template gives: the values that were not given otherwise.
fn of_ready_made(
    ctx: &Ctx<'_>,
    template: &Stanza,
    given: &[(String, String)],
) -> Result<Vec<(String, String)>, Plan> {
    let mut values = Vec::new();
    let mut output = Output::new();
    for (attribute, value) in &template.attributes {
        if given.iter().any(|(name, value)| name == attribute && !value.is_empty()) {
            continue;
        }
        match templates::wish(value) {
            Wish::Value(value) => values.push((attribute.clone(), value.to_owned())),
            Wish::Mandatory => {
                output.error(ctx, &format!("The attribute \"{attribute}\" must be specified!"))
            }
            Wish::Optional => {}
        }
    }
    if output.status == 0 { Ok(values) } else { Err(output.into()) }
}

/// `-u`: fills in what follows from the four attributes of an image, and gives its usual name.
fn image_attributes(ctx: &Ctx<'_>, attributes: &mut Vec<(String, String)>) -> Result<String, Plan> {
    let given = |wanted: &str| {
        let found = attributes.iter().find(|(name, value)| name == wanted && !value.is_empty());
        found.map(|(_, value)| value.clone()).ok_or_else(|| {
            let text = "The '-u' flag needs the attributes provmethod, profile, osvers and osarch";
            Plan::error(ctx, &format!("{text}; '{wanted}' is missing."))
        })
    };
    let (method, profile) = (given("provmethod")?, given("profile")?);
    let (version, arch) = (given("osvers")?, given("osarch")?);
    let folder = ctx.state.site("installdir").unwrap_or("/install").to_owned();
    let mut usual = vec![
        ("imagetype", "linux".to_owned()),
        ("osname", "Linux".to_owned()),
        ("pkgdir", format!("{folder}/{version}/{arch}")),
        ("otherpkgdir", format!("{folder}/post/otherpkgs/{version}/{arch}")),
    ];
    if matches!(method.as_str(), "netboot" | "statelite") {
        usual.push(("rootimgdir", format!("{folder}/{method}/{version}/{arch}/{profile}")));
    }
    for (name, value) in usual {
        if !attributes.iter().any(|(known, _)| known == name) {
            attributes.push((name.to_owned(), value));
        }
    }
    Ok(format!("{version}-{arch}-{method}-{profile}"))
}

/// Nodes that exist through groups and ranges; names that do not exist are taken as new ones.
fn node_names(ctx: &Ctx<'_>, range: &str, make: bool) -> Result<Vec<String>, Plan> {
    if make {
        return generic(range, &ctx.range_options()).map_err(|e| Plan::error(ctx, &e.to_string()));
    }
    let (mut names, missing) = ctx.expand(range)?;
    names.extend(missing);
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn from_stanzas(ctx: &Ctx<'_>, given: &Given) -> Result<Vec<Request>, Plan> {
    let text = String::from_utf8_lossy(ctx.input()?).into_owned();
    let stanzas = stanza::parse(&text).map_err(|text| Plan::error(ctx, &text))?;
    let mut out = Vec::new();
    for stanza in stanzas {
        let Some(kind) = stanza.objtype.as_deref().or(given.value("type")) else {
            let text = format!(
                "\nNo objtype value was specified for '{}'. Cannot create object definition.",
                stanza.name
            );
            return Err(Plan::error(ctx, &text));
        };
        let kind = object_type(ctx, kind)?;
        out.push(Request { kind, name: stanza.name, attributes: stanza.attributes });
    }
    Ok(out)
}

pub(crate) fn object_type(ctx: &Ctx<'_>, name: &str) -> Result<&'static TypeDef, Plan> {
    schema()
        .object_type(name)
        .ok_or_else(|| Plan::error(ctx, &format!("\nType '{name}' is not a valid xCAT object type.")))
}

fn rename(ctx: &Ctx<'_>, requests: &[Request], new: &str) -> Result<Plan, Plan> {
    let [request] = requests else {
        return Err(Plan::error(ctx, "The '-n' flag is valid only with one object."));
    };
    let kind = request.kind;
    if matches!(kind.name, "site" | "group" | "monitoring") {
        return Err(Plan::error(ctx, &format!("The '-n' flag is not valid for the type '{}'.", kind.name)));
    }
    if !ctx.state.has_object(kind, &request.name) {
        let text = format!("Could not find an object named '{}' of type '{}'.", request.name, kind.name);
        return Err(Plan::error(ctx, &text));
    }
    if ctx.state.has_object(kind, new) {
        return Err(Plan::error(
            ctx,
            &format!("A definition for '{new}' already exists. No changes will be made."),
        ));
    }
    let mut output = Output::new();
    output.line(&format!("Changed the object name from {} to {new}.", request.name));
    Ok(Plan::Change(crate::object_edit::renamed(ctx, kind, &request.name, new, output)))
}
