//! A private Redis or Valkey server.
use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use tokio::{process::Command, time::Instant};

use crate::{
    Identity,
    installation::Installation,
    process::{Server, free_port},
};

/// Databases of the server: each parallel test takes one.
const DATABASES: &str = "1024";
const START_TIMEOUT: Duration = Duration::from_secs(10);
const START_POLL: Duration = Duration::from_millis(20);

/// A running server.
#[derive(Debug)]
pub struct RedisServer {
    /// URL of database 0.
    pub url: String,
    /// The process.
    pub server: Server,
}

impl RedisServer {
    /// Starts a server in `<folder>/redis`. Its data derives from the ledger and heals by itself, so there is no
    /// append-only file; with `keep`, snapshots are saved every 300 s and at exit. With an identity, the server has a
    /// second port for TLS.
    ///
    /// # Errors
    /// Neither Redis nor Valkey is installed, or the server does not start.
    pub async fn start(folder: &Path, keep: bool, identity: Option<&Identity>) -> Result<Self> {
        let program = Installation::from_environment()?.redis_program(identity.is_some())?;
        let data = folder.join("redis");
        fs::create_dir_all(&data).with_context(|| format!("{} cannot be created", data.display()))?;
        let port = free_port()?;
        let mut command = Command::new(&program);
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--databases", DATABASES]);
        command
            .args(["--appendonly", "no", "--save", if keep { "300 1" } else { "" }])
            .arg("--dir")
            .arg(data)
            .arg("--dbfilename")
            .arg(snapshot_name(&program));
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

    /// Restarts the ended server on the same port.
    ///
    /// # Errors
    /// The server does not start.
    pub async fn start_again(&mut self) -> Result<()> {
        self.server.start_again()?;
        wait_until_ready(&mut self.server, &self.url).await
    }
}

/// Returns the snapshot's file name. Redis does not start on a snapshot of Valkey's, so each has its own; an outdated one
/// heals from the ledger.
fn snapshot_name(program: &Path) -> String {
    let name = program.file_stem().unwrap_or_default().to_string_lossy();
    format!("{name}.rdb")
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
