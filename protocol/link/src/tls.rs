//! TLS 1.3 for QUIC: our CA only, P-256, both sides with certificates, no resumption, no early data.
//!
//! The enrolment conversation is the exception: there only the server has a certificate, and the client
//! knows nothing but the SHA-256 of the cluster's CA certificate.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{Identity, LinkError, Role, pki};

/// What one side shows and whom it trusts.
#[derive(Clone)]
pub struct Credentials {
    /// The cluster's CA certificate (during a rotation: all of them).
    pub ca_pem: String,
    /// This side's own certificate.
    pub cert_pem: String,
    /// The private key of it.
    pub key_pem: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("identity", &self.identity().ok()).finish_non_exhaustive()
    }
}

impl Credentials {
    /// The identity in the own certificate.
    ///
    /// # Errors
    /// When the certificate is not one of ours.
    pub fn identity(&self) -> Result<Identity, LinkError> {
        let own = certificates(&self.cert_pem)?;
        Identity::from_certificate(own.first().map_or(&[][..], |der| der.as_ref()))
    }

    /// Reads the three files.
    ///
    /// # Errors
    /// When one cannot be read, or they do not fit together.
    pub fn from_files(
        ca: &std::path::Path,
        cert: &std::path::Path,
        key: &std::path::Path,
    ) -> Result<Self, LinkError> {
        let read = |path: &std::path::Path| {
            std::fs::read_to_string(path)
                .map_err(|error| LinkError::Credentials(format!("{}: {error}", path.display())))
        };
        let credentials = Self { ca_pem: read(ca)?, cert_pem: read(cert)?, key_pem: read(key)? };
        credentials.identity()?;
        Ok(credentials)
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, LinkError> {
        let mut chain = certificates(&self.cert_pem)?;
        // Who enrols knows only the CA's hash, so the CA itself is shown too.
        for ca in certificates(&self.ca_pem)? {
            if !chain.contains(&ca) {
                chain.push(ca);
            }
        }
        Ok(chain)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, LinkError> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .map_err(|error| LinkError::Credentials(format!("private key: {error}")))
    }

    fn roots(&self) -> Result<RootCertStore, LinkError> {
        let mut roots = RootCertStore::empty();
        for ca in certificates(&self.ca_pem)? {
            roots.add(ca).map_err(|error| LinkError::Credentials(format!("CA: {error}")))?;
        }
        Ok(roots)
    }
}

/// The server side. A client without a certificate passes TLS; [`crate::Arrival::complete`] lets it in
/// for enrolment only.
pub(crate) fn server(credentials: &Credentials, alpns: &[&[u8]]) -> Result<QuicServerConfig, LinkError> {
    let provider = provider();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(credentials.roots()?), provider.clone())
            .clear_root_hint_subjects()
            .allow_unauthenticated()
            .build()
            .map_err(|error| LinkError::Credentials(format!("CA: {error}")))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(credentials.chain()?, credentials.key()?)
        .map_err(unusable)?;
    config.alpn_protocols = alpns.iter().map(|alpn| alpn.to_vec()).collect();
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    QuicServerConfig::try_from(config).map_err(|error| LinkError::Credentials(error.to_string()))
}

/// The client side of an authenticated conversation.
pub(crate) fn client(
    credentials: &Credentials,
    alpn: &[u8],
    role: Role,
    name: Option<&str>,
) -> Result<QuicClientConfig, LinkError> {
    let trust =
        Trust::Authority { roots: credentials.roots()?, cluster: credentials.identity()?.cluster, role };
    let verifier = PeerVerifier { provider: provider(), trust, name: name.map(str::to_owned) };
    let config = builder(verifier)?
        .with_client_auth_cert(credentials.chain()?, credentials.key()?)
        .map_err(unusable)?;
    finish(config, alpn)
}

/// The client side of an enrolment: no certificate yet, the CA known by its hash, dates not looked at.
pub(crate) fn pinned(pin: [u8; 32], alpn: &[u8]) -> Result<QuicClientConfig, LinkError> {
    let verifier = PeerVerifier { provider: provider(), trust: Trust::Pin(pin), name: None };
    finish(builder(verifier)?.with_no_client_auth(), alpn)
}

/// All certificates of a PEM text; never none.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, LinkError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(LinkError::Credentials("no certificate in the PEM text".to_owned())),
        Err(error) => Err(LinkError::Credentials(format!("certificate: {error}"))),
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn unusable(error: Error) -> LinkError {
    LinkError::Credentials(error.to_string())
}

type Builder = rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert>;

fn builder(verifier: PeerVerifier) -> Result<Builder, LinkError> {
    Ok(rustls::ClientConfig::builder_with_provider(verifier.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

fn finish(mut config: rustls::ClientConfig, alpn: &[u8]) -> Result<QuicClientConfig, LinkError> {
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    QuicClientConfig::try_from(config).map_err(|error| LinkError::Credentials(error.to_string()))
}

/// Checks a server: signed by our CA, of our cluster, in the expected role (and of the expected name).
/// The DNS name plays no part.
#[derive(Debug)]
struct PeerVerifier {
    provider: Arc<CryptoProvider>,
    trust: Trust,
    name: Option<String>,
}

#[derive(Debug)]
enum Trust {
    Authority { roots: RootCertStore, cluster: String, role: Role },
    Pin([u8; 32]),
}

impl PeerVerifier {
    fn chain(
        &self,
        end_entity: &CertificateDer<'_>,
        roots: &RootCertStore,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let refuse = |text: String| Error::General(text);
        match &self.trust {
            Trust::Authority { roots, cluster, role } => {
                self.chain(end_entity, roots, intermediates, now)?;
                let found = Identity::from_certificate(end_entity).map_err(|e| refuse(e.to_string()))?;
                let named = self.name.as_ref().is_none_or(|name| *name == found.name);
                if found.cluster != *cluster || found.role != *role || !named {
                    let name = self.name.as_deref().unwrap_or("*");
                    return Err(refuse(format!("wanted margay://{cluster}/{role}/{name}, it is {found}")));
                }
            }
            Trust::Pin(pin) => {
                let ca = intermediates
                    .iter()
                    .find(|certificate| pki::digest(certificate) == *pin)
                    .ok_or_else(|| refuse("the server does not show the pinned CA".to_owned()))?;
                let mut roots = RootCertStore::empty();
                roots.add(ca.clone().into_owned())?;
                // The clock of a machine with an empty battery is wrong: judge the dates as of the day
                // that the certificate was made.
                self.chain(end_entity, &roots, &[], not_before(end_entity)?)?;
                let found = Identity::from_certificate(end_entity).map_err(|e| refuse(e.to_string()))?;
                if !matches!(found.role, Role::Master | Role::ServiceNode) {
                    return Err(refuse(format!("a {} cannot enrol anybody", found.role)));
                }
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn not_before(certificate: &CertificateDer<'_>) -> Result<UnixTime, Error> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|_| Error::General("the certificate cannot be parsed".to_owned()))?;
    let seconds = u64::try_from(parsed.validity().not_before.timestamp()).unwrap_or(0);
    Ok(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
}
