//! Stands between the functions and a store: passes bytes on, late, or not for a time.
//!
//! What has been sent arrives, in order, even when its sender has given up and gone: so a call that timed out takes
//! effect long after the batch has come again.
use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use local_stores::upstream::Upstream;

const BUFFER_BYTES: usize = 64 * 1024;

/// How bytes pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Passage {
    /// At once.
    #[default]
    Free,
    /// Each piece after this time.
    Late(Duration),
    /// Not at all, until the passage changes.
    Held,
    /// Not at all on connections that were there already; at once on later ones.
    HeldSoFar,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    passage: Passage,
    /// Connections accepted so far.
    accepted: u64,
    /// Connections accepted when the passage was set.
    accepted_before: u64,
    /// Pieces read and not yet written.
    on_the_way: u64,
}

impl State {
    fn holds(&self, connection: u64) -> bool {
        match self.passage {
            Passage::Free | Passage::Late(_) => false,
            Passage::Held => true,
            Passage::HeldSoFar => connection <= self.accepted_before,
        }
    }
}

/// A proxy, until dropped.
#[derive(Debug)]
pub struct StoreProxy {
    /// On 127.0.0.1.
    pub port: u16,
    state: Arc<watch::Sender<State>>,
    listener: tokio::task::JoinHandle<()>,
}

impl StoreProxy {
    /// Starts to listen.
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

    /// From now on, on every connection that it concerns.
    pub fn set(&self, passage: Passage) {
        self.state.send_modify(|state| (state.passage, state.accepted_before) = (passage, state.accepted));
    }

    /// Waits until nothing that was read is still to be written.
    pub async fn passed(&self) {
        let mut changes = self.state.subscribe();
        // An error would mean that there is no sender, which is ours.
        drop(changes.wait_for(|state| state.on_the_way == 0).await);
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
    /// A client that nobody answers is let go, as a stopped server would refuse it.
    async fn relay(self, client: TcpStream, upstream: Upstream) {
        let Ok(server) = upstream.connect().await else { return };
        // Small packets both ways: waiting to fill one would be a fault of its own.
        let _slower = client.set_nodelay(true);
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = tokio::io::split(server);
        tokio::join!(self.pass(from_client, to_server), self.pass(from_server, to_client));
    }

    async fn pass(&self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut is_heard = true;
        let mut changes = self.state.subscribe();
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let passage = changes.borrow_and_update().passage;
            if passage != Passage::Free {
                self.count(|on_the_way| on_the_way + 1);
                if let Passage::Late(delay) = passage {
                    tokio::time::sleep(delay).await;
                }
                // An error would mean that there is no sender, which is ours.
                drop(changes.wait_for(|state| !state.holds(self.number)).await);
            }
            // Read on when nobody listens: to close now might take back what the other way has just delivered.
            is_heard = is_heard && to.write_all(&buffer[..read]).await.is_ok();
            if passage != Passage::Free {
                self.count(|on_the_way| on_the_way - 1);
            }
        }
        // An error means that the other side has gone as well.
        let _gone = to.shutdown().await;
    }

    /// Wakes only those who wait for it: who waits for the passage looks again for nothing, which is rare enough.
    fn count(&self, change: impl Fn(u64) -> u64) {
        self.state.send_modify(|state| state.on_the_way = change(state.on_the_way));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that says back what it hears.
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
    async fn what_is_held_comes_when_it_is_let_go() {
        let proxy = StoreProxy::start(echo().await).await.unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        let mut answer = [0; 4];
        client.write_all(b"one!").await.unwrap();
        client.read_exact(&mut answer).await.unwrap();
        proxy.set(Passage::Held);
        client.write_all(b"two!").await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(50), client.read_exact(&mut answer)).await;
        assert!(early.is_err());
        proxy.set(Passage::Late(Duration::from_millis(1)));
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"two!");
    }

    #[tokio::test]
    async fn connections_of_before_can_be_held_alone() {
        let proxy = StoreProxy::start(echo().await).await.unwrap();
        let mut before = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        let mut answer = [0; 4];
        before.write_all(b"one!").await.unwrap();
        before.read_exact(&mut answer).await.unwrap();
        proxy.set(Passage::HeldSoFar);
        before.write_all(b"two!").await.unwrap();
        let mut after = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        after.write_all(b"new!").await.unwrap();
        after.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"new!");
        proxy.set(Passage::Free);
        before.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"two!");
        proxy.passed().await;
    }

    #[tokio::test]
    async fn what_its_sender_has_given_up_arrives_all_the_same() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Upstream::Port(listener.local_addr().unwrap().port());
        let proxy = StoreProxy::start(upstream).await.unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        proxy.set(Passage::Held);
        client.write_all(b"late").await.unwrap();
        drop(client);
        proxy.set(Passage::Free);
        let mut heard = String::new();
        server.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "late");
    }
}
