//! Checks the stores given by URL once at start, so that one line reports a wrong URL before functions fail.
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use sqlx::{ConnectOptions, Connection, postgres::PgConnectOptions};

/// A running server accepts a first connection well within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects once.
///
/// # Errors
/// The URL is wrong or the server unreachable. The error names the variable and the host, never the password.
pub async fn check_database(url: &str) -> Result<()> {
    // The parser accepts any scheme.
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    let options = matches!(scheme, Some("postgres" | "postgresql")).then(|| url.parse::<PgConnectOptions>());
    let options = options
        .and_then(Result::ok)
        .context("DATABASE_URL is not a PostgreSQL URL: use postgres://user:password@host:5432/database")?;
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let advice = || {
        format!(
            "DATABASE_URL: PostgreSQL at {host} cannot be used; correct the URL, or unset it to start a local server"
        )
    };
    let connection = tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await;
    let connection = connection.map_err(|_| anyhow!("no answer within {} s", CONNECT_TIMEOUT.as_secs()));
    connection.with_context(advice)?.with_context(advice)?.close().await.with_context(advice)
}

/// Connects and pings once.
///
/// # Errors
/// The URL is wrong or the server unreachable. The error names the variable and the host, never the password.
pub async fn check_redis(url: &str) -> Result<()> {
    let client = redis::Client::open(url)
        .map_err(|_| anyhow!("REDIS_URL is not a Redis URL: use redis://user:password@host:6379/0"))?;
    let host = client.get_connection_info().addr().to_string();
    let advice = || {
        format!(
            "REDIS_URL: Redis at {host} cannot be used; correct the URL, or unset it to start a local server"
        )
    };
    let ping = async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("PING").query_async::<()>(&mut connection).await
    };
    let answer = tokio::time::timeout(CONNECT_TIMEOUT, ping).await;
    let answer = answer.map_err(|_| anyhow!("no answer within {} s", CONNECT_TIMEOUT.as_secs()));
    answer.with_context(advice)?.with_context(advice)
}
