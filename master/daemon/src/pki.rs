//! The cluster's certificates: the CA's key lives on the masters, and only this module uses it.

use std::time::Duration;

use link::pki::{Authority, Key};
use link::{Credentials, LinkError};
use service::Clock;

pub use link::Role;

/// Lifetimes.
pub mod lifetime {
    use std::time::Duration;

    const DAY: u64 = 86_400;
    /// Of masters and admins.
    pub const OWN: Duration = Duration::from_secs(3650 * DAY);
    /// Of service nodes.
    pub const SERVICE_NODE: Duration = Duration::from_secs(3650 * DAY);
    /// Of nodes: they enrol anew when it is over.
    pub const NODE: Duration = Duration::from_secs(365 * DAY);
}

/// Issues certificates.
#[derive(Debug)]
pub struct Pki {
    authority: Authority,
    clock: Clock,
    pin: String,
}

impl Pki {
    /// Makes a new CA.
    ///
    /// # Errors
    /// When the cluster's name cannot be in a certificate.
    pub fn create(cluster: &str, clock: Clock) -> Result<Self, LinkError> {
        Self::new(Authority::create(cluster, clock.unix())?, clock)
    }

    /// Loads the CA.
    ///
    /// # Errors
    /// When the texts are not a CA and its key.
    pub fn load(cluster: &str, ca_pem: &str, key_pem: &str, clock: Clock) -> Result<Self, LinkError> {
        Self::new(Authority::load(cluster, ca_pem, key_pem)?, clock)
    }

    fn new(authority: Authority, clock: Clock) -> Result<Self, LinkError> {
        let pin = link::pki::pin_hex(authority.ca_pem())?;
        Ok(Self { authority, clock, pin })
    }

    /// The CA's certificate.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.authority.ca_pem()
    }

    /// The CA's private key.
    #[must_use]
    pub fn ca_key_pem(&self) -> String {
        self.authority.key_pem()
    }

    /// SHA-256 of the CA's certificate, hexadecimal: what agents pin.
    #[must_use]
    pub fn ca_pin(&self) -> &str {
        &self.pin
    }

    /// A certificate for a public key (SubjectPublicKeyInfo DER).
    ///
    /// # Errors
    /// When the key or the name cannot be in a certificate.
    pub fn issue(
        &self,
        role: Role,
        name: &str,
        public_key: &[u8],
        life: Duration,
    ) -> Result<String, LinkError> {
        self.authority.issue(role, name, public_key, self.clock.unix(), life)
    }

    /// A new key with its certificate.
    ///
    /// # Errors
    /// When the name cannot be in a certificate.
    pub fn new_identity(&self, role: Role, name: &str) -> Result<Credentials, LinkError> {
        let key = Key::generate()?;
        let cert_pem = self.issue(role, name, &key.public_der, lifetime::OWN)?;
        Ok(Credentials { ca_pem: self.ca_pem().to_owned(), cert_pem, key_pem: key.key_pem })
    }
}
