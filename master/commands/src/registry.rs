//! All commands, one line each.

use std::borrow::Cow;

use crate::args::{self, Opt};
use crate::plan::{Ctx, Plan};
use crate::{
    checked, chtab, gettab, knownhosts, lsdef, lsxcatd, makedhcp, makehosts, makenetworks, makentp, mkdef,
    node_edit, nodels, nodepurge, notif, range, rmdef, tabdump, tabedit, tabgrep, tabprune, tabrestore,
    xcoll, xdshbak,
};

/// Where a command has its noderange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// It has none.
    None,
    /// Its first argument that is not an option names existing nodes.
    First,
    /// Its first argument that is not an option is a noderange of names that need not exist.
    New,
    /// As `First`, but these options have a value.
    After(&'static [&'static str]),
    /// Names of objects, of existing nodes among them: the values of `-o` and the arguments that set nothing. With these
    /// options.
    Objects(&'static [Opt]),
}

/// A command.
#[derive(Debug)]
pub struct Command {
    /// Its name, which is xCAT's where xCAT has it.
    pub name: &'static str,
    /// Further names.
    pub aliases: &'static [&'static str],
    /// One sentence for the list of commands.
    pub summary: &'static str,
    /// What `-h` prints.
    pub usage: &'static str,
    /// Whether it may change rows or nodes; a plain read can be answered by a follower.
    pub writes: bool,
    /// Where its noderange is.
    pub range: Range,
    /// Makes the plan.
    pub plan: fn(&Ctx<'_>) -> Plan,
}

static COMMANDS: &[&Command] = &[
    &chtab::COMMAND,
    &mkdef::CHDEF,
    &gettab::COMMAND,
    &lsdef::COMMAND,
    &lsxcatd::COMMAND,
    &makedhcp::COMMAND,
    &makehosts::COMMAND,
    &knownhosts::KNOWN,
    &makenetworks::COMMAND,
    &makentp::COMMAND,
    &knownhosts::GLOBAL,
    &mkdef::MKDEF,
    &node_edit::NODEADD,
    &node_edit::NODECH,
    &node_edit::NODEGRPCH,
    &nodels::COMMAND,
    &nodepurge::COMMAND,
    &node_edit::NODERM,
    &range::COMMAND,
    &notif::NOTIFICATION,
    &notif::REGNOTIF,
    &rmdef::COMMAND,
    &tabdump::COMMAND,
    &tabedit::COMMAND,
    &tabgrep::COMMAND,
    &tabprune::COMMAND,
    &tabrestore::COMMAND,
    &notif::UNREGNOTIF,
    &xcoll::COMMAND,
    &xdshbak::COMMAND,
];

/// All commands: of the tables, and of the families that keep their own list.
fn all() -> impl Iterator<Item = &'static &'static Command> {
    COMMANDS.iter().chain(crate::operate::COMMANDS)
}

/// All commands of this crate.
pub fn commands() -> Vec<&'static Command> {
    all().copied().collect()
}

/// The command of this name or alias.
pub fn find(name: &str) -> Option<&'static Command> {
    all().find(|c| c.name == name || c.aliases.contains(&name)).copied()
}

/// The command and its arguments for a call by name, or of `margay` with the name as its first argument.
pub fn resolve<'a>(called: &str, argv: &'a [String]) -> Option<(&'static Command, &'a [String])> {
    if called == "margay" {
        let (name, rest) = argv.split_first()?;
        return Some((find(name)?, rest));
    }
    Some((find(called)?, argv))
}

impl Command {
    /// Whether `-o` means something of its own here, as the usage says; then only `--output` is the form of output.
    pub fn has_own_o(&self) -> bool {
        let ends = |after: &str| !after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
        let begins = |before: &str| before.ends_with(|c: char| c.is_whitespace() || "[|{,".contains(c));
        self.usage
            .match_indices("-o")
            .any(|(at, found)| begins(&self.usage[..at]) && ends(&self.usage[at + found.len()..]))
    }

    /// Makes the plan; one whose values cannot be stored is an error instead.
    pub fn make(&self, ctx: &Ctx<'_>) -> Plan {
        checked::checked(ctx, (self.plan)(ctx))
    }

    /// The noderange among the arguments, if the command has one and it was given.
    pub fn range_text<'a>(&self, args: &'a [String]) -> Option<Cow<'a, str>> {
        match self.range {
            Range::None => None,
            Range::First | Range::New => {
                args.iter().find(|arg| !arg.starts_with('-')).map(|range| Cow::Borrowed(range.as_str()))
            }
            Range::After(options) => {
                let mut args = args.iter().map(String::as_str);
                while let Some(arg) = args.next() {
                    match (options.contains(&arg), arg.starts_with('-')) {
                        (true, _) => drop(args.next()),
                        (_, false) => return Some(Cow::Borrowed(arg)),
                        _ => {}
                    }
                }
                None
            }
            Range::Objects(options) => {
                let given = args::read(args, options, true).ok()?;
                let named = given.rest.iter().map(String::as_str).filter(|arg| !arg.contains('='));
                let names: Vec<&str> = given.values("objects").into_iter().chain(named).collect();
                (!names.is_empty()).then(|| Cow::Owned(names.join(",")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_unique() {
        let mut names: Vec<&str> = all().flat_map(|c| c.aliases.iter().copied().chain([c.name])).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_command_is_found_by_link_and_by_verb() {
        let argv = ["nodels".to_owned(), "n1".to_owned()];
        assert_eq!(resolve("margay", &argv).map(|(c, a)| (c.name, a.len())), Some(("nodels", 1)));
        assert_eq!(resolve("tabch", &argv).map(|(c, a)| (c.name, a.len())), Some(("chtab", 2)));
        assert!(resolve("nosuch", &argv).is_none());
    }
    #[test]
    fn the_letter_o_is_free_where_the_usage_does_not_name_it() {
        let own: Vec<&str> = all().filter(|c| c.has_own_o()).map(|c| c.name).collect();
        for name in ["chdef", "lsdef", "makehosts", "mkdef", "regnotif", "rmdef"] {
            assert!(own.contains(&name), "{name}");
        }
        for name in ["gettab", "nodels", "nodestat", "tabdump", "log", "action"] {
            assert!(!own.contains(&name), "{name}");
        }
    }

    #[test]
    fn the_noderange_is_found_behind_options_with_values() {
        let check = |words: &[&str], expected| {
            let args: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
            assert_eq!(lsdef::COMMAND.range_text(&args).as_deref(), expected, "{words:?}");
        };
        check(&["-t", "node", "n1", "-i", "ip"], Some("n1"));
        check(&["-t", "node", "-o", "n1"], Some("n1"));
        check(&["-t", "node", "-o", "n1", "--obj=n3", "n2,n4"], Some("n1,n3,n2,n4"));
        check(&["-l"], None);
    }
}
