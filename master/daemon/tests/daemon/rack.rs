//! A service node that answers fan-outs as a test wants.

use std::sync::Arc;
use std::time::Duration;

use link::{Connection, Credentials, Endpoint, Exchange, Role, Settings};
use service::Drain;
use tokio::sync::mpsc;
use wire::op::{Event, NodeEvent};
use wire::rack::{
    Down, FanOut, FanOutEvent, FanOutInput, FromRack, JoinAnswer, JoinRequest, RackHello, ToRack, Up,
};

use crate::cluster::Cluster;

/// An order that came to the service node.
pub struct Order {
    pub fan_out: FanOut,
    pub exchange: Exchange,
}

impl Order {
    pub async fn say(&mut self, node: &str, event: Event) {
        let event = FanOutEvent::Node(NodeEvent { node: node.to_owned(), event });
        self.exchange.send(&event).await.unwrap();
    }

    pub async fn end(mut self) {
        self.exchange.send(&FanOutEvent::End).await.unwrap();
        let _ = self.exchange.sender.flush(Duration::from_secs(5)).await;
    }

    pub async fn input(&mut self) -> Option<FanOutInput> {
        self.exchange.recv().await.ok().flatten()
    }
}

/// A joined and connected service node.
pub struct Rack {
    pub orders: mpsc::Receiver<Order>,
    /// Kept open.
    pub connection: Connection,
    pub drain: Drain,
    up: link::Sender,
}

impl Rack {
    /// Joins with a token of `margay sn add` and connects.
    pub async fn join(cluster: &Cluster, name: &str) -> Self {
        let said = cluster.admin().ok(&format!("margay sn add {name}")).await;
        let field = |word: &str| {
            let line = said.lines().find(|line| line.contains(word)).unwrap();
            line.rsplit(' ').next().unwrap().to_owned()
        };
        let settings = Settings { streams: 256, ..Settings::small() };
        let endpoint = Endpoint::client_with("127.0.0.1:0".parse().unwrap(), settings).unwrap();
        let pin = link::pki::parse_pin(&field(": ca ")).unwrap();
        let address = cluster.addresses()[cluster.leader().unwrap()];
        let connection = endpoint.dial_pinned(address, pin, wire::ALPN_ENROL).await.unwrap();
        let key = link::pki::Key::generate().unwrap();
        let request =
            JoinRequest { name: name.into(), token: field(": token "), public_key: key.public_der.clone() };
        let mut exchange = connection.open().await.unwrap();
        let answer = exchange.ask(&FromRack::Join(request), Duration::from_secs(10)).await.unwrap();
        let JoinAnswer::Joined { certificate, ca, .. } = answer else { panic!("{answer:?}") };
        let credentials = Credentials { ca_pem: ca, cert_pem: certificate, key_pem: key.key_pem };
        Self::connect(cluster, credentials, endpoint).await
    }

    async fn connect(cluster: &Cluster, credentials: Credentials, endpoint: Endpoint) -> Self {
        let address = cluster.addresses()[cluster.leader().unwrap()];
        let dial = endpoint.dial(address, &credentials, wire::ALPN_MAIN, Role::Master);
        let connection = dial.await.unwrap();
        let mut uplink = connection.open().await.unwrap();
        let hello = RackHello {
            version: wire::version::CURRENT,
            program: "test".into(),
            mirror: wire::ids::Revision(0),
            addresses: vec!["127.0.0.1:3002".into()],
            agents: Vec::new(),
        };
        uplink.send(&FromRack::Uplink(hello)).await.unwrap();
        let (mut up, mut down) = uplink.split();
        loop {
            match down.recv::<Down>().await.unwrap().unwrap() {
                Down::View(view) if !view.more => {
                    up.send(&Up::Mirrored(view.revision)).await.unwrap();
                    break;
                }
                Down::View(_) | Down::Masters(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let drain = Drain::new();
        drain.spawn("down", async move { while let Ok(Some(_)) = down.recv::<Down>().await {} });
        let (push, orders) = mpsc::channel(16);
        let accepting = connection.clone();
        drain.spawn("orders", async move {
            while let Ok(mut exchange) = accepting.accept().await {
                if let Ok(Some(ToRack::FanOut(fan_out))) = exchange.recv::<ToRack>().await
                    && push.send(Order { fan_out, exchange }).await.is_err()
                {
                    return;
                }
            }
        });
        Self { orders, connection, drain, up }
    }

    pub async fn order(&mut self) -> Order {
        tokio::time::timeout(crate::cluster::LONG, self.orders.recv()).await.unwrap().unwrap()
    }

    /// Answers every order for ever: each node with the event that `answer` gives.
    pub fn answer(mut self, answer: impl Fn(&FanOut, &str) -> Event + Send + Sync + 'static) -> Arc<Drain> {
        let drain = Arc::new(self.drain.clone());
        drain.spawn("answers", async move {
            while let Some(mut order) = self.orders.recv().await {
                for node in order.fan_out.nodes.clone() {
                    let event = answer(&order.fan_out, &node);
                    order.say(&node, event).await;
                }
                order.end().await;
            }
            drop((self.up, self.connection));
        });
        drain
    }
}
