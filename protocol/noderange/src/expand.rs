//! Expression to names.
//!
//! A word is, in this order: a node, a number (which gets the prefix), a group, brackets, `+`, a range of two
//! ends. What a range or brackets make is looked up again in the same way, so ranges of groups work.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::Error;
use crate::ast::{Expr, Factor, Term};
use crate::parse::parse;
use crate::select::{Selector, compile};

/// Most names one expression may stand for, repetitions counted. Twice the nodes of the largest cluster, and some.
pub const MAX_NAMES: usize = 250_000;
/// How often a word may be expanded into other words.
const MAX_REWRITES: usize = 32;
/// Words looked at for one expression: ranges that come out empty cost time too.
const MAX_WORK: usize = 4 * MAX_NAMES;
/// Deepest nesting of files in files: a file may name itself.
const MAX_FILES: usize = 8;
/// Longest word that brackets may make. A name has at most 255 bytes, a range two of them.
const MAX_WORD: usize = 4096;

/// What the world knows: the tables of the master, or nothing at all (see [`generic`]).
pub trait Groups {
    /// The node of this name.
    fn node(&self, name: &str) -> Option<&str>;
    /// The members of the group of this name; `None` if there is no such group.
    fn members(&self, group: &str) -> Option<Vec<&str>>;
    /// All nodes.
    fn names(&self) -> Vec<&str>;
    /// The nodes that a selector picks; an unknown attribute picks none.
    fn select(&self, selector: &Selector) -> Result<Vec<&str>, Error>;
    /// The content of a file named by the client.
    fn file(&self, path: &str) -> File<'_>;
}

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum File<'a> {
    /// Not asked for yet.
    Unknown,
    /// The client has no such file; it names nothing.
    Missing,
    /// Its text.
    Text(Cow<'a, str>),
}

/// The name that a bare number stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Put before a bare number.
    pub prefix: String,
    /// Put behind it.
    pub suffix: String,
}

impl Default for Options {
    fn default() -> Options {
        Options { prefix: "node".to_owned(), suffix: String::new() }
    }
}

/// What an expression stands for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expansion<'a> {
    /// Unique, in byte order.
    pub nodes: Vec<Cow<'a, str>>,
    /// Names that are neither node nor group, in the order met, repeated if they were.
    pub missing: Vec<Missing>,
}

/// A name that does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The name.
    pub name: String,
    /// Position of the word it came from, counted from 1.
    pub position: usize,
}

/// Looks an expression up. `Err` only for what cannot be answered; missing names are part of the answer.
pub fn expand<'a>(expr: &Expr, groups: &'a dyn Groups, options: &Options) -> Result<Expansion<'a>, Error> {
    let mut run = Run { groups: Some(groups), options, missing: Vec::new(), made: 0, work: 0, position: 1 };
    let nodes = run.list(expr, 0)?;
    Ok(Expansion { nodes: nodes.into_iter().collect(), missing: run.missing })
}

/// Expands by syntax alone, as the commands that create nodes do: every word is a name.
pub fn generic(text: &str, options: &Options) -> Result<Vec<String>, Error> {
    let expr = parse(text)?;
    let mut run = Run { groups: None, options, missing: Vec::new(), made: 0, work: 0, position: 1 };
    Ok(run.list(&expr, 0)?.into_iter().map(Cow::into_owned).collect())
}

type Set<'a> = BTreeSet<Cow<'a, str>>;

struct Run<'a, 'o> {
    /// `None`: by syntax alone.
    groups: Option<&'a dyn Groups>,
    options: &'o Options,
    missing: Vec<Missing>,
    made: usize,
    work: usize,
    position: usize,
}

impl<'a> Run<'a, '_> {
    fn list(&mut self, expr: &Expr, files: usize) -> Result<Set<'a>, Error> {
        let mut nodes = Set::new();
        let mut excluded = Vec::new();
        for item in &expr.items {
            let set = self.term(&item.term, files)?;
            match item.exclude {
                true => excluded.push(set),
                false if nodes.is_empty() => nodes = set,
                false => nodes.extend(set),
            }
        }
        for set in excluded {
            for name in &set {
                nodes.remove(name);
            }
        }
        Ok(nodes)
    }

    fn term(&mut self, term: &Term, files: usize) -> Result<Set<'a>, Error> {
        let mut sets = term.factors.iter();
        let Some(first) = sets.next() else { return Ok(Set::new()) };
        let mut nodes = self.factor(first, files)?.unwrap_or_default();
        for factor in sets {
            if let Some(set) = self.factor(factor, files)? {
                nodes.retain(|name| set.contains(name));
            }
        }
        Ok(nodes)
    }

    /// `None`: the factor has no effect.
    fn factor(&mut self, factor: &Factor, files: usize) -> Result<Option<Set<'a>>, Error> {
        let mut out = Set::new();
        match factor {
            Factor::Skip => return Ok(None),
            Factor::Nothing => {}
            Factor::List(inner) => out = self.list(inner, files)?,
            Factor::Word { text, position } => {
                self.position = *position;
                self.word(text, &mut out, 0)?;
            }
            Factor::Pattern { regex, position } => {
                self.position = *position;
                let Some(groups) = self.groups else {
                    out.insert(Cow::Owned(format!("/{regex}")));
                    return Ok(Some(out));
                };
                let regex = compile(&format!("^{regex}$"), *position)?;
                let hits = groups.names().into_iter().filter(|name| regex.is_match(name));
                out.extend(hits.map(Cow::Borrowed));
            }
            Factor::Select { selector, position } => {
                self.position = *position;
                let Some(groups) = self.groups else {
                    return Ok(Some(out));
                };
                let hits = groups.select(selector).map_err(|error| at(error, *position))?;
                out.extend(hits.into_iter().map(Cow::Borrowed));
            }
            Factor::File { path } => self.file(path, &mut out, files)?,
            Factor::Broken { inner, text, position } => {
                let known = self.missing.len();
                self.list(inner, files)?;
                if self.missing.len() == known {
                    self.missing.push(Missing { name: text.clone(), position: *position });
                }
            }
        }
        Ok(Some(out))
    }

    /// One noderange a line; a line that begins with `#` or `^` is skipped, and each ends at a colon or a blank.
    fn file(&mut self, path: &str, out: &mut Set<'a>, files: usize) -> Result<(), Error> {
        let Some(groups) = self.groups else { return Ok(()) };
        if files == MAX_FILES {
            return Err(Error::TooDeep { position: self.position, limit: MAX_FILES });
        }
        let text = match groups.file(path) {
            File::Unknown => return Err(Error::NeedFile(path.to_owned())),
            File::Missing => return Ok(()),
            File::Text(text) => text,
        };
        for line in text.lines().filter(|line| !line.starts_with(['#', '^'])) {
            let range = line.split([':', '\t', ' ']).next().unwrap_or("");
            let set = self.list(&parse(range)?, files + 1)?;
            out.extend(set);
        }
        Ok(())
    }

    fn word(&mut self, text: &str, out: &mut Set<'a>, rewrites: usize) -> Result<(), Error> {
        self.work += 1;
        if rewrites > MAX_REWRITES || self.work > MAX_WORK {
            return Err(self.too_many());
        }
        if let Some(groups) = self.groups
            && let Some(name) = groups.node(text)
        {
            self.count()?;
            out.insert(Cow::Borrowed(name));
            return Ok(());
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            let name = format!("{}{text}{}", self.options.prefix, self.options.suffix);
            return match name == text {
                true => self.unknown(text, out),
                false => self.word(&name, out, rewrites + 1),
            };
        }
        if let Some(groups) = self.groups
            && let Some(members) = groups.members(text)
        {
            out.extend(members.into_iter().map(Cow::Borrowed));
            return Ok(());
        }
        if let Some(brackets) = Brackets::find(text) {
            return self.brackets(&brackets, out, rewrites);
        }
        if let Some((front, count)) = text.split_once('+') {
            return match plus(front, count) {
                Some((prefix, from, width, suffix, to)) => {
                    self.numbers(prefix, (from, to, width), suffix, out, rewrites)
                }
                None => self.unknown(text, out),
            };
        }
        match ends(text).and_then(|(left, right)| iterate(left, right)) {
            Some(Range::Same(name)) => self.word(name, out, rewrites + 1),
            Some(Range::Numbers { prefix, from, to, width, suffix }) => {
                self.numbers(prefix, (from, to, width), suffix, out, rewrites)
            }
            None => self.unknown(text, out),
        }
    }

    fn numbers(
        &mut self,
        prefix: &str,
        (from, to, width): (u64, u64, usize),
        suffix: &str,
        out: &mut Set<'a>,
        rewrites: usize,
    ) -> Result<(), Error> {
        self.room(from, to)?;
        for number in from..=to {
            let name = format!("{prefix}{number:0width$}{suffix}");
            self.word(&name, out, rewrites + 1)?;
        }
        Ok(())
    }

    /// Brackets become ranges of whole words: `n[1-3]x` is `n1x-n3x`. With more brackets behind them the first
    /// are expanded by syntax alone, and each result gets the rest.
    fn brackets(&mut self, brackets: &Brackets, out: &mut Set<'a>, rewrites: usize) -> Result<(), Error> {
        let Brackets { start, inside, ending } = brackets;
        let more = Brackets::find(ending).is_some() || ending.contains('[') && closed(ending);
        for part in inside.split(',') {
            if part.is_empty() {
                continue;
            }
            let tail = if more { "" } else { ending };
            let mut word = String::new();
            for piece in part.split_inclusive(['-', ':']) {
                let (value, op) = match piece.strip_suffix(['-', ':']) {
                    Some(value) => (value, &piece[value.len()..]),
                    None => (piece, ""),
                };
                word.push_str(&format!("{start}{value}{tail}{op}"));
                if word.len() > MAX_WORD {
                    return Err(self.too_many());
                }
            }
            if !more {
                self.word(&word, out, rewrites + 1)?;
                continue;
            }
            for front in self.fronts(&word, rewrites + 1)? {
                self.word(&format!("{front}{ending}"), out, rewrites + 1)?;
            }
        }
        Ok(())
    }

    /// Expands a word by syntax alone, in order.
    fn fronts(&mut self, word: &str, rewrites: usize) -> Result<Vec<String>, Error> {
        let Some(range) = ends(word).and_then(|(left, right)| iterate(left, right)) else {
            return Ok(vec![word.to_owned()]);
        };
        if rewrites > MAX_REWRITES {
            return Err(self.too_many());
        }
        match range {
            Range::Same(name) => Ok(vec![name.to_owned()]),
            Range::Numbers { prefix, from, to, width, suffix } => {
                self.room(from, to)?;
                let mut names = Vec::new();
                for number in from..=to {
                    self.count()?;
                    names.push(format!("{prefix}{number:0width$}{suffix}"));
                }
                Ok(names)
            }
        }
    }

    fn unknown(&mut self, name: &str, out: &mut Set<'a>) -> Result<(), Error> {
        self.count()?;
        match self.groups {
            Some(_) => self.missing.push(Missing { name: name.to_owned(), position: self.position }),
            None => {
                out.insert(Cow::Owned(name.to_owned()));
            }
        }
        Ok(())
    }

    /// Refuses a range that cannot fit before anything is made of it.
    fn room(&self, from: u64, to: u64) -> Result<(), Error> {
        let left = u64::try_from(MAX_NAMES.saturating_sub(self.made)).unwrap_or(u64::MAX);
        if to.saturating_sub(from) >= left { Err(self.too_many()) } else { Ok(()) }
    }

    fn count(&mut self) -> Result<(), Error> {
        self.made += 1;
        if self.made > MAX_NAMES { Err(self.too_many()) } else { Ok(()) }
    }

    fn too_many(&self) -> Error {
        Error::TooMany { position: self.position, limit: MAX_NAMES }
    }
}

/// `start[inside]ending`; the first brackets of a word, with something before and inside them.
struct Brackets<'t> {
    start: &'t str,
    inside: &'t str,
    ending: &'t str,
}

impl<'t> Brackets<'t> {
    fn find(text: &'t str) -> Option<Brackets<'t>> {
        let open = text.find('[').filter(|at| *at > 0)?;
        let close = open + text[open..].find(']')?;
        let inside = &text[open + 1..close];
        (!inside.is_empty()).then(|| Brackets { start: &text[..open], inside, ending: &text[close + 1..] })
    }
}

fn closed(text: &str) -> bool {
    text.find('[').is_some_and(|open| text[open + 1..].find(']').is_some_and(|len| len > 0))
}

/// The two ends of a range: at the first colon (a third part is ignored), else at the middle one of an odd
/// number of dashes.
fn ends(text: &str) -> Option<(&str, &str)> {
    if let Some((left, rest)) = text.split_once(':') {
        return Some((left, rest.split(':').next().unwrap_or(rest)));
    }
    let dashes: Vec<usize> = text.match_indices('-').map(|(at, _)| at).collect();
    if dashes.len().is_multiple_of(2) {
        return None;
    }
    let middle = dashes[dashes.len() / 2];
    Some((&text[..middle], &text[middle + 1..]))
}

enum Range<'t> {
    Same(&'t str),
    Numbers { prefix: &'t str, from: u64, to: u64, width: usize, suffix: &'t str },
}

/// Two ends that differ in exactly one number, which runs; its width on the left is the padding.
fn iterate<'t>(left: &'t str, right: &'t str) -> Option<Range<'t>> {
    if left == right && !left.is_empty() {
        return Some(Range::Same(left));
    }
    let (lefts, rights) = (pieces(left), pieces(right));
    if lefts.len() != rights.len() {
        return None;
    }
    let mut at = 0;
    for (a, b) in lefts.iter().zip(&rights) {
        if a == b {
            at += a.len();
            continue;
        }
        let number = |text: &str| -> Option<u64> {
            (!text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())).then(|| text.parse().ok())?
        };
        let (from, to) = (number(a)?, number(b)?);
        let (suffix, other) = (&left[at + a.len()..], &right[at + b.len()..]);
        return (suffix == other).then_some(Range::Numbers {
            prefix: &left[..at],
            from,
            to,
            width: a.len(),
            suffix,
        });
    }
    None
}

/// Runs of digits and what lies between them, in turn, starting with what is not a digit.
fn pieces(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut start = 0;
    let mut digits = false;
    for (at, c) in text.char_indices() {
        if c.is_ascii_digit() != digits {
            out.push(&text[start..at]);
            start = at;
            digits = !digits;
        }
    }
    out.push(&text[start..]);
    out
}

/// `n10+3`: prefix, first number, width, suffix (a domain), last number.
fn plus<'t>(front: &'t str, count: &str) -> Option<(&'t str, u64, usize, &'t str, u64)> {
    let count: u64 = count.parse().ok()?;
    let parts = pieces(front);
    let mut end = front.len();
    let mut suffix_ok = None;
    for (index, part) in parts.iter().enumerate().rev() {
        let start = end - part.len();
        if index % 2 == 1 {
            let suffix = &front[end..];
            if suffix.is_empty() || suffix.starts_with('.') && suffix.len() > 1 {
                suffix_ok = Some((start, end));
            }
        }
        end = start;
    }
    let (start, end) = suffix_ok?;
    let number = &front[start..end];
    let from: u64 = number.parse().ok()?;
    Some((&front[..start], from, number.len(), &front[end..], from.checked_add(count)?))
}

fn at(error: Error, position: usize) -> Error {
    match error {
        Error::Regex { text, reason, .. } => Error::Regex { text, position, reason },
        other => other,
    }
}

#[cfg(test)]
mod tests;
