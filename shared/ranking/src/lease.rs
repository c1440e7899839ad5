//! Who of the whole fleet does something that is enough to be done once.

use std::time::Duration;

use uuid::Uuid;

use super::{Error, RankingStore};

/// The right to do something alone, until it is given back or runs out.
#[derive(Debug)]
pub struct Lease {
    key: String,
    /// Tells this holder from a later one: who was away for longer than the lease must not end another's.
    holder: String,
}

/// Lengthens a lease, unless it has passed on to another holder.
const RENEW: &str = "
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0";

/// Ends a lease, unless it has passed on to another holder.
const RELEASE: &str = "
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0";

impl RankingStore {
    /// Takes the lease of this name for `duration`, in whole milliseconds and at least one; `None`: somebody holds it.
    /// A lease spares work and does not guard anything: what is done under it must bear being done twice.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn claim(&self, name: &str, duration: Duration) -> Result<Option<Lease>, Error> {
        let lease = Lease { key: format!("lease:{name}"), holder: Uuid::new_v4().to_string() };
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

    /// Makes a lease last `duration` from now; `false`: it had run out.
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

    /// Gives a lease back before it runs out.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`]; then it runs out by itself.
    pub async fn release(&self, lease: Lease) -> Result<(), Error> {
        let mut command = redis::pipe();
        command.cmd("EVAL").arg(RELEASE).arg(1).arg(lease.key).arg(lease.holder).ignore();
        self.run(&command).await
    }
}
