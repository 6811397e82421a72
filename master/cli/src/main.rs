//! The `margay` client, under its own name or that of a command.

fn main() {
    let arguments: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    // No destructors: the thread that reads a terminal cannot be joined.
    std::process::exit(cli::run(arguments));
}
