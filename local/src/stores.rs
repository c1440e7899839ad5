//! The stores the functions talk to: PostgreSQL and Redis as given by `DATABASE_URL` and `REDIS_URL`, or started
//! here and stopped at the end.
pub mod command;
mod given;
mod postgres;
mod process;
mod redis_server;
#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::Result;

pub use self::process::{Server, family, install_hint, memory};
use self::{postgres::Postgres, redis_server::RedisServer};

/// URLs from outside, where set.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// `DATABASE_URL`.
    pub database_url: Option<String>,
    /// `REDIS_URL`.
    pub redis_url: Option<String>,
}

impl Given {
    /// From the environment; empty counts as unset.
    pub fn from_environment() -> Self {
        let read = |name: &str| std::env::var(name).ok().filter(|url| !url.trim().is_empty());
        Self { database_url: read("DATABASE_URL"), redis_url: read("REDIS_URL") }
    }
}

/// Both stores, reachable.
#[derive(Debug)]
pub struct Stores {
    /// For sqlx and libpq.
    pub database_url: String,
    /// For the redis crate and `redis-cli -u`.
    pub redis_url: String,
    postgres: Option<Postgres>,
    redis: Option<RedisServer>,
}

impl Stores {
    /// Checks the given ones and starts the others below `folder`; `keep`: Redis saves its view at exit.
    ///
    /// # Errors
    /// One line that names what is missing, unreachable or wrong, and says what to do.
    pub async fn start(folder: &Path, given: &Given, keep: bool) -> Result<Self> {
        if let Some(url) = &given.database_url {
            given::check_database(url).await?;
        }
        if let Some(url) = &given.redis_url {
            given::check_redis(url).await?;
        }
        let (mut postgres, mut redis) = (None, None);
        let database_url = match &given.database_url {
            Some(url) => url.clone(),
            None => postgres.insert(Postgres::start(folder).await?).url.clone(),
        };
        let redis_url = match &given.redis_url {
            Some(url) => url.clone(),
            None => match RedisServer::start(folder, keep).await {
                Ok(server) => redis.insert(server).url.clone(),
                Err(error) => {
                    if let Some(postgres) = postgres {
                        postgres.stop().await;
                    }
                    return Err(error);
                }
            },
        };
        Ok(Self { database_url, redis_url, postgres, redis })
    }

    /// Name and process id of each server started here.
    pub fn pids(&self) -> Vec<(&'static str, u32)> {
        let servers = [self.postgres.as_ref().map(|p| &p.server), self.redis.as_ref().map(|r| &r.server)];
        servers.into_iter().flatten().map(|server| (server.name, server.pid)).collect()
    }

    /// Stops what was started here.
    pub async fn stop(self) {
        if let Some(redis) = self.redis {
            redis.server.stop().await;
        }
        if let Some(postgres) = self.postgres {
            postgres.stop().await;
        }
    }
}
