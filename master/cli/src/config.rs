//! Where the masters are and who the user is: `client.toml`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Environment variable that names the file.
pub const VARIABLE: &str = "MARGAY_CONFIG";
/// Where it is looked for last.
pub const SYSTEM: &str = "/etc/margay/client.toml";

/// The client's settings. Paths are relative to the file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of the cluster (the certificate of a master must carry it).
    pub cluster: String,
    /// Addresses of the masters, `host:port`; any of them will do.
    pub masters: Vec<String>,
    /// The cluster's CA, PEM.
    pub ca: PathBuf,
    /// The user's certificate, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Seconds after which a client gives up looking for a master.
    pub patience: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cluster: String::new(),
            masters: Vec::new(),
            ca: "ca.pem".into(),
            cert: "cert.pem".into(),
            key: "key.pem".into(),
            patience: 15,
        }
    }
}

impl service::Config for Config {
    const DOCUMENT: &'static str = r#"# Settings of the margay client. Paths are relative to this file.
# Name of the cluster.
cluster = ""
# Addresses of the masters, "host:port".
masters = []
# The cluster's CA, the user's certificate and its private key.
ca = "ca.pem"
cert = "cert.pem"
key = "key.pem"
# Seconds after which the client gives up looking for a master.
patience = 15
"#;
}

impl Config {
    /// Reads the file that applies to this user and returns it with absolute paths.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn find() -> Result<Self, String> {
        let places = Self::places();
        let Some(path) = places.iter().find(|path| path.exists()) else {
            let tried: Vec<_> = places.iter().map(|path| path.display().to_string()).collect();
            return Err(format!(
                "no client configuration (looked for {}); 'margay init' makes one, {VARIABLE} names one",
                tried.join(", ")
            ));
        };
        Self::read(path)
    }

    /// Reads one file.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn read(path: &Path) -> Result<Self, String> {
        let mut config: Self = service::config::load(path).map_err(|error| {
            let source =
                std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            format!("{error}{source}")
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        for file in [&mut config.ca, &mut config.cert, &mut config.key] {
            *file = folder.join(&*file);
        }
        if config.masters.is_empty() {
            return Err(format!("{}: 'masters' names no master", path.display()));
        }
        Ok(config)
    }

    fn places() -> Vec<PathBuf> {
        if let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
            return vec![path.into()];
        }
        let home = std::env::var_os("XDG_CONFIG_HOME")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
        home.into_iter().map(|home| home.join("margay/client.toml")).chain([PathBuf::from(SYSTEM)]).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_document_says_the_defaults() {
        service::config::check_document::<Config>().unwrap();
    }
}
