//! A change posted to a web server: one connection, one request, one answer, all of it bounded.
//!
//! Blocks. Certificates are checked against the system's authorities or those of a file that the registration names.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use commands::web::Address;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Most bytes of an answer's head.
const HEAD: usize = 16 * 1024;
/// Where systems keep the certificates of the authorities they trust.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Posts a body; any answer of 200 to 299 is good.
///
/// # Errors
/// One line with the address and what went wrong.
pub fn post(
    text: &str,
    ca: &str,
    headers: &[(String, String)],
    body: &[u8],
    limit: Duration,
) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    let address = Address::parse(text)?;
    let stream = connect(&address, deadline)?;
    let failed = |error: std::io::Error| format!("{text}: {error}");
    let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    stream
        .set_read_timeout(Some(left()))
        .and_then(|()| stream.set_write_timeout(Some(left())))
        .map_err(failed)?;
    let request = head(&address, headers, body.len());
    let head = match address.tls {
        false => converse(stream, &request, body, deadline),
        true => {
            let name = ServerName::try_from(address.host.clone())
                .map_err(|_| format!("{text}: {} is no name that a certificate can have", address.host))?;
            let connection = ClientConnection::new(Arc::new(trust(ca)?), name)
                .map_err(|error| format!("{text}: {error}"))?;
            converse(StreamOwned::new(connection, stream), &request, body, deadline)
        }
    };
    let head = head.map_err(failed)?;
    let line = head.lines().next().unwrap_or_default().trim();
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse::<u16>().ok())
        .filter(|_| line.starts_with("HTTP/1."));
    match status {
        Some(200..=299) => Ok(()),
        Some(300..=399) => {
            Err(format!("{text} answers {line:?}; other addresses are not followed, register them"))
        }
        Some(_) => Err(format!("{text} answers {line:?}")),
        None => Err(format!("{text} does not answer as a web server")),
    }
}

fn connect(address: &Address, deadline: Instant) -> Result<TcpStream, String> {
    let to = format!("{} port {}", address.host, address.port);
    let found =
        (address.host.as_str(), address.port).to_socket_addrs().map_err(|error| format!("{to}: {error}"))?;
    let mut why = format!("{to}: there is no such host");
    for socket in found {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&socket, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => why = format!("{to} ({}): {error}", socket.ip()),
        }
    }
    Err(why)
}

fn head(address: &Address, headers: &[(String, String)], length: usize) -> String {
    let host = if address.host.contains(':') { format!("[{}]", address.host) } else { address.host.clone() };
    let mut text = format!(
        "POST {} HTTP/1.1\r\nHost: {host}:{}\r\nUser-Agent: margay/{}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n",
        address.path,
        address.port,
        env!("CARGO_PKG_VERSION")
    );
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text + "\r\n"
}

/// Sends the request and reads the head of the answer.
fn converse(
    mut stream: impl Read + Write,
    request: &str,
    body: &[u8],
    deadline: Instant,
) -> std::io::Result<String> {
    stream.write_all(request.as_bytes())?;
    stream.write_all(body)?;
    stream.flush()?;
    let mut head = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        if Instant::now() > deadline {
            return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the answer takes too long"));
        }
        let count = match stream.read(&mut buffer) {
            // Many servers close without the last word of TLS; the head has its own end.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => 0,
            other => other?,
        };
        head.extend_from_slice(&buffer[..count]);
        let whole = head.windows(4).any(|end| end == b"\r\n\r\n");
        if whole || count == 0 || head.len() > HEAD {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Whom to trust.
fn trust(ca: &str) -> Result<ClientConfig, String> {
    let path = match ca {
        "" => std::env::var_os("SSL_CERT_FILE")
            .map(PathBuf::from)
            .or_else(|| SYSTEM.iter().map(PathBuf::from).find(|path| path.exists()))
            .ok_or("this system has no list of authorities (ca-certificates); name one with --ca")?,
        ca => PathBuf::from(ca),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots(&path)?).with_no_client_auth())
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let shown = path.display();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| format!("{shown}: {error}"))?;
    let mut roots = RootCertStore::empty();
    // Lists of systems have certificates that are too old to be understood; the others count.
    let (good, _) = roots.add_parsable_certificates(certificates.flatten());
    match good {
        0 => Err(format!("{shown} has no certificate of an authority")),
        _ => Ok(roots),
    }
}
