//! Counts a function's round trips to its stores.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::Scratch;
use crate::upstream::{Duplex, Upstream, database_through, redis_through};

/// Counters of round trips.
#[derive(Debug, Clone)]
pub struct RoundTrips {
    database: Arc<AtomicUsize>,
    redis: Arc<AtomicUsize>,
}

impl RoundTrips {
    /// Returns the number of round trips to PostgreSQL and to Redis.
    pub fn so_far(&self) -> (usize, usize) {
        (self.database.load(Ordering::SeqCst), self.redis.load(Ordering::SeqCst))
    }
}

impl Scratch {
    /// Returns the same stores behind counting proxies.
    ///
    /// # Errors
    /// A URL cannot be parsed, or no port is free.
    pub async fn counted(&self) -> Result<(Self, RoundTrips)> {
        let (database_port, database_trips) =
            counting_proxy(Upstream::of_database(&self.database_url)?).await?;
        let (redis_port, redis_trips) = counting_proxy(Upstream::of_redis(&self.redis_url)?).await?;
        let through = Self {
            owner_url: self.owner_url.clone(),
            database_url: database_through(&self.database_url, database_port)?,
            redis_url: redis_through(&self.redis_url, redis_port)?,
        };
        Ok((through, RoundTrips { database: database_trips, redis: redis_trips }))
    }
}

/// Relays bytes and counts the requests: each change of direction from the server to the client.
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
    let (mut request, mut response) = (vec![0; 65_536], vec![0; 65_536]);
    let mut in_request = false;
    loop {
        tokio::select! {
            biased;
            Ok(read @ 1..) = client.read(&mut request) => {
                if !in_request {
                    trips.fetch_add(1, Ordering::SeqCst);
                    in_request = true;
                }
                server.write_all(&request[..read]).await?;
            }
            Ok(read @ 1..) = server.read(&mut response) => {
                in_request = false;
                client.write_all(&response[..read]).await?;
            }
            else => return Ok(()),
        }
    }
}
