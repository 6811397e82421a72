//! The HTTP client of a loader: one GET per connection, a known length.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Fault, host_of};

/// Largest kernel or initial file system.
pub const FILE_LIMIT: usize = 512 * 1024 * 1024;
const HEAD_LIMIT: usize = 16 * 1024;
const PATIENCE: Duration = Duration::from_secs(60);

/// Fetches a URL of at most `limit` bytes.
///
/// # Errors
/// [`Fault`] with the URL and what went wrong.
pub async fn get(url: &str, limit: usize) -> Result<Vec<u8>, Fault> {
    timeout(PATIENCE, fetch(url, limit))
        .await
        .map_err(|_| Fault::Silence { what: "HTTP GET", whom: url.to_owned() })?
}

async fn fetch(url: &str, limit: usize) -> Result<Vec<u8>, Fault> {
    let refused = |answer: &str| Fault::Refused {
        what: "HTTP GET".to_owned(),
        whom: url.to_owned(),
        answer: answer.to_owned(),
    };
    let (address, port, path) = host_of(url).ok_or_else(|| refused("this is no URL of ours"))?;
    let mut stream =
        TcpStream::connect((address, port)).await.map_err(Fault::system(format!("connecting for {url}")))?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: iPXE/1.0.0+\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(Fault::system(format!("asking for {url}")))?;
    let mut bytes = Vec::new();
    let mut buffer = vec![0u8; 64 * 1024];
    let (mut head, mut wanted) = (None, usize::MAX);
    while head.is_none() || bytes.len() < wanted {
        let length = stream.read(&mut buffer).await.map_err(Fault::system(format!("reading {url}")))?;
        if length == 0 {
            break;
        }
        bytes.extend_from_slice(&buffer[..length]);
        if head.is_none() {
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
                if bytes.len() > HEAD_LIMIT {
                    return Err(refused("a head without end"));
                }
                continue;
            };
            let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = judge(&text).map_err(|answer| refused(&answer))?;
            if length > limit {
                return Err(refused("more bytes than wanted"));
            }
            wanted = end + 4 + length;
            head = Some(end + 4);
        }
    }
    match head {
        Some(start) if bytes.len() >= wanted => Ok(bytes[start..wanted].to_vec()),
        _ => Err(refused("less than it announced")),
    }
}

/// The length that a good head announces, or the status line of a bad one.
fn judge(head: &str) -> Result<usize, String> {
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(status.to_owned());
    }
    lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .ok_or_else(|| "no content-length".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_good_head_with_a_length_is_taken() {
        assert_eq!(judge("HTTP/1.1 200 OK\r\ncontent-length: 7"), Ok(7));
        assert_eq!(
            judge("HTTP/1.1 404 Not Found\r\nContent-Length: 7"),
            Err("HTTP/1.1 404 Not Found".into())
        );
        assert_eq!(judge("HTTP/1.1 200 OK"), Err("no content-length".into()));
    }
}
