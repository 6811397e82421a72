//! What every change of rows must fulfil, whichever command made it: values that can be kept and computed. Tables
//! get their own names instead of legacy ones.

use state::policy::Rule;
use state::{RowChange, pattern_fault, schema};

use crate::plan::{Change, Ctx, Plan};

/// Largest value of a cell, in bytes.
pub(crate) const MAX_VALUE: usize = 1 << 20;

/// The plan, or the error that says which value cannot be stored.
pub(crate) fn checked(ctx: &Ctx<'_>, plan: Plan) -> Plan {
    let Plan::Change(mut change) = plan else { return plan };
    match check(&mut change).and_then(|()| rules(ctx, &change)) {
        Ok(()) => Plan::Change(change),
        Err(text) => Plan::error(ctx, &format!("{text}; nothing was changed")),
    }
}

fn check(change: &mut Change) -> Result<(), String> {
    for change in &mut change.changes {
        match change {
            RowChange::Set { table, key, cells } => {
                let Some(id) = schema().table(table) else { continue };
                let def = schema().def(id);
                if *table != def.name {
                    def.name.clone_into(table);
                }
                let owner = || match key.iter().any(|text| !text.is_empty()) {
                    true => key.join(","),
                    false => cells.first().map(|(_, text)| text.clone()).unwrap_or_default(),
                };
                if key.iter().any(|text| text.contains('\0')) {
                    return Err(format!("{}: a key has a NUL character", def.name));
                }
                for (column, value) in cells.iter() {
                    if let Some(fault) = fault(value, def.node.is_some()) {
                        return Err(format!("{}.{column} of '{}': {fault}", def.name, owner()));
                    }
                }
            }
            RowChange::Delete { table, .. } | RowChange::Clear { table } => {
                if let Some(id) = schema().table(table) {
                    schema().def(id).name.clone_into(table);
                }
            }
            RowChange::ForgetNode { .. } | RowChange::Restore { .. } => {}
        }
    }
    Ok(())
}

/// A rule of policy that cannot be read is not written.
fn rules(ctx: &Ctx<'_>, change: &Change) -> Result<(), String> {
    let of_policy = |change: &RowChange| matches!(change, RowChange::Set { table, .. } | RowChange::Restore { table, .. } if table == "policy");
    if !change.changes.iter().any(of_policy) {
        return Ok(());
    }
    // A precondition that does not hold is told when the change is tried.
    let Ok(events) = ctx.state.preview(&change.preconditions, &change.changes) else { return Ok(()) };
    for event in events.iter().filter(|event| event.table_name() == "policy" && event.new.is_some()) {
        let rule = Rule::read(|column| event.new_text(column));
        let changed = |column: &str| event.new_text(column) != event.old_text(column);
        let mut faults = rule.faults(ctx.state).into_iter();
        if let Some((column, reason)) = faults.find(|(column, _)| *column != "priority" && changed(column)) {
            return Err(format!("policy rule {}: {column}: {reason}", rule.priority));
        }
    }
    Ok(())
}

/// Why a value cannot be stored.
pub(crate) fn fault(value: &str, computed: bool) -> Option<String> {
    if value.len() > MAX_VALUE {
        return Some(format!("the value has {} bytes, more than {MAX_VALUE}", value.len()));
    }
    if value.contains('\0') {
        return Some("the value has a NUL character".to_owned());
    }
    pattern_fault(value).filter(|_| computed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn with(table: &str, column: &str, value: &str) -> Result<Change, String> {
        let changes = vec![RowChange::set(table, &["n1"], &[(column, value)])];
        let mut change = Change { changes, ..Change::default() };
        check(&mut change).map(|()| change)
    }

    #[test]
    fn what_cannot_be_kept_or_computed_is_refused_with_its_place() {
        let error = with("hosts", "ip", r"|n(\d+|10.0.0.($1)|").unwrap_err();
        assert!(error.starts_with("hosts.ip of 'n1': ") && error.contains("unclosed group"), "{error}");
        assert!(with("site", "value", r"|n(\d+|x|").is_ok(), "only tables of nodes are computed");
        assert!(with("site", "value", "a\0b").unwrap_err().contains("NUL"));
        assert!(with("site", "value", &"x".repeat(MAX_VALUE + 1)).unwrap_err().contains("more than 1048576"));
        assert!(with("site", "value", &"x".repeat(MAX_VALUE)).is_ok());
    }

    #[test]
    fn a_legacy_table_gets_its_own_name() {
        let change = with("hmc", "username", "u").unwrap();
        assert_eq!(change.changes, [RowChange::set("ppchcp", &["n1"], &[("username", "u")])]);
    }
}
