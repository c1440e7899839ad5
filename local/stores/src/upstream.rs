//! A store server's address, for proxies between the server and its clients.
use std::{io, path::PathBuf, str::FromStr as _};

use anyhow::{Context as _, Result};
use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

/// A local port or Unix socket.
#[derive(Debug, Clone)]
pub enum Upstream {
    /// A port on 127.0.0.1.
    Port(u16),
    /// A Unix socket.
    Socket(PathBuf),
}

/// A connection to an upstream.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl Upstream {
    /// Parses a PostgreSQL URL.
    ///
    /// # Errors
    /// The URL is not a PostgreSQL URL.
    pub fn of_database(url: &str) -> Result<Self> {
        let options = PgConnectOptions::from_str(url)?;
        Ok(match options.get_socket() {
            Some(folder) => Self::Socket(folder.join(format!(".s.PGSQL.{}", options.get_port()))),
            None => Self::Port(options.get_port()),
        })
    }

    /// Parses a Redis URL with a port.
    ///
    /// # Errors
    /// The URL has no port.
    pub fn of_redis(url: &str) -> Result<Self> {
        Ok(Self::Port(redis_port(url)?.parse()?))
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// No server listens.
    pub async fn connect(&self) -> io::Result<Box<dyn Duplex>> {
        Ok(match self {
            Self::Port(port) => Box::new(TcpStream::connect(("127.0.0.1", *port)).await?),
            Self::Socket(path) => Box::new(UnixStream::connect(path).await?),
        })
    }
}

/// Returns the URL of the same database through another port on 127.0.0.1.
///
/// # Errors
/// The URL is not a PostgreSQL URL.
pub fn database_through(url: &str, port: u16) -> Result<String> {
    let options = PgConnectOptions::from_str(url)?;
    let (user, name) = (options.get_username(), options.get_database().unwrap_or_default());
    Ok(format!("postgres://{user}@127.0.0.1:{port}/{name}"))
}

/// Returns the URL of the same Redis database through another port.
///
/// # Errors
/// The URL has no port.
pub fn redis_through(url: &str, port: u16) -> Result<String> {
    Ok(url.replace(redis_port(url)?, &port.to_string()))
}

fn redis_port(url: &str) -> Result<&str> {
    url.rsplit([':', '/']).nth(1).context("the URL of Redis has no port")
}
