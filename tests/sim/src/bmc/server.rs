//! The socket of a simulated BMC and the handle to it.

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tracing::warn;

use super::brain::Brain;
use super::config::{Config, Faults};
use super::machine::{BootDevice, Change, Machine, Programs};

/// Largest datagram read; longer ones are cut and then refused by their own length fields.
const DATAGRAM: usize = 1024;

/// A handle to a simulated BMC. Clones name the same BMC.
#[derive(Clone)]
pub struct Bmc {
    shared: Arc<Shared>,
}

/// A BMC that runs; it stops, and its machine with it, when this is dropped.
pub struct Running {
    bmc: Bmc,
    task: JoinHandle<()>,
    programs: Option<JoinHandle<()>>,
}

struct Shared {
    address: SocketAddr,
    brain: Mutex<Brain>,
    machine: Mutex<Option<Arc<dyn Machine>>>,
    console: Notify,
    received: AtomicU64,
    answered: AtomicU64,
}

impl Running {
    /// Binds the address of `config` and runs its BMC with `machine` behind it.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(config: Config, machine: Arc<dyn Machine>) -> io::Result<Self> {
        let socket = UdpSocket::bind(config.address).await?;
        let mut config = config;
        config.address = socket.local_addr()?;
        let shared = Arc::new(Shared {
            address: config.address,
            brain: Mutex::new(Brain::new(config)),
            machine: Mutex::new(Some(machine)),
            console: Notify::new(),
            received: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        });
        let bmc = Bmc { shared };
        let task = tokio::spawn(bmc.clone().serve(socket));
        Ok(Self { bmc, task, programs: None })
    }

    /// Runs the BMC of `config` with the programs it names as its machine.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start_with_programs(config: Config) -> io::Result<Self> {
        let (machine, programs) = Programs::new(&config.node, config.hook.clone(), config.process.clone());
        let mut running = Self::start(config, Arc::new(machine)).await?;
        running.programs = Some(programs);
        Ok(running)
    }

    /// Stops the BMC and waits until the programs of its machine have ended, at most `limit`.
    pub async fn stop(mut self, limit: Duration) {
        let programs = self.programs.take();
        drop(self);
        if let Some(programs) = programs
            && tokio::time::timeout(limit, programs).await.is_err()
        {
            warn!("the machine's programs do not end");
        }
    }

    /// A handle that outlives nothing: it goes on naming the BMC after it stopped.
    pub fn handle(&self) -> Bmc {
        self.bmc.clone()
    }
}

impl Deref for Running {
    type Target = Bmc;

    fn deref(&self) -> &Bmc {
        &self.bmc
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
        // the machine may hold handles to the BMC: cutting it off here ends its programs
        lock(&self.bmc.shared.machine).take();
    }
}

impl Bmc {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Whether the machine is on.
    pub fn power(&self) -> bool {
        lock(&self.shared.brain).power
    }

    /// How often the machine began to boot.
    pub fn boots(&self) -> u64 {
        lock(&self.shared.brain).boots
    }

    /// Sessions that are open or being opened.
    pub fn sessions(&self) -> usize {
        lock(&self.shared.brain).sessions.len()
    }

    /// Forgets all sessions, like a BMC that restarts.
    pub fn close_all_sessions(&self) {
        lock(&self.shared.brain).sessions.clear();
    }

    /// Datagrams received.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    /// Gives it other faults from now on.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.shared.brain).config.faults = faults;
    }

    /// The machine switched itself off.
    pub fn went_off(&self) {
        lock(&self.shared.brain).power = false;
    }

    /// The machine reboots by itself; gives the device it boots from.
    pub fn rebooted(&self) -> BootDevice {
        let mut brain = lock(&self.shared.brain);
        brain.boots += 1;
        brain.consume_boot_device()
    }

    /// Adds an event to the SEL: sensor type, sensor number, event type, three data bytes.
    pub fn add_event(&self, event: [u8; 6]) {
        lock(&self.shared.brain).add_event(event);
    }

    /// Prints bytes at the serial console.
    pub fn print(&self, bytes: &[u8]) {
        lock(&self.shared.brain).console.print(bytes);
        self.shared.console.notify_one();
    }

    /// What is typed at the serial console from now on.
    pub fn typed(&self) -> mpsc::Receiver<Vec<u8>> {
        lock(&self.shared.brain).console.listen()
    }

    async fn serve(self, socket: UdpSocket) {
        let mut buffer = [0u8; DATAGRAM];
        loop {
            let again = lock(&self.shared.brain).console.deadline();
            tokio::select! {
                received = socket.recv_from(&mut buffer) => {
                    // an error is the echo of an earlier send to a closed port
                    if let Ok((length, from)) = received {
                        self.answer(&socket, from, &buffer[..length]).await;
                    }
                }
                () = self.shared.console.notified() => {}
                () = sleep_until(again) => {}
            }
            let packets = lock(&self.shared.brain).console_packets(Instant::now());
            for (to, packet) in packets {
                let _lost_is_lost = socket.send_to(&packet, to).await;
            }
        }
    }

    async fn answer(&self, socket: &UdpSocket, from: SocketAddr, bytes: &[u8]) {
        let count = self.shared.received.fetch_add(1, Ordering::Relaxed) + 1;
        let faults = lock(&self.shared.brain).config.faults.clone();
        if faults.hang || (faults.drop_every > 0 && count.is_multiple_of(u64::from(faults.drop_every))) {
            return;
        }
        if faults.hang_in_session && bytes.get(6..10).is_some_and(|session| session != [0; 4]) {
            return;
        }
        if faults.slow_ms > 0 {
            tokio::time::sleep(Duration::from_millis(faults.slow_ms)).await;
        }
        let (mut answers, changes, random) = {
            let mut brain = lock(&self.shared.brain);
            let answers = brain.receive(from, bytes, Instant::now());
            (answers, brain.take_changes(), brain.random::<8>())
        };
        for change in changes {
            self.tell_machine(change);
        }
        spoil(&faults, random, &mut answers);
        for answer in answers {
            self.shared.answered.fetch_add(1, Ordering::Relaxed);
            let _lost_is_lost = socket.send_to(&answer, from).await;
        }
    }

    fn tell_machine(&self, change: Change) {
        let machine = lock(&self.shared.machine).clone();
        if let Some(machine) = machine {
            machine.changed(change, self);
        }
    }
}

/// Applies the faults that change or lose answers.
fn spoil(faults: &Faults, random: [u8; 8], answers: &mut Vec<Vec<u8>>) {
    let roll =
        f64::from(u32::from_le_bytes([random[0], random[1], random[2], random[3]])) / f64::from(u32::MAX);
    if roll < faults.drop_probability {
        answers.clear();
    }
    if faults.double {
        answers.extend(answers.clone());
    }
    for answer in answers {
        if faults.garbage {
            for (i, byte) in answer.iter_mut().enumerate() {
                *byte = byte.wrapping_mul(31).wrapping_add(random[i % 8]).rotate_left(3);
            }
        }
        if faults.flip && !answer.is_empty() {
            let bit = usize::from(u16::from_le_bytes([random[4], random[5]])) % (answer.len() * 8);
            answer[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
