//! xdsh and psh: the arguments of a remote command. The options stand before the command; everything
//! from the first word of the command on belongs to the command.

use std::collections::BTreeMap;
use std::time::Duration;

use wire::op::{Exec, Stream};

use crate::fanout::Xdsh;

/// A remote command as it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remote {
    /// Where.
    pub noderange: String,
    /// What; the script and the environment file are still to be fetched from the client.
    pub exec: Exec,
    /// How many nodes at a time; 0 is the default.
    pub fanout: u32,
    /// Seconds that a node may take.
    pub timeout: Option<Duration>,
    /// How xdsh tells it.
    pub shown: Xdsh,
    /// Path of a script on the client's machine (`-e`).
    pub script: Option<String>,
    /// Path of a file with `NAME=value` lines on the client's machine (`-E`).
    pub environment_file: Option<String>,
    /// The client's standard input goes to the command, if there is any.
    pub stdin: bool,
    /// Start and give back the action's number only.
    pub detach: bool,
}

/// Why there is no remote command; the text goes to that stream, the status is 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Help was asked for: usage on standard output, status 0.
    Help,
    /// The version was asked for.
    Version,
    /// The settings were asked for (`-q`).
    Settings,
    /// A text for standard output.
    Out(String),
    /// A text for standard error, without `Error: [server]: ` in front.
    Err(String),
}

/// Most seconds that `-t` takes: a day.
const LONGEST: u64 = 86_400;

/// What is said of folders with images; a name that does not begin at the root is none.
const IMAGES: &str = "commands in image folders are not supported";

/// Usage of xdsh.
pub const XDSH_USAGE: &str =
    "Usage: xdsh noderange [-f fanout] [-t seconds] [-l user] [-s stdout|stderr] [-E file]
            [-X NAME=value,...] [-Q] [-v] [-V] [-z] [--detach] command
       xdsh noderange [options] -e script [arguments]
       xdsh -q
       xdsh [-h|--help|-V|--version]
";

/// Usage of psh.
pub const PSH_USAGE: &str = "Usage: psh [-f fanout] [-l user] [-n] [--detach] noderange command
       psh [-h|--help|-v|--version]
";

/// Reads xdsh's arguments; `environment` are the client's variables.
///
/// # Errors
/// [`Refusal`] says what to print instead.
pub fn xdsh(argv: &[String], environment: &BTreeMap<String, String>) -> Result<Remote, Refusal> {
    let no_range = || Refusal::Out("Node range not specified, see man page for syntax.\n\n".to_owned());
    let Some(first) = argv.first() else { return Err(no_range()) };
    if first.starts_with('-') {
        return Err(match first.as_str() {
            "-h" | "--help" => Refusal::Help,
            "-V" | "--version" => Refusal::Version,
            "-q" | "--show-config" => Refusal::Settings,
            "-v" if argv.get(1).is_some_and(|second| second == "-q") => Refusal::Settings,
            "-K" => Refusal::Err("ssh keys are not needed: agents authenticate with certificates".to_owned()),
            "-i" if argv.get(1).is_some_and(|folder| !folder.starts_with('/')) => {
                Refusal::Err(format!("Input image directory {} does not exist.", argv[1]))
            }
            "-i" => Refusal::Err(IMAGES.to_owned()),
            _ => Refusal::Out("Node range not specified, see xdsh man page for syntax.\n\n".to_owned()),
        });
    }
    let mut remote = Remote { noderange: first.clone(), stdin: true, ..Remote::default() };
    defaults(&mut remote, environment, "DSH_FANOUT")?;
    let mut words = Words::new(&argv[1..]);
    while let Some(option) = words.option() {
        match option.as_str() {
            "h" | "help" => return Err(Refusal::Help),
            "version" => return Err(Refusal::Version),
            "f" | "fanout" => remote.fanout = number(&words.value(&option)?, &option)?,
            "t" | "timeout" => remote.timeout = timeout(&words.value(&option)?)?,
            "l" | "user" => remote.exec.user = words.value(&option)?,
            "e" | "execute" => {
                remote.script = Some(words.value(&option)?);
                break;
            }
            "E" | "environment" => remote.environment_file = Some(words.value(&option)?),
            "X" => variables(&mut remote, &words.value(&option)?, environment),
            "s" | "stream" => {
                remote.shown.only = match words.value(&option)?.as_str() {
                    "stdout" | "o" => Some(Stream::Out),
                    "stderr" | "e" => Some(Stream::Err),
                    other => return Err(Refusal::Err(format!("-s takes stdout or stderr, not '{other}'"))),
                }
            }
            "z" | "exit-status" => remote.shown.exit_status = true,
            "Q" | "silent" => remote.shown.quiet = true,
            "v" | "verify" => remote.shown.verify = true,
            "m" | "monitor" | "V" | "T" | "trace" | "L" | "no-locale" => {
                if matches!(option.as_str(), "T" | "trace") {
                    words.value(&option)?;
                }
            }
            // How ssh was to be called means nothing to an agent.
            "o" | "options" | "r" | "node-rsh" | "S" | "syntax" | "c" | "B" | "bypass" => {
                if !matches!(option.as_str(), "c" | "B" | "bypass") {
                    words.value(&option)?;
                }
            }
            "i" | "rootimg" => {
                let folder = words.value(&option)?;
                return Err(Refusal::Err(match folder.starts_with('/') {
                    true => IMAGES.to_owned(),
                    false => format!("Input image directory {folder} does not exist."),
                }));
            }
            "detach" | "async" => remote.detach = true,
            "sudo" => return Err(Refusal::Err("--sudo is not supported; -l chooses the user".to_owned())),
            other => return Err(Refusal::Err(format!("Unknown option: {other}\n{XDSH_USAGE}"))),
        }
    }
    finish(remote, words)
}

/// Reads psh's arguments.
///
/// # Errors
/// [`Refusal`] says what to print instead.
pub fn psh(argv: &[String], environment: &BTreeMap<String, String>) -> Result<Remote, Refusal> {
    let mut remote = Remote { stdin: true, ..Remote::default() };
    defaults(&mut remote, environment, "XCATPSHFANOUT")?;
    let mut words = Words::new(argv);
    while let Some(option) = words.option() {
        match option.as_str() {
            "h" | "help" => return Err(Refusal::Help),
            "v" | "version" => return Err(Refusal::Version),
            "f" | "fanout" => remote.fanout = number(&words.value(&option)?, &option)?,
            "l" | "user" => remote.exec.user = words.value(&option)?,
            "i" | "interface" => {
                words.value(&option)?;
            }
            "n" => remote.stdin = false,
            "detach" | "async" => remote.detach = true,
            other => return Err(Refusal::Err(format!("Unknown option: {other}\n{PSH_USAGE}"))),
        }
    }
    let Some((noderange, command)) = words.words.split_first() else {
        return Err(Refusal::Err(PSH_USAGE.to_owned()));
    };
    remote.noderange.clone_from(noderange);
    finish(remote, Words::new(command))
}

/// `NAME=value` lines of an environment file; `#` begins a comment, quotes around a value are taken off.
#[must_use]
pub fn environment_file(text: &str) -> Vec<(String, String)> {
    text.lines()
        .map(|line| line.trim().trim_start_matches("export "))
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().trim_matches(['"', '\'']).to_owned()))
        .filter(|(name, _)| is_variable(name))
        .collect()
}

fn defaults(
    remote: &mut Remote,
    environment: &BTreeMap<String, String>,
    fanout: &str,
) -> Result<(), Refusal> {
    let value = |name: &str| environment.get(name).filter(|value| !value.is_empty()).cloned();
    if let Some(value) = value(fanout) {
        remote.fanout = number(&value, fanout)?;
    }
    if fanout.starts_with("DSH") {
        if let Some(value) = value("DSH_TIMEOUT") {
            remote.timeout = timeout(&value)?;
        }
        remote.environment_file = value("DSH_ENVIRONMENT");
        remote.shown.verify = value("DSH_VERIFY").is_some();
    }
    Ok(())
}

fn finish(mut remote: Remote, words: Words<'_>) -> Result<Remote, Refusal> {
    if words.words.is_empty() && remote.script.is_none() {
        return Err(Refusal::Err("No command is given".to_owned()));
    }
    remote.exec.command = words.words.join(" ");
    remote.exec.timeout = remote.timeout.map_or(0, |timeout| timeout.as_secs());
    Ok(remote)
}

fn variables(remote: &mut Remote, names: &str, environment: &BTreeMap<String, String>) {
    for item in names.split(',') {
        match item.split_once('=') {
            Some((name, value)) if is_variable(name) => {
                remote.exec.environment.push((name.to_owned(), value.to_owned()));
            }
            Some(_) => {}
            None => {
                let known = environment.get(item).map(|value| (item.to_owned(), value.clone()));
                remote.exec.environment.extend(known);
            }
        }
    }
}

fn is_variable(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

fn number(text: &str, option: &str) -> Result<u32, Refusal> {
    text.parse()
        .ok()
        .filter(|number| (1..=65_536).contains(number))
        .ok_or_else(|| Refusal::Err(format!("{option}: '{text}' is not a number from 1 to 65536")))
}

fn timeout(text: &str) -> Result<Option<Duration>, Refusal> {
    match text.parse::<u64>() {
        Ok(0) => Ok(None),
        Ok(seconds) if seconds <= LONGEST => Ok(Some(Duration::from_secs(seconds))),
        _ => Err(Refusal::Err(format!("'{text}' is not a number of seconds up to {LONGEST}"))),
    }
}

/// The words that are left, options first.
struct Words<'a> {
    words: &'a [String],
    /// What follows a short option in its own word: its value (`-f8`) or further options (`-zv`).
    attached: String,
}

impl<'a> Words<'a> {
    fn new(words: &'a [String]) -> Self {
        Self { words, attached: String::new() }
    }

    /// The next option without its dashes; none when the next word is no option.
    fn option(&mut self) -> Option<String> {
        if !self.attached.is_empty() {
            return Some(self.first_of(&self.attached.clone()));
        }
        let (first, rest) = self.words.split_first()?;
        if first == "--" {
            self.words = rest;
            return None;
        }
        if let Some(long) = first.strip_prefix("--") {
            self.words = rest;
            return Some(match long.split_once('=') {
                Some((name, value)) => {
                    value.clone_into(&mut self.attached);
                    name.to_owned()
                }
                None => long.to_owned(),
            });
        }
        let short = first.strip_prefix('-').filter(|short| !short.is_empty())?;
        self.words = rest;
        Some(self.first_of(short))
    }

    fn first_of(&mut self, short: &str) -> String {
        let mut letters = short.chars();
        let first = letters.next().unwrap_or_default();
        self.attached = letters.as_str().to_owned();
        first.to_string()
    }

    fn value(&mut self, option: &str) -> Result<String, Refusal> {
        if !self.attached.is_empty() {
            return Ok(std::mem::take(&mut self.attached));
        }
        let Some((first, rest)) = self.words.split_first() else {
            return Err(Refusal::Err(format!("Option {option} requires an argument")));
        };
        self.words = rest;
        Ok(first.clone())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_end_where_the_command_begins() {
        let remote = xdsh(&words("n1-n3 -f 8 -t 5 -z ls -l /tmp"), &BTreeMap::new()).unwrap();
        assert_eq!((remote.noderange.as_str(), remote.fanout), ("n1-n3", 8));
        assert_eq!(remote.exec.command, "ls -l /tmp");
        assert_eq!(remote.exec.timeout, 5);
        assert!(remote.shown.exit_status);
    }

    #[test]
    fn a_script_takes_the_rest_as_its_arguments() {
        let remote = xdsh(&words("k0001 -e s.sh arg -x"), &BTreeMap::new()).unwrap();
        assert_eq!((remote.script.as_deref(), remote.exec.command.as_str()), (Some("s.sh"), "arg -x"));
    }

    #[test]
    fn a_missing_noderange_is_told_as_the_observations_w195_and_d009_do() {
        assert!(
            matches!(xdsh(&[], &BTreeMap::new()), Err(Refusal::Out(text)) if text.contains("see man page"))
        );
        assert!(
            matches!(xdsh(&words("-s k1 echo hi"), &BTreeMap::new()), Err(Refusal::Out(text)) if text.contains("see xdsh man page"))
        );
    }

    #[test]
    fn options_can_be_bundled_and_carry_their_value() {
        let remote = xdsh(&words("n1 -zvf8 --timeout=3 true"), &BTreeMap::new()).unwrap();
        assert_eq!((remote.fanout, remote.exec.timeout, remote.exec.command.as_str()), (8, 3, "true"));
        assert!(remote.shown.exit_status && remote.shown.verify);
    }

    #[test]
    fn psh_reads_its_fanout_from_the_environment() {
        let environment = BTreeMap::from([("XCATPSHFANOUT".to_owned(), "7".to_owned())]);
        let remote = psh(&words("n1 echo -n x"), &environment).unwrap();
        assert_eq!((remote.fanout, remote.exec.command.as_str()), (7, "echo -n x"));
        assert!(
            psh(&words("n1 true"), &BTreeMap::from([("XCATPSHFANOUT".to_owned(), "many".to_owned())]))
                .is_err()
        );
    }

    #[test]
    fn an_environment_file_gives_variables_only() {
        let read = environment_file("# c\nexport A=\"1 2\"\nB=x\nnot a line\n1C=2\n");
        assert_eq!(read, [("A".to_owned(), "1 2".to_owned()), ("B".to_owned(), "x".to_owned())]);
    }
}
