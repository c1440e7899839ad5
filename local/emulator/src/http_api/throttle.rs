//! Route throttling: one token bucket for each route.
use std::{num::NonZeroU32, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::http_api::definition::Throttle;

/// A token bucket with a sustained rate and a burst.
#[derive(Debug)]
pub struct Bucket {
    /// `None`: a rate or burst of 0 admits nothing.
    limiter: Option<DefaultDirectRateLimiter>,
}

impl Bucket {
    /// Creates a full bucket.
    pub fn new(throttle: Throttle) -> Self {
        let quota = NonZeroU32::new(throttle.burst).and_then(|burst| {
            let period = Duration::try_from_secs_f64(1.0 / throttle.requests_per_second).ok()?;
            Some(Quota::with_period(period.max(Duration::from_nanos(1)))?.allow_burst(burst))
        });
        Self { limiter: quota.map(RateLimiter::direct) }
    }

    /// Takes a token. Returns `false` if the bucket is empty.
    pub fn admit(&self) -> bool {
        self.limiter.as_ref().is_some_and(|limiter| limiter.check().is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_admitted_and_the_next_request_is_not() {
        let bucket = Bucket::new(Throttle { requests_per_second: 0.001, burst: 3 });
        assert_eq!([(); 4].map(|()| bucket.admit()), [true, true, true, false]);
    }

    #[test]
    fn a_limit_of_zero_admits_nothing() {
        assert!(!Bucket::new(Throttle { requests_per_second: 0.0, burst: 5 }).admit());
        assert!(!Bucket::new(Throttle { requests_per_second: 5.0, burst: 0 }).admit());
    }
}
