//! The client: sends a command as it was typed, shows what comes back, ends with its status.
//!
//! Knows no command and parses no argument of one. A lost master is looked for again; the request keeps
//! its id, so it is executed once.

pub mod completion;
pub mod config;
pub mod connect;
pub mod editor;
pub mod layout;
pub mod names;
pub mod render;
pub mod session;
pub mod side;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use wire::client::Run;
use wire::ids::RequestId;

/// Runs the client with the process's arguments (the name first) and gives its exit status.
#[must_use]
pub fn run(arguments: Vec<String>) -> i32 {
    let mut arguments = arguments.into_iter();
    let name = arguments.next().unwrap_or_default();
    let name =
        Path::new(&name).file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let argv: Vec<String> = arguments.collect();
    if name == names::MULTICALL
        && let Some(status) = local(&argv)
    {
        return status;
    }
    let config = match config::Config::find() {
        Ok(config) => config,
        Err(message) => {
            eprintln!("Error: {message}");
            return 1;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("Error: cannot start: {error}");
            return 1;
        }
    };
    runtime.block_on(session::run(&config, request(name, argv)))
}

/// What the client does without a master, or in its own way.
fn local(argv: &[String]) -> Option<i32> {
    match argv.first().map(String::as_str) {
        Some("--list-names") => {
            for name in names::LINKS {
                println!("{name}");
            }
            Some(0)
        }
        Some("--version") => {
            println!("margay {}", env!("CARGO_PKG_VERSION"));
            Some(0)
        }
        Some("init") => Some(init(&argv[1..])),
        Some("completion") => Some(completion::print(argv.get(1).map(String::as_str))),
        Some("complete") => Some(completion::suggest(argv)),
        _ => None,
    }
}

/// `margay init` is done by the master's program on this machine: there is no master to ask yet.
fn init(argv: &[String]) -> i32 {
    use std::os::unix::process::CommandExt;
    let beside = std::env::current_exe()
        .ok()
        .and_then(|path| std::fs::canonicalize(path).ok())
        .map(|path| path.with_file_name("margayd"))
        .filter(|path| path.exists());
    let program =
        std::env::var_os("MARGAYD").map(PathBuf::from).or(beside).unwrap_or_else(|| PathBuf::from("margayd"));
    let error = std::process::Command::new(&program).arg("init").args(argv).exec();
    eprintln!("Error: cannot execute {}: {error}", program.display());
    1
}

/// The request for a command as it was typed, with what the master may know of this process.
#[must_use]
pub fn request(command: String, argv: Vec<String>) -> Run {
    let known = |name: &str| {
        name.starts_with("XCAT") || name.starts_with("DSH_") || matches!(name, "LANG" | "LC_ALL" | "TZ")
    };
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, value)| known(name) && value.len() <= 64 * 1024)
        .collect();
    Run {
        version: wire::version::CURRENT,
        request: RequestId { client: service::random::number(), sequence: 1 },
        command,
        argv,
        environment,
        folder: std::env::current_dir().map(|folder| folder.display().to_string()).unwrap_or_default(),
        terminal_width: terminal_width(),
        stdin_piped: stdin_piped(),
    }
}

/// The width of the terminal on standard output; 0 when it is none.
fn terminal_width() -> u16 {
    if !std::io::stdout().is_terminal() {
        return 0;
    }
    let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let asked = || rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| size.ws_col);
    told.or_else(asked).filter(|width| *width > 0).unwrap_or(80)
}

/// Whether standard input is a file or a pipe, not a terminal, a device or nothing.
fn stdin_piped() -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata("/proc/self/fd/0")
        .is_ok_and(|meta| meta.is_file() || meta.file_type().is_fifo() || meta.file_type().is_socket())
}
