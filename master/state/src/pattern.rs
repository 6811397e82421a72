//! Values that are computed from the node's name.
//!
//! - `|expression|replacement|`: parts of the replacement in parentheses are computed, then the matched part of
//!   the name is replaced. Text outside parentheses stays as it is, `$1` included.
//! - `|replacement|`: the captures are the numbers in the name, without leading zeros.
//! - `/expression/replacement/`: the matched part of the name is replaced by the text as it is.
//!
//! - `eth0!|expression|replacement|,ib0!...`: a list of parts with names, as the columns of `nics` have it: each
//!   part that is a pattern is computed.
//!
//! When the expression does not match, the value is the node's name; an empty result is no value.

use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use crate::tree::Tree;

/// Largest compiled expression, in bytes.
const REGEX_BYTES: usize = 1 << 20;
/// Deepest nesting of a computed part.
const MAX_DEPTH: usize = 32;

/// Prepared patterns by their text, as long as a row holds them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Patterns {
    known: Tree<Arc<str>, (usize, Arc<Pattern>)>,
}

impl Patterns {
    pub(crate) fn add(&mut self, value: &str) {
        if !looks_like(value) {
            return;
        }
        if let Some((count, _)) = self.known.get_mut(value) {
            *count += 1;
        } else if let Some(pattern) = Pattern::parse(value) {
            self.known.insert(value.into(), (1, Arc::new(pattern)));
        }
    }

    pub(crate) fn drop(&mut self, value: &str) {
        if !looks_like(value) {
            return;
        }
        if let Some((count, _)) = self.known.get_mut(value) {
            *count -= 1;
            if *count == 0 {
                self.known.remove(value);
            }
        }
    }

    pub(crate) fn get(&self, value: &str) -> Option<&Pattern> {
        if !looks_like(value) {
            return None;
        }
        self.known.get(value).map(|(_, pattern)| &**pattern)
    }
}

fn looks_like(value: &str) -> bool {
    value.len() > 1
        && (value.starts_with('|') && value.ends_with('|')
            || value.starts_with('/') && value.ends_with('/')
            || value.contains("!|"))
}

/// Why a value that has the form of a pattern is none; `None` for everything else.
pub fn fault(value: &str) -> Option<String> {
    if value.len() < 3 || !looks_like(value) || Pattern::parse(value).is_some() {
        return None;
    }
    if value.contains("!|") && !value.starts_with('|') {
        return pieces(value)?.into_iter().find_map(|(_, text)| fault(text));
    }
    if let Some(inner) = between(value, '/') {
        let (left, _) = inner.split_once('/').filter(|(_, right)| !right.contains('/'))?;
        return left.contains("(\\d").then(|| compiled(left).err()).flatten();
    }
    let inner = between(value, '|')?;
    let (left, right) = inner.split_once('|').unwrap_or(("", inner));
    if let Err(reason) = compiled(left) {
        return Some(reason);
    }
    Some(format!("the parts in parentheses of '{right}' cannot be computed"))
}

/// A prepared pattern.
#[derive(Debug, Clone)]
pub(crate) enum Pattern {
    Replace {
        regex: Regex,
        text: String,
    },
    Compute {
        regex: Option<Regex>,
        parts: Vec<Part>,
    },
    /// What stands in front of each part (with its comma), and the part: a text or a pattern.
    List(Vec<(String, Result<Pattern, String>)>),
}

#[derive(Debug, Clone)]
pub(crate) enum Part {
    Text(String),
    Value(Expr),
}

impl Pattern {
    pub(crate) fn parse(value: &str) -> Option<Pattern> {
        if value.contains("!|") && !value.starts_with(['|', '/']) {
            let mut list = Vec::new();
            for (front, text) in pieces(value)? {
                let pattern = match text.starts_with('|') && text.len() > 1 {
                    true => Ok(Pattern::parse(text)?),
                    false => Err(text.to_owned()),
                };
                list.push((front.to_owned(), pattern));
            }
            return Some(Pattern::List(list));
        }
        if let Some(inner) = between(value, '/') {
            let (left, right) = inner.split_once('/').filter(|(_, right)| !right.contains('/'))?;
            let regex = compile(left)?;
            // `/install/x/` is a path, not a pattern: without a metacharacter there is nothing to compute.
            left.contains(['(', '[', '\\', '^', '$', '.', '*', '+', '?', '|'])
                .then_some(Pattern::Replace { regex, text: right.to_owned() })
        } else {
            let inner = between(value, '|')?;
            match inner.split_once('|') {
                Some((left, right)) => {
                    Some(Pattern::Compute { regex: Some(compile(left)?), parts: parts(right)? })
                }
                None => Some(Pattern::Compute { regex: None, parts: parts(inner)? }),
            }
        }
    }

    /// The value for a node; `None` when it comes out empty or cannot be computed.
    pub(crate) fn value(&self, node: &str) -> Option<String> {
        let text = match self {
            Pattern::Replace { regex, text } => match regex.find(node) {
                Some(hit) => format!("{}{text}{}", &node[..hit.start()], &node[hit.end()..]),
                None => node.to_owned(),
            },
            Pattern::Compute { regex: Some(regex), parts } => match regex.captures(node) {
                Some(captures) => {
                    let hit = captures.get(0)?;
                    let groups: Vec<&str> =
                        captures.iter().skip(1).map(|m| m.map_or("", |m| m.as_str())).collect();
                    let (before, after) = (&node[..hit.start()], &node[hit.end()..]);
                    let text = compute(parts, &groups, before, after)?;
                    format!("{before}{text}{after}")
                }
                None => node.to_owned(),
            },
            Pattern::Compute { regex: None, parts } => compute(parts, &numbers(node), "", "")?,
            Pattern::List(list) => {
                let mut text = String::new();
                for (front, part) in list {
                    text.push_str(front);
                    match part {
                        Ok(pattern) => text.push_str(&pattern.value(node).unwrap_or_default()),
                        Err(plain) => text.push_str(plain),
                    }
                }
                text
            }
        };
        (!text.is_empty()).then_some(text)
    }
}

fn between(value: &str, mark: char) -> Option<&str> {
    value.strip_prefix(mark)?.strip_suffix(mark)
}

/// A list at its commas, but not at those inside of patterns: what stands in front of each part (comma, name and
/// `!`), and the part.
fn pieces(value: &str) -> Option<Vec<(&str, &str)>> {
    let mut out = Vec::new();
    let mut start = 0;
    while start < value.len() {
        let mark = value[start..].find('!').map(|at| start + at + 1)?;
        let end = match value[mark..].starts_with('|') {
            true => value[mark..].find("|,").map_or(value.len(), |at| mark + at + 1),
            false => value[mark..].find(',').map_or(value.len(), |at| mark + at),
        };
        out.push((&value[start..mark], &value[mark..end]));
        start = end;
    }
    Some(out)
}

fn compile(text: &str) -> Option<Regex> {
    compiled(text).ok()
}

/// The error is one line.
fn compiled(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text).size_limit(REGEX_BYTES).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("the expression '{text}' needs more than {limit} bytes when it is compiled")
        }
        error => {
            let words = error.to_string();
            let last = words.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("the expression '{text}' does not compile: {last}")
        }
    })
}

fn compute(parts: &[Part], groups: &[&str], before: &str, after: &str) -> Option<String> {
    let mut out = String::new();
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Value(expr) => {
                out.push_str(before);
                out.push_str(&expr.value(groups)?.text());
                out.push_str(after);
            }
        }
    }
    Some(out)
}

/// The numbers of a name without leading zeros.
fn numbers(node: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let bytes = node.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let Some(start) = (at..bytes.len()).find(|&i| bytes[i].is_ascii_digit()) else { break };
        let end = (start..bytes.len()).find(|&i| !bytes[i].is_ascii_digit()).unwrap_or(bytes.len());
        let first = (start..end - 1).find(|&i| bytes[i] != b'0').unwrap_or(end - 1);
        out.push(&node[first..end]);
        at = end;
    }
    out
}

/// Cuts a replacement at its outermost parentheses. Without a partner a parenthesis is text.
fn parts(text: &str) -> Option<Vec<Part>> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find('(') {
        let mut depth = 0usize;
        let close = rest[open..].char_indices().find_map(|(i, c)| {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            (depth == 0).then_some(open + i)
        });
        let Some(close) = close else { break };
        if open > 0 {
            out.push(Part::Text(rest[..open].to_owned()));
        }
        out.push(Part::Value(Expr::parse(&rest[open + 1..close])?));
        rest = &rest[close + 1..];
    }
    if !rest.is_empty() {
        out.push(Part::Text(rest.to_owned()));
    }
    Some(out)
}

/// A computed part.
#[derive(Debug, Clone)]
pub(crate) enum Expr {
    Number(i64),
    Text(String),
    Group(usize),
    Negative(Box<Expr>),
    Binary(char, Box<Expr>, Box<Expr>),
    Call(Function, Vec<Expr>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    A2idx,
    A2zidx,
    Dim2idx,
    Skip,
    Ipadd,
}

enum Value {
    Number(i64),
    Text(String),
}

impl Value {
    fn text(self) -> String {
        match self {
            Value::Number(number) => number.to_string(),
            Value::Text(text) => text,
        }
    }

    /// As Perl takes a text for a number: what its beginning says.
    fn number(&self) -> i64 {
        match self {
            Value::Number(number) => *number,
            Value::Text(text) => {
                let text = text.trim_start();
                let digits = text.strip_prefix('-').unwrap_or(text);
                let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
                let number: i64 = digits[..end].parse().unwrap_or(0);
                if text.starts_with('-') { -number } else { number }
            }
        }
    }
}

impl Expr {
    fn parse(text: &str) -> Option<Expr> {
        let mut reader = Reader { rest: text };
        let expr = reader.sum(0)?;
        reader.blank();
        reader.rest.is_empty().then_some(expr)
    }

    fn value(&self, groups: &[&str]) -> Option<Value> {
        Some(match self {
            Expr::Number(number) => Value::Number(*number),
            Expr::Text(text) => Value::Text(text.clone()),
            Expr::Group(index) => Value::Text((*groups.get(index.checked_sub(1)?).unwrap_or(&"")).to_owned()),
            Expr::Negative(inner) => Value::Number(inner.value(groups)?.number().checked_neg()?),
            Expr::Binary(op, left, right) => {
                let (a, b) = (left.value(groups)?.number(), right.value(groups)?.number());
                Value::Number(match op {
                    '+' => a.checked_add(b)?,
                    '-' => a.checked_sub(b)?,
                    '*' => a.checked_mul(b)?,
                    '/' => a.checked_div(b)?,
                    _ => a.checked_rem(b)?,
                })
            }
            Expr::Call(function, arguments) => {
                let values: Vec<Value> = arguments.iter().map(|a| a.value(groups)).collect::<Option<_>>()?;
                function.value(&values)?
            }
        })
    }
}

impl Function {
    fn named(name: &str) -> Option<Function> {
        Some(match name {
            "a2idx" => Function::A2idx,
            "a2zidx" => Function::A2zidx,
            "dim2idx" => Function::Dim2idx,
            "skip" => Function::Skip,
            "ipadd" => Function::Ipadd,
            _ => return None,
        })
    }

    fn value(self, values: &[Value]) -> Option<Value> {
        let number = |i: usize| values.get(i).map(Value::number);
        match self {
            Function::A2idx | Function::A2zidx => {
                let Value::Text(text) = values.first()? else { return None };
                let letter = text.bytes().next()?.to_ascii_lowercase();
                let index = i64::from(letter.checked_sub(b'a')?);
                Some(Value::Number(index + i64::from(self == Function::A2idx)))
            }
            Function::Dim2idx => {
                let mut index = number(0)?.checked_sub(1)?;
                for pair in values[1..].chunks(2) {
                    let [count, value] = pair else { return None };
                    index = index.checked_mul(count.number())?.checked_add(value.number())?.checked_sub(1)?;
                }
                Some(Value::Number(index.checked_add(1)?))
            }
            Function::Skip => {
                let index = number(0)?;
                let list = match values.get(1)? {
                    Value::Text(text) => text.clone(),
                    Value::Number(number) => number.to_string(),
                };
                let mut left_out = 0i64;
                for part in list.split(',') {
                    let (start, count) = part.split_once(':').unwrap_or((part, "1"));
                    let start: i64 = start.trim().parse().ok()?;
                    let count: i64 = count.trim().parse().ok()?;
                    let end = start.checked_add(count)?;
                    if (start..end).contains(&index) {
                        return Some(Value::Number(-1));
                    }
                    if index >= end {
                        left_out = left_out.checked_add(count)?;
                    }
                }
                Some(Value::Number(index.checked_sub(left_out)?))
            }
            Function::Ipadd => {
                let octets: Vec<i64> = (0..4).map(number).collect::<Option<_>>()?;
                let (first, last) = (number(5).unwrap_or(0), number(6).unwrap_or(0));
                let usable = 256 - first - last;
                if usable < 1 {
                    return None;
                }
                let offset = octets[3].checked_sub(first)?.checked_add(number(4)?)?;
                let blocks = octets[0] * 65_536 + octets[1] * 256 + octets[2];
                let blocks = blocks.checked_add(offset.div_euclid(usable))?;
                let host = first + offset.rem_euclid(usable);
                let octet = |shift: i64| blocks.div_euclid(shift).rem_euclid(256);
                Some(Value::Text(format!("{}.{}.{}.{host}", octet(65_536), octet(256), octet(1))))
            }
        }
    }
}

struct Reader<'t> {
    rest: &'t str,
}

impl Reader<'_> {
    fn blank(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, set: &[char]) -> Option<char> {
        self.blank();
        let c = self.rest.chars().next().filter(|c| set.contains(c))?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn sum(&mut self, depth: usize) -> Option<Expr> {
        let mut left = self.product(depth)?;
        while let Some(op) = self.take(&['+', '-']) {
            left = Expr::Binary(op, Box::new(left), Box::new(self.product(depth)?));
        }
        Some(left)
    }

    fn product(&mut self, depth: usize) -> Option<Expr> {
        let mut left = self.atom(depth)?;
        while let Some(op) = self.take(&['*', '/', '%']) {
            left = Expr::Binary(op, Box::new(left), Box::new(self.atom(depth)?));
        }
        Some(left)
    }

    fn atom(&mut self, depth: usize) -> Option<Expr> {
        if depth > MAX_DEPTH {
            return None;
        }
        if self.take(&['-']).is_some() {
            return Some(Expr::Negative(Box::new(self.atom(depth + 1)?)));
        }
        if self.take(&['(']).is_some() {
            let inner = self.sum(depth + 1)?;
            self.take(&[')'])?;
            return Some(inner);
        }
        if self.take(&['$']).is_some() {
            return self.digits()?.parse().ok().map(Expr::Group);
        }
        if let Some(quote) = self.take(&['"', '\'']) {
            let end = self.rest.find(quote)?;
            let text = self.rest[..end].to_owned();
            self.rest = &self.rest[end + 1..];
            return Some(Expr::Text(text));
        }
        if let Some(digits) = self.digits() {
            return digits.parse().ok().map(Expr::Number);
        }
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        let function = Function::named(&self.rest[..end])?;
        self.rest = &self.rest[end..];
        self.take(&['('])?;
        let mut arguments = vec![self.sum(depth + 1)?];
        while self.take(&[',']).is_some() {
            arguments.push(self.sum(depth + 1)?);
        }
        self.take(&[')'])?;
        Some(Expr::Call(function, arguments))
    }

    fn digits(&mut self) -> Option<String> {
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let digits = (end > 0).then(|| self.rest[..end].to_owned())?;
        self.rest = &self.rest[end..];
        Some(digits)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::Pattern;

    fn check(pattern: &str, node: &str, expected: Option<&str>) {
        let found = Pattern::parse(pattern).unwrap_or_else(|| panic!("{pattern} is a pattern")).value(node);
        assert_eq!(found.as_deref(), expected, "{pattern} for {node}");
    }

    #[test]
    fn only_parenthesized_parts_are_computed() {
        check(r"|n(\d+)|10.1.($1/256).($1%256+10)|", "n300", Some("10.1.1.54"));
        check(r"|n(\d+)|(($1*10)/4)x(($1+1)%2)|", "n7", Some("17x0"));
        check(r"|node(\d+)|r$1|", "node01", Some("r$1"));
        check(r"|node(\d+)|($1)|", "node01", Some("01"));
        check(r"|node(\d+)|($1+0)|", "node01", Some("1"));
        check("|10.4.0.($1)|", "node08", Some("10.4.0.8"));
        check("|10.70.0.($1)|", "h10.cluster.test", Some("10.70.0.10"));
    }

    #[test]
    fn no_match_gives_the_name_and_an_empty_result_no_value() {
        check(r"|node(\d+)|10.0.0.($1)|", "n1", Some("n1"));
        check(r"|^.*$||", "n1", None);
        check(r"|n(\d+)||", "n1", None);
        check(r"|n(\d+)|($1/0)|", "n1", None);
    }

    #[test]
    fn a_slash_pattern_is_plain_substitution_and_a_path_is_no_pattern() {
        check(r"/n(\d+)/s$1/", "n10", Some("s$1"));
        assert!(Pattern::parse("/install/x/").is_none());
        assert!(Pattern::parse("/a/b/c/").is_none());
    }

    #[test]
    fn functions_compute_positions_and_addresses() {
        let slots = [("n1", "1"), ("n2", "2"), ("n3", "-1"), ("n4", "-1"), ("n5", "3"), ("n7", "5")];
        for (node, slot) in slots {
            check(r#"|n(\d+)|(skip($1,"3:2"))|"#, node, Some(slot));
        }
        check(r"|f(\d+)n(\d+)|(dim2idx($1,4,$2))|", "f2n3", Some("7"));
        check(r"|n(\d+)|(ipadd(10,0,0,250,$1))|", "n10", Some("10.0.1.4"));
        check(r"|n(\d+)|(ipadd(10,0,0,1,$1,1,1))|", "n254", Some("10.0.1.1"));
        check(r"|rack(.)|(a2idx($1))|", "rackc", Some("3"));
    }

    #[test]
    fn the_parts_of_a_list_are_computed_each_for_itself() {
        check(r"eth0!|\D+(\d+)\D+|10.80.1.($1*2+103)|", "sn4b", Some("eth0!10.80.1.111"));
        let two = r"eth0!|n(\d+)|10.1.0.($1)|,ib0!|n(\d+)|10.2.0.($1)|,eth1!10.3.0.1|10.3.0.2";
        check(two, "n7", Some("eth0!10.1.0.7,ib0!10.2.0.7,eth1!10.3.0.1|10.3.0.2"));
    }

    #[test]
    fn what_is_wrong_with_a_pattern_is_said() {
        for (text, said) in [
            (r"|n(\d+|x|", "does not compile: unclosed group"),
            (r"|n(\d+)|(rm($1))|", "cannot be computed"),
            ("|((a{1000}){1000}){100}|x|", "bytes when it is compiled"),
            (r"eth0!|n(\d+|x|,eth1!1.2.3.4", "unclosed group"),
            (r"/n(\d+/x/", "unclosed group"),
        ] {
            let fault = super::fault(text).unwrap_or_else(|| panic!("{text} is refused"));
            assert!(fault.contains(said), "{text}: {fault}");
        }
        for text in [r"|n(\d+)|r($1/24)|", "|", "||", "/install/x/", "a!|", "plain", r"|^.*$||", "/opt/(x/y/"]
        {
            assert_eq!(super::fault(text), None, "{text}");
        }
    }

    #[test]
    fn nonsense_is_no_pattern() {
        for text in [r"|n(\d+)|(rm($1))|", r"|n(\d+)|($1+)|", "|n(|x|", r"|n|(((|"] {
            let pattern = Pattern::parse(text);
            assert!(pattern.is_none() || pattern.unwrap().value("n1").is_some(), "{text}");
        }
        let deep = format!("|n(\\d+)|{}$1{}|", "(".repeat(100), ")".repeat(100));
        assert!(Pattern::parse(&deep).is_none());
    }
}
