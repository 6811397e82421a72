//! Every observed noderange, through the real tables.

use noderange::{Options, fold, generic};

use crate::renamed::Form;
use crate::world::{World, records};

#[test]
fn every_observed_noderange_means_the_same() {
    let wrong = wrong(Form::Observed);
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_observed_noderange_means_the_same_with_other_names_and_rows_in_another_order() {
    // Their text is about single letters of names, about ends of names, or about names inside of names.
    let not_allowed = ["/[hw].*", "nodelist.node=~zn1.*", "all@/.*zn1", "zn[1-zn3]"];
    let wrong: Vec<String> = wrong(Form::Renamed)
        .into_iter()
        .filter(|text| !not_allowed.iter().any(|expr| text.starts_with(expr)))
        .collect();
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

fn wrong(form: Form) -> Vec<String> {
    let mut world = World::observed_as("noderange_files.json", form);
    let records: Vec<serde_json::Value> =
        records("noderange.jsonl").into_iter().map(|record| form.value(record)).collect();
    assert_eq!(records.len(), 258);
    let mut wrong = Vec::new();
    let options =
        Options { prefix: form.text("node1").trim_end_matches('1').to_owned(), ..Options::default() };
    for record in &records {
        let expr = record["expr"].as_str().unwrap();
        let nodes: Vec<&str> =
            record["nodes"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
        let (rc, err) = (record["rc"].as_i64().unwrap(), record["stderr"].as_str().unwrap());
        let (found, found_rc, found_err) = match record["mode"].as_str().unwrap() {
            "generic" => match generic(expr, &options) {
                Ok(names) => (names, 0, String::new()),
                Err(error) => (Vec::new(), 1, error.to_string()),
            },
            _ => {
                let ran = world.run(&["nodels", expr], "").unwrap();
                (ran.out.lines().map(str::to_owned).collect(), ran.rc, ran.err)
            }
        };
        // The original's text names a line of its own source here; ours names the position.
        let same_err = match err.contains("Unbalanced parentheses in noderange") {
            true => found_err.contains("Unbalanced parentheses in noderange at position 1"),
            false => found_err == err,
        };
        let (mut sorted, mut nodes) = (found.clone(), nodes);
        if form == Form::Renamed {
            sorted.sort_unstable();
            nodes.sort_unstable();
        }
        if sorted != nodes || found_rc != rc || !same_err {
            wrong.push(format!("{expr}: {found:?} {found_rc} {found_err:?} for {nodes:?} {rc} {err:?}"));
        }
    }
    wrong
}

#[test]
fn folded_names_of_the_observed_cluster_expand_to_themselves() {
    let mut world = World::observed("noderange_files.json");
    let all = world.run(&["nodels"], "").unwrap().out;
    let names: Vec<&str> = all.lines().collect();
    let folded = fold(&names);
    let again = world.run(&["nodels", &folded], "").unwrap();
    assert_eq!((again.out.as_str(), again.rc), (all.as_str(), 0), "{folded}");
    assert!(folded.contains("n[1-30]"), "{folded}");
}
