//! The observations with every node renamed and the rows of every table the other way round: what is printed must be
//! the same with the new names. Then nothing depends on the names that happen to be in the observations.
//!
//! A node's name begins with one of the words of [`FIRST`] and goes on with a number, a bracket or a piece of an
//! expression; it gets a letter in front. Lines and the words in them are compared as sets, for the order of rows
//! is that of many outputs. What the text of an observation does not allow is listed in `tests/golden/renamed.tsv`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// First words of the names of the observed nodes.
const FIRST: &str = "n|node|f|r|h|db|web|sn|switch|storage|Login|login|ib";
/// What is in front of every name.
const FRONT: &str = "z";
/// What separates the words of a line that may come in another order.
pub const PERMUTED: [char; 3] = [',', ' ', '='];

static NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(&format!(r"(^|[^A-Za-z0-9_.$\\%\])])((?:{FIRST})(?:-?[0-9\[(]|\\d|\.\*|\*|\?|-\[))")).unwrap()
});

/// With which names the observations are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    Observed,
    /// With other names and the rows the other way round.
    Renamed,
}

impl Form {
    /// A text with the names.
    pub fn text(self, text: &str) -> String {
        match self {
            Form::Observed => text.to_owned(),
            // Twice: of two names with one character between them the first run takes only one.
            Form::Renamed => {
                let front = format!("${{1}}{FRONT}${{2}}");
                let once = NAME.replace_all(text, front.as_str()).into_owned();
                NAME.replace_all(&once, front.as_str()).into_owned()
            }
        }
    }

    /// A record with the names in all its texts.
    pub fn value(self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(&text)),
            Value::Array(list) => Value::Array(list.into_iter().map(|value| self.value(value)).collect()),
            Value::Object(map) => Value::Object(
                map.into_iter()
                    .map(|(key, value)| match key.as_str() {
                        "id" | "mode" => (key, value),
                        _ => (key, self.value(value)),
                    })
                    .collect(),
            ),
            other => other,
        }
    }

    /// What the client's environment says, so that bare numbers are still names of nodes.
    pub fn environment(self) -> BTreeMap<String, String> {
        match self {
            Form::Observed => BTreeMap::new(),
            Form::Renamed => BTreeMap::from([("XCAT_NODE_PREFIX".to_owned(), format!("{FRONT}node"))]),
        }
    }
}

#[test]
fn names_are_found_in_texts_and_expressions() {
    let renamed = |text: &str| Form::Renamed.text(text);
    assert_eq!(renamed("n1,n2:n3 f1n[1-2]@/n.*5"), "zn1,zn2:zn3 zf1n[1-2]@/zn.*5");
    assert_eq!(renamed(r"|n(\d+)|cn($1)| web-01"), r"|zn(\d+)|cn($1)| zweb-01");
    let others = "rack1 rocky9.4 node.switch 10.1.0.1 x86_64 R1";
    assert_eq!(renamed(others), others);
}
