//! Kernel arguments as checked words: no text of a table or of the network becomes part of a boot
//! script unless it passed here.

use std::fmt;

/// A word of the kernel command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument(String);

const MAX_ARGUMENT: usize = 256;
const MAX_ARGUMENTS: usize = 64;

impl Argument {
    /// Takes a word of letters, digits and `._:,=/+@%-`; nothing that a loader's language or a
    /// shell gives a meaning.
    pub fn new(word: &str) -> Option<Argument> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._:,=/+@%-".contains(&b);
        let fine = !word.is_empty() && word.len() <= MAX_ARGUMENT && word.bytes().all(plain);
        // Ours are ours: an admin's row must not redirect a node to another service node.
        let reserved =
            word.starts_with("margay.") || word.starts_with("BOOTIF=") || word.starts_with("initrd=");
        (fine && !reserved).then(|| Argument(word.to_owned()))
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads a text of words; gives those that pass and those that do not.
pub fn arguments(text: &str) -> (Vec<Argument>, Vec<String>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for word in text.split_whitespace().take(MAX_ARGUMENTS) {
        // xCAT marks words for the installed system by "R::"; they are not for this kernel.
        if word.starts_with("R::") {
            continue;
        }
        match Argument::new(word) {
            Some(argument) => good.push(argument),
            None => bad.push(word.chars().take(64).collect()),
        }
    }
    (good, bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_arguments_pass() {
        let (good, bad) = arguments("quiet  nomodeset console=ttyS1,115200n8 no_timer_check R::selinux=0");
        assert_eq!(good.len(), 4);
        assert!(bad.is_empty());
    }

    #[test]
    fn words_that_a_loader_would_understand_are_refused() {
        for word in [
            "${mac}",
            "a&&b",
            "a||b",
            "x;y",
            "\"a",
            "a'b",
            "a\\b",
            "a#b",
            "{{base}}",
            "margay.sn=6.6.6.6:1",
            "BOOTIF=x",
            "\u{e9}",
            "initrd=x",
        ] {
            assert_eq!(arguments(word).0.len(), 0, "{word}");
            assert_eq!(arguments(word).1.len(), 1, "{word}");
        }
        assert!(Argument::new(&"a".repeat(257)).is_none());
        assert!(Argument::new("a b").is_none() && Argument::new("a\nb").is_none());
    }
}
