//! Cuts the text into words, commas, `@` and parentheses.
//!
//! A comma inside closed brackets belongs to its word. Quotes are dropped wherever they stand, as xCAT does.

/// A piece of the text with the position of its first character, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub kind: Kind,
    pub position: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Word(String),
    Comma,
    At,
    Open,
    Close,
}

pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut out = Vec::new();
    let mut word = String::new();
    let mut start = 1;
    let mut bracket_end = 0;
    for (index, &c) in chars.iter().enumerate() {
        let inside = index < bracket_end;
        let kind = match c {
            '\'' | '"' => continue,
            ',' if !inside => Kind::Comma,
            '@' if !inside => Kind::At,
            '(' if !inside => Kind::Open,
            ')' if !inside => Kind::Close,
            _ => {
                if c == '[' && !inside {
                    bracket_end = closing(&chars, index).unwrap_or(0);
                }
                if word.is_empty() {
                    start = index + 1;
                }
                word.push(c);
                continue;
            }
        };
        flush(&mut out, &mut word, start);
        out.push(Token { kind, position: index + 1 });
    }
    flush(&mut out, &mut word, start);
    out
}

/// Index behind the bracket that closes the one at `open`, if no other opens before it.
fn closing(chars: &[char], open: usize) -> Option<usize> {
    let found = chars[open + 1..].iter().position(|c| matches!(c, '[' | ']'))?;
    let at = open + 1 + found;
    (chars[at] == ']').then_some(at + 1)
}

fn flush(out: &mut Vec<Token>, word: &mut String, start: usize) {
    if !word.is_empty() {
        out.push(Token { kind: Kind::Word(std::mem::take(word)), position: start });
    }
}
