//! A private PostgreSQL server on a Unix socket in a private folder: no port, no password.
use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::Signal,
    unistd::{Uid, User},
};
use sha2::{Digest as _, Sha256};
use sqlx::{ConnectOptions, Connection, postgres::PgConnectOptions};
use tempfile::TempDir;
use tokio::{process::Command, time::Instant};

use crate::{
    FUNCTIONS_ROLE, Identity,
    installation::{Installation, major_version},
    process::{Server, free_port},
};

const DATABASE: &str = "votes";
/// Owner of the database and its objects. As on AWS, the functions connect as another role.
const OWNER: &str = "owner";
/// SQLSTATE `invalid_authorization_specification`: the role does not exist.
const NO_SUCH_USER: &str = "28000";
/// Crash recovery under load replays up to `max_wal_size`.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const START_POLL: Duration = Duration::from_millis(50);

/// Durable like production (`fsync` stays on), sized for a laptop with two cores.
const SETTINGS: [&str; 9] = [
    "shared_buffers=256MB",
    "max_connections=100",
    // Checkpoints during a load test would measure the disk instead of the design.
    "max_wal_size=4GB",
    "checkpoint_timeout=15min",
    "wal_buffers=16MB",
    "random_page_cost=1.1",
    // All statements are short: compiling them costs more time than it saves.
    "jit=off",
    "timezone=UTC",
    "log_timezone=UTC",
];

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    /// URL of the database, for its owner.
    pub url: String,
    /// URL of the database, for the functions.
    pub functions_url: String,
    /// The postmaster.
    pub server: Server,
    /// Keeps the socket's folder until the server has stopped.
    _socket_folder: TempDir,
    /// Connection options of the superuser.
    options: PgConnectOptions,
}

impl Postgres {
    /// Starts a server with its data in `<folder>/postgres`, created if absent. With an identity, the server also
    /// has a port for TLS.
    ///
    /// # Errors
    /// PostgreSQL is not installed or does not start. The error has the cause and the log's path.
    pub async fn start(folder: &Path, identity: Option<&Identity>) -> Result<Self> {
        let programs = Programs::find().await?;
        let data = programs.data_folder(folder)?;
        if data.join("PG_VERSION").exists() {
            programs.check_version(&data).await?;
            programs.stop_leftover(&data).await?;
        } else {
            programs.initialize(&data).await?;
        }
        // A socket's path may have 107 bytes; a data folder deep in a home directory easily exceeds that.
        let socket_folder = socket_folder(folder)?;
        programs.hand_over(socket_folder.path())?;
        let mut command = programs.command("postgres");
        command.arg("-D").arg(&data).arg("-k").arg(socket_folder.path());
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        let port = match identity {
            Some(identity) => Some(programs.listen(&mut command, &data, identity)?),
            None => {
                command.args(["-c", "listen_addresses="]);
                None
            }
        };
        let mut server = Server::spawn("postgres", command, Signal::SIGINT, &folder.join("postgres.log"))?;
        let options = PgConnectOptions::new_without_pgpass().socket(socket_folder.path()).username(OWNER);
        // The socket's name contains the port.
        let options = port.into_iter().fold(options, PgConnectOptions::port);
        create_database(&mut server, &options).await?;
        let socket = socket_folder.path().display();
        let url = |user| match port {
            Some(port) => format!("postgres://{user}@localhost:{port}/{DATABASE}?sslmode=verify-full"),
            None => format!("postgres://{user}@localhost/{DATABASE}?host={socket}"),
        };
        Ok(Self {
            url: url(OWNER),
            functions_url: url(FUNCTIONS_ROLE),
            server,
            options,
            _socket_folder: socket_folder,
        })
    }

    /// Restarts the ended server on the same data and socket. After a kill, orphaned child processes hold the data
    /// folder until they notice the postmaster's death; starts fail until then and are retried.
    ///
    /// # Errors
    /// The server does not start in time. The error has the cause.
    pub async fn start_again(&mut self) -> Result<()> {
        let give_up = Instant::now() + START_TIMEOUT;
        loop {
            self.server.start_again()?;
            match create_database(&mut self.server, &self.options).await {
                Err(_) if Instant::now() < give_up && self.server.ended().is_some() => {
                    tokio::time::sleep(START_POLL).await;
                }
                result => return result,
            }
        }
    }

    /// Performs a fast shutdown: rolls open transactions back; every commit is on disk.
    pub async fn stop(&mut self) {
        self.server.stop().await;
    }
}

async fn create_database(server: &mut Server, options: &PgConnectOptions) -> Result<()> {
    let give_up = Instant::now() + START_TIMEOUT;
    let mut connection = loop {
        match options.clone().database("postgres").connect().await {
            Ok(connection) => break connection,
            Err(error) if Instant::now() > give_up => {
                return Err(error).context("PostgreSQL did not accept connections in time");
            }
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(NO_SUCH_USER) => {
                bail!("this data folder's database has another owner ({error}): choose another --data-dir");
            }
            Err(_) => {
                if let Some(reason) = server.ended() {
                    bail!("{reason}");
                }
                tokio::time::sleep(START_POLL).await;
            }
        }
    };
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(DATABASE)
        .fetch_one(&mut connection)
        .await?;
    if !exists {
        sqlx::query("CREATE DATABASE votes").execute(&mut connection).await?;
    }
    connection.close().await?;
    Ok(())
}

/// The server's programs and the user that runs them: PostgreSQL refuses to run as root.
struct Programs {
    folder: PathBuf,
    user: Option<User>,
}

impl Programs {
    async fn find() -> Result<Self> {
        let folder = Installation::from_environment()?.postgres_folder().await?;
        let user = if Uid::effective().is_root() {
            let user = ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten());
            Some(user.context("PostgreSQL does not run as root, and there is no user postgres or nobody")?)
        } else {
            None
        };
        if let Some(user) = user.as_ref().filter(|user| !may_reach(user, &folder.join("postgres"))) {
            bail!(
                "PostgreSQL runs as {}, which cannot enter {}: run scripts/stores.sh, or set POSTGRES_BIN to another folder",
                user.name,
                folder.display()
            );
        }
        Ok(Self { folder, user })
    }

    fn command(&self, program: &str) -> Command {
        self.as_user(self.folder.join(program))
    }

    fn as_user(&self, program: PathBuf) -> Command {
        let mut command = Command::new(program);
        // That user may have no access to this process's working directory.
        command.current_dir("/").env_remove("PGDATA").env("LC_ALL", "C.UTF-8");
        if let Some(user) = &self.user {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    /// Adds a port with TLS. The server accepts a key file only if its own user owns it.
    fn listen(&self, command: &mut Command, data: &Path, identity: &Identity) -> Result<u16> {
        let (certificate, key) = (data.join("server.crt"), data.join("server.key"));
        fs::copy(&identity.certificate, &certificate)?;
        fs::copy(&identity.key, &key)?;
        for file in [&certificate, &key] {
            fs::set_permissions(file, Permissions::from_mode(0o600))?;
            if let Some(user) = &self.user {
                chown(file, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
            }
        }
        let port = free_port()?;
        command.args(["-c", "listen_addresses=127.0.0.1", "-p", &port.to_string()]);
        command.args(["-c", "ssl=on", "-c", "ssl_cert_file=server.crt", "-c", "ssl_key_file=server.key"]);
        Ok(port)
    }

    fn hand_over(&self, folder: &Path) -> Result<()> {
        fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        if let Some(user) = &self.user {
            chown(folder, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        Ok(())
    }

    /// Creates `<folder>/postgres`, or a folder in `/var/tmp` named after it if the user cannot reach it.
    fn data_folder(&self, folder: &Path) -> Result<PathBuf> {
        let wanted = folder.canonicalize()?.join("postgres");
        let data = match &self.user {
            Some(user) if !may_reach(user, &wanted) => {
                let elsewhere = PathBuf::from(format!("/var/tmp/votes-{}", digest_of(&wanted)));
                eprintln!(
                    "PostgreSQL runs as {}, which cannot enter {}: its data is in {}",
                    user.name,
                    folder.display(),
                    elsewhere.display()
                );
                elsewhere
            }
            _ => wanted,
        };
        fs::create_dir_all(&data).with_context(|| format!("{} cannot be created", data.display()))?;
        self.hand_over(&data)
            .with_context(|| format!("the owner of {} cannot be changed", data.display()))?;
        Ok(data)
    }

    async fn initialize(&self, data: &Path) -> Result<()> {
        let mut command = self.command("initdb");
        command.arg("-D").arg(data).args(["-U", OWNER, "--auth=trust", "--encoding=UTF8", "--locale=C"]);
        let output = command.stdin(Stdio::null()).output().await.context("initdb cannot be started")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        let reason = errors.lines().find(|line| line.contains("error")).unwrap_or("no reason given");
        ensure!(output.status.success(), "initdb failed in {}: {reason}", data.display());
        Ok(())
    }

    /// Checks that this version can read the data: a major version reads only its own.
    async fn check_version(&self, data: &Path) -> Result<()> {
        let written = fs::read_to_string(data.join("PG_VERSION"))?;
        let (written, own) = (written.trim(), major_version(&self.folder).await?);
        ensure!(
            written == own,
            "PostgreSQL {written} wrote the data in {}, and PostgreSQL {own} would run: delete the folder, choose another \
             --data-dir, or set POSTGRES_BIN to the folder of PostgreSQL {written}'s programs",
            data.display()
        );
        Ok(())
    }

    /// Stops a server that a killed run left on the data folder. The caller holds the folder's lock, so no other
    /// run uses it.
    async fn stop_leftover(&self, data: &Path) -> Result<()> {
        let control = |action: &'static [&'static str]| {
            let mut command = self.command("pg_ctl");
            command
                .args(action)
                .arg("-D")
                .arg(data)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command
        };
        if control(&["status"]).status().await.context("pg_ctl cannot be started")?.success() {
            let stopped = control(&["stop", "-m", "fast", "-w"]).status().await?;
            ensure!(stopped.success(), "a PostgreSQL server of an earlier run still uses {}", data.display());
        }
        Ok(())
    }
}

/// Tells whether the user may enter every folder above the path.
fn may_reach(user: &User, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let parents = path.ancestors().skip(1).filter_map(|folder| fs::metadata(folder).ok());
    parents.into_iter().all(|folder| {
        let shift = match (folder.uid() == user.uid.as_raw(), folder.gid() == user.gid.as_raw()) {
            (true, _) => 6,
            (false, true) => 3,
            (false, false) => 0,
        };
        folder.mode() >> shift & 1 == 1
    })
}

/// Creates the folder of the server's socket. Its name follows from the data folder's: the socket is the ledger's address,
/// by which Redis keeps its data from one run to the next.
fn socket_folder(folder: &Path) -> Result<TempDir> {
    let name = format!("votes-pg-{}", digest_of(&folder.canonicalize()?));
    // A killed run has left it. The caller holds the data folder's lock, so no other run uses it.
    let _ = fs::remove_dir_all(Path::new("/tmp").join(&name));
    Ok(tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir_in("/tmp")?)
}

/// Returns 16 hexadecimal digits that stand for a path.
fn digest_of(path: &Path) -> String {
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
