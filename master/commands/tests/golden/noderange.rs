//! Every observed noderange, through the real tables.

use noderange::{Options, fold, generic};

use crate::world::{World, records};

#[test]
fn every_observed_noderange_means_the_same() {
    let mut world = World::observed("noderange_files.json");
    let records = records("noderange.jsonl");
    assert_eq!(records.len(), 258);
    let mut wrong = Vec::new();
    for record in &records {
        let expr = record["expr"].as_str().unwrap();
        let nodes: Vec<&str> =
            record["nodes"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
        let (rc, err) = (record["rc"].as_i64().unwrap(), record["stderr"].as_str().unwrap());
        let (found, found_rc, found_err) = match record["mode"].as_str().unwrap() {
            "generic" => match generic(expr, &Options::default()) {
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
        if found != nodes || found_rc != rc || !same_err {
            wrong.push(format!("{expr}: {found:?} {found_rc} {found_err:?} for {nodes:?} {rc} {err:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), records.len(), wrong.join("\n"));
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
