//! A TCP relay that stands for the network between the devices and the server, and can be cut.

use crate::error::Failure;
use std::net::SocketAddr;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// A relay to one upstream address. Ends, with every connection, when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    cut: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free loopback port and relays to `upstream`.
    ///
    /// # Errors
    /// When no port can be had.
    pub(crate) async fn start(upstream: SocketAddr) -> Result<Self, Failure> {
        let failed = |e| Failure::failed(format!("listening for the relay to {upstream}"), e);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let cut = watch::Sender::new(false);
        let accepting = tokio::spawn(accept(listener, upstream, cut.subscribe()));
        Ok(Self { address, cut, accepting })
    }

    /// Where devices connect.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every connection, and every new one at once, until [`Self::restore`].
    pub(crate) fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// Relays new connections again.
    pub(crate) fn restore(&self) {
        self.cut.send_replace(false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, cut: watch::Receiver<bool>) {
    loop {
        // A failed accept concerns one connection, or a shortage that passes.
        let Ok((client, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        tokio::spawn(relay(client, upstream, cut.clone()));
    }
}

/// Relays one connection until either side ends or the network is cut; both ends close with it.
async fn relay(mut client: TcpStream, upstream: SocketAddr, mut cut: watch::Receiver<bool>) {
    let through = async {
        let mut server = TcpStream::connect(upstream).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        tokio::io::copy_bidirectional(&mut client, &mut server).await
    };
    tokio::select! {
        biased;
        // The sender is gone only when the relay is; that closes the connection too.
        _ = cut.wait_for(|cut| *cut) => {}
        // An error of one relayed connection is seen by its two ends.
        _ = through => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Answers every byte with itself.
    async fn echo_server() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("binds");
        let address = listener.local_addr().expect("has an address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        address
    }

    async fn echoes(stream: &mut TcpStream) -> bool {
        let mut byte = [0];
        stream.write_all(b"x").await.is_ok() && stream.read_exact(&mut byte).await.is_ok() && byte == *b"x"
    }

    #[tokio::test]
    async fn a_cut_closes_old_and_new_connections_until_restored() {
        let proxy = Proxy::start(echo_server().await).await.expect("starts");
        let mut old = TcpStream::connect(proxy.address()).await.expect("connects");
        assert!(echoes(&mut old).await);

        proxy.cut();
        assert!(!matches!(old.read(&mut [0]).await, Ok(n) if n > 0), "closed without data");
        // The kernel may accept before the relay closes; no byte comes back either way.
        if let Ok(mut new) = TcpStream::connect(proxy.address()).await {
            assert!(!echoes(&mut new).await);
        }

        proxy.restore();
        let mut again = TcpStream::connect(proxy.address()).await.expect("connects again");
        assert!(echoes(&mut again).await);
        assert!(!echoes(&mut old).await, "what was cut stays cut");
    }

    #[tokio::test]
    async fn dropping_the_relay_closes_its_connections() {
        let proxy = Proxy::start(echo_server().await).await.expect("starts");
        let mut stream = TcpStream::connect(proxy.address()).await.expect("connects");
        assert!(echoes(&mut stream).await);
        drop(proxy);
        assert!(!matches!(stream.read(&mut [0]).await, Ok(n) if n > 0));
    }
}
