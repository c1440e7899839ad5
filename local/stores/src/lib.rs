//! The functions' stores: PostgreSQL and Redis, given by `DATABASE_URL` and `REDIS_URL` or started here and stopped
//! at the end. The variables `STORES`, `POSTGRES_BIN` and `REDIS_SERVER` choose the servers to start; without them these
//! are the versions that `template.yaml` deploys, or else the operating system's.
pub mod command;
mod given;
mod installation;
mod postgres;
mod process;
mod redis_server;
pub mod scratch;
#[cfg(test)]
mod tests;
pub mod upstream;
mod versions;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

pub use self::process::{Server, install_hint};
use self::{postgres::Postgres, redis_server::RedisServer};

/// The functions' role in a local database. As on AWS, it owns nothing.
pub const FUNCTIONS_ROLE: &str = "votes";

/// URLs of external stores, where set.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// `DATABASE_URL`.
    pub database_url: Option<String>,
    /// `REDIS_URL`.
    pub redis_url: Option<String>,
}

impl Given {
    /// Reads the environment; an empty variable counts as unset.
    pub fn from_environment() -> Self {
        let read = |name: &str| std::env::var(name).ok().filter(|url| !url.trim().is_empty());
        Self { database_url: read("DATABASE_URL"), redis_url: read("REDIS_URL") }
    }
}

/// One of the two stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// The ledger.
    Postgres,
    /// The ranking.
    Redis,
}

/// The way to end a store's server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By SIGKILL.
    Killed,
    /// By an orderly shutdown.
    Stopped,
}

/// A server's TLS identity.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate, as PEM.
    pub certificate: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
}

/// Both stores, ready for connections.
#[derive(Debug)]
pub struct Stores {
    /// URL for sqlx and libpq, as the database's owner.
    pub database_url: String,
    /// URL for the functions, which own nothing. For a given database, the same as `database_url`.
    pub functions_url: String,
    /// URL for the redis crate and `redis-cli -u`.
    pub redis_url: String,
    postgres: Option<Postgres>,
    redis: Option<RedisServer>,
}

impl Stores {
    /// Checks the given stores and starts the others below `folder`. With `keep`, Redis saves a snapshot at exit.
    ///
    /// # Errors
    /// Returns one line that names the missing program or wrong URL, and the remedy.
    pub async fn start(folder: &Path, given: &Given, keep: bool) -> Result<Self> {
        if let Some(url) = &given.database_url {
            given::check_database(url).await?;
        }
        if let Some(url) = &given.redis_url {
            given::check_redis(url).await?;
        }
        let (mut postgres, mut redis) = (None, None);
        let (database_url, functions_url) = match &given.database_url {
            Some(url) => (url.clone(), url.clone()),
            None => {
                let server = postgres.insert(Postgres::start(folder, None).await?);
                (server.url.clone(), server.functions_url.clone())
            }
        };
        let redis_url = match &given.redis_url {
            Some(url) => url.clone(),
            None => match RedisServer::start(folder, keep, None).await {
                Ok(server) => redis.insert(server).url.clone(),
                Err(error) => {
                    if let Some(mut postgres) = postgres {
                        postgres.stop().await;
                    }
                    return Err(error);
                }
            },
        };
        Ok(Self { database_url, functions_url, redis_url, postgres, redis })
    }

    /// Starts both below `folder` with TLS. Their URLs require it and name the host `localhost`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with_tls(folder: &Path, identity: &Identity) -> Result<Self> {
        let postgres = Postgres::start(folder, Some(identity)).await?;
        let redis = RedisServer::start(folder, false, Some(identity)).await?;
        Ok(Self {
            database_url: postgres.url.clone(),
            functions_url: postgres.functions_url.clone(),
            redis_url: redis.url.clone(),
            postgres: Some(postgres),
            redis: Some(redis),
        })
    }

    /// Returns the owner's URL of the database, if the functions connect as another role.
    pub fn owner_url(&self) -> Option<String> {
        (self.database_url != self.functions_url).then(|| self.database_url.clone())
    }

    /// Returns name and process id of each server started here.
    pub fn pids(&self) -> Vec<(&'static str, u32)> {
        let servers = [self.postgres.as_ref().map(|p| &p.server), self.redis.as_ref().map(|r| &r.server)];
        servers.into_iter().flatten().map(|server| (server.name, server.pid)).collect()
    }

    /// Returns both servers' names and versions, for example `PostgreSQL 18.4, Valkey 9.1.2`.
    ///
    /// # Errors
    /// A server does not answer, or takes TLS connections only.
    pub async fn versions(&self) -> Result<String> {
        let database = versions::of_database(&self.database_url).await.context("DATABASE_URL")?;
        let redis = versions::of_redis(&self.redis_url).await.context("REDIS_URL")?;
        Ok(format!("{database}, {redis}"))
    }

    /// Stops the servers started here.
    pub async fn stop(mut self) {
        if let Some(redis) = &mut self.redis {
            redis.server.stop().await;
        }
        if let Some(postgres) = &mut self.postgres {
            postgres.stop().await;
        }
    }

    /// Splits into PostgreSQL and Redis, so that each can be taken down independently.
    pub fn split(self) -> (Self, Self) {
        let redis = Self {
            database_url: self.database_url.clone(),
            functions_url: self.functions_url.clone(),
            redis_url: self.redis_url.clone(),
            postgres: None,
            redis: self.redis,
        };
        (Self { redis: None, ..self }, redis)
    }

    /// Kills or stops one store. Idempotent.
    ///
    /// # Errors
    /// The store was not started here.
    pub async fn take_down(&mut self, store: Store, end: End) -> Result<()> {
        let server = match store {
            Store::Postgres => self.postgres.as_mut().map(|postgres| &mut postgres.server),
            Store::Redis => self.redis.as_mut().map(|redis| &mut redis.server),
        };
        let server = server.with_context(|| format!("{store:?} was not started here"))?;
        match end {
            End::Killed => server.kill().await,
            End::Stopped => server.stop().await,
        }
        Ok(())
    }

    /// Restarts a store: PostgreSQL with every committed transaction, Redis empty unless it keeps its data. The URLs
    /// stay.
    ///
    /// # Errors
    /// The store does not start, or was not started here.
    pub async fn bring_back(&mut self, store: Store) -> Result<()> {
        let context = || format!("{store:?} was not started here");
        match store {
            Store::Postgres => self.postgres.as_mut().with_context(context)?.start_again().await,
            Store::Redis => self.redis.as_mut().with_context(context)?.start_again().await,
        }
    }
}
