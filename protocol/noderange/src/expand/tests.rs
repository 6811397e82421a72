use std::borrow::Cow;

use super::{File, Groups, Options, expand, generic};
use crate::select::Selector;
use crate::{Error, parse};

/// Ten nodes n1..n10, a group `odd`, a file.
struct World {
    nodes: Vec<String>,
}

impl World {
    fn new() -> World {
        World { nodes: (1..=10).map(|i| format!("n{i}")).chain(["a-b".into(), "odd1".into()]).collect() }
    }
}

impl Groups for World {
    fn node(&self, name: &str) -> Option<&str> {
        self.nodes.iter().find(|n| *n == name).map(String::as_str)
    }
    fn members(&self, group: &str) -> Option<Vec<&str>> {
        match group {
            "odd" => Some(
                self.nodes.iter().filter(|n| n.ends_with(['1', '3', '5', '7', '9'])).map(|n| &**n).collect(),
            ),
            "g1" => Some(vec!["n1"]),
            "g2" => Some(vec!["n2"]),
            _ => None,
        }
    }
    fn names(&self) -> Vec<&str> {
        self.nodes.iter().map(String::as_str).collect()
    }
    fn select(&self, selector: &Selector) -> Result<Vec<&str>, Error> {
        let matcher = selector.matcher()?;
        Ok(self.names().into_iter().filter(|name| matcher.matches(Some(name))).collect())
    }
    fn file(&self, path: &str) -> File<'_> {
        match path {
            "/list" => File::Text(Cow::Borrowed("n1\n#n2\n^/list\nn3: comment\n")),
            "/loop" => File::Text(Cow::Borrowed("n1,^/loop\n")),
            "/later" => File::Unknown,
            _ => File::Missing,
        }
    }
}

fn check(text: &str, nodes: &str, missing: &str) {
    let world = World::new();
    let expr = parse(text).expect("well formed");
    let found = expand(&expr, &world, &Options::default()).expect("answerable");
    assert_eq!(found.nodes.join(" "), nodes, "{text}");
    let names: Vec<&str> = found.missing.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names.join(" "), missing, "{text}");
}

#[test]
fn words_are_nodes_before_groups_before_ranges() {
    check("n1,odd", "n1 n3 n5 n7 n9 odd1", "");
    check("g1-g2", "n1 n2", "");
    check("a-b", "a-b", "");
    check("n[1-3]@odd", "n1 n3", "");
    check("odd,-n[1-5]", "n7 n9 odd1", "");
    check("n5-n1", "", "");
    check("^/list", "n1 n3", "");
    check("^/nosuch", "", "");
    check("n1,-^/list", "n1", "");
    check("n1@^/list", "n1", "");
    check("~x", "", "");
    check("/n1.*", "n1 n10", "");
    check("x=~n1", "n1 n10", "");
}

#[test]
fn missing_names_carry_the_position_of_their_word() {
    let world = World::new();
    let expr = parse("n1,(n2,zz[1-2]),-yy").expect("well formed");
    let found = expand(&expr, &world, &Options::default()).expect("answerable");
    let places: Vec<(String, usize)> = found.missing.into_iter().map(|m| (m.name, m.position)).collect();
    assert_eq!(places, [("zz1".to_owned(), 8), ("zz2".to_owned(), 8), ("yy".to_owned(), 18)]);
}

#[test]
fn open_parenthesis_is_an_error_with_its_position() {
    assert_eq!(parse("n1,(n2,(n3)"), Err(Error::Unbalanced { position: 4 }));
}

#[test]
fn a_file_that_was_not_given_is_asked_for() {
    let world = World::new();
    let expr = parse("n1,^/later").expect("well formed");
    assert_eq!(expand(&expr, &world, &Options::default()), Err(Error::NeedFile("/later".to_owned())));
}

#[test]
fn a_file_that_names_itself_is_refused() {
    let world = World::new();
    let expr = parse("^/loop").expect("well formed");
    assert!(matches!(expand(&expr, &world, &Options::default()), Err(Error::TooDeep { .. })));
}

#[test]
fn a_bomb_is_refused() {
    for text in ["n[1-9999999999]", "n1+9999999999", "n[1-999][1-999][1-999]x", "n1-n18446744073709551615"] {
        assert!(matches!(generic(text, &Options::default()), Err(Error::TooMany { .. })), "{text}");
    }
    // Each pair of brackets multiplies the length of the word; ranges without names cost time.
    let growing = format!("a{}", "[---]".repeat(40));
    assert!(matches!(generic(&growing, &Options::default()), Err(Error::TooMany { .. })));
    let empty = "n[1-200000]m[9-1]";
    assert!(generic(empty, &Options::default()).is_ok_and(|names| names.is_empty()));
    assert!(parse(&"a)".repeat(1_000_000)).is_ok());
    let deep = "(".repeat(200);
    assert!(matches!(parse(&deep), Err(Error::TooDeep { .. })));
    let brackets = format!("n{}", "[1-2]".repeat(64));
    assert!(matches!(generic(&brackets, &Options::default()), Err(Error::TooMany { .. })));
}

#[test]
fn a_regular_expression_that_cannot_be_read_is_named_with_its_position() {
    let world = World::new();
    let expr = parse("n1,/n[").expect("well formed");
    assert!(matches!(expand(&expr, &world, &Options::default()), Err(Error::Regex { position: 4, .. })));
}
