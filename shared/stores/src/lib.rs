//! The stores of most functions: the ledger, the ranking, and the catalog that reads polls through both.

mod catalog;

use std::time::Duration;

use domain::CertificationPolicy;
use ledger::Ledger;
use ranking::RankingStore;
use runtime::{Clock, environment::Reader};

pub use catalog::Catalog;

/// The two stores, and the catalog over both.
#[derive(Debug, Clone)]
pub struct Stores {
    /// PostgreSQL.
    pub ledger: Ledger,
    /// Redis.
    pub ranking: RankingStore,
    /// The catalog of polls over both stores.
    pub catalog: Catalog,
}

impl Stores {
    /// Reads the variables of [`Ledger::read`] and [`RankingStore::read`], `POLL_CACHE_SECONDS` and
    /// `RELOAD_LEASE_MS`. The ranking's keys belong to this ledger. Does not connect. The reader reports missing and invalid variables.
    pub fn read(reader: &mut Reader<'_>, clock: &Clock) -> Option<Self> {
        let ledger = Ledger::read(reader, clock);
        let address = ledger.as_ref().map(Ledger::address);
        let ranking = RankingStore::read(reader, address);
        let poll_cache_seconds = reader.parsed("POLL_CACHE_SECONDS");
        let reload_lease_ms = reader.parsed("RELOAD_LEASE_MS");
        let (ledger, ranking) = (ledger?, ranking?);
        let (fresh, lease) =
            (Duration::from_secs(poll_cache_seconds?), Duration::from_millis(reload_lease_ms?));
        let catalog = Catalog::new(ledger.clone(), ranking.clone(), fresh, lease, clock.clone());
        Some(Self { ledger, ranking, catalog })
    }
}

/// Reads `CERTIFY_SIGN_SECONDS` and `PROBE_LATE_SECONDS`.
pub fn certification_policy(reader: &mut Reader<'_>) -> Option<CertificationPolicy> {
    let sign = reader.parsed("CERTIFY_SIGN_SECONDS").map(Duration::from_secs);
    let probe_late = reader.parsed("PROBE_LATE_SECONDS").map(Duration::from_secs);
    Some(CertificationPolicy { sign: sign?, probe_late: probe_late? })
}

#[cfg(test)]
mod tests {
    use domain::VoterHasher;
    use runtime::environment::Error;

    use super::*;

    #[test]
    fn every_mistake_is_reported_at_once() {
        let lookup = |name: &str| match name {
            "DATABASE_TIMEOUT_MS" => Some("soon".to_owned()),
            "VOTER_HASH_KEY" => Some("00".to_owned()),
            _ => None,
        };
        let mut reader = Reader::new(&lookup);
        let config =
            (Stores::read(&mut reader, &Clock::system()), reader.parsed::<VoterHasher>("VOTER_HASH_KEY"));
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

    /// Reads the stores from the environment of a function on AWS, with one variable changed.
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
        let stores = Stores::read(&mut reader, &Clock::system());
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
