//! dumpxCATdb and restorexCATdb: all tables as files in the form of tabdump, and back.
//!
//! Left out are what belongs to one cluster and its machines alone, the tables named by `site.skiptables` and,
//! without `-a`, the logs. A restore is one transaction: every table of the folder is replaced, or none.

use state::{RowChange, Table, TableDef, TableId, schema};

use crate::args::{flag, value};
use crate::export::is_private;
use crate::operate::read;
use crate::plan::{Change, Ctx, Effect, MAX_INPUT, Need, Output, Plan};
use crate::registry::{Command, Range};
use crate::{csv, tabdump, tabrestore};

/// Logs: with `-a` only.
const LOGS: [&str; 2] = ["auditlog", "eventlog"];

/// dumpxCATdb.
pub static DUMP: Command = Command {
    name: "dumpxCATdb",
    aliases: &[],
    summary: "Write all tables as files in the form of tabdump",
    usage: "Usage: dumpxCATdb [-a|--all] [-V|--verbose] {-p|--path} <directory>\n       dumpxCATdb {-h|--help}\n       \
            dumpxCATdb {-v|--version}\n\n   -a: auditlog and eventlog, too. Tables named by site.skiptables are \
            left out.\n",
    writes: false,
    range: Range::None,
    plan: dump,
};

/// restorexCATdb.
pub static RESTORE: Command = Command {
    name: "restorexCATdb",
    aliases: &[],
    summary: "Replace the rows of all tables that have a file in a directory of dumpxCATdb",
    usage: "Usage: restorexCATdb [-a|--all] [-V|--verbose] {-p|--path} <directory> [--plan]\n       restorexCATdb \
            {-h|--help}\n       restorexCATdb {-v|--version}\n\n   -a: auditlog and eventlog, too. Tables without a \
            file stay as they are. Either all is restored or nothing.\n",
    writes: true,
    range: Range::None,
    plan: restore,
};

/// Whether a dump has this table.
fn is_dumped(table: &str, all: bool) -> bool {
    !is_private(table) || all && LOGS.contains(&table)
}

/// The folder, whether the logs are wanted, whether each table is to be told.
fn arguments(ctx: &Ctx<'_>, usage: &str) -> Result<(String, bool, bool), Plan> {
    let own = [flag('a', "all"), value('p', "path"), flag('b', "binary")];
    let given = read(ctx, usage, &own)?;
    if given.has("binary") {
        return Err(Plan::error(ctx, "there is no binary form of a dump; files of text are the only one"));
    }
    match (given.value("path"), given.rest.as_slice()) {
        (Some(path), []) if !path.is_empty() => {
            let path = if path == "/" { path } else { path.trim_end_matches('/') };
            Ok((path.to_owned(), given.has("all"), given.has("verbose")))
        }
        _ => Err(Plan::usage(usage, 1)),
    }
}

fn dump(ctx: &Ctx<'_>) -> Plan {
    dump_to(ctx).unwrap_or_else(|plan| plan)
}

fn dump_to(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let (folder, all, verbose) = arguments(ctx, DUMP.usage)?;
    let skipped = ctx.state.site("skiptables").unwrap_or_default();
    let skips = |table: &str| skipped.split(',').any(|word| word.trim() == table);
    let mut output = Output::new();
    let mut files = Vec::new();
    for (at, def) in schema().tables.iter().enumerate().filter(|(_, def)| is_dumped(def.name, all)) {
        if skips(def.name) {
            if verbose {
                output.line(&format!("Skipping table: {} (site.skiptables)", def.name));
            }
            continue;
        }
        if verbose {
            output.line(&format!("Dumping table: {}", def.name));
        }
        let text = tabdump::text(ctx.state.table(TableId(at)));
        files.push((format!("{folder}/{}.csv", def.name), text.into_bytes()));
    }
    output.line("Backup Complete.");
    Ok(Plan::Change(Change { effects: vec![Effect::ClientFiles(files)], output, ..Change::default() }))
}

fn restore(ctx: &Ctx<'_>) -> Plan {
    restore_from(ctx).unwrap_or_else(|plan| plan)
}

fn restore_from(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let (folder, all, verbose) = arguments(ctx, RESTORE.usage)?;
    let tables = tables(ctx, &folder)?;
    let mut change = Change::default();
    let mut errors = Output::new();
    let mut restored = 0;
    for (name, bytes) in tables {
        let file = format!("{folder}/{name}.csv");
        if LOGS.contains(&name) && !all {
            if verbose {
                change.output.line(&format!("Skipping table: {name} (-a restores it)"));
            }
            continue;
        }
        let empty = csv::parse(bytes).is_ok_and(|(_, records)| records.is_empty());
        let known = schema().table(name).map(|table| (schema().def(table), ctx.state.table(table)));
        // A file of a legacy name is one of another version.
        let known = known.filter(|(def, _)| def.name == name);
        let Some((def, table)) = known else {
            if empty {
                continue;
            }
            let text = format!(
                "{file}: there is no table {name}; 'margay import xcat {folder}' tells what can be done with its rows"
            );
            errors.error(ctx, &text);
            continue;
        };
        if !is_dumped(name, all) {
            if !empty {
                let text = format!(
                    "{file} is not restored: the table tells of one cluster's own machines and doings"
                );
                change.output.warn(ctx, &text);
            }
            continue;
        }
        match changes(def, table, bytes) {
            Ok(changes) => change.changes.extend(changes),
            Err(wrong) => {
                errors.error(ctx, &format!("{file}: {wrong}"));
                continue;
            }
        }
        restored += 1;
        if verbose {
            change.output.line(&format!("Restoring table: {name}"));
        }
    }
    if errors.status > 0 {
        errors.error(ctx, "Nothing was restored");
        return Err(errors.into());
    }
    if restored == 0 {
        return Err(Plan::error(ctx, &format!("There is no file of a table in {folder}")));
    }
    change.output.line("Restore of Database Complete.");
    Ok(Plan::Change(change))
}

/// The tables that have a file in a folder of the client, with the files' content. `Err`: what is needed first, or
/// what is wrong.
pub(crate) fn tables<'c>(ctx: &Ctx<'c>, folder: &str) -> Result<Vec<(&'c str, &'c [u8])>, Plan> {
    let Some(names) = ctx.inputs.folders.get(folder) else {
        return Err(Plan::Need(Need::Folder(folder.to_owned())));
    };
    let Some(names) = names else {
        return Err(Plan::error(ctx, &format!("The directory {folder} cannot be read")));
    };
    let tables: Vec<&'c str> = names.iter().filter_map(|name| name.strip_suffix(".csv")).collect();
    let path = |table: &str| format!("{folder}/{table}.csv");
    let missing: Vec<String> =
        tables.iter().map(|table| path(table)).filter(|path| !ctx.files.contains_key(path)).collect();
    if !missing.is_empty() {
        return Err(Plan::Need(Need::Files { paths: missing, limit: MAX_INPUT }));
    }
    let mut found = Vec::new();
    let mut errors = Output::new();
    for table in tables {
        match ctx.files.get(&path(table)) {
            Some(Some(bytes)) => found.push((table, bytes.as_slice())),
            _ => errors.error(ctx, &format!("{} cannot be read", path(table))),
        }
    }
    if errors.status > 0 { Err(errors.into()) } else { Ok(found) }
}

/// What makes the table the one of the file, row for row; nothing when it is.
fn changes(def: &TableDef, table: &Table, bytes: &[u8]) -> Result<Vec<RowChange>, String> {
    if tabdump::text(table).as_bytes() == bytes {
        return Ok(Vec::new());
    }
    let rows = tabrestore::rows(table, bytes, |_| false).map_err(|(_, wrong)| wrong)?;
    let table = || def.name.to_owned();
    let clear = std::iter::once(RowChange::Clear { table: table() });
    let set = |row: tabrestore::NewRow| RowChange::Set { table: table(), key: row.key, cells: row.cells };
    Ok(clear.chain(rows.into_iter().map(set)).collect())
}
