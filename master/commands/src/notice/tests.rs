#![allow(clippy::unwrap_used)]
use state::{Entry, RowChange, Transaction};

use super::*;

/// A state and what its last change was.
fn changed(before: Vec<RowChange>, changes: Vec<RowChange>) -> (State, Revision) {
    let mut state = State::new();
    state.apply(1, &Entry::Transaction(Transaction { changes: before, ..Transaction::default() }));
    let transaction = Transaction {
        changes,
        author: "root".into(),
        command: "nodech".into(),
        time: 5,
        ..Transaction::default()
    };
    let applied = state.apply(2, &Entry::Transaction(transaction));
    let rows = applied.events.iter().map(PastRow::from).collect();
    let number = state.revision();
    (state, Revision { number, author: "root".into(), command: "nodech".into(), time: 5, rows })
}

fn nodes(names: &[&str], groups: &str) -> Vec<RowChange> {
    names.iter().map(|name| RowChange::set("nodelist", &[name], &[("groups", groups)])).collect()
}

fn text(call: &Call, format: Format) -> String {
    String::from_utf8(call.stdin(format)).unwrap()
}

#[test]
fn a_program_gets_the_lines_of_the_first_document_with_values_quoted_where_they_must_be() {
    let (_, revision) = changed(nodes(&["n1", "n2"], "all"), nodes(&["n1", "n2"], "all,\"x\""));
    let calls = calls(&revision);
    assert_eq!(calls.len(), 1);
    assert_eq!(
        text(&calls[0], Format::Value),
        "u\nnodelist\n[old value]\nnode,groups,status,statustime,appstatus,appstatustime,primarysn,hidden,\
         updatestatus,updatestatustime,zonename,comments,disable\nn1,all,,,,,,,,,,,\nn2,all,,,,,,,,,,,\n\
         [new value]\ngroups,node\n\"all,\"\"x\"\"\",n1\n\"all,\"\"x\"\"\",n2\n"
    );
    assert!(text(&calls[0], Format::Data).ends_with("[new data]\ngroups,node\nall,\"x\",n1\nall,\"x\",n2\n"));
}

#[test]
fn removed_rows_come_first_and_rows_with_other_cells_are_another_call() {
    let mut changes = nodes(&["n1"], "x");
    changes.push(RowChange::set("nodelist", &["n2"], &[("status", "booted")]));
    changes.push(RowChange::delete("nodelist", &["n3"]));
    changes.extend(nodes(&["n4"], "y"));
    changes.push(RowChange::set("mac", &["n4"], &[("mac", "a")]));
    let (_, revision) = changed(nodes(&["n1", "n2", "n3"], "all"), changes);
    let calls = calls(&revision);
    let seen: Vec<String> = calls
        .iter()
        .map(|call| format!("{} {} {} {}", call.place, call.table, call.action.letter(), call.rows.len()))
        .collect();
    assert_eq!(
        seen,
        ["2.0 mac a 1", "2.1 nodelist d 1", "2.2 nodelist u 1", "2.3 nodelist u 1", "2.4 nodelist a 1"]
    );
    assert!(text(&calls[1], Format::Value).ends_with("n3,all,,,,,,,,,,,\n[new value]\n"));
    assert_eq!(text(&calls[4], Format::Value), "a\nnodelist\n[old value]\n[new value]\ngroups,node\ny,n4\n");
    let object: Value = serde_json::from_slice(&calls[2].json()).unwrap();
    assert_eq!(object["delivery"], "2.2");
    assert_eq!(
        object["rows"][0],
        json!({"key": {"node": "n1"}, "old": {"groups": "all"}, "new": {"groups": "x"}})
    );
}

#[test]
fn a_row_that_is_removed_and_made_again_is_updated_and_one_that_is_not_changed_is_not_told() {
    let mut changes = vec![RowChange::delete("nodelist", &["n1"]), RowChange::delete("nodelist", &["n2"])];
    changes.extend(nodes(&["n2"], "all"));
    changes.extend(nodes(&["n1"], "x"));
    let (_, revision) = changed(nodes(&["n1", "n2"], "all"), changes);
    let calls = calls(&revision);
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!((calls[0].action, calls[0].rows[0].key()), (Action::Updated, vec!["n1"]));
}

#[test]
fn very_many_rows_are_several_calls() {
    let names: Vec<String> = (0..ROWS + 1).map(|number| format!("n{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (_, revision) = changed(nodes(&["a"], "all"), nodes(&names, "all"));
    let sizes: Vec<usize> = calls(&revision).iter().map(|call| call.rows.len()).collect();
    assert_eq!(sizes, [ROWS, 1]);
}

#[test]
fn a_registration_says_what_it_wants_and_how() {
    let row = |file: &str, cells: &[(&str, &str)]| RowChange::set(TABLE, &[file], cells);
    let (state, revision) = changed(
        vec![
            row("/h", &[("tables", "nodelist,mac"), ("tableops", "a,d")]),
            row("/j", &[("tables", "nodelist"), ("format", "json")]),
            row("/off", &[("tables", "nodelist"), ("disable", "1")]),
            row("HTTPS://x/y", &[("tables", "mac")]),
            row("a.pm", &[("tables", "mac"), ("tableops", "u")]),
        ],
        nodes(&["n1"], "all"),
    );
    let call = &calls(&revision)[0];
    let find = |file: &str| Registration::find(&state, file);
    assert!(find("/h").unwrap().wants(call) && find("/j").unwrap().wants(call));
    assert_eq!(find("/h").unwrap().newest(&state), revision.number);
    assert_eq!(find("a.pm").unwrap().newest(&state), 0);
    assert!(find("/off").is_none() && find("/none").is_none());
    let formats = ["/h", "/j"].map(|file| find(file).unwrap().format);
    assert_eq!(formats, [Format::Data, Format::Json], "without a word in site it is xCAT's");
    let kinds = ["/h", "HTTPS://x/y", "a.pm"].map(|file| find(file).unwrap().kind);
    assert_eq!(kinds, [Kind::Program, Kind::Web, Kind::Module]);
}
