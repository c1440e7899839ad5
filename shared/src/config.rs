//! The one reader of the environment.
//!
//! Every variable is set by `template.yaml` and has no default here: a missing one is a mistake in the
//! deployment, and all mistakes are reported at once.

use std::{fmt::Display, str::FromStr, time::Duration};

use crate::{
    catalog::Catalog,
    domain::{Patience, VoterHasher},
    ledger::Ledger,
    ranking::RankingStore,
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
        let value = (self.lookup)(name).filter(|value| !value.is_empty());
        if value.is_none() {
            self.errors.push(format!("{name} is not set"));
        }
        value
    }

    /// A variable of any type that has a text form.
    pub fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        let text = self.text(name)?;
        self.built(name, text.parse())
    }

    /// `DATABASE_URL`, `DATABASE_TIMEOUT_MS`, `REDIS_URL`, `REDIS_TIMEOUT_MS`, `RANKING_TTL_SECONDS`,
    /// `POLL_CACHE_SECONDS` and `RELOAD_LEASE_MS`.
    pub fn stores(&mut self) -> Option<Stores> {
        let database_url = self.text("DATABASE_URL");
        let database_timeout_ms = self.parsed("DATABASE_TIMEOUT_MS");
        let redis_url = self.text("REDIS_URL");
        let redis_timeout_ms = self.parsed("REDIS_TIMEOUT_MS");
        let ranking_ttl_seconds = self.parsed("RANKING_TTL_SECONDS");
        let poll_cache_seconds = self.parsed("POLL_CACHE_SECONDS");
        let reload_lease_ms = self.parsed("RELOAD_LEASE_MS");
        let ledger = Ledger::new(&database_url?, Duration::from_millis(database_timeout_ms?));
        let ledger = self.built("DATABASE_URL", ledger);
        let ranking =
            RankingStore::new(&redis_url?, Duration::from_millis(redis_timeout_ms?), ranking_ttl_seconds?);
        let ranking = self.built("REDIS_URL", ranking);
        let (ledger, ranking) = (ledger?, ranking?);
        let (fresh, lease) =
            (Duration::from_secs(poll_cache_seconds?), Duration::from_millis(reload_lease_ms?));
        let catalog = Catalog::new(ledger.clone(), ranking.clone(), fresh, lease);
        Some(Stores { ledger, ranking, catalog })
    }

    /// `CERTIFY_EMPTY_SECONDS` and `CERTIFY_QUIET_SECONDS`.
    pub fn patience(&mut self) -> Option<Patience> {
        let empty = self.parsed("CERTIFY_EMPTY_SECONDS").map(Duration::from_secs);
        let quiet = self.parsed("CERTIFY_QUIET_SECONDS").map(Duration::from_secs);
        Some(Patience { empty: empty?, quiet: quiet? })
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
}
