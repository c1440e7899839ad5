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
use runtime::tls::Authorities;

/// How soon the server notices, in the midst of a statement, that we left: a function was killed, or gave up waiting.
/// Until then it keeps the locks, and a connection more than there are instances.
const ABANDONED_MS: &str = "1000";

/// How long the server keeps a connection that nobody uses. Lambda takes instances away without a word, and their
/// connections must not add up to the database's limit. Longer than a connection is trusted: after that we ask first.
const UNUSED_MS: &str = "60000";

/// Why no ledger can be at such an address.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It is no URL of PostgreSQL.
    #[error("use postgres://user:password@host:port/database?sslmode=verify-full ({0})")]
    Url(#[from] sqlx::Error),
    /// There is one place for the stores' authorities.
    #[error("sslrootcert is not read: name the file in TLS_CA_FILE")]
    AuthoritiesInUrl,
    /// A token sent to a server of unknown identity is given away.
    #[error("DATABASE_AUTH=iam needs sslmode=verify-full")]
    IamWithoutTls,
}

/// Opens connections to the ledger.
#[derive(Clone)]
pub(super) struct Connector {
    options: PgConnectOptions,
    iam: Option<IamSigner>,
    /// Whether the schema has been found new enough: it never goes back.
    checked: Arc<AtomicBool>,
}

impl Connector {
    /// With the URL's own password, if any, and Amazon's authorities.
    pub fn new(url: &str) -> Result<Self, AddressError> {
        if ["sslrootcert=", "ssl-root-cert=", "ssl-ca="].iter().any(|parameter| url.contains(parameter)) {
            return Err(AddressError::AuthoritiesInUrl);
        }
        let options =
            PgConnectOptions::from_str(url)?.options([("client_connection_check_interval", ABANDONED_MS)]);
        let connector = Self { options, iam: None, checked: Arc::default() };
        Ok(connector.trusting(&Authorities::amazon()))
    }

    /// The server gives up on a statement, or on a transaction that we left, after `timeout`.
    pub fn giving_up_after(self, timeout: Duration) -> Self {
        let server_timeout = format!("{}ms", timeout.as_millis());
        let options = self.options.options([
            ("statement_timeout", server_timeout.as_str()),
            ("idle_in_transaction_session_timeout", &server_timeout),
            ("idle_session_timeout", UNUSED_MS),
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

    /// One connection, to a schema that this release can use.
    pub async fn connect(&self) -> Result<PgConnection, Error> {
        let mut connection = self.open().await?;
        if !self.checked.load(Ordering::Relaxed) {
            schema::check(&mut connection).await?;
            self.checked.store(true, Ordering::Relaxed);
        }
        Ok(connection)
    }

    /// One connection, whatever there is of a schema. A token is signed for each, so none is ever too old.
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
