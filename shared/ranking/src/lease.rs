//! Leases: elect one instance for a task.

use std::time::Duration;

use uuid::Uuid;

use super::{Error, RankingStore};

/// A lease: the right to do a task alone until it is released or expires.
#[derive(Debug)]
pub struct Lease {
    key: String,
    /// The unique id of the holder. A holder whose lease has expired must not release the lease of a later one.
    holder: String,
}

/// Script: renews a lease if the holder still has it.
const RENEW: &str = "
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0";

/// Script: releases a lease if the holder still has it.
const RELEASE: &str = "
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0";

impl RankingStore {
    /// Acquires the lease of this name for `duration`, in whole milliseconds, at least one. Returns `None` if another
    /// instance holds it. A lease saves work and is no mutual exclusion: the task must be idempotent.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn claim(&self, name: &str, duration: Duration) -> Result<Option<Lease>, Error> {
        let lease = Lease { key: self.key(format_args!("lease:{name}")), holder: Uuid::new_v4().to_string() };
        let mut command = redis::pipe();
        command
            .cmd("SET")
            .arg(&lease.key)
            .arg(&lease.holder)
            .arg("NX")
            .arg("PX")
            .arg(duration.as_millis().max(1) as u64);
        let (taken,): (Option<String>,) = self.run(&command).await?;
        Ok(taken.map(|_| lease))
    }

    /// Renews a lease for `duration` from now. Returns `false` if it had expired.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn renew(&self, lease: &Lease, duration: Duration) -> Result<bool, Error> {
        let mut command = redis::pipe();
        command
            .cmd("EVAL")
            .arg(RENEW)
            .arg(1)
            .arg(&lease.key)
            .arg(&lease.holder)
            .arg(duration.as_millis().max(1) as u64);
        let (renewed,): (i64,) = self.run(&command).await?;
        Ok(renewed == 1)
    }

    /// Releases a lease before it expires.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`]; then the lease expires by itself.
    pub async fn release(&self, lease: Lease) -> Result<(), Error> {
        let mut command = redis::pipe();
        command.cmd("EVAL").arg(RELEASE).arg(1).arg(lease.key).arg(lease.holder).ignore();
        self.run(&command).await
    }
}
