//! Selection of nodes by the value of an attribute: `nodetype.os=~rhel`.

use regex::{Regex, RegexBuilder};

use crate::Error;

/// Largest compiled regular expression, in bytes. A pattern over node names needs a few kilobytes.
const REGEX_BYTES: usize = 1 << 20;

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `==` (or `=` in a noderange).
    Equal,
    /// `!=`; true for a node without a value.
    NotEqual,
    /// `=~`
    Match,
    /// `!~`; true for a node without a value.
    NotMatch,
}

/// An attribute, a comparison and a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// `table.column` or a short name such as `mgt`.
    pub attribute: String,
    /// How.
    pub comparison: Comparison,
    /// Value, or regular expression without its slashes.
    pub value: String,
}

impl Selector {
    /// Reads `attribute<op>value`. `single` allows `=` for `==`, as a noderange does. `None`: not a selector.
    pub fn parse(text: &str, single: bool) -> Option<Selector> {
        let at = text.find(['=', '!'])?;
        let (attribute, rest) = text.split_at(at);
        if attribute.is_empty() {
            return None;
        }
        let ops = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("=~", Comparison::Match),
            ("!~", Comparison::NotMatch),
        ];
        let (comparison, value) = match ops.iter().find(|(op, _)| rest.starts_with(op)) {
            Some((op, comparison)) => (*comparison, &rest[op.len()..]),
            None if single && rest.starts_with('=') => (Comparison::Equal, &rest[1..]),
            None => return None,
        };
        let value = match comparison {
            Comparison::Match | Comparison::NotMatch => bare(value),
            _ => value,
        };
        Some(Selector { attribute: attribute.to_owned(), comparison, value: value.to_owned() })
    }

    /// Prepares the comparison; fails on a regular expression that cannot be understood.
    pub fn matcher(&self) -> Result<Matcher, Error> {
        let test = match self.comparison {
            Comparison::Equal | Comparison::NotEqual => Test::Text(self.value.clone()),
            Comparison::Match | Comparison::NotMatch => Test::Regex(compile(&self.value, 1)?),
        };
        let negate = matches!(self.comparison, Comparison::NotEqual | Comparison::NotMatch);
        Ok(Matcher { test, negate })
    }
}

/// A prepared comparison.
#[derive(Debug, Clone)]
pub struct Matcher {
    test: Test,
    negate: bool,
}

impl Matcher {
    /// Whether the value (`None`: not set) is selected.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let value = value.unwrap_or("");
        let hit = match &self.test {
            Test::Text(text) => value == text,
            Test::Regex(regex) => regex.is_match(value),
        };
        hit != self.negate
    }
}

#[derive(Debug, Clone)]
enum Test {
    Text(String),
    Regex(Regex),
}

/// Compiles with a size limit; the error carries the position in the noderange.
pub(crate) fn compile(text: &str, position: usize) -> Result<Regex, Error> {
    RegexBuilder::new(text).size_limit(REGEX_BYTES).build().map_err(|error| Error::Regex {
        text: text.to_owned(),
        position,
        reason: reason(&error),
    })
}

/// The last line of the library's drawing says what is wrong.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("not understood");
    last.trim().trim_start_matches("error: ").to_owned()
}

fn bare(value: &str) -> &str {
    match value.strip_prefix('/').and_then(|v| v.strip_suffix('/')) {
        Some(inner) => inner,
        None => value,
    }
}
