//! Points inside a batch at which a process can be told to die, so that a test can prove that nothing is lost there.
//!
//! They are in debug builds only. In what is deployed, [`CrashPoints`] is empty and so are its methods: `make check`
//! looks for the variable's name in the release artifact.

/// The places, in the order in which a batch passes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Judged, and not yet sent to the ledger.
    Judged,
    /// While the ledger counts: the transaction may or may not be committed, now or later.
    Counting,
    /// In the ledger, and not yet in the ranking.
    Committed,
    /// While the ranking is raised.
    Raising,
    /// Done, and not yet answered.
    Raised,
}

#[cfg(debug_assertions)]
pub use armed::CrashPoints;
#[cfg(not(debug_assertions))]
pub use unarmed::CrashPoints;

#[cfg(debug_assertions)]
mod armed {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Point;

    /// What to die at: `<point>:<times passed before>:<turns>`, where the turns of the runtime are those that a call
    /// which is to be cut short may take. A timer would be too coarse: Redis answers within its millisecond.
    const VARIABLE: &str = "CRASH_POINT";

    const NAMES: [(&str, Point); 5] = [
        ("judged", Point::Judged),
        ("counting", Point::Counting),
        ("committed", Point::Committed),
        ("raising", Point::Raising),
        ("raised", Point::Raised),
    ];

    /// Where this process is to die.
    #[derive(Debug)]
    pub struct CrashPoints(Option<Armed>);

    #[derive(Debug)]
    struct Armed {
        name: &'static str,
        point: Point,
        passes_left: AtomicU32,
        turns: u32,
    }

    impl CrashPoints {
        /// As `CRASH_POINT` says; nowhere without it.
        ///
        /// # Panics
        /// When it says nothing that is known: a test that kills nobody would prove nothing.
        pub fn read(lookup: &dyn Fn(&str) -> Option<String>) -> Self {
            Self(lookup(VARIABLE).map(|text| {
                parse(&text)
                    .unwrap_or_else(|| panic!("{VARIABLE}: expected <point>:<passes>:<turns>, got {text}"))
            }))
        }

        /// Dies here if this is the place.
        pub fn pass(&self, point: Point) {
            if let Some(armed) = self.armed(point) {
                armed.die();
            }
        }

        /// Dies in the middle of the call if this is the place. A call that is faster than that lives on.
        pub async fn within<T>(&self, point: Point, call: impl Future<Output = T>) -> T {
            let Some(armed) = self.armed(point) else { return call.await };
            let turns = async {
                for _ in 0..armed.turns {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                answer = call => answer,
                () = turns => armed.die(),
            }
        }

        fn armed(&self, point: Point) -> Option<&Armed> {
            let armed = self.0.as_ref().filter(|armed| armed.point == point)?;
            let passes = |left: u32| left.checked_sub(1);
            armed
                .passes_left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, passes)
                .is_err()
                .then_some(armed)
        }
    }

    impl Armed {
        /// Like SIGKILL: nothing is unwound, dropped or flushed.
        fn die(&self) -> ! {
            // Where the metrics go too, so that it is the process's last line.
            println!("crash point {}", self.name);
            std::process::abort()
        }
    }

    fn parse(text: &str) -> Option<Armed> {
        let mut parts = text.split(':');
        let name = parts.next()?;
        let (name, point) = NAMES.into_iter().find(|(known, _)| *known == name)?;
        let passes_left = AtomicU32::new(parts.next()?.parse().ok()?);
        Some(Armed { name, point, passes_left, turns: parts.next()?.parse().ok()? })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn points(text: &str) -> CrashPoints {
            let text = text.to_owned();
            CrashPoints::read(&move |name| (name == VARIABLE).then(|| text.clone()))
        }

        #[test]
        fn a_point_is_passed_as_often_as_told() {
            let points = points("committed:2:0");
            let armed = |point| points.armed(point).is_some();
            assert!(!armed(Point::Judged));
            assert_eq!([(); 4].map(|()| armed(Point::Committed)), [false, false, true, true]);
        }

        #[tokio::test]
        async fn a_call_that_is_fast_enough_lives_on() {
            assert_eq!(points("raising:0:1000000").within(Point::Raising, async { 7 }).await, 7);
        }

        #[test]
        #[should_panic(expected = "expected <point>:<passes>:<turns>, got nowhere:0:0")]
        fn an_unknown_point_is_refused() {
            points("nowhere:0:0");
        }
    }
}

#[cfg(not(debug_assertions))]
mod unarmed {
    use super::Point;

    /// Nothing.
    #[derive(Debug)]
    pub struct CrashPoints;

    impl CrashPoints {
        /// Reads nothing.
        pub fn read(_: &dyn Fn(&str) -> Option<String>) -> Self {
            Self
        }

        /// Does nothing.
        #[inline(always)]
        pub fn pass(&self, _: Point) {}

        /// The call itself.
        #[inline(always)]
        pub fn within<F: Future>(&self, _: Point, call: F) -> F {
            call
        }
    }
}
