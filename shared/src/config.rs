//! The one reader of the environment.
//!
//! Every variable is set by `template.yaml`, or by Lambda, and has no default here: a missing one is a mistake in
//! the deployment, and all mistakes are reported at once.

use std::{fmt::Display, path::Path, str::FromStr, time::Duration};

use crate::{
    catalog::Catalog,
    domain::{CertificationPolicy, VoterHasher},
    ledger::{IamSigner, Ledger, Schema},
    ranking::RankingStore,
    tls::Authorities,
};

/// All that is wrong with the environment.
#[derive(Debug, thiserror::Error)]
#[error("the function's environment is not right: {}", .0.join("; "))]
pub struct Error(Vec<String>);

/// Reads variables through a lookup function and remembers what is wrong with them.
pub struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    errors: Vec<String>,
}

/// The two stores, as every function that uses them has them.
#[derive(Debug, Clone)]
pub struct Stores {
    /// PostgreSQL.
    pub ledger: Ledger,
    /// Redis.
    pub ranking: RankingStore,
    /// Both, for finding polls.
    pub catalog: Catalog,
}

/// Looks a variable up in the process's environment.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl<'a> Reader<'a> {
    /// Reads through `lookup`.
    pub fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, errors: Vec::new() }
    }

    /// A variable as text.
    pub fn text(&mut self, name: &str) -> Option<String> {
        let value = self.optional(name);
        if value.is_none() {
            self.errors.push(format!("{name} is not set"));
        }
        value
    }

    /// A variable that may be empty or absent.
    pub fn optional(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    /// A variable of any type that has a text form.
    pub fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        let text = self.text(name)?;
        self.built(name, text.parse())
    }

    /// `DATABASE_URL`, `DATABASE_TIMEOUT_MS`, `DATABASE_AUTH` (`password`: the URL's own; `iam`: tokens of RDS,
    /// signed with the credentials that Lambda puts into the environment), `REDIS_URL`, `REDIS_TIMEOUT_MS`,
    /// `RANKING_TTL_SECONDS`, `POLL_CACHE_SECONDS`, `RELOAD_LEASE_MS`, and `TLS_CA_FILE` for both stores.
    pub fn stores(&mut self) -> Option<Stores> {
        let authorities = self.authorities();
        let ledger = self.ledger(authorities.as_ref());
        let redis_url = self.text("REDIS_URL");
        let redis_timeout_ms = self.parsed("REDIS_TIMEOUT_MS");
        let ranking_ttl_seconds = self.parsed("RANKING_TTL_SECONDS");
        let poll_cache_seconds = self.parsed("POLL_CACHE_SECONDS");
        let reload_lease_ms = self.parsed("RELOAD_LEASE_MS");
        let redis_timeout = Duration::from_millis(redis_timeout_ms?);
        let ranking =
            RankingStore::trusting(authorities.as_ref()?, &redis_url?, redis_timeout, ranking_ttl_seconds?);
        let ranking = self.built("REDIS_URL", ranking);
        let (ledger, ranking) = (ledger?, ranking?);
        let (fresh, lease) =
            (Duration::from_secs(poll_cache_seconds?), Duration::from_millis(reload_lease_ms?));
        let catalog = Catalog::new(ledger.clone(), ranking.clone(), fresh, lease);
        Some(Stores { ledger, ranking, catalog })
    }

    /// PostgreSQL alone: as [`Self::stores`], without what Redis needs.
    pub fn ledger_alone(&mut self) -> Option<Ledger> {
        let authorities = self.authorities();
        self.ledger(authorities.as_ref())
    }

    /// `DATABASE_URL`, `DATABASE_AUTH` and `TLS_CA_FILE`, for who owns the schema.
    pub fn schema(&mut self) -> Option<Schema> {
        let authorities = self.authorities();
        let url = self.text("DATABASE_URL");
        let iam = self.database_auth()?;
        let schema = self.built("DATABASE_URL", Schema::new(&url?))?.trusting(&authorities?);
        match iam {
            Some(iam) => self.built("DATABASE_URL", schema.signing(iam)),
            None => Some(schema),
        }
    }

    /// `TLS_CA_FILE`: the authorities that the stores' certificates must come from, as PEM; empty: Amazon's.
    pub fn authorities(&mut self) -> Option<Authorities> {
        match self.optional("TLS_CA_FILE") {
            Some(file) => self.built("TLS_CA_FILE", Authorities::from_file(Path::new(&file))),
            None => Some(Authorities::amazon()),
        }
    }

    /// `CERTIFY_SIGN_SECONDS` and `PROBE_LATE_SECONDS`.
    pub fn certification_policy(&mut self) -> Option<CertificationPolicy> {
        let sign = self.parsed("CERTIFY_SIGN_SECONDS").map(Duration::from_secs);
        let probe_late = self.parsed("PROBE_LATE_SECONDS").map(Duration::from_secs);
        Some(CertificationPolicy { sign: sign?, probe_late: probe_late? })
    }

    /// `VOTER_HASH_KEY`.
    pub fn voter_hasher(&mut self) -> Option<VoterHasher> {
        self.parsed("VOTER_HASH_KEY")
    }

    /// The configuration, if nothing was wrong.
    ///
    /// # Errors
    /// Everything that was.
    pub fn finish<T>(self, config: Option<T>) -> Result<T, Error> {
        config.filter(|_| self.errors.is_empty()).ok_or(Error(self.errors))
    }

    fn ledger(&mut self, authorities: Option<&Authorities>) -> Option<Ledger> {
        let url = self.text("DATABASE_URL");
        let timeout_ms = self.parsed("DATABASE_TIMEOUT_MS");
        let iam = self.database_auth()?;
        let ledger = self.built("DATABASE_URL", Ledger::new(&url?, Duration::from_millis(timeout_ms?)))?;
        let ledger = ledger.trusting(authorities?);
        match iam {
            Some(iam) => self.built("DATABASE_URL", ledger.signing(iam)),
            None => Some(ledger),
        }
    }

    /// What signs tokens, where they are asked for.
    fn database_auth(&mut self) -> Option<Option<IamSigner>> {
        match self.text("DATABASE_AUTH")?.as_str() {
            "password" => Some(None),
            "iam" => Some(Some(self.iam_signer()?)),
            _ => {
                self.errors.push("DATABASE_AUTH: use iam or password".to_owned());
                None
            }
        }
    }

    fn iam_signer(&mut self) -> Option<IamSigner> {
        let access_key_id = self.text("AWS_ACCESS_KEY_ID");
        let secret_access_key = self.text("AWS_SECRET_ACCESS_KEY");
        let region = self.text("AWS_REGION");
        let session_token = self.optional("AWS_SESSION_TOKEN");
        Some(IamSigner::new(access_key_id?, secret_access_key?, session_token, region?))
    }

    /// What was built from a variable, or what is wrong with it; never the value, which may be a secret.
    pub fn built<T, E: Display>(&mut self, name: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.errors.push(format!("{name}: {error}"))).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_reported_at_once() {
        let lookup = |name: &str| match name {
            "DATABASE_TIMEOUT_MS" => Some("soon".to_owned()),
            "VOTER_HASH_KEY" => Some("00".to_owned()),
            _ => None,
        };
        let mut reader = Reader::new(&lookup);
        let config = (reader.stores(), reader.voter_hasher());
        let error = reader.finish(config.0.zip(config.1)).err().unwrap().to_string();
        for name in [
            "DATABASE_URL",
            "DATABASE_TIMEOUT_MS",
            "DATABASE_AUTH",
            "REDIS_URL",
            "REDIS_TIMEOUT_MS",
            "RANKING_TTL_SECONDS",
            "POLL_CACHE_SECONDS",
            "RELOAD_LEASE_MS",
            "VOTER_HASH_KEY",
        ] {
            assert!(error.contains(name), "{name} in {error}");
        }
    }

    /// The environment of a function on AWS, but for one variable.
    fn stores_with(name: &str, value: &str) -> Result<Stores, Error> {
        let lookup = |asked: &str| {
            let given = match asked {
                _ if asked == name => value,
                "DATABASE_URL" => "postgres://votes@database.example:5432/votes?sslmode=verify-full",
                "DATABASE_AUTH" => "iam",
                "REDIS_URL" => "rediss://votes:secret@cache.example:6379",
                "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" | "AWS_SESSION_TOKEN" => "given",
                "AWS_REGION" => "eu-west-1",
                "TLS_CA_FILE" => "",
                _ => "1000",
            };
            Some(given.to_owned())
        };
        let mut reader = Reader::new(&lookup);
        let stores = reader.stores();
        reader.finish(stores)
    }

    #[tokio::test]
    async fn what_would_give_a_token_away_or_cannot_be_verified_is_refused() {
        assert!(stores_with("DATABASE_AUTH", "iam").is_ok());
        let needs_tls = "DATABASE_URL: DATABASE_AUTH=iam needs sslmode=verify-full";
        for (name, value, expected) in [
            ("DATABASE_URL", "postgres://votes@database.example/votes?sslmode=verify-ca", needs_tls),
            ("DATABASE_URL", "postgres://votes@database.example/votes?sslmode=require", needs_tls),
            ("DATABASE_URL", "postgres://votes@database.example/votes", needs_tls),
            (
                "DATABASE_URL",
                "postgres://v@h/d?sslmode=verify-full&sslrootcert=/tmp/ca.pem",
                "DATABASE_URL: sslrootcert is not read: name the file in TLS_CA_FILE",
            ),
            ("DATABASE_AUTH", "IAM", "DATABASE_AUTH: use iam or password"),
            ("AWS_SECRET_ACCESS_KEY", "", "AWS_SECRET_ACCESS_KEY is not set"),
            ("REDIS_URL", "rediss://votes:secret@cache.example:6379/#insecure", "REDIS_URL: "),
            ("TLS_CA_FILE", "/nowhere/ca.pem", "TLS_CA_FILE: the file cannot be read"),
            ("TLS_CA_FILE", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "no certificate in the file"),
        ] {
            let error = stores_with(name, value).err().unwrap_or_else(|| panic!("{name}={value} is taken"));
            let error = error.to_string();
            assert!(error.contains(expected) && !error.contains(';'), "{name}={value}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
