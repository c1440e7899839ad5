//! A TCP proxy between the functions and a store that can delay or hold bytes.
//!
//! Sent bytes always arrive, in order, even if their sender has given up and disconnected: a call that timed out can
//! take effect long after its batch was redelivered.
use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use local_stores::upstream::Upstream;

const BUFFER_BYTES: usize = 64 * 1024;

/// The mode in which bytes pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Passage {
    /// Without delay.
    #[default]
    Immediate,
    /// Each chunk after this delay.
    Delayed(Duration),
    /// Held until the mode changes.
    Held,
    /// Held on connections that are open already; without delay on later ones.
    HeldExisting,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    passage: Passage,
    /// Connections accepted so far.
    accepted: u64,
    /// Connections accepted before the mode was set.
    accepted_before: u64,
    /// Chunks read and not yet written.
    in_flight: u64,
}

impl State {
    fn holds(&self, connection: u64) -> bool {
        match self.passage {
            Passage::Immediate | Passage::Delayed(_) => false,
            Passage::Held => true,
            Passage::HeldExisting => connection <= self.accepted_before,
        }
    }
}

/// A proxy that accepts connections until dropped.
#[derive(Debug)]
pub struct StoreProxy {
    /// Port on 127.0.0.1.
    pub port: u16,
    state: Arc<watch::Sender<State>>,
    listener: tokio::task::JoinHandle<()>,
}

impl StoreProxy {
    /// Starts the proxy on a free port.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(upstream: Upstream) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for a proxy")?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(watch::Sender::new(State::default()));
        let shared = Arc::clone(&state);
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                shared.send_modify(|state| state.accepted += 1);
                let number = shared.borrow().accepted;
                let connection = Connection { number, state: Arc::clone(&shared) };
                tokio::spawn(connection.relay(client, upstream.clone()));
            }
        });
        Ok(Self { port, state, listener })
    }

    /// Sets the mode of open and later connections.
    pub fn set(&self, passage: Passage) {
        self.state.send_modify(|state| (state.passage, state.accepted_before) = (passage, state.accepted));
    }

    /// Waits until every chunk read has been written.
    pub async fn flushed(&self) {
        let mut changes = self.state.subscribe();
        // No error can occur: `self` holds the sender.
        drop(changes.wait_for(|state| state.in_flight == 0).await);
    }
}

impl Drop for StoreProxy {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

#[derive(Clone)]
struct Connection {
    number: u64,
    state: Arc<watch::Sender<State>>,
}

impl Connection {
    /// Relays a connection. Closes it if the server is down, as a stopped server refuses connections.
    async fn relay(self, client: TcpStream, upstream: Upstream) {
        let Ok(server) = upstream.connect().await else { return };
        // Packets are small both ways: Nagle's algorithm would add a fault of its own.
        let _slower = client.set_nodelay(true);
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = tokio::io::split(server);
        tokio::join!(self.pass(from_client, to_server), self.pass(from_server, to_client));
    }

    async fn pass(&self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut is_open = true;
        let mut changes = self.state.subscribe();
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let passage = changes.borrow_and_update().passage;
            if passage != Passage::Immediate {
                self.count(|in_flight| in_flight + 1);
                if let Passage::Delayed(delay) = passage {
                    tokio::time::sleep(delay).await;
                }
                // No error can occur: `self` holds the sender.
                drop(changes.wait_for(|state| !state.holds(self.number)).await);
            }
            // Keep reading after a failed write: closing now might discard bytes just delivered in the other
            // direction.
            is_open = is_open && to.write_all(&buffer[..read]).await.is_ok();
            if passage != Passage::Immediate {
                self.count(|in_flight| in_flight - 1);
            }
        }
        // An error means that the other side has disconnected as well.
        let _gone = to.shutdown().await;
    }

    /// Updates the number of chunks in flight. Tasks that wait for the mode wake up in vain, which is rare.
    fn count(&self, change: impl Fn(u64) -> u64) {
        self.state.send_modify(|state| state.in_flight = change(state.in_flight));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts an echo server.
    async fn echo() -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = client.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        Upstream::Port(port)
    }

    #[tokio::test]
    async fn held_bytes_arrive_when_released() {
        let proxy = StoreProxy::start(echo().await).await.unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        let mut answer = [0; 4];
        client.write_all(b"one!").await.unwrap();
        client.read_exact(&mut answer).await.unwrap();
        proxy.set(Passage::Held);
        client.write_all(b"two!").await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(50), client.read_exact(&mut answer)).await;
        assert!(early.is_err());
        proxy.set(Passage::Delayed(Duration::from_millis(1)));
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"two!");
    }

    #[tokio::test]
    async fn only_open_connections_can_be_held() {
        let proxy = StoreProxy::start(echo().await).await.unwrap();
        let mut before = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        let mut answer = [0; 4];
        before.write_all(b"one!").await.unwrap();
        before.read_exact(&mut answer).await.unwrap();
        proxy.set(Passage::HeldExisting);
        before.write_all(b"two!").await.unwrap();
        let mut after = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        after.write_all(b"new!").await.unwrap();
        after.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"new!");
        proxy.set(Passage::Immediate);
        before.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"two!");
        proxy.flushed().await;
    }

    #[tokio::test]
    async fn bytes_of_a_disconnected_sender_arrive() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Upstream::Port(listener.local_addr().unwrap().port());
        let proxy = StoreProxy::start(upstream).await.unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        proxy.set(Passage::Held);
        client.write_all(b"late").await.unwrap();
        drop(client);
        proxy.set(Passage::Immediate);
        let mut received = String::new();
        server.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "late");
    }
}
