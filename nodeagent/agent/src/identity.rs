//! The identity of a node: key, certificate and CA, in memory or in three files only root can read.

use std::path::{Path, PathBuf};

use link::{Credentials, pki};
use tracing::info;
use wire::agent::Phase;

use crate::Config;

/// Where the identity is kept.
#[derive(Debug)]
pub struct Store {
    folder: Option<PathBuf>,
}

impl Store {
    /// In this folder, or nowhere.
    pub fn new(folder: Option<&Path>) -> Self {
        Self { folder: folder.map(Path::to_owned) }
    }

    /// The identity that can be used now: of our cluster, not expired, and in the discovery image not
    /// one of an earlier boot when this boot brought a token of its own.
    pub fn load(&self, config: &Config, now: u64) -> Option<Credentials> {
        let folder = self.folder.as_ref()?;
        let file = |name: &str| folder.join(name);
        let kept = Credentials::from_files(&file("ca.pem"), &file("cert.pem"), &file("key.pem")).ok()?;
        let boot = std::fs::read_to_string(file("boot_id")).unwrap_or_default();
        let usable = pki::pin(&kept.ca_pem).is_ok_and(|pin| pin == config.pin)
            && pki::expires(&kept.cert_pem).is_ok_and(|end| end > now || config.set_clock)
            && !(config.phase == Phase::Genesis && config.token.is_some() && boot != config.boot_id);
        usable.then(|| {
            info!("using the kept identity");
            kept
        })
    }

    /// Keeps the identity.
    pub fn save(&self, identity: &Credentials, boot_id: &str) -> Result<(), String> {
        let Some(folder) = &self.folder else { return Ok(()) };
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let write = |name: &str, text: &str| crate::setup::write_private(&folder.join(name), text);
        write("key.pem", &identity.key_pem)?;
        write("cert.pem", &identity.cert_pem)?;
        write("ca.pem", &identity.ca_pem)?;
        write("boot_id", boot_id)
    }

    /// Forgets it.
    pub fn forget(&self) {
        if let Some(folder) = &self.folder {
            // What is not there needs no removal; what cannot be removed is refused again next time.
            let _ = std::fs::remove_file(folder.join("cert.pem"));
        }
    }
}
