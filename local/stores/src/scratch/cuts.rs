//! Ends the connections that others have to a test's stores, as a restart or a failover does.

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
    /// Ends every connection to the database but its own, and waits until they are gone.
    ///
    /// # Errors
    /// When the server is gone.
    pub async fn cut_database(&self) -> Result<()> {
        let cut = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        sqlx::query(cut).execute(&mut self.connect().await?).await?;
        Ok(())
    }

    /// Ends every connection to this number of Redis's databases, and to no other test's.
    ///
    /// # Errors
    /// When the server is gone.
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

    /// The same stores, reached through ways that can be cut.
    ///
    /// # Errors
    /// When their addresses cannot be read, or no port is free.
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

/// The ways to both stores.
#[derive(Debug)]
pub struct Links {
    /// To PostgreSQL.
    pub database: Link,
    /// To Redis.
    pub redis: Link,
}

/// A way to a store that can be cut, and then answers nobody.
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
        let way = Self { port, taken: Arc::default(), cut: Arc::default(), is_silent: Arc::default() };
        let (taken, cut, is_silent) = (way.taken.clone(), way.cut.clone(), way.is_silent.clone());
        tokio::spawn(async move {
            let mut unanswered = Vec::new();
            while let Ok((client, _)) = listener.accept().await {
                taken.fetch_add(1, Ordering::SeqCst);
                if is_silent.load(Ordering::SeqCst) {
                    unanswered.push(client);
                } else {
                    tokio::spawn(pass(client, upstream.clone(), cut.clone()));
                }
            }
        });
        Ok(way)
    }

    /// Connections taken so far.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    /// Ends the connections there are; the next ones are taken and never answered.
    pub fn cut_and_fall_silent(&self) {
        self.is_silent.store(true, Ordering::SeqCst);
        self.cut.notify_waiters();
    }
}

async fn pass(mut client: TcpStream, upstream: Upstream, cut: Arc<Notify>) -> io::Result<()> {
    let mut server = upstream.connect().await?;
    tokio::select! {
        ended = copy_bidirectional(&mut client, &mut server) => ended.map(drop),
        () = cut.notified() => Ok(()),
    }
}
