//! `local stores -- <command…>`: runs a command with temporary stores, for tests.
use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    process::ExitStatus,
};

use anyhow::{Context, Result};
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
};

use crate::{Given, Stores};

/// Shells report death by a signal as this plus the signal's number.
const SIGNALLED: i32 = 128;

/// Starts both stores in a temporary folder, runs the command with `DATABASE_URL` and `REDIS_URL`, cleans up and
/// returns the command's exit code.
///
/// # Errors
/// A store or the command cannot be started.
pub async fn run(command: &[String]) -> Result<i32> {
    let folder = tempfile::Builder::new().prefix("votes-stores-").tempdir()?;
    // PostgreSQL's user must be able to enter the folder.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o711))?;
    let stores = Stores::start(folder.path(), &Given::default(), false).await?;
    let status = announce_and_run(&stores, command).await;
    stores.stop().await;
    let status = status?;
    Ok(status.code().unwrap_or_else(|| SIGNALLED + status.signal().unwrap_or_default()))
}

async fn announce_and_run(stores: &Stores, command: &[String]) -> Result<ExitStatus> {
    // The command's output stays its own.
    eprintln!("stores: {}", stores.versions().await?);
    run_with(stores, command).await
}

async fn run_with(stores: &Stores, command: &[String]) -> Result<ExitStatus> {
    let (program, arguments) = command.split_first().context("no command was given")?;
    // Ctrl-C reaches the command as well; this process waits for the command's end and then cleans up.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut child = Command::new(program)
        .args(arguments)
        .env("DATABASE_URL", &stores.database_url)
        .env("REDIS_URL", &stores.redis_url)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{program} cannot be started"))?;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(status?),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => child.start_kill()?,
        }
    }
}
