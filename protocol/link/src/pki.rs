//! Keys and certificates: the cluster's CA, the certificates it issues, the keys that nodes make.
//!
//! Every key is P-256. A certificate names exactly one [`Identity`] and may be used on both sides of a
//! connection. Times are seconds since 1970.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
    SubjectPublicKeyInfo,
};

use crate::{Credentials, Identity, LinkError, Role, tls};

/// How long before "now" a certificate starts: clocks differ.
const SKEW: Duration = Duration::from_secs(3600);
/// The CA lives for ten years.
const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);
/// A certificate request or public key is never longer.
pub const MAX_REQUEST: usize = 8 * 1024;

/// The cluster's certificate authority.
pub struct Authority {
    cluster: String,
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new authority for a new cluster.
    ///
    /// # Errors
    /// When the cluster's name cannot stand in a certificate.
    pub fn create(cluster: &str, now: u64) -> Result<Self, LinkError> {
        Identity::new(cluster, Role::Master, "ca")?;
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&format!("{cluster} margay CA"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial());
        dates(&mut params, now, CA_LIFETIME);
        let ca_pem = params.self_signed(&key).map_err(failed)?.pem();
        Ok(Self { cluster: cluster.to_owned(), ca_pem, issuer: Issuer::new(params, key) })
    }

    /// The authority from its files.
    ///
    /// # Errors
    /// When one of them cannot be parsed.
    pub fn load(cluster: &str, ca_pem: &str, key_pem: &str) -> Result<Self, LinkError> {
        let key = KeyPair::from_pem(key_pem).map_err(failed)?;
        let issuer = Issuer::from_ca_cert_pem(ca_pem, key).map_err(failed)?;
        Ok(Self { cluster: cluster.to_owned(), ca_pem: ca_pem.to_owned(), issuer })
    }

    /// The CA certificate.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The CA's private key, to be written to a file only root can read.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// The cluster this authority speaks for.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// A certificate for the holder of a public key (DER of its SubjectPublicKeyInfo).
    ///
    /// # Errors
    /// When the key or the name cannot be used.
    pub fn issue(
        &self,
        role: Role,
        name: &str,
        public_key: &[u8],
        now: u64,
        lifetime: Duration,
    ) -> Result<String, LinkError> {
        if public_key.len() > MAX_REQUEST {
            return Err(LinkError::Credentials(format!("a public key of {} bytes", public_key.len())));
        }
        let key = SubjectPublicKeyInfo::from_der(public_key).map_err(failed)?;
        self.sign(role, name, &key, now, lifetime)
    }

    /// A certificate for the sender of a certificate request (DER). Of the request only the key counts,
    /// after its signature has been checked.
    ///
    /// # Errors
    /// When the request is malformed or not signed by its key, or the name cannot be used.
    pub fn issue_request(
        &self,
        role: Role,
        name: &str,
        request: &[u8],
        now: u64,
        lifetime: Duration,
    ) -> Result<String, LinkError> {
        if request.len() > MAX_REQUEST {
            return Err(LinkError::Credentials(format!("a certificate request of {} bytes", request.len())));
        }
        let request = CertificateSigningRequestParams::from_der(&request.into()).map_err(failed)?;
        self.sign(role, name, &request.public_key, now, lifetime)
    }

    /// A fresh key with its certificate: for masters, service nodes and admins of `init`, and for tests.
    ///
    /// # Errors
    /// When the name cannot be used.
    pub fn credentials(
        &self,
        role: Role,
        name: &str,
        now: u64,
        lifetime: Duration,
    ) -> Result<Credentials, LinkError> {
        let key = Key::generate()?;
        let cert_pem = self.issue(role, name, &key.public_der, now, lifetime)?;
        Ok(Credentials { ca_pem: self.ca_pem.clone(), cert_pem, key_pem: key.key_pem })
    }

    fn sign(
        &self,
        role: Role,
        name: &str,
        key: &impl PublicKeyData,
        now: u64,
        lifetime: Duration,
    ) -> Result<String, LinkError> {
        let identity = Identity::new(&self.cluster, role, name)?;
        let uri = identity.to_string().try_into().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(name);
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(serial());
        dates(&mut params, now, lifetime);
        Ok(params.signed_by(key, &self.issuer).map_err(failed)?.pem())
    }
}

/// A fresh private key and what proves it.
#[derive(Clone)]
pub struct Key {
    /// The private key; it never leaves the machine that made it.
    pub key_pem: String,
    /// The public key as DER of its SubjectPublicKeyInfo.
    pub public_der: Vec<u8>,
    /// A certificate request (DER), signed by the key.
    pub request_der: Vec<u8>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("public_der", &self.public_der.len()).finish_non_exhaustive()
    }
}

impl Key {
    /// A fresh key of this machine.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn generate() -> Result<Self, LinkError> {
        let pair = KeyPair::generate().map_err(failed)?;
        Self::of(&pair)
    }

    /// The key from its file.
    ///
    /// # Errors
    /// When it cannot be parsed.
    pub fn load(key_pem: &str) -> Result<Self, LinkError> {
        Self::of(&KeyPair::from_pem(key_pem).map_err(failed)?)
    }

    fn of(pair: &KeyPair) -> Result<Self, LinkError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("margay");
        let request = params.serialize_request(pair).map_err(failed)?;
        Ok(Self {
            key_pem: pair.serialize_pem(),
            public_der: pair.subject_public_key_info(),
            request_der: request.der().to_vec(),
        })
    }
}

/// The pin of a cluster: SHA-256 of the CA certificate's DER.
///
/// # Errors
/// When the text holds no certificate.
pub fn pin(ca_pem: &str) -> Result<[u8; 32], LinkError> {
    Ok(digest(&tls::certificates(ca_pem)?[0]))
}

/// The pin as it stands on the kernel command line.
///
/// # Errors
/// As [`pin`].
pub fn pin_hex(ca_pem: &str) -> Result<String, LinkError> {
    Ok(pin(ca_pem)?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Reads a pin from the kernel command line.
#[must_use]
pub fn parse_pin(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let mut pin = [0; 32];
    for (index, byte) in pin.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(pin)
}

/// When a certificate ends, in seconds since 1970.
///
/// # Errors
/// When the text holds no certificate.
pub fn expires(cert_pem: &str) -> Result<u64, LinkError> {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let der = tls::certificates(cert_pem)?;
    let (_, parsed) = X509Certificate::from_der(&der[0])
        .map_err(|_| LinkError::Credentials("the certificate cannot be parsed".to_owned()))?;
    Ok(u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0))
}

/// SHA-256 of the public key (SubjectPublicKeyInfo) in a certificate's DER, as hexadecimal.
///
/// # Errors
/// When the bytes are no certificate.
pub fn key_fingerprint(certificate: &[u8]) -> Result<String, LinkError> {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|_| LinkError::Credentials("the certificate cannot be parsed".to_owned()))?;
    Ok(digest(parsed.public_key().raw).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// SHA-256.
#[must_use]
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn failed(error: rcgen::Error) -> LinkError {
    LinkError::Credentials(error.to_string())
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    // RFC 5280: at most 64 characters. The URI name is what counts.
    subject.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    subject
}

fn serial() -> SerialNumber {
    let mut bytes = service::random::bytes::<16>();
    bytes[0] &= 0x7f;
    SerialNumber::from_slice(&bytes)
}

fn dates(params: &mut CertificateParams, now: u64, lifetime: Duration) {
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now);
    params.not_before = now - SKEW;
    params.not_after = now + lifetime;
}
