//! Fetches a file over plain HTTP: what `runimage=http://...` names.

use std::path::Path;
use std::time::Duration;

use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// No image is larger.
const MAX_SIZE: u64 = 16 * 1024 * 1024 * 1024;
/// A server that is silent for so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// A transfer that was cut is begun anew so often.
const ATTEMPTS: u32 = 3;
/// Longest line of an answer's head, and most lines.
const MAX_LINE: u64 = 8 * 1024;
const MAX_LINES: usize = 100;

/// Fetches `url` into the file `to`.
///
/// # Errors
/// A sentence with what went wrong.
pub async fn fetch(url: &str, to: &Path) -> Result<(), String> {
    let mut last = Err("not tried".to_owned());
    for _ in 0..ATTEMPTS {
        last = attempt(url, to).await;
        if last.is_ok() {
            break;
        }
    }
    last
}

async fn attempt(url: &str, to: &Path) -> Result<(), String> {
    let rest = url.strip_prefix("http://").ok_or("only http:// addresses can be fetched")?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if rest.contains(|c: char| c.is_whitespace() || c.is_control()) || host.is_empty() {
        return Err("not a usable address".to_owned());
    }
    let path = if path.is_empty() { "/" } else { path };
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let words = |error: std::io::Error| format!("{host}: {error}");
    let silent = || format!("{host}: silent for {} s", PATIENCE.as_secs());
    let stream = TcpStream::connect(&address);
    let mut stream = tokio::time::timeout(PATIENCE, stream).await.map_err(|_| silent())?.map_err(words)?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(words)?;
    let mut reader = BufReader::new(stream);
    let head = tokio::time::timeout(PATIENCE, head(&mut reader)).await.map_err(|_| silent())??;
    let mut file = File::create(to).await.map_err(words)?;
    let mut buffer = vec![0; 64 * 1024];
    let mut got: u64 = 0;
    loop {
        let read = tokio::time::timeout(PATIENCE, reader.read(&mut buffer)).await;
        let count = read.map_err(|_| silent())?.map_err(words)?;
        if count == 0 {
            break;
        }
        got += count as u64;
        if got > MAX_SIZE {
            return Err(format!("{host}: larger than {MAX_SIZE} bytes"));
        }
        file.write_all(&buffer[..count]).await.map_err(words)?;
    }
    file.flush().await.map_err(words)?;
    match head {
        Some(length) if length != got => Err(format!("{host}: cut after {got} of {length} bytes")),
        _ => Ok(()),
    }
}

/// Reads status and headers; gives the announced length.
async fn head(reader: &mut BufReader<TcpStream>) -> Result<Option<u64>, String> {
    let mut length = None;
    for number in 0..MAX_LINES {
        let mut line = String::new();
        let read = (&mut *reader).take(MAX_LINE).read_line(&mut line).await;
        read.map_err(|error| error.to_string())?;
        let line = line.trim_end();
        if number == 0 {
            match line.split(' ').nth(1) {
                Some("200") => {}
                _ => return Err(format!("the server answered '{}'", line.escape_debug())),
            }
        } else if line.is_empty() {
            return Ok(length);
        } else if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok();
        }
    }
    Err("the answer's head is too long".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::net::TcpListener;

    use super::*;

    async fn serve(answers: Vec<&'static [u8]>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        service::Drain::new().spawn("server", async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 1024];
                let _ = stream.read(&mut buffer).await.unwrap();
                stream.write_all(answer).await.unwrap();
            }
        });
        format!("http://{address}/image.tar")
    }

    #[tokio::test]
    async fn a_cut_transfer_is_begun_anew() {
        let whole: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let cut: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel";
        let url = serve(vec![cut, whole]).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fetch(&url, &path).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"hello");
    }

    #[tokio::test]
    async fn what_is_not_there_is_an_error_with_the_servers_words() {
        let missing: &[u8] = b"HTTP/1.1 404 Not Found\r\n\r\n";
        let url = serve(vec![missing; 3]).await;
        let folder = tempfile::tempdir().unwrap();
        let error = fetch(&url, &folder.path().join("x")).await.unwrap_err();
        assert!(error.contains("404"), "{error}");
        assert!(fetch("ftp://x/y", &folder.path().join("x")).await.is_err());
    }
}
