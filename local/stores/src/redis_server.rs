//! A Redis or Valkey server of the stack's own.
use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use tokio::{process::Command, time::Instant};

use crate::{
    Identity,
    process::{Server, find_program, free_port, install_hint},
};

/// Tests that run at the same time take a database each.
const DATABASES: &str = "1024";
const START_TIMEOUT: Duration = Duration::from_secs(10);
const START_POLL: Duration = Duration::from_millis(20);

/// A running server.
#[derive(Debug)]
pub struct RedisServer {
    /// Of database 0.
    pub url: String,
    /// Its process.
    pub server: Server,
}

impl RedisServer {
    /// Starts a server in `<folder>/redis`. What it holds is derived from the ledger and heals by itself, so at
    /// most (`keep`) a snapshot is saved now and then and at exit; there is no log of every write. With an identity,
    /// it has a second port, for TLS.
    ///
    /// # Errors
    /// Neither Redis nor Valkey is installed, or it does not start.
    pub async fn start(folder: &Path, keep: bool, identity: Option<&Identity>) -> Result<Self> {
        let program = find_program(&["redis-server", "valkey-server"]).with_context(|| {
            let hint = install_hint(["redis-server", "valkey", "redis", "valkey", "redis"]);
            format!("neither Redis nor Valkey is installed: run `{hint}`, or set REDIS_URL to a server")
        })?;
        let data = folder.join("redis");
        fs::create_dir_all(&data).with_context(|| format!("{} cannot be made", data.display()))?;
        let port = free_port()?;
        let mut command = Command::new(program);
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--databases", DATABASES]);
        command
            .args(["--appendonly", "no", "--save", if keep { "300 1" } else { "" }])
            .arg("--dir")
            .arg(data);
        let mut url = format!("redis://127.0.0.1:{port}/0");
        let plain_url = url.clone();
        if let Some(Identity { certificate, key }) = identity {
            let port = free_port()?;
            command.args(["--tls-port", &port.to_string(), "--tls-auth-clients", "no"]);
            command.arg("--tls-cert-file").arg(certificate).arg("--tls-key-file").arg(key);
            command.arg("--tls-ca-cert-file").arg(certificate);
            url = format!("rediss://localhost:{port}/0");
        }
        let mut server = Server::spawn("redis", command, Signal::SIGTERM, &folder.join("redis.log"))?;
        wait_until_ready(&mut server, &plain_url).await?;
        Ok(Self { url, server })
    }

    /// Starts the server again after it has ended, on the same port.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_again(&mut self) -> Result<()> {
        self.server.start_again()?;
        wait_until_ready(&mut self.server, &self.url).await
    }
}

async fn wait_until_ready(server: &mut Server, url: &str) -> Result<()> {
    let client = redis::Client::open(url)?;
    let give_up = Instant::now() + START_TIMEOUT;
    loop {
        if let Some(reason) = server.ended() {
            bail!("{reason}");
        }
        let ping = async {
            let mut connection = client.get_multiplexed_async_connection().await?;
            redis::cmd("PING").query_async::<()>(&mut connection).await
        };
        match ping.await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > give_up => {
                return Err(error).context("Redis did not accept connections in time");
            }
            Err(_) => tokio::time::sleep(START_POLL).await,
        }
    }
}
