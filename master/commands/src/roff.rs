//! Manual pages, made from the registry and the manual.

use crate::manual::{manual, options};
use crate::registry::{Command, commands};

/// What the pages of all commands end with.
const EXIT: &str = "0 when everything was done, 1 when something failed; some nodes may have succeeded then. 130 after \
                    Ctrl-C.";

/// All pages: file name and content, also those of further names.
pub fn pages(version: &str) -> Vec<(String, String)> {
    let mut commands = commands();
    commands.sort_by_key(|command| command.name);
    let mut pages = vec![("margay.1".to_owned(), overview(&commands, version))];
    for command in commands {
        let name = title(command);
        pages.push((format!("{name}.1"), page(command, version)));
        let further = command.aliases.iter();
        pages.extend(further.map(|alias| (format!("{alias}.1"), format!(".so man1/{name}.1\n"))));
    }
    pages
}

/// Whether a command is a verb of margay, without a name of its own.
pub fn is_verb(command: &Command) -> bool {
    command.usage.trim_start().starts_with(&format!("Usage: margay {}", command.name))
}

fn title(command: &Command) -> String {
    if is_verb(command) { format!("margay-{}", command.name) } else { command.name.to_owned() }
}

fn page(command: &Command, version: &str) -> String {
    let name = title(command);
    let mut page = Page::new(&name, version);
    page.section("NAME");
    page.text(&format!("{name} - {}", lower(command.summary)));
    page.section("SYNOPSIS");
    page.verbatim(command.usage.trim_matches('\n'));
    let manual = manual(command.name).cloned().unwrap_or_default();
    page.section("DESCRIPTION");
    let paragraphs =
        if manual.paragraphs.is_empty() { vec![format!("{}.", command.summary)] } else { manual.paragraphs };
    for (number, paragraph) in paragraphs.iter().enumerate() {
        if number > 0 {
            page.raw(".PP\n");
        }
        page.text(paragraph);
    }
    page.section("OPTIONS");
    for (names, text) in options(command) {
        page.item(names, text);
    }
    if !manual.examples.is_empty() {
        page.section("EXAMPLES");
    }
    for (example, text) in manual.examples {
        page.item(example, text);
    }
    page.section("EXIT STATUS");
    page.text(EXIT);
    page.section("SEE ALSO");
    page.text("margay(1)");
    page.text
}

fn overview(commands: &[&Command], version: &str) -> String {
    let mut page = Page::new("margay", version);
    page.section("NAME");
    page.text("margay - manage clusters of machines");
    page.section("SYNOPSIS");
    page.verbatim("margay COMMAND [arguments]\nCOMMAND [arguments]\nmargay init [options]\nmargay completion bash|zsh|fish");
    page.section("DESCRIPTION");
    page.text(
        "margay sends commands to the masters of a cluster and shows what comes back. Commands that have a name of \
         their own can be called by it. A command that loses its master goes on with another one and is carried out once.",
    );
    page.section("COMMANDS");
    for command in commands {
        let explained = format!("{}. See {}(1).", command.summary, title(command));
        page.item(command.name, &explained);
    }
    page.section("ENVIRONMENT");
    page.item(
        "MARGAY_CONFIG",
        "The client's settings; else ~/.margay/client.toml and /etc/margay/client.toml.",
    );
    page.item("TABEDITOR, EDITOR", "The editor of tabedit.");
    page.item("NO_COLOR", "No colors on a terminal.");
    page.item(
        "XCAT_NODE_PREFIX, XCAT_NODE_SUFFIX",
        "What stands around numbers in a noderange (node and nothing).",
    );
    page.section("EXIT STATUS");
    page.text(EXIT);
    page.text
}

fn lower(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// A page that is being written.
struct Page {
    text: String,
}

impl Page {
    fn new(name: &str, version: &str) -> Page {
        let title = name.to_uppercase();
        Page {
            text: format!(
                ".TH \"{}\" \"1\" \"\" \"Margay {version}\" \"Margay\"\n.nh\n.ad l\n",
                escaped(&title)
            ),
        }
    }

    fn raw(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn section(&mut self, name: &str) {
        self.raw(&format!(".SH \"{name}\"\n"));
    }

    fn text(&mut self, text: &str) {
        self.raw(&format!("{}\n", escaped(text)));
    }

    fn item(&mut self, name: &str, text: &str) {
        self.raw(&format!(".TP\n\\fB{}\\fR\n{}\n", escaped(name).trim_start_matches("\\&"), escaped(text)));
    }

    fn verbatim(&mut self, text: &str) {
        self.raw(".nf\n");
        for line in text.lines() {
            self.raw(&format!("{}\n", escaped(line)));
        }
        self.raw(".fi\n");
    }
}

/// Text that roff prints as it is.
fn escaped(line: &str) -> String {
    let text = line.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_command_and_every_further_name_has_a_page() {
        let pages = pages("0");
        let names: BTreeSet<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.len(), pages.len());
        for command in commands() {
            for name in command.aliases.iter().copied().chain([title(command).as_str()]) {
                assert!(names.contains(format!("{name}.1").as_str()), "{name}");
            }
        }
        for (name, text) in pages.iter().filter(|(_, text)| text.starts_with(".so ")) {
            let target = text.trim_end().trim_start_matches(".so man1/");
            assert!(names.contains(target), "{name} points to {target}");
        }
    }

    #[test]
    fn a_page_has_all_sections_in_order_and_no_other_requests() {
        let known = [".TH", ".SH", ".TP", ".PP", ".nf", ".fi", ".nh", ".ad"];
        for (name, text) in pages("0").iter().filter(|(_, text)| !text.starts_with(".so ")) {
            let sections: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
            let wanted = match name.as_str() {
                "margay.1" => {
                    ["NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "ENVIRONMENT", "EXIT STATUS"].to_vec()
                }
                _ => ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS", "SEE ALSO"]
                    .to_vec(),
            };
            let wanted: Vec<String> = wanted.iter().map(|section| format!("\"{section}\"")).collect();
            assert_eq!(sections, wanted, "{name}");
            for line in text.lines().filter(|line| line.starts_with(['.', '\''])) {
                assert!(known.contains(&line.split(' ').next().unwrap()), "{name}: {line}");
            }
            assert_eq!(text.matches("\n.nf").count(), text.matches("\n.fi").count(), "{name}");
        }
    }

    #[test]
    fn what_roff_would_take_for_its_own_is_escaped() {
        assert_eq!(escaped(".x -a \\n"), "\\&.x \\-a \\en");
        assert_eq!(escaped("'tis"), "\\&'tis");
    }
}
