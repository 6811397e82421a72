//! Output as the user sees it: node prefixes, the two streams, a line of progress on a terminal.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, IsTerminal, Write};

use wire::client::Text;
use wire::op::Stream;

/// Writes pieces of output. Pieces that were printed before a lost connection are not printed again.
#[derive(Debug)]
pub struct Render<O, E> {
    out: O,
    err: E,
    terminal: bool,
    progress: bool,
    printed: Vec<u64>,
    replay: HashMap<u64, u32>,
}

impl Render<io::BufWriter<io::Stdout>, io::Stderr> {
    /// Writes to this process's standard streams.
    #[must_use]
    pub fn standard() -> Self {
        let terminal = io::stderr().is_terminal();
        Self::new(io::BufWriter::with_capacity(64 * 1024, io::stdout()), io::stderr(), terminal)
    }
}

impl<O: Write, E: Write> Render<O, E> {
    /// Writes to `out` and `err`; progress is shown when `terminal`.
    pub fn new(out: O, err: E, terminal: bool) -> Self {
        Self { out, err, terminal, progress: false, printed: Vec::new(), replay: HashMap::new() }
    }

    /// From now on the same request is answered from its beginning: what was printed is skipped once.
    pub fn expect_replay(&mut self) {
        self.replay.clear();
        for item in &self.printed {
            *self.replay.entry(*item).or_default() += 1;
        }
    }

    /// Prints one piece.
    ///
    /// # Errors
    /// When the stream cannot be written.
    pub fn text(&mut self, text: &Text) -> io::Result<()> {
        let item = fingerprint(text);
        if let Some(left) = self.replay.get_mut(&item).filter(|left| **left > 0) {
            *left -= 1;
            return Ok(());
        }
        self.printed.push(item);
        self.clear_progress()?;
        let mut buffer = Vec::new();
        let bytes = match &text.node {
            None => &text.text,
            Some(node) => {
                for line in text.text.split_inclusive(|byte| *byte == b'\n') {
                    buffer.extend_from_slice(node.as_bytes());
                    buffer.extend_from_slice(b": ");
                    buffer.extend_from_slice(line);
                }
                &buffer
            }
        };
        match text.stream {
            Stream::Out => self.out.write_all(bytes),
            Stream::Err => {
                self.out.flush()?;
                self.err.write_all(bytes)
            }
        }
    }

    /// Shows how far it is; only on a terminal.
    ///
    /// # Errors
    /// When the stream cannot be written.
    pub fn progress(&mut self, done: u64, of: u64, what: &str) -> io::Result<()> {
        if self.terminal {
            self.out.flush()?;
            write!(self.err, "\r\x1b[K{what}: {done} of {of}")?;
            self.err.flush()?;
            self.progress = true;
        }
        Ok(())
    }

    /// A message of the client itself.
    ///
    /// # Errors
    /// When the stream cannot be written.
    pub fn complain(&mut self, message: &str) -> io::Result<()> {
        self.clear_progress()?;
        self.out.flush()?;
        writeln!(self.err, "{message}")
    }

    /// What was written, for those who gave the sinks.
    #[must_use]
    pub fn into_parts(self) -> (O, E) {
        (self.out, self.err)
    }

    /// Everything printed so far is on its way.
    ///
    /// # Errors
    /// When the stream cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn clear_progress(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.progress) {
            write!(self.err, "\r\x1b[K")?;
        }
        Ok(())
    }
}

fn fingerprint(text: &Text) -> u64 {
    let mut hasher = DefaultHasher::new();
    (text.stream == Stream::Err).hash(&mut hasher);
    text.node.hash(&mut hasher);
    text.text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn piece(node: Option<&str>, text: &str) -> Text {
        Text { stream: Stream::Out, node: node.map(str::to_owned), text: text.as_bytes().to_vec() }
    }

    #[test]
    fn each_line_of_a_node_gets_its_name_in_front() {
        let mut render = Render::new(Vec::new(), Vec::new(), false);
        render.text(&piece(Some("n1"), "a\nb\n")).unwrap();
        render.text(&piece(None, "plain\n")).unwrap();
        assert_eq!(render.out, b"n1: a\nn1: b\nplain\n");
    }

    #[test]
    fn what_was_printed_before_the_connection_broke_is_not_printed_again() {
        let mut render = Render::new(Vec::new(), Vec::new(), false);
        render.text(&piece(Some("n1"), "on\n")).unwrap();
        render.text(&piece(Some("n1"), "on\n")).unwrap();
        render.expect_replay();
        for text in [
            piece(Some("n2"), "on\n"),
            piece(Some("n1"), "on\n"),
            piece(Some("n1"), "on\n"),
            piece(Some("n1"), "on\n"),
        ] {
            render.text(&text).unwrap();
        }
        assert_eq!(render.out, b"n1: on\nn1: on\nn2: on\nn1: on\n");
    }
}
