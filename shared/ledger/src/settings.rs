//! Reads the ledger's configuration from the environment.

use std::time::Duration;

use runtime::{Clock, environment::Reader, tls::Authorities};

use crate::{IamSigner, Ledger, Schema, connect::Connector};

impl Ledger {
    /// Reads `DATABASE_URL`, `DATABASE_TIMEOUT_MS`, `TLS_CA_FILE` and `DATABASE_AUTH` (`password`: the URL's own;
    /// `iam`: RDS tokens, signed with the credentials that Lambda puts into the environment). Does not connect. The
    /// reader reports missing and invalid variables.
    pub fn read(reader: &mut Reader<'_>, clock: &Clock) -> Option<Self> {
        let connector = Connector::read(reader, clock);
        let timeout_ms = reader.parsed("DATABASE_TIMEOUT_MS");
        Some(Self::over(connector?, Duration::from_millis(timeout_ms?)))
    }
}

impl Schema {
    /// Reads the same variables, except the timeout, for the schema's owner.
    pub fn read(reader: &mut Reader<'_>, clock: &Clock) -> Option<Self> {
        Connector::read(reader, clock).map(Self)
    }
}

impl Connector {
    fn read(reader: &mut Reader<'_>, clock: &Clock) -> Option<Self> {
        let authorities = Authorities::read(reader);
        let url = reader.text("DATABASE_URL");
        let auth = Auth::read(reader, clock)?;
        let connector = reader.built("DATABASE_URL", Self::new(&url?))?.trusting(&authorities?);
        match auth {
            Auth::Iam(iam) => reader.built("DATABASE_URL", connector.signing(iam)),
            Auth::Password => Some(connector),
        }
    }
}

/// The authentication method of a connection.
enum Auth {
    Password,
    Iam(IamSigner),
}

impl Auth {
    fn read(reader: &mut Reader<'_>, clock: &Clock) -> Option<Self> {
        match reader.text("DATABASE_AUTH")?.as_str() {
            "password" => Some(Self::Password),
            "iam" => Some(Self::Iam(IamSigner::read(reader, clock)?)),
            _ => {
                reader.reject("DATABASE_AUTH: use iam or password".to_owned());
                None
            }
        }
    }
}

impl IamSigner {
    fn read(reader: &mut Reader<'_>, clock: &Clock) -> Option<Self> {
        let access_key_id = reader.text("AWS_ACCESS_KEY_ID");
        let secret_access_key = reader.text("AWS_SECRET_ACCESS_KEY");
        let region = reader.text("AWS_REGION");
        let session_token = reader.optional("AWS_SESSION_TOKEN");
        Some(Self::new(access_key_id?, secret_access_key?, session_token, region?, clock.clone()))
    }
}
