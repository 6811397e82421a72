//! Service nodes that are connected to this master.

use tokio::sync::mpsc;
use wire::op::{Event, Fault, NodeEvent};
use wire::rack::{FanOut, FanOutEvent, FanOutInput};

/// Sessions of service nodes. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Racks;

impl Racks {
    /// Asks nodes through their service nodes. Dropping the receiver cancels.
    #[must_use]
    pub fn fan_out(&self, order: FanOut, _input: mpsc::Receiver<FanOutInput>) -> mpsc::Receiver<FanOutEvent> {
        let (sender, receiver) = mpsc::channel(order.nodes.len() + 1);
        for node in order.nodes {
            let text = "no service node is connected".to_owned();
            let event = Event::Failed { fault: Fault::Unreachable, text };
            let _ = sender.try_send(FanOutEvent::Node(NodeEvent { node, event }));
        }
        let _ = sender.try_send(FanOutEvent::End);
        receiver
    }
}
