//! Output of an action, kept so that those who come late or come back see all of it.
//!
//! Invariant: items are numbered from 0 in the order they were produced; a reader that goes on from the
//! number it has seen misses nothing that is kept. Bounds are per node and per action; what passes them
//! is replaced by one mark.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use wire::client::Text;
use wire::op::Stream;

/// The output of one action. Clones are the same spool.
#[derive(Debug, Clone)]
pub struct Spool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    content: Mutex<Content>,
    changed: watch::Sender<u64>,
    per_node: usize,
    per_action: usize,
}

#[derive(Debug, Default)]
struct Content {
    items: Vec<Text>,
    bytes: usize,
    full: bool,
    nodes: BTreeMap<String, usize>,
    end: Option<End>,
    progress: (u64, u64),
}

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Exit status for the shell.
    pub status: u8,
    /// The revision its answer holds at.
    pub revision: u64,
}

/// What a reader gets.
#[derive(Debug)]
pub struct Batch {
    /// Items from the asked number on.
    pub items: Vec<Text>,
    /// Set when there will be no more.
    pub end: Option<End>,
    /// Nodes done and nodes in all.
    pub progress: (u64, u64),
}

/// Most bytes that a reader gets at once.
const BATCH: usize = 1024 * 1024;

impl Spool {
    /// An empty spool with bounds in bytes.
    #[must_use]
    pub fn new(per_node: usize, per_action: usize) -> Self {
        let inner = Inner { content: Mutex::default(), changed: watch::Sender::new(0), per_node, per_action };
        Self { inner: Arc::new(inner) }
    }

    /// Adds a piece of output.
    pub fn push(&self, text: Text) {
        if text.text.is_empty() {
            return;
        }
        let mut content = self.inner.content.lock().unwrap_or_else(PoisonError::into_inner);
        if content.full || content.end.is_some() {
            return;
        }
        let size = text.text.len();
        if let Some(node) = &text.node {
            let used = content.nodes.entry(node.clone()).or_default();
            if *used > self.inner.per_node {
                return;
            }
            *used += size;
            if *used > self.inner.per_node {
                let mark = format!("output cut after {} bytes\n", self.inner.per_node);
                let mark = Text { stream: Stream::Err, node: text.node.clone(), text: mark.into_bytes() };
                content.items.push(mark);
                drop(content);
                self.wake();
                return;
            }
        }
        content.bytes += size;
        if content.bytes > self.inner.per_action {
            content.full = true;
            let mark = format!("Error: output cut after {} bytes\n", self.inner.per_action);
            content.items.push(Text { stream: Stream::Err, node: None, text: mark.into_bytes() });
        } else {
            content.items.push(text);
        }
        drop(content);
        self.wake();
    }

    /// Tells readers how far the action is.
    pub fn progress(&self, done: u64, of: u64) {
        self.inner.content.lock().unwrap_or_else(PoisonError::into_inner).progress = (done, of);
        self.wake();
    }

    /// There will be no more. The first end stands.
    pub fn finish(&self, end: End) {
        self.inner.content.lock().unwrap_or_else(PoisonError::into_inner).end.get_or_insert(end);
        self.wake();
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.inner.content.lock().unwrap_or_else(PoisonError::into_inner).end
    }

    /// Waits until there is something from item `from` on, progress after `seen`, or the end.
    pub async fn next(&self, from: usize, seen: (u64, u64)) -> Batch {
        let mut changed = self.inner.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Some(batch) = self.batch(from, seen) {
                return batch;
            }
            // The sender lives in `self`: it cannot be gone.
            let _ = changed.changed().await;
        }
    }

    fn batch(&self, from: usize, seen: (u64, u64)) -> Option<Batch> {
        let content = self.inner.content.lock().unwrap_or_else(PoisonError::into_inner);
        let mut size = 0;
        let items: Vec<Text> = content
            .items
            .iter()
            .skip(from)
            .take_while(|text| {
                let fits = size < BATCH;
                size += text.text.len();
                fits
            })
            .cloned()
            .collect();
        let end = content.end.filter(|_| from + items.len() >= content.items.len());
        (!items.is_empty() || end.is_some() || content.progress != seen).then_some(Batch {
            items,
            end,
            progress: content.progress,
        })
    }

    fn wake(&self) {
        self.inner.changed.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(node: &str, text: &str) -> Text {
        Text { stream: Stream::Out, node: Some(node.to_owned()), text: text.as_bytes().to_vec() }
    }

    #[tokio::test]
    async fn a_reader_that_comes_late_sees_everything_and_then_the_end() {
        let spool = Spool::new(1000, 1000);
        spool.push(text("n1", "a\n"));
        spool.push(text("n2", "b\n"));
        assert_eq!(spool.next(1, (0, 0)).await.items, [text("n2", "b\n")]);
        spool.finish(End { status: 1, revision: 7 });
        let batch = spool.next(2, (0, 0)).await;
        assert_eq!(batch.end, Some(End { status: 1, revision: 7 }));
        assert_eq!(spool.next(0, (0, 0)).await.items.len(), 2);
    }

    #[tokio::test]
    async fn a_node_that_floods_is_cut_with_a_mark_and_others_are_not() {
        let spool = Spool::new(10, 1000);
        for _ in 0..5 {
            spool.push(text("flood", "12345678\n"));
        }
        spool.push(text("n1", "ok\n"));
        let items = spool.next(0, (0, 0)).await.items;
        assert_eq!(items.len(), 3, "{items:?}");
        assert_eq!(items[2], text("n1", "ok\n"));
        assert!(String::from_utf8_lossy(&items[1].text).contains("cut after 10 bytes"));
    }

    #[tokio::test]
    async fn an_action_that_floods_is_cut_with_one_mark() {
        let spool = Spool::new(1000, 20);
        for node in ["n1", "n2", "n3", "n4"] {
            spool.push(text(node, "12345678\n"));
        }
        assert_eq!(spool.next(0, (0, 0)).await.items.len(), 3);
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken() {
        let spool = Spool::new(1000, 1000);
        let other = spool.clone();
        let (batch, ()) = tokio::join!(spool.next(0, (0, 0)), async move { other.push(text("n1", "x\n")) });
        assert_eq!(batch.items.len(), 1);
    }
}
