//! Faults of a failover: servers that keep their clients and refuse to write, and servers that drop all clients.
use anyhow::Result;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::{
    injector::{Ending, Injector, wait},
    plan::Event,
};

/// Port of loopback on which nothing listens: a replica of it keeps its data and refuses writes.
const CLOSED_PORT: u16 = 1;

impl Injector {
    /// Makes Redis a replica for the length of an outage. It keeps its clients and its data.
    pub(crate) async fn demote_redis(&self, event: &Event, label: &str, ending: &mut Ending) -> Result<()> {
        let redis = self.ranking.lock().await;
        replicate(&redis.redis_url, "127.0.0.1", &CLOSED_PORT.to_string()).await?;
        self.record.add(label);
        wait(ending, event.length).await;
        replicate(&redis.redis_url, "NO", "ONE").await
    }

    /// Ends all connections of clients to both stores, as a failover or an operator does.
    pub(crate) async fn kill_connections(&self, label: &str) -> Result<()> {
        // Keeps other faults from stopping the stores.
        let (_postgres, redis) = (self.ledger.lock().await, self.ranking.lock().await);
        let mut connection = PgConnection::connect(&self.database_url).await?;
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        sqlx::query(sql).execute(&mut connection).await?;
        let client = redis::Client::open(redis.redis_url.as_str())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut kill = redis::cmd("CLIENT");
        let _killed: u64 = kill.arg("KILL").arg("TYPE").arg("normal").query_async(&mut connection).await?;
        self.record.add(label);
        Ok(())
    }

    /// Makes PostgreSQL refuse to write for the length of an outage. It keeps its clients.
    pub(crate) async fn refuse_writes(&self, event: &Event, label: &str, ending: &mut Ending) -> Result<()> {
        let _running = self.ledger.lock().await;
        configure(&self.database_url, "SET default_transaction_read_only = on").await?;
        self.record.add(label);
        wait(ending, event.length).await;
        configure(&self.database_url, "RESET default_transaction_read_only").await
    }
}

async fn replicate(redis_url: &str, host: &str, port: &str) -> Result<()> {
    let mut connection = redis::Client::open(redis_url)?.get_multiplexed_async_connection().await?;
    Ok(redis::cmd("REPLICAOF").arg(host).arg(port).query_async(&mut connection).await?)
}

/// Changes the server's configuration. That is no write, so it works while the server refuses to write.
async fn configure(database_url: &str, change: &'static str) -> Result<()> {
    let mut connection = PgConnection::connect(database_url).await?;
    sqlx::query(AssertSqlSafe(format!("ALTER SYSTEM {change}"))).execute(&mut connection).await?;
    sqlx::query("SELECT pg_reload_conf()").execute(&mut connection).await?;
    Ok(())
}
