//! A daemon's configuration: TOML into one struct, unknown keys refused, all faults reported together.
//!
//! The struct derives `Deserialize` with `#[serde(default, deny_unknown_fields)]`, says every default in
//! its `Default`, and writes the same defaults with explanations in [`Config::DOCUMENT`], which
//! `--print-config` prints. [`check_document`] holds the two together in a test.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

/// No configuration file of ours is longer; a longer one is refused before it is read.
pub const MAX_SIZE: u64 = 1024 * 1024;
/// After this many faults the rest is not worth reading.
const MAX_FAULTS: usize = 50;

/// A daemon's configuration struct.
pub trait Config: DeserializeOwned + Default {
    /// The whole default configuration with comments, as `--print-config` prints it.
    const DOCUMENT: &'static str;

    /// What is wrong with the values as a whole, one sentence each; empty when nothing is.
    fn faults(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: cannot be read", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The text is not a valid configuration; every fault that was found.
    #[error("{path}: {faults}", path = path.display(), faults = faults.join("\n"))]
    Faults {
        /// Which file.
        path: PathBuf,
        /// One line each, with the line number in the file.
        faults: Vec<String>,
    },
}

/// Reads and checks a configuration file.
///
/// # Errors
/// When the file cannot be read, or with all faults in it.
pub fn load<C: Config>(path: &Path) -> Result<C, ConfigError> {
    let read = |source| ConfigError::Read { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(read)?.len();
    if size > MAX_SIZE {
        let faults = vec![format!("{size} bytes, the limit is {MAX_SIZE}")];
        return Err(ConfigError::Faults { path: path.to_owned(), faults });
    }
    let text = std::fs::read_to_string(path).map_err(read)?;
    parse(&text).map_err(|faults| ConfigError::Faults { path: path.to_owned(), faults })
}

/// Checks the text of a configuration.
///
/// # Errors
/// All faults, one line each.
pub fn parse<C: Config>(text: &str) -> Result<C, Vec<String>> {
    let mut table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => return Err(vec![fault(text, &error)]),
    };
    let mut faults = Vec::new();
    // Deserializing stops at the first fault. Take the entry that caused it out and try again, until
    // nothing is left to complain about.
    let config = loop {
        let attempt = C::deserialize(toml::Deserializer::from(table.clone()));
        let error = match attempt {
            Ok(config) => break Some(config),
            Err(error) => error,
        };
        faults.push(fault(text, &error));
        let removed = error.span().is_some_and(|span| remove(table.get_mut(), &span));
        if !removed || faults.len() >= MAX_FAULTS {
            break None;
        }
    };
    faults.extend(config.iter().flat_map(Config::faults));
    match config {
        Some(config) if faults.is_empty() => Ok(config),
        _ => Err(faults),
    }
}

/// For a test of each daemon: the document parses and says exactly the defaults.
///
/// # Errors
/// What does not fit.
pub fn check_document<C: Config + PartialEq + std::fmt::Debug>() -> Result<(), String> {
    let documented: C = parse(C::DOCUMENT).map_err(|faults| faults.join("\n"))?;
    if documented == C::default() {
        Ok(())
    } else {
        Err(format!("the document says {documented:?}, the type says {:?}", C::default()))
    }
}

/// One fault as a line, with where it is.
fn fault(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().replace('\n', " ");
    match error.span() {
        Some(span) => {
            let line = text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1;
            format!("line {line}: {message}")
        }
        None => message,
    }
}

/// Takes the innermost entry that `span` points into out of the table; false when there is none.
fn remove(table: &mut DeTable<'_>, span: &Range<usize>) -> bool {
    let inside = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    let mut found = None;
    for (key, value) in table.iter_mut() {
        let here = inside(value.span());
        if inside(key.span()) || here {
            found = Some(key.get_ref().clone());
        }
        if let (true, DeValue::Table(inner)) = (here, value.get_mut())
            && remove(inner, span)
        {
            return true;
        }
    }
    // A dotted key or a sub-table has no span around it all: look below every table.
    let Some(name) = found else {
        return table.iter_mut().any(|(_, value)| match value.get_mut() {
            DeValue::Table(inner) => remove(inner, span),
            _ => false,
        });
    };
    let key = table.keys().find(|key| *key.get_ref() == name).cloned();
    key.is_some_and(|key| table.remove(&key).is_some())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Sample {
        listen: String,
        port: u16,
        limits: Limits,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Limits {
        window: usize,
    }

    impl Default for Sample {
        fn default() -> Self {
            Self { listen: "0.0.0.0".to_owned(), port: 3001, limits: Limits::default() }
        }
    }

    impl Default for Limits {
        fn default() -> Self {
            Self { window: 64 }
        }
    }

    impl Config for Sample {
        const DOCUMENT: &'static str = r#"
# where to listen
listen = "0.0.0.0"
port = 3001
[limits]
window = 64
"#;

        fn faults(&self) -> Vec<String> {
            if self.limits.window == 0 { vec!["limits.window: must not be 0".to_owned()] } else { Vec::new() }
        }
    }

    #[test]
    fn the_document_says_the_defaults() {
        check_document::<Sample>().unwrap();
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(parse::<Sample>("").unwrap(), Sample::default());
    }

    #[test]
    fn all_faults_are_reported_together_with_their_lines() {
        let text = "prot = 1\nport = 99999\nlisten = 7\n[limits]\nwindow = 0\nwindwo = 3\n[other]\nx = 1\n";
        let faults = parse::<Sample>(text).unwrap_err();
        for line in ["line 1:", "line 2:", "line 3:", "line 6:", "line 7:", "limits.window"] {
            assert!(faults.iter().any(|fault| fault.contains(line)), "{line} is missing in {faults:#?}");
        }
        assert_eq!(faults.len(), 6, "{faults:#?}");
    }

    #[test]
    fn text_that_is_not_toml_is_one_fault() {
        assert_eq!(parse::<Sample>("a = = b").unwrap_err().len(), 1);
    }
}
