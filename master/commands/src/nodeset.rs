//! nodeset: what a node does when it boots next, and what after that.

/// What nodeset's second word asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Show the present state.
    Stat,
    /// Serve the node no more.
    Offline,
    /// Walk these steps, the first one at the next boot.
    Steps(Vec<Step>),
}

/// A step of a node's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A word as it is stored: `boot`, `shell`, `standby`, `runcmd=...`, `runimage=...`, `shutdown`.
    Word(String),
    /// Deploy an image; none is the node's own (`nodetype.provmethod`).
    Image(Option<String>),
}

/// Reads the second word.
///
/// # Errors
/// A sentence for the user.
pub fn ask(word: &str) -> Result<Ask, String> {
    match word {
        "stat" => return Ok(Ask::Stat),
        "offline" => return Ok(Ask::Offline),
        _ => {}
    }
    let steps: Vec<Step> = split(word).into_iter().map(step).collect::<Result<_, _>>()?;
    let shutdown = |step: &Step| matches!(step, Step::Word(word) if word == "shutdown");
    let runs = |step: &Step| matches!(step, Step::Word(word) if word.starts_with("run"));
    let lonely = steps.first().is_some_and(shutdown);
    if lonely || steps.windows(2).any(|pair| shutdown(&pair[1]) && !runs(&pair[0])) {
        return Err("the state 'shutdown' can only follow runcmd or runimage".to_owned());
    }
    Ok(Ask::Steps(steps))
}

/// The steps of a list, at commas and semicolons outside quotes.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quote = None;
    for letter in text.chars() {
        match (quote, letter) {
            (None, ',' | ';') => parts.push(String::new()),
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), _) if letter == open => quote = None,
            _ => {}
        }
        if !(quote.is_none() && matches!(letter, ',' | ';')) {
            if let Some(last) = parts.last_mut() {
                last.push(letter);
            }
        }
    }
    parts
}

fn step(word: String) -> Result<Step, String> {
    let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
    match (name, value) {
        ("boot" | "shell" | "standby" | "shutdown", None) => Ok(Step::Word(word)),
        ("runcmd" | "runimage", Some(value)) if !value.is_empty() => Ok(Step::Word(word)),
        ("runcmd" | "runimage", _) => Err(format!("the state '{name}' needs a value: {name}=...")),
        ("osimage", None) => Ok(Step::Image(None)),
        ("osimage", Some(image)) if !image.is_empty() => Ok(Step::Image(Some(image.to_owned()))),
        // The words of old guides: the node's own image.
        ("install" | "netboot", None) => Ok(Step::Image(None)),
        _ => Err(format!("the state '{word}' is not known")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_comes_first_and_values_keep_their_quotes() {
        let word = |text: &str| Step::Word(text.to_owned());
        assert_eq!(
            ask("runcmd='a,b',runimage=http://x/y.tgz,boot"),
            Ok(Ask::Steps(vec![word("runcmd='a,b'"), word("runimage=http://x/y.tgz"), word("boot")]))
        );
        assert_eq!(ask("osimage=r9"), Ok(Ask::Steps(vec![Step::Image(Some("r9".to_owned()))])));
        assert_eq!(ask("stat"), Ok(Ask::Stat));
    }

    #[test]
    fn unknown_words_and_missing_values_are_refused() {
        for text in ["", "bott", "runcmd", "runimage=", "shell=1", "shutdown", "boot,shutdown", "boot,,shell"] {
            assert!(ask(text).is_err(), "{text}");
        }
        assert!(ask("runcmd=bmcsetup,shutdown").is_ok());
    }
}
