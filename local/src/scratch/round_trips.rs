//! Counts the round trips that a function makes to its stores.

use std::{
    io,
    path::PathBuf,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result};
use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
};

use super::Scratch;

/// Round trips made so far, however often they are asked for.
#[derive(Debug, Clone)]
pub struct RoundTrips {
    database: Arc<AtomicUsize>,
    redis: Arc<AtomicUsize>,
}

impl RoundTrips {
    /// Those to PostgreSQL, and those to Redis.
    pub fn so_far(&self) -> (usize, usize) {
        (self.database.load(Ordering::SeqCst), self.redis.load(Ordering::SeqCst))
    }
}

impl Scratch {
    /// The same stores, reached through proxies that count.
    ///
    /// # Errors
    /// When their addresses cannot be read, or no port is free.
    pub async fn counted(&self) -> Result<(Self, RoundTrips)> {
        let database = PgConnectOptions::from_str(&self.database_url)?;
        let database_server = match database.get_socket() {
            Some(folder) => Upstream::Socket(folder.join(format!(".s.PGSQL.{}", database.get_port()))),
            None => Upstream::Port(database.get_port()),
        };
        let redis_port = self.redis_url.rsplit([':', '/']).nth(1).context("REDIS_URL has no port")?;
        let (database_port, database_trips) = counting_proxy(database_server).await?;
        let (redis_proxy, redis_trips) = counting_proxy(Upstream::Port(redis_port.parse()?)).await?;
        let (user, name) = (database.get_username(), database.get_database().unwrap_or_default());
        let through = Self {
            database_url: format!("postgres://{user}@127.0.0.1:{database_port}/{name}"),
            redis_url: self.redis_url.replace(redis_port, &redis_proxy.to_string()),
        };
        Ok((through, RoundTrips { database: database_trips, redis: redis_trips }))
    }
}

/// Where a server listens.
#[derive(Clone)]
enum Upstream {
    Port(u16),
    Socket(PathBuf),
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl Upstream {
    async fn connect(&self) -> io::Result<Box<dyn Duplex>> {
        Ok(match self {
            Self::Port(port) => Box::new(TcpStream::connect(("127.0.0.1", *port)).await?),
            Self::Socket(path) => Box::new(UnixStream::connect(path).await?),
        })
    }
}

/// Passes bytes on, and counts how often the conversation turns from the server to the client and back.
async fn counting_proxy(upstream: Upstream) -> io::Result<(u16, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let trips = Arc::new(AtomicUsize::new(0));
    let counter = trips.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (upstream, counter) = (upstream.clone(), counter.clone());
            tokio::spawn(async move { relay(client, &mut upstream.connect().await?, &counter).await });
        }
    });
    Ok((port, trips))
}

async fn relay(mut client: TcpStream, server: &mut Box<dyn Duplex>, trips: &AtomicUsize) -> io::Result<()> {
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    let mut clients_turn = false;
    loop {
        tokio::select! {
            biased;
            Ok(read @ 1..) = client.read(&mut asked) => {
                if !clients_turn {
                    trips.fetch_add(1, Ordering::SeqCst);
                    clients_turn = true;
                }
                server.write_all(&asked[..read]).await?;
            }
            Ok(read @ 1..) = server.read(&mut answered) => {
                clients_turn = false;
                client.write_all(&answered[..read]).await?;
            }
            else => return Ok(()),
        }
    }
}
