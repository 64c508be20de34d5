//! TLS in front of a server that speaks none: its certificate is for `mcp`, `hook` and `model.example`, and is signed by
//! [`AUTHORITY`], whose own key was thrown away. Both are good until 2126.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The file with the certificate of the authority: for `SSL_CERT_FILE` of whoever shall trust the server.
pub const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tls/authority.pem");
const CERTIFICATE: &[u8] = include_bytes!("../fixtures/tls/server.pem");
const KEY: &[u8] = include_bytes!("../fixtures/tls/server.key");

/// A running front. Dropping it stops it.
#[derive(Debug)]
pub struct TlsFront {
    /// Where it listens, on the loopback.
    pub address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TlsFront {
    /// TLS before the server at `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE).expect("the certificate is PEM");
        let key = PrivateKeyDer::from_pem_slice(KEY).expect("the key is PEM");
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has the usual versions of TLS")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("the key is the certificate's");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a socket on the loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // A client that trusts somebody else breaks off.
                tokio::spawn(serve(client, acceptor.clone(), target));
            }
        });
        Self { address, task }
    }
}

async fn serve(client: TcpStream, acceptor: TlsAcceptor, target: SocketAddr) -> std::io::Result<()> {
    let mut client = acceptor.accept(client).await?;
    let mut server = TcpStream::connect(target).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
