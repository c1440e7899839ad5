//! The running servers' own names and versions.
use anyhow::{Context as _, Result};
use sqlx::{Connection as _, PgConnection};

/// Returns for example `PostgreSQL 18.4`.
pub(crate) async fn of_database(url: &str) -> Result<String> {
    let mut connection = PgConnection::connect(url).await?;
    let version: String = sqlx::query_scalar("SHOW server_version").fetch_one(&mut connection).await?;
    connection.close().await?;
    // Debian adds its package's version.
    Ok(format!("PostgreSQL {}", version.split(' ').next().unwrap_or_default()))
}

/// Returns for example `Valkey 9.1.2`.
pub(crate) async fn of_redis(url: &str) -> Result<String> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
    name_in(&info).context("the server's INFO has no version")
}

/// Valkey also reports the Redis version that it is compatible with.
fn name_in(info: &str) -> Option<String> {
    let value = |name| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    match value("valkey_version") {
        Some(version) => Some(format!("Valkey {version}")),
        None => value("redis_version").map(|version| format!("Redis {version}")),
    }
}

#[cfg(test)]
mod tests {
    use super::name_in;

    #[test]
    fn valkey_is_not_taken_for_the_redis_that_it_is_compatible_with() {
        let redis = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n";
        assert_eq!(name_in(redis).unwrap(), "Redis 7.0.15");
        let valkey = "# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\n";
        assert_eq!(name_in(valkey).unwrap(), "Valkey 9.1.2");
        assert_eq!(name_in("# Clients\r\n"), None);
    }
}
