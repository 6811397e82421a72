//! What a simulated BMC is told at its birth, and the faults it can be given.

use std::net::SocketAddr;

use serde::Deserialize;

/// One simulated BMC with the machine behind it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Name of the machine, given to hooks.
    pub node: String,
    /// UDP address it listens on; port 0 takes a free one.
    pub address: SocketAddr,
    /// The administrator's name.
    #[serde(default = "default_user")]
    pub user: String,
    /// The administrator's password, at most 20 bytes.
    pub password: String,
    /// Serial number in the FRU.
    #[serde(default = "default_serial")]
    pub serial: String,
    /// Part number or machine type in the FRU.
    #[serde(default = "default_mtm")]
    pub mtm: String,
    /// Product name in the FRU.
    #[serde(default = "default_model")]
    pub model: String,
    /// Manufacturer in the FRU.
    #[serde(default = "default_manufacturer")]
    pub manufacturer: String,
    /// System GUID as SMBIOS prints it, `12345678-1234-...`; derived from the serial when empty.
    #[serde(default)]
    pub uuid: String,
    /// The machine is on from the beginning (its hook is not run for that).
    #[serde(default)]
    pub power: bool,
    /// Cipher suites offered: 3 and 17, or one of them.
    #[serde(default = "default_suites")]
    pub suites: Vec<u8>,
    /// Program run as `HOOK on|off|reset NODE [BOOTDEV]` when the power changes.
    #[serde(default)]
    pub hook: Vec<String>,
    /// Program that *is* the machine: it runs while the power is on. Its environment holds
    /// `MARGAY_NODE` and `MARGAY_BOOT`; leaving with status 0 powers the machine off, with status
    /// [`super::machine::REBOOT_STATUS`] reboots it.
    #[serde(default)]
    pub process: Vec<String>,
    /// Faults from the beginning.
    #[serde(default)]
    pub faults: Faults,
}

/// What a BMC does wrong.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Faults {
    /// Milliseconds before each answer.
    pub slow_ms: u64,
    /// Loses each n-th request; 0 loses none.
    pub drop_every: u32,
    /// Loses each answer with this probability.
    pub drop_probability: f64,
    /// Receives and never answers.
    pub hang: bool,
    /// Answers until a session is open, then never again.
    pub hang_in_session: bool,
    /// Treats the administrator's password as wrong.
    pub wrong_password: bool,
    /// Answers with random bytes.
    pub garbage: bool,
    /// Flips a random bit in each answer.
    pub flip: bool,
    /// Sends each answer twice.
    pub double: bool,
    /// Carries out the command of this network function and number, and does not answer it.
    pub mute_after: Option<(u8, u8)>,
    /// Keeps only so many bytes of the data of each answer in a session.
    pub cut_data: Option<usize>,
}

impl Config {
    /// A BMC with this name, address and password, everything else by default.
    pub fn new(node: &str, address: SocketAddr, password: &str) -> Self {
        Self {
            node: node.to_owned(),
            address,
            user: default_user(),
            password: password.to_owned(),
            serial: default_serial(),
            mtm: default_mtm(),
            model: default_model(),
            manufacturer: default_manufacturer(),
            uuid: String::new(),
            power: false,
            suites: default_suites(),
            hook: Vec::new(),
            process: Vec::new(),
            faults: Faults::default(),
        }
    }

    /// The GUID in the byte order of SMBIOS.
    pub fn guid(&self) -> [u8; 16] {
        let digits: Vec<u8> =
            self.uuid.chars().filter_map(|c| c.to_digit(16)).filter_map(|d| u8::try_from(d).ok()).collect();
        let mut guid = [0u8; 16];
        if digits.len() == 32 {
            for (byte, pair) in guid.iter_mut().zip(digits.chunks_exact(2)) {
                *byte = pair[0] << 4 | pair[1];
            }
        } else {
            let digest = ring::digest::digest(&ring::digest::SHA256, self.serial.as_bytes());
            guid.copy_from_slice(&digest.as_ref()[..16]);
            guid[6] = guid[6] & 0x0f | 0x40;
            guid[8] = guid[8] & 0x3f | 0x80;
        }
        guid[..4].reverse();
        guid[4..6].reverse();
        guid[6..8].reverse();
        guid
    }
}

fn default_user() -> String {
    "admin".to_owned()
}

fn default_serial() -> String {
    "SIM0000001".to_owned()
}

fn default_mtm() -> String {
    "MGY-1000".to_owned()
}

fn default_model() -> String {
    "Margay Simulated Server".to_owned()
}

fn default_manufacturer() -> String {
    "Margay".to_owned()
}

fn default_suites() -> Vec<u8> {
    vec![3, 17]
}
