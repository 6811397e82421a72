//! Options and arguments, as xCAT's commands read them: bundled short options (`-Vf`), long options that may be
//! shortened as long as they are unambiguous, options between the arguments, `--` to end them.

use crate::plan::{Ctx, Plan};

/// Options that every command has.
const COMMON: [Opt; 4] = [flag('h', "help"), flag('?', ""), flag('v', "version"), flag('V', "verbose")];

/// An option a command knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opt {
    /// Letter.
    pub short: Option<char>,
    /// Word without dashes; empty when it has none.
    pub long: &'static str,
    /// Takes a value.
    pub value: bool,
}

/// An option without a value.
pub const fn flag(short: char, long: &'static str) -> Opt {
    Opt { short: Some(short), long, value: false }
}

/// A long option without a value.
pub const fn word(long: &'static str) -> Opt {
    Opt { short: None, long, value: false }
}

/// An option with a value.
pub const fn value(short: char, long: &'static str) -> Opt {
    Opt { short: Some(short), long, value: true }
}

/// A long option with a value.
pub const fn word_value(long: &'static str) -> Opt {
    Opt { short: None, long, value: true }
}

/// What was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// Options in order, by their long name (or the letter when there is none), with values.
    options: Vec<(String, String)>,
    /// Arguments in order.
    pub rest: Vec<String>,
}

/// An option that is not known, ambiguous, or lacks its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// Not known.
    #[error("Unknown option: {0}")]
    Unknown(String),
    /// The beginning of several.
    #[error("Option {0} is ambiguous")]
    Ambiguous(String),
    /// Its value is missing.
    #[error("Option {0} requires an argument")]
    NoValue(String),
}

impl Given {
    /// Whether the option was given.
    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(n, _)| n == name)
    }

    /// The last value of the option.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// All values of the option, in order.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.options.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
    }
}

/// Sorts a command's arguments into its own options, those that every command has, and the rest. `Err` is the plan to
/// answer with: the usage after `-h` (status 0) or a mistake (status 1), or the version.
pub(crate) fn head(ctx: &Ctx<'_>, usage: &str, own: &[Opt]) -> Result<Given, Plan> {
    head_with(ctx, usage, own, 1)
}

/// [`head`] with another status after a mistake.
pub(crate) fn head_with(ctx: &Ctx<'_>, usage: &str, own: &[Opt], mistake: u8) -> Result<Given, Plan> {
    let free = |opt: &&Opt| !own.iter().any(|known| known.short == opt.short);
    let known: Vec<Opt> = own.iter().chain(COMMON.iter().filter(free)).copied().collect();
    let given = read(ctx.args, &known, true)
        .map_err(|wrong| Plan::usage(&format!("{wrong}\n{}", usage.trim_start_matches('\n')), mistake))?;
    if given.has("help") || given.has("?") {
        return Err(Plan::usage(usage, 0));
    }
    if given.has("version") {
        return Err(Plan::version(ctx));
    }
    Ok(given)
}

/// Sorts arguments into options and the rest. With `mixed` false options end at the first argument.
///
/// # Errors
/// [`Wrong`], with the option as it was typed.
pub fn read(args: &[String], known: &[Opt], mixed: bool) -> Result<Given, Wrong> {
    let mut given = Given::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            given.rest.extend(args.cloned());
            break;
        }
        if let Some(long) = arg.strip_prefix("--") {
            let (name, inline) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let opt = by_word(name, known)?;
            let value = match (opt.value, inline) {
                (false, None) => String::new(),
                (false, Some(_)) => return Err(Wrong::Unknown(name.to_owned())),
                (true, Some(value)) => value,
                (true, None) => args.next().cloned().ok_or_else(|| Wrong::NoValue(name.to_owned()))?,
            };
            given.options.push((name_of(opt), value));
        } else if let Some(letters) = arg.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            for (at, letter) in letters.char_indices() {
                let opt = known
                    .iter()
                    .find(|opt| opt.short == Some(letter))
                    .ok_or_else(|| Wrong::Unknown(letter.to_string()))?;
                if !opt.value {
                    given.options.push((name_of(opt), String::new()));
                    continue;
                }
                let inline = &arg[1 + at + letter.len_utf8()..];
                let value = match inline.is_empty() {
                    true => args.next().cloned().ok_or_else(|| Wrong::NoValue(letter.to_string()))?,
                    false => inline.strip_prefix('=').unwrap_or(inline).to_owned(),
                };
                given.options.push((name_of(opt), value));
                break;
            }
        } else {
            given.rest.push(arg.clone());
            if !mixed {
                given.rest.extend(args.cloned());
                break;
            }
        }
    }
    Ok(given)
}

fn by_word<'k>(name: &str, known: &'k [Opt]) -> Result<&'k Opt, Wrong> {
    let whole = |opt: &&Opt| !opt.long.is_empty() && opt.long.eq_ignore_ascii_case(name);
    if let Some(opt) = known.iter().find(whole) {
        return Ok(opt);
    }
    // As Perl's Getopt::Long: a beginning is enough, and capital letters do not matter.
    let begins =
        |opt: &&Opt| opt.long.get(..name.len()).is_some_and(|front| front.eq_ignore_ascii_case(name));
    let mut hits = known.iter().filter(|opt| !name.is_empty() && begins(opt));
    match (hits.next(), hits.next()) {
        (Some(opt), None) => Ok(opt),
        (Some(_), Some(_)) => Err(Wrong::Ambiguous(name.to_owned())),
        _ => Err(Wrong::Unknown(name.to_owned())),
    }
}

fn name_of(opt: &Opt) -> String {
    match (opt.long, opt.short) {
        ("", Some(letter)) => letter.to_string(),
        (long, _) => long.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KNOWN: &[Opt] =
        &[flag('V', "verbose"), flag('f', "force"), value('t', "type"), word("version"), word_value("at")];

    fn check(args: &[&str]) -> Result<Given, Wrong> {
        let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        read(&args, KNOWN, true)
    }

    #[test]
    fn short_options_are_bundled_and_may_carry_their_value() {
        let given = check(&["-Vf", "n1", "-tnode", "-t", "group"]).unwrap();
        assert!(given.has("verbose") && given.has("force"));
        assert_eq!(given.values("type"), ["node", "group"]);
        assert_eq!(given.rest, ["n1"]);
    }

    #[test]
    fn long_options_may_be_shortened_unless_ambiguous() {
        assert!(check(&["--for"]).unwrap().has("force"));
        assert_eq!(check(&["--ver"]), Err(Wrong::Ambiguous("ver".into())));
        assert_eq!(check(&["--at=5"]).unwrap().value("at"), Some("5"));
        assert_eq!(check(&["--nosuch"]), Err(Wrong::Unknown("nosuch".into())));
        assert_eq!(check(&["-x"]), Err(Wrong::Unknown("x".into())));
        assert_eq!(check(&["--type"]), Err(Wrong::NoValue("type".into())));
        assert_eq!(check(&["--", "-x"]).unwrap().rest, ["-x"]);
    }
}
