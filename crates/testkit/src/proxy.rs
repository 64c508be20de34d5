//! An HTTP proxy: `CONNECT` for https, whole addresses for http. It knows a few names of the test's, and nobody else does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::server::Log;

/// A request as the proxy got it.
#[derive(Clone, Debug)]
pub struct Proxied {
    /// Its first line: `CONNECT mcp.example:443 HTTP/1.1`.
    pub line: String,
    /// Its headers, each as it came.
    pub headers: Vec<String>,
    /// The first bytes that went through the tunnel; of a request that is no `CONNECT`: none.
    pub tunnelled: Vec<u8>,
}

/// A running proxy. Dropping it stops it.
#[derive(Debug)]
pub struct FakeProxy {
    /// Where it listens, on the loopback.
    pub address: SocketAddr,
    seen: Arc<Log<Proxied>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for FakeProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeProxy {
    /// A proxy that knows these names. Whoever wants to go elsewhere is refused with 407.
    pub async fn to<const N: usize>(names: [(&str, SocketAddr); N]) -> Self {
        let names: BTreeMap<String, SocketAddr> =
            names.into_iter().map(|(name, address)| (name.to_owned(), address)).collect();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a socket on the loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let seen = Arc::<Log<Proxied>>::default();
        let log = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // A client that breaks off is a client that breaks off.
                tokio::spawn(serve(client, names.clone(), Arc::clone(&log)));
            }
        });
        Self { address, seen, task }
    }

    /// All requests so far, in order; of a tunnel once something came through it.
    pub fn requests(&self) -> Vec<Proxied> {
        self.seen.all()
    }
}

async fn serve(
    mut client: TcpStream,
    names: BTreeMap<String, SocketAddr>,
    log: Arc<Log<Proxied>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut lines = text.lines().map(str::to_owned);
    let line = lines.next().unwrap_or_default();
    let headers = lines.filter(|line| !line.is_empty()).collect();
    let is_tunnel = line.starts_with("CONNECT ");
    let wanted = line.split(' ').nth(1).unwrap_or_default().trim_start_matches("http://");
    let host = wanted.split([':', '/']).next().unwrap_or_default();
    let target = names.get(host).copied();
    let mut proxied = Proxied { line, headers, tunnelled: Vec::new() };
    let Some(target) = target else {
        log.push(proxied);
        return client
            .write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
            .await;
    };
    let mut server = TcpStream::connect(target).await?;
    if is_tunnel {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
        let mut first = vec![0; 4096];
        let read = client.read(&mut first).await?;
        first.truncate(read);
        proxied.tunnelled = first.clone();
        log.push(proxied);
        server.write_all(&first).await?;
    } else {
        log.push(proxied);
        server.write_all(&head).await?;
    }
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
