//! Who a certificate says its holder is: the URI name `margay://<cluster>/<role>/<name>`.

use std::fmt;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{Connection, LinkError};

/// What a peer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A master.
    Master,
    /// A service node.
    ServiceNode,
    /// A node's agent.
    Node,
    /// A person.
    Admin,
}

impl Role {
    /// The word in the certificate.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::ServiceNode => "servicenode",
            Self::Node => "node",
            Self::Admin => "admin",
        }
    }

    /// The role with this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Master, Self::ServiceNode, Self::Node, Self::Admin]
            .into_iter()
            .find(|role| role.word() == word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The name in a certificate of ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The cluster that the holder belongs to.
    pub cluster: String,
    /// What the holder is.
    pub role: Role,
    /// Its name: of the master, the service node, the node, the user.
    pub name: String,
}

impl Identity {
    /// An identity whose parts may stand in a certificate.
    ///
    /// # Errors
    /// When a part is empty, too long, or has a character other than letters, digits and `._-@+`.
    pub fn new(cluster: &str, role: Role, name: &str) -> Result<Self, LinkError> {
        for (what, text) in [("cluster name", cluster), ("name", name)] {
            if !usable(text) {
                return Err(LinkError::Credentials(format!("{what} '{text}' cannot stand in a certificate")));
            }
        }
        Ok(Self { cluster: cluster.to_owned(), role, name: name.to_owned() })
    }

    /// Reads the URI form.
    #[must_use]
    pub fn parse(uri: &str) -> Option<Self> {
        let mut parts = uri.strip_prefix("margay://")?.split('/');
        let (cluster, role, name) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        Self::new(cluster, Role::parse(role)?, name).ok()
    }

    /// Reads the identity from a certificate in DER; the certificate's signature is not looked at here.
    ///
    /// # Errors
    /// When it is no certificate or does not carry exactly one name of ours.
    pub fn from_certificate(der: &[u8]) -> Result<Self, LinkError> {
        let bad = |what: &str| LinkError::Credentials(what.to_owned());
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| bad("the certificate cannot be parsed"))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| bad("the certificate's names cannot be parsed"))?
            .ok_or_else(|| bad("the certificate carries no name of a cluster"))?;
        let mut uris = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        match (uris.next().and_then(Self::parse), uris.next()) {
            (Some(identity), None) => Ok(identity),
            _ => Err(bad("the certificate does not carry exactly one margay:// name")),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "margay://{}/{}/{}", self.cluster, self.role, self.name)
    }
}

/// Who is at the other end.
///
/// # Errors
/// When the other side showed no certificate (enrolment).
pub fn identity(connection: &Connection) -> Result<Identity, LinkError> {
    connection.identity().cloned().ok_or_else(|| LinkError::Refused {
        address: connection.remote_address(),
        reason: "no certificate".to_owned(),
    })
}

fn usable(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@+".contains(&byte);
    !text.is_empty() && text.len() <= 255 && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_identity_survives_its_text() {
        for role in [Role::Master, Role::ServiceNode, Role::Node, Role::Admin] {
            let identity = Identity::new("c1", role, "rack-1.sn_0").unwrap();
            assert_eq!(Identity::parse(&identity.to_string()), Some(identity));
        }
    }

    #[test]
    fn odd_names_are_refused() {
        for uri in [
            "http://c/node/n1",
            "margay://c/node",
            "margay://c/node/",
            "margay://c/king/n1",
            "margay://c/node/n1/x",
            "margay:///node/n1",
            "margay://c/node/n 1",
        ] {
            assert_eq!(Identity::parse(uri), None, "{uri}");
        }
    }
}
