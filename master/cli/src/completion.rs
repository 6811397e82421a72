//! Completion for the shells: their scripts, and the question that the scripts ask while somebody types.
//!
//! Which words there are is the master's knowledge. Whoever types must not wait and not be disturbed: after a
//! second, or when anything goes wrong, there is no suggestion and no message.

use std::io;
use std::time::Duration;

use crate::config::Config;
use crate::render::Render;
use crate::{names, request, session};

/// How long a suggestion may take.
const DEADLINE: Duration = Duration::from_secs(1);
const SCRIPTS: [(&str, &str); 3] = [
    ("bash", include_str!("completion/margay.bash")),
    ("zsh", include_str!("completion/margay.zsh")),
    ("fish", include_str!("completion/margay.fish")),
];

/// `margay completion SHELL`.
#[must_use]
pub fn print(shell: Option<&str>) -> i32 {
    match SCRIPTS.iter().find(|(name, _)| shell == Some(*name)) {
        Some((_, script)) => {
            print!("{script}");
            0
        }
        None => {
            eprintln!("Usage: margay completion bash|zsh|fish");
            1
        }
    }
}

/// `margay complete LINE`, in silence.
#[must_use]
pub fn suggest(argv: &[String]) -> i32 {
    let Ok(config) = Config::find() else { return 1 };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return 1 };
    let mut screen = Render::new(io::BufWriter::new(io::stdout()), io::sink(), false);
    runtime.block_on(async {
        let run = request(names::MULTICALL.to_owned(), argv.to_vec());
        let asked = session::run_on(&config, run, &mut screen);
        tokio::time::timeout(DEADLINE, asked).await.unwrap_or(1)
    })
}
