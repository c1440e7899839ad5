//! A private database and Redis database for each test, on the servers started by `local stores -- <command>`.

mod cuts;
mod round_trips;

use std::{env, str::FromStr};

use anyhow::{Context, Result};
use ledger::Schema;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use uuid::Uuid;

pub use cuts::{Link, Links};
pub use round_trips::RoundTrips;

use crate::FUNCTIONS_ROLE;

/// Private stores with the schema in place. They exist until the servers stop.
#[derive(Debug, Clone)]
pub struct Scratch {
    /// URL of an empty ledger, for the functions' role.
    pub database_url: String,
    /// URL of the same database, for its owner.
    pub owner_url: String,
    /// URL of an empty Redis database.
    pub redis_url: String,
}

impl Scratch {
    /// Creates a database and takes an unused Redis database.
    ///
    /// # Errors
    /// `DATABASE_URL` or `REDIS_URL` names no running server.
    pub async fn new() -> Result<Self> {
        let owner_url = database(&server("DATABASE_URL")?).await?;
        Ok(Self {
            database_url: grant(&owner_url).await?,
            owner_url,
            redis_url: redis(&server("REDIS_URL")?).await?,
        })
    }

    /// Returns an environment variable of a function on these stores, as the template sets it.
    pub fn environment(&self, name: &str) -> Option<String> {
        let value = match name {
            "DATABASE_URL" => &self.database_url,
            "REDIS_URL" => &self.redis_url,
            "VOTER_HASH_KEY" => "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
            "AUDIT_TIMEOUT_MS" => "20000",
            "BATCH_TIMEOUT_MS" => "12000",
            "METRICS_NAMESPACE" => "Votes/scratch",
            "DATABASE_AUTH" => "password",
            "DATABASE_TIMEOUT_MS" => "5000",
            "REDIS_TIMEOUT_MS" => "500",
            "RANKING_TTL_SECONDS" => "600",
            "POLL_CACHE_SECONDS" => "3",
            "CERTIFY_SIGN_SECONDS" => "146",
            "PROBE_LATE_SECONDS" => "43",
            "RELOAD_LEASE_MS" => "6000",
            "EXPORTS_BUCKET" => "exports",
            "EXPORT_LINK_SECONDS" => "900",
            "CALL_TIMEOUT_MS" => "2000",
            "VOTES_PER_TOKEN" => "120",
            "GATEWAY_ADDRESS" => "closed",
            "WAKE_QUEUE_URL" => "http://127.0.0.1:9/000000000000/WakeQueue",
            // Nothing listens on this port: tests that need AWS start their own endpoint.
            "AWS_ENDPOINT_URL" => "http://127.0.0.1:9",
            "AWS_REGION" => "us-east-1",
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => "local",
            "ABSENCE_CACHE_CONTROL" => "public, max-age=1, s-maxage=3, x-absence",
            "PUBLIC_CACHE_CONTROL" => "public, max-age=1, s-maxage=3",
            _ => return None,
        };
        Some(value.to_owned())
    }

    /// Returns the ledger's URL with a user that the server refuses: an unavailable ledger with the same address.
    ///
    /// # Errors
    /// The URL is not a PostgreSQL URL.
    pub fn refusing_url(&self) -> Result<String> {
        let options = PgConnectOptions::from_str(&self.database_url)?;
        Ok(options.username("nobody").to_url_lossy().to_string())
    }

    /// Connects as the owner, to inspect or corrupt the ledger.
    ///
    /// # Errors
    /// The server is gone.
    pub async fn connect(&self) -> Result<PgConnection> {
        Ok(PgConnection::connect(&self.owner_url).await?)
    }
}

/// Creates an empty database without a schema and returns its owner's URL.
///
/// # Errors
/// As [`Scratch::new`].
pub async fn empty_database() -> Result<String> {
    database(&server("DATABASE_URL")?).await
}

fn server(name: &str) -> Result<String> {
    env::var(name).with_context(|| format!("{name} is not set: run the tests with `make test`"))
}

async fn database(server: &str) -> Result<String> {
    let name = format!("scratch_{}", Uuid::new_v4().simple());
    let mut connection = PgConnection::connect(server).await.context("DATABASE_URL")?;
    // Injection is impossible: the name consists of hexadecimal digits.
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await?;
    Ok(PgConnectOptions::from_str(server)?.database(&name).to_url_lossy().to_string())
}

/// Creates the schema in the owner's database, grants the functions' role its rights and returns that role's URL.
///
/// # Errors
/// The migration or the grant fails.
pub async fn grant(owner_url: &str) -> Result<String> {
    let schema = Schema::new(owner_url)?;
    schema.migrate().await?;
    schema.grant(&FUNCTIONS_ROLE.parse()?).await?;
    Ok(PgConnectOptions::from_str(owner_url)?.username(FUNCTIONS_ROLE).to_url_lossy().to_string())
}

async fn redis(server: &str) -> Result<String> {
    let mut connection =
        redis::Client::open(server)?.get_multiplexed_async_connection().await.context("REDIS_URL")?;
    let number: u64 = redis::cmd("INCR").arg("scratch").query_async(&mut connection).await?;
    let base = server.rsplit_once('/').map_or(server, |(base, _)| base);
    Ok(format!("{base}/{number}"))
}
