//! Output as the user sees it: node prefixes, the two streams, a line of progress on a terminal.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, IsTerminal, Write};

use wire::client::{Layout, Rows, Text};
use wire::op::Stream;

use crate::layout::{Gathered, Screen};

/// Writes pieces of output. Pieces that were printed before a lost connection are not printed again.
#[derive(Debug)]
pub struct Render<O, E> {
    out: O,
    err: E,
    terminal: bool,
    progress: bool,
    printed: Vec<u64>,
    replay: HashMap<u64, u32>,
    screen: Screen,
    rows: Option<(Layout, Gathered)>,
}

impl Render<io::BufWriter<io::Stdout>, io::Stderr> {
    /// Writes to this process's standard streams.
    #[must_use]
    pub fn standard() -> Self {
        let terminal = io::stderr().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_none_or(|value| value == "dumb");
        let width = usize::from(crate::terminal_width());
        let mut render =
            Self::new(io::BufWriter::with_capacity(64 * 1024, io::stdout()), io::stderr(), terminal);
        render.screen = Screen { width, color: width > 0 && !plain };
        render
    }
}

impl<O: Write, E: Write> Render<O, E> {
    /// Writes to `out` and `err`; progress is shown when `terminal`.
    pub fn new(out: O, err: E, terminal: bool) -> Self {
        let (screen, rows) = (Screen::default(), None);
        Self {
            out,
            err,
            terminal,
            progress: false,
            printed: Vec::new(),
            replay: HashMap::new(),
            screen,
            rows,
        }
    }

    /// From now on the same request is answered from its beginning: what was printed is skipped once.
    pub fn expect_replay(&mut self) {
        self.rows = None;
        self.replay.clear();
        for item in &self.printed {
            *self.replay.entry(*item).or_default() += 1;
        }
    }

    /// From now on standard output is gathered, to be shown in this form by [`Render::finish`].
    pub fn layout(&mut self, layout: Layout) {
        self.rows = Some((layout, Gathered::default()));
    }

    /// Takes rows of output.
    pub fn rows(&mut self, piece: Rows) {
        if let Some((_, gathered)) = &mut self.rows {
            gathered.add(piece);
        }
    }

    /// Shows what was gathered; false when not as it was asked for.
    ///
    /// # Errors
    /// When the stream cannot be written.
    pub fn finish(&mut self) -> io::Result<bool> {
        let Some((layout, gathered)) = self.rows.take() else { return Ok(true) };
        let (text, fault) = gathered.shown(&layout, self.screen);
        self.clear_progress()?;
        self.out.write_all(text.as_bytes())?;
        if let Some(fault) = &fault {
            self.complain(&format!("Error: {fault}"))?;
        }
        Ok(fault.is_none())
    }

    /// What was printed will not come again.
    pub fn forget(&mut self) {
        self.printed.clear();
        self.replay.clear();
    }

    /// Prints one piece.
    ///
    /// # Errors
    /// When the stream cannot be written.
    pub fn text(&mut self, text: &Text) -> io::Result<()> {
        if let (Some((_, gathered)), Stream::Out) = (&mut self.rows, text.stream) {
            gathered.add(lines(text));
            return Ok(());
        }
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

/// Each line as a row.
fn lines(text: &Text) -> Rows {
    let words = String::from_utf8_lossy(&text.text);
    let names = text.node.iter().map(|_| "node".to_owned());
    let row = |line: &str| text.node.iter().cloned().chain([line.to_owned()]).map(Some).collect();
    Rows { fields: names.chain(["text".to_owned()]).collect(), rows: words.lines().map(row).collect() }
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
    fn lines_of_nodes_become_rows_and_errors_stay_lines() {
        let mut render = Render::new(Vec::new(), Vec::new(), false);
        let layout = Layout { format: wire::client::Format::Csv, sort: Some("node".to_owned()) };
        render.layout(layout.clone());
        render.text(&piece(Some("lost"), "with the connection\n")).unwrap();
        render.expect_replay();
        render.layout(layout);
        render.text(&piece(Some("n10"), "on\n")).unwrap();
        render.text(&piece(Some("n2"), "a\nb\n")).unwrap();
        render.text(&Text { stream: Stream::Err, ..piece(Some("n3"), "Error: gone\n") }).unwrap();
        assert!(render.finish().unwrap());
        assert_eq!(
            render.into_parts(),
            (b"node,text\nn2,a\nn2,b\nn10,on\n".to_vec(), b"n3: Error: gone\n".to_vec())
        );
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
