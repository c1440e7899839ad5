//! Crash points: places inside a batch at which a test can kill the process, to prove that no vote is lost there.
//!
//! They exist in debug builds only. In release builds [`CrashPoints`] and its methods are empty; `make check`
//! searches the release artifact for the variable's name.
//!
//! To add a point: 1. Add a variant to [`Point`]. 2. Add its name to `NAMES`. 3. Call [`CrashPoints::pass`] or
//! [`CrashPoints::within`] at the place. 4. Kill the function there in a test of `local/cli/tests/it`.

/// The crash points, in the order in which a batch passes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// After judging, before the call of the ledger.
    Judged,
    /// During the call of the ledger. The transaction may or may not be committed, now or later.
    Counting,
    /// After the commit, before the ranking is raised.
    Committed,
    /// During the update of the ranking.
    Raising,
    /// After the update of the ranking, before the answer.
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

    /// The crash point: `<point>:<passes>:<turns>`. `passes` is the number of times that the point is passed before
    /// the crash, `turns` the number of runtime turns after which a call is cut short. A timer would be too coarse:
    /// Redis answers within a timer's millisecond.
    const VARIABLE: &str = "CRASH_POINT";

    const NAMES: [(&str, Point); 5] = [
        ("judged", Point::Judged),
        ("counting", Point::Counting),
        ("committed", Point::Committed),
        ("raising", Point::Raising),
        ("raised", Point::Raised),
    ];

    /// The crash point of this process, if any.
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
        /// Reads `CRASH_POINT`. Without it no point is armed.
        ///
        /// # Panics
        /// If the value is malformed: a test that kills nothing would prove nothing.
        pub fn read(lookup: &dyn Fn(&str) -> Option<String>) -> Self {
            Self(lookup(VARIABLE).map(|text| {
                parse(&text)
                    .unwrap_or_else(|| panic!("{VARIABLE}: expected <point>:<passes>:<turns>, got {text}"))
            }))
        }

        /// Aborts the process if this point is armed.
        pub fn pass(&self, point: Point) {
            if let Some(armed) = self.armed(point) {
                armed.abort();
            }
        }

        /// Aborts the process during the call if this point is armed. A call that ends earlier survives.
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
                () = turns => armed.abort(),
            }
        }

        fn armed(&self, point: Point) -> Option<&Armed> {
            let armed = self.0.as_ref().filter(|armed| armed.point == point)?;
            let decrement = |left: u32| left.checked_sub(1);
            armed
                .passes_left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, decrement)
                .is_err()
                .then_some(armed)
        }
    }

    impl Armed {
        /// Aborts like SIGKILL: without unwinding, drops or flushes.
        fn abort(&self) -> ! {
            // On stdout, like the metrics, so that it is the process's last line.
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

    /// No crash points.
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

        /// Returns the call unchanged.
        #[inline(always)]
        pub fn within<F: Future>(&self, _: Point, call: F) -> F {
            call
        }
    }
}
