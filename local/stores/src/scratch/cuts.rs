//! Cuts clients' connections to a test's stores, as a restart or a failover does.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, Result};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use super::{Scratch, server};
use crate::upstream::{Upstream, database_through, redis_through};

impl Scratch {
    /// Terminates every other connection to the database and waits for their end.
    ///
    /// # Errors
    /// The server is gone.
    pub async fn cut_database(&self) -> Result<()> {
        let cut = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        sqlx::query(cut).execute(&mut self.connect().await?).await?;
        Ok(())
    }

    /// Terminates every connection to this test's Redis database.
    ///
    /// # Errors
    /// The server is gone.
    pub async fn cut_redis(&self) -> Result<()> {
        let number = self.redis_url.rsplit('/').next().context("REDIS_URL")?;
        let client = redis::Client::open(server("REDIS_URL")?)?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut connection).await?;
        let field = |client: &str, name: &str| {
            client.split(' ').find_map(|field| field.strip_prefix(name)).map(str::to_owned)
        };
        let ours = clients.lines().filter(|client| field(client, "db=").as_deref() == Some(number));
        for id in ours.filter_map(|client| field(client, "id=")) {
            let mut kill = redis::cmd("CLIENT");
            let _killed: i64 = kill.arg("KILL").arg("ID").arg(id).query_async(&mut connection).await?;
        }
        Ok(())
    }

    /// Returns the same stores behind proxies that can be cut.
    ///
    /// # Errors
    /// A URL cannot be parsed, or no port is free.
    pub async fn behind_ways(&self) -> Result<(Self, Links)> {
        let database = Link::to(Upstream::of_database(&self.database_url)?).await?;
        let redis = Link::to(Upstream::of_redis(&self.redis_url)?).await?;
        let through = Self {
            owner_url: self.owner_url.clone(),
            database_url: database_through(&self.database_url, database.port)?,
            redis_url: redis_through(&self.redis_url, redis.port)?,
        };
        Ok((through, Links { database, redis }))
    }
}

/// The proxies of both stores.
#[derive(Debug)]
pub struct Links {
    /// The proxy of PostgreSQL.
    pub database: Link,
    /// The proxy of Redis.
    pub redis: Link,
}

/// A TCP proxy of a store. Once cut, it accepts connections and never answers them.
#[derive(Debug)]
pub struct Link {
    port: u16,
    taken: Arc<AtomicUsize>,
    cut: Arc<Notify>,
    is_silent: Arc<AtomicBool>,
}

impl Link {
    async fn to(upstream: Upstream) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let link = Self { port, taken: Arc::default(), cut: Arc::default(), is_silent: Arc::default() };
        let (taken, cut, is_silent) = (link.taken.clone(), link.cut.clone(), link.is_silent.clone());
        tokio::spawn(async move {
            let mut unanswered = Vec::new();
            while let Ok((client, _)) = listener.accept().await {
                taken.fetch_add(1, Ordering::SeqCst);
                if is_silent.load(Ordering::SeqCst) {
                    unanswered.push(client);
                } else {
                    tokio::spawn(relay(client, upstream.clone(), cut.clone()));
                }
            }
        });
        Ok(link)
    }

    /// Returns the number of connections accepted so far.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    /// Closes the open connections; later connections are accepted and never answered.
    pub fn cut_and_fall_silent(&self) {
        self.is_silent.store(true, Ordering::SeqCst);
        self.cut.notify_waiters();
    }
}

async fn relay(mut client: TcpStream, upstream: Upstream, cut: Arc<Notify>) -> io::Result<()> {
    let mut server = upstream.connect().await?;
    tokio::select! {
        ended = copy_bidirectional(&mut client, &mut server) => ended.map(drop),
        () = cut.notified() => Ok(()),
    }
}
