//! A new service node exchanges its join token for a certificate.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use link::pki::{self, Key};
use link::{Credentials, Endpoint, Role};
use wire::rack::{FromRack, JoinAnswer, JoinRequest};

use crate::uplink;

/// A master that does not answer by then is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// So often we follow "ask the leader instead".
const HOPS: usize = 8;

/// Joins: the state folder holds identity and masters afterwards.
///
/// # Errors
/// When no master admits us; nothing is written then.
pub async fn join(state: &Path, name: &str, token: &str, masters: &[String], pin: &str) -> Result<()> {
    wire::names::check_name("service node name", name)?;
    let pin = pki::parse_pin(pin).context("the CA pin is not 64 hexadecimal digits")?;
    let key = Key::generate()?;
    let endpoint = Endpoint::client_anywhere()?;
    let mut waiting: Vec<String> = masters.iter().rev().cloned().collect();
    let mut last = anyhow::anyhow!("no master was named");
    for _ in 0..HOPS {
        let Some(master) = waiting.pop() else { break };
        let request = JoinRequest {
            name: name.to_owned(),
            token: token.to_owned(),
            public_key: key.public_der.clone(),
        };
        match ask(&endpoint, &master, pin, request).await {
            Ok(JoinAnswer::Joined { certificate, ca, masters }) => {
                let credentials = Credentials { ca_pem: ca, cert_pem: certificate, key_pem: key.key_pem };
                return keep(state, name, pin, &credentials, &masters);
            }
            Ok(JoinAnswer::Refused(reason)) => bail!("refused: {reason}"),
            Ok(JoinAnswer::NotLeader(leader)) => {
                last = anyhow::anyhow!("{master} does not lead and knows no leader");
                if leader.is_empty() {
                    waiting.insert(0, master);
                    tokio::time::sleep(Duration::from_millis(500)).await;
                } else {
                    waiting.push(leader);
                }
            }
            Err(error) => last = error.context(master),
        }
    }
    Err(last)
}

async fn ask(endpoint: &Endpoint, master: &str, pin: [u8; 32], request: JoinRequest) -> Result<JoinAnswer> {
    let addresses = uplink::resolve(master).await.context("the name cannot be resolved")?;
    let address = addresses.first().context("the name has no address")?;
    let connection = endpoint.dial_pinned(*address, pin, wire::ALPN_ENROL).await?;
    let mut exchange = connection.open().await?;
    Ok(exchange.ask(&FromRack::Join(request), PATIENCE).await?)
}

fn keep(
    state: &Path,
    name: &str,
    pin: [u8; 32],
    credentials: &Credentials,
    masters: &[String],
) -> Result<()> {
    if pki::pin(&credentials.ca_pem)? != pin {
        bail!("the master's answer brings another CA than the pinned one");
    }
    let identity = credentials.identity()?;
    if identity.role != Role::ServiceNode || identity.name != name {
        bail!("the certificate names {identity}");
    }
    fs::create_dir_all(state).with_context(|| state.display().to_string())?;
    for (file, text) in [
        ("key.pem", &credentials.key_pem),
        ("cert.pem", &credentials.cert_pem),
        ("ca.pem", &credentials.ca_pem),
    ] {
        let path = state.join(file);
        let fresh = state.join(format!("{file}.new"));
        let write = || -> std::io::Result<()> {
            let mut out =
                fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
            out.write_all(text.as_bytes())?;
            out.sync_all()?;
            fs::rename(&fresh, &path)
        };
        write().with_context(|| path.display().to_string())?;
    }
    uplink::keep_masters(&state.join("masters"), masters).context("masters")?;
    Ok(())
}
