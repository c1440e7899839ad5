use std::{
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{
    Connection, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};

use super::{Error, IamSigner, schema};
use domain::LedgerAddress;
use runtime::tls::Authorities;

/// How often the server checks, during a statement, whether the client is still connected. Until it notices that a
/// function was killed or timed out, it keeps the locks, and one connection more than there are instances.
const CLIENT_CHECK_INTERVAL_MS: &str = "1000";

/// How long the server keeps an idle connection. Lambda removes instances without closing their connections, which
/// must not add up to the database's limit. It exceeds the idle time after which the client pings a connection.
const IDLE_SESSION_TIMEOUT_MS: &str = "60000";

/// The reason why a database URL is refused.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It is not a PostgreSQL URL.
    #[error("use postgres://user:password@host:port/database?sslmode=verify-full ({0})")]
    Url(#[from] sqlx::Error),
    /// Only `TLS_CA_FILE` configures the stores' authorities.
    #[error("sslrootcert is not read: name the file in TLS_CA_FILE")]
    AuthoritiesInUrl,
    /// A server whose identity is not verified could steal the token.
    #[error("DATABASE_AUTH=iam needs sslmode=verify-full")]
    IamWithoutTls,
}

/// Opens connections to the ledger.
#[derive(Clone)]
pub(super) struct Connector {
    options: PgConnectOptions,
    iam: Option<IamSigner>,
    /// Whether the schema's version was found sufficient. The version never decreases.
    checked: Arc<AtomicBool>,
}

impl Connector {
    /// Creates a connector with the URL's own password, if any, and Amazon's authorities.
    pub fn new(url: &str) -> Result<Self, AddressError> {
        if ["sslrootcert=", "ssl-root-cert=", "ssl-ca="].iter().any(|parameter| url.contains(parameter)) {
            return Err(AddressError::AuthoritiesInUrl);
        }
        // The flush barrier requires synchronous commits, so the connection overrides the server and the role.
        let options = PgConnectOptions::from_str(url)?.options([
            ("client_connection_check_interval", CLIENT_CHECK_INTERVAL_MS),
            ("synchronous_commit", "on"),
        ]);
        let connector = Self { options, iam: None, checked: Arc::default() };
        Ok(connector.trusting(&Authorities::amazon()))
    }

    /// Configures the functions' connections: the server's timeouts of statements and of idle transactions are
    /// `timeout`, and every statement reads the tables through their indexes.
    ///
    /// A connection keeps its plans while an empty table grows to millions of rows, and statistics lag behind a show.
    /// Both would make the server read whole tables. The compiler of plans (JIT) would start at the costs of that.
    pub fn for_functions(self, timeout: Duration) -> Self {
        let server_timeout = format!("{}ms", timeout.as_millis());
        let options = self.options.options([
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("jit", "off"),
            ("default_transaction_isolation", "read committed"),
            ("statement_timeout", server_timeout.as_str()),
            ("idle_in_transaction_session_timeout", &server_timeout),
            ("idle_session_timeout", IDLE_SESSION_TIMEOUT_MS),
        ]);
        Self { options, ..self }
    }

    pub fn trusting(self, authorities: &Authorities) -> Self {
        Self { options: self.options.ssl_root_cert_from_pem(authorities.pem().to_vec()), ..self }
    }

    pub fn signing(self, iam: IamSigner) -> Result<Self, AddressError> {
        if !matches!(self.options.get_ssl_mode(), PgSslMode::VerifyFull) {
            return Err(AddressError::IamWithoutTls);
        }
        Ok(Self { iam: Some(iam), ..self })
    }

    /// Returns the server's address. Without a database name, PostgreSQL takes the user's.
    pub fn address(&self) -> LedgerAddress {
        let options = &self.options;
        let folder = options.get_socket().map(|folder| folder.to_string_lossy());
        let host = folder.as_deref().unwrap_or_else(|| options.get_host());
        let database = options.get_database().unwrap_or_else(|| options.get_username());
        LedgerAddress::new(host, options.get_port(), database)
    }

    /// Opens a connection and checks that this release can use the schema.
    pub async fn connect(&self) -> Result<PgConnection, Error> {
        let mut connection = self.open().await?;
        if !self.checked.load(Ordering::Relaxed) {
            schema::check(&mut connection).await?;
            self.checked.store(true, Ordering::Relaxed);
        }
        Ok(connection)
    }

    /// Opens a connection without checking the schema. A token is signed for each connection, so it is never expired.
    pub async fn open(&self) -> Result<PgConnection, sqlx::Error> {
        let Some(iam) = &self.iam else {
            return PgConnection::connect_with(&self.options).await;
        };
        let options = &self.options;
        let token = iam.token(options.get_host(), options.get_port(), options.get_username());
        let token = token.map_err(|error| sqlx::Error::Configuration(error.into()))?;
        PgConnection::connect_with(&options.clone().password(&token)).await
    }
}
