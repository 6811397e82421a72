//! Text to expression. `,` binds weaker than `@`; a leading `-` belongs to the whole chain of `@`.

use crate::Error;
use crate::ast::{Expr, Factor, Item, Term};
use crate::lexer::{Kind, Token, tokens};
use crate::select::Selector;

/// Deepest nesting of parentheses.
pub const MAX_DEPTH: usize = 64;
/// Longest text, in bytes: room for 100,000 names written out one by one.
pub const MAX_TEXT: usize = 4 << 20;

/// Reads an expression. Only parentheses that are not closed, and text beyond the limits, are errors: everything
/// else has a meaning, if only that of a name that does not exist.
pub fn parse(text: &str) -> Result<Expr, Error> {
    if text.len() > MAX_TEXT {
        return Err(Error::TooLong { length: text.len(), limit: MAX_TEXT });
    }
    let tokens = join_stray_closings(tokens(text));
    let mut parser = Parser { tokens: &tokens, at: 0 };
    parser.list(0)
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
}

impl Parser<'_> {
    fn list(&mut self, depth: usize) -> Result<Expr, Error> {
        let mut expr = Expr::default();
        loop {
            if let Some(item) = self.item(depth)? {
                expr.items.push(item);
            }
            match self.peek() {
                Some(Kind::Comma) => self.at += 1,
                _ => return Ok(expr),
            }
        }
    }

    fn item(&mut self, depth: usize) -> Result<Option<Item>, Error> {
        let mut exclude = false;
        let mut factors = Vec::new();
        loop {
            let first = factors.is_empty();
            let factor = self.factor(depth, first, &mut exclude)?;
            let chained = self.peek() == Some(&Kind::At);
            match factor {
                Some(factor) => factors.push(factor),
                None if first && !chained => return Ok(None),
                None if first => factors.push(Factor::Nothing),
                None => factors.push(Factor::Skip),
            }
            if !chained {
                return Ok(Some(Item { exclude, term: Term { factors } }));
            }
            self.at += 1;
        }
    }

    /// One factor; the minus of the first goes into `exclude`, later ones mean nothing.
    fn factor(&mut self, depth: usize, first: bool, exclude: &mut bool) -> Result<Option<Factor>, Error> {
        let start = self.at;
        let mut before = None;
        if let Some(Token { kind: Kind::Word(word), position }) = self.tokens.get(self.at) {
            self.at += 1;
            let (minus, word) = match word.strip_prefix('-') {
                Some(rest) => (true, rest),
                None => (false, word.as_str()),
            };
            *exclude |= minus && first;
            let position = position + usize::from(minus);
            if self.peek() != Some(&Kind::Open) {
                return Ok(Some(word_factor(word, position, first && !minus)));
            }
            before = (!word.is_empty()).then_some(position);
        }
        if self.peek() != Some(&Kind::Open) {
            return Ok(None);
        }
        let inner = self.parenthesis(depth)?;
        let grown = matches!(self.peek(), Some(Kind::Word(_) | Kind::Open));
        if before.is_none() && !grown {
            return Ok(Some(Factor::List(inner)));
        }
        while matches!(self.peek(), Some(Kind::Word(_) | Kind::Open)) {
            match self.peek() {
                Some(Kind::Open) => {
                    self.parenthesis(depth)?;
                }
                _ => self.at += 1,
            }
        }
        let text = spell(&self.tokens[start..self.at]);
        let position = before.unwrap_or(self.tokens[start].position);
        Ok(Some(Factor::Broken { inner, text, position }))
    }

    fn parenthesis(&mut self, depth: usize) -> Result<Expr, Error> {
        let position = self.tokens[self.at].position;
        if depth == MAX_DEPTH {
            return Err(Error::TooDeep { position, limit: MAX_DEPTH });
        }
        self.at += 1;
        let inner = self.list(depth + 1)?;
        match self.peek() {
            Some(Kind::Close) => {
                self.at += 1;
                Ok(inner)
            }
            _ => Err(Error::Unbalanced { position }),
        }
    }

    fn peek(&self) -> Option<&Kind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }
}

fn word_factor(text: &str, position: usize, plain: bool) -> Factor {
    if let Some(path) = text.strip_prefix('^') {
        return if plain { Factor::File { path: path.to_owned() } } else { Factor::Skip };
    }
    if text.is_empty() {
        return Factor::Nothing;
    }
    if text.starts_with('~') {
        return Factor::Nothing;
    }
    if let Some(regex) = text.strip_prefix('/') {
        return Factor::Pattern { regex: regex.to_owned(), position };
    }
    match Selector::parse(text, true) {
        Some(selector) => Factor::Select { selector, position },
        None => Factor::Word { text: text.to_owned(), position },
    }
}

/// A closing parenthesis without an opening one makes one (wrong) name of everything before it.
fn join_stray_closings(tokens: Vec<Token>) -> Vec<Token> {
    let mut out: Vec<Token> = Vec::with_capacity(tokens.len());
    let mut depth = 0usize;
    let mut settled = 0;
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token.kind {
            Kind::Open => depth += 1,
            Kind::Close if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    out.push(token);
                    settled = out.len();
                    continue;
                }
            }
            Kind::Close => {
                // One word so far is added to where it stands: a thousand of these cost no more than one.
                let (mut text, position) = match out.pop() {
                    Some(Token { kind: Kind::Word(word), position }) if out.len() == settled => {
                        (word, position)
                    }
                    last => {
                        out.extend(last);
                        let position = out.get(settled).map_or(token.position, |first| first.position);
                        (spell(&out[settled..]), position)
                    }
                };
                text.push(')');
                if let Some(Kind::Word(more)) = tokens.peek().map(|next| &next.kind) {
                    text.push_str(more);
                    tokens.next();
                }
                out.truncate(settled);
                out.push(Token { kind: Kind::Word(text), position });
                continue;
            }
            _ => {}
        }
        out.push(token);
    }
    out
}

fn spell(tokens: &[Token]) -> String {
    let mut text = String::new();
    for token in tokens {
        match &token.kind {
            Kind::Word(word) => text.push_str(word),
            Kind::Comma => text.push(','),
            Kind::At => text.push('@'),
            Kind::Open => text.push('('),
            Kind::Close => text.push(')'),
        }
    }
    text
}
