//! The result of a run: a table and a verdict.
//!
//! To add a check: 1. add its input as a field of [`Verdict`]. 2. Report a broken promise in
//! [`Verdict::differences`]. 3. Cover it in the test `each_difference_is_told`.
use std::{collections::BTreeMap, fmt, time::Duration};

use crate::{
    certificates::Certificates, comparison::PollTotals, ledger_diff::LedgerDiff, public_log::PublicLogs,
};

/// Differences reported for each kind.
const SHOWN_MAX: usize = 20;

/// The results of a run.
#[derive(Debug)]
pub struct Verdict {
    /// Seed that reproduces votes and plan.
    pub seed: u64,
    /// Time from the first vote until the queue was empty.
    pub elapsed: Duration,
    /// Accepted votes, by the driver's book.
    pub accepted: u64,
    /// Accepted messages, by the driver's book.
    pub messages: u64,
    /// Accepted messages of each kind, by the driver's book.
    pub by_kind: BTreeMap<&'static str, u64>,
    /// Accepted messages, by the queue.
    pub received: u64,
    /// Comparison of the ledger with the book.
    pub ledger_diff: LedgerDiff,
    /// Totals of each poll in ledger, tally and ranking, after a viewer's read.
    pub polls: Vec<PollTotals>,
    /// Certificates of the closed polls.
    pub certificates: Certificates,
    /// The public logs of the polls.
    pub logs: PublicLogs,
    /// Differences of rankings after the last batch and before any read.
    pub unhealed: Vec<String>,
    /// Messages in the dead-letter queue.
    pub dead: u64,
    /// Number of injected faults by label.
    pub injected: BTreeMap<String, u64>,
    /// Requested faults that never happened.
    pub missing: Vec<String>,
}

impl Verdict {
    /// Returns the broken promises, as texts for people; empty if every promise holds.
    pub fn differences(&self) -> Vec<String> {
        let mut differences = Vec::new();
        let rejected: u64 = self.ledger_diff.rejected.values().sum();
        let decided = self.ledger_diff.counted + self.ledger_diff.duplicates + rejected;
        if self.accepted != decided {
            differences.push(format!(
                "accepted {} is not counted {} + duplicate {} + rejected {rejected} = {decided}",
                self.accepted, self.ledger_diff.counted, self.ledger_diff.duplicates
            ));
        }
        if self.messages != self.received {
            differences.push(format!(
                "the driver counts {} accepted messages, the queue {}",
                self.messages, self.received
            ));
        }
        for (kind, (count, examples)) in &self.ledger_diff.differences {
            differences.push(format!("{count} × {kind}, such as {}", examples.join("; ")));
        }
        differences.extend(self.logs.differences.iter().take(SHOWN_MAX).cloned());
        differences.extend(self.certificates.differences().into_iter().take(SHOWN_MAX));
        let polls = self.polls.iter().flat_map(|line| &line.differences);
        let sample: Vec<_> = polls.chain(&self.unhealed).collect();
        differences.extend(sample.iter().take(SHOWN_MAX).map(ToString::to_string));
        if sample.len() > SHOWN_MAX {
            differences.push(format!("… and {} more contestants", sample.len() - SHOWN_MAX));
        }
        if self.dead > 0 {
            differences.push(format!("{} messages in the dead-letter queue", self.dead));
        }
        differences
    }

    /// Tells whether every promise holds and every requested fault happened.
    pub fn holds(&self) -> bool {
        self.differences().is_empty() && self.missing.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        let rejected: u64 = self.ledger_diff.rejected.values().sum();
        writeln!(f, "seed {}, {seconds:.0} s, {:.0} votes/s", self.seed, self.accepted as f64 / seconds)?;
        writeln!(f, "\n{:>12}  accepted, in {} messages", self.accepted, self.messages)?;
        for (kind, count) in &self.by_kind {
            writeln!(f, "{:>14}{count:>12}  {kind}", "")?;
        }
        writeln!(f, "{:>12}  counted", self.ledger_diff.counted)?;
        writeln!(f, "{:>12}  duplicate", self.ledger_diff.duplicates)?;
        writeln!(f, "{rejected:>12}  rejected")?;
        for (reason, count) in &self.ledger_diff.rejected {
            writeln!(f, "{:>14}{count:>12}  {reason}", "")?;
        }
        writeln!(f, "\n{:>12}{:>12}{:>12}{:>12}", "poll", "ledger", "tally", "ranking")?;
        for PollTotals { poll, ledger, tally, ranking, .. } in &self.polls {
            writeln!(f, "{poll:>12}{ledger:>12}{tally:>12}{ranking:>12}")?;
        }
        write!(f, "\n{}", self.certificates)?;
        let PublicLogs { cuts, files, entries, others, .. } = self.logs;
        writeln!(
            f,
            "\n{entries:>12}  in the public logs, and {others} that do not count: {cuts} cuts, {files} files"
        )?;
        writeln!(f, "\n{:>12}  in the dead-letter queue\n", self.dead)?;
        for (label, count) in &self.injected {
            writeln!(f, "{count:>12}  {label}")?;
        }
        let differences = self.differences();
        if !differences.is_empty() {
            writeln!(f, "\nFAILED:")?;
            return differences.iter().try_for_each(|difference| writeln!(f, "- {difference}"));
        }
        if self.missing.is_empty() {
            return writeln!(
                f,
                "\nOK: every vote counted once or was rejected for its reason; all three stores agree; no poll was \
                 certified early."
            );
        }
        writeln!(
            f,
            "\nINCONCLUSIVE: no promise was broken, but these faults never happened: {}.",
            self.missing.join(", ")
        )?;
        writeln!(f, "Allow more time (--duration) or more votes (--votes).")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict() -> Verdict {
        let rejected = BTreeMap::from([("notJson".to_owned(), 2)]);
        Verdict {
            seed: 7,
            elapsed: Duration::from_secs(2),
            accepted: 10,
            messages: 10,
            by_kind: BTreeMap::from([("plain", 10)]),
            received: 10,
            ledger_diff: LedgerDiff { counted: 7, duplicates: 1, rejected, ..LedgerDiff::default() },
            polls: vec![PollTotals { poll: 1, ledger: 7, tally: 7, ranking: 7, differences: Vec::new() }],
            logs: PublicLogs::default(),
            certificates: Certificates { closed: 1, undisturbed: vec![7.5], ..Certificates::default() },
            unhealed: Vec::new(),
            dead: 0,
            injected: BTreeMap::from([("kill".to_owned(), 3)]),
            missing: Vec::new(),
        }
    }

    #[test]
    fn a_run_without_differences_holds() {
        let verdict = verdict();
        assert!(verdict.holds());
        let text = verdict.to_string();
        assert!(text.starts_with("seed 7, 2 s, 5 votes/s") && text.contains("\nOK: "), "{text}");
        assert!(
            text.contains("1  of them without a failed batch: from the close to the certificate p50 7.5 s"),
            "{text}"
        );
    }

    fn assert_fails(spoil: impl FnOnce(&mut Verdict), told: &str) {
        let mut verdict = verdict();
        spoil(&mut verdict);
        let text = verdict.to_string();
        assert!(!verdict.holds() && text.contains("FAILED") && text.contains(told), "{text}");
    }

    #[test]
    fn each_difference_is_told() {
        let sum = "accepted 10 is not counted 6 + duplicate 1 + rejected 2 = 9";
        assert_fails(|verdict| verdict.ledger_diff.counted = 6, sum);
        assert_fails(|verdict| verdict.received = 11, "the queue 11");
        assert_fails(
            |verdict| verdict.certificates.early.extend([(7, 2)]),
            "poll 7 was certified early: 2 votes",
        );
        assert_fails(|verdict| verdict.logs.differences.push("cut 3".to_owned()), "- cut 3");
        assert_fails(|verdict| verdict.dead = 1, "1 messages in the dead-letter queue");
        assert_fails(|verdict| verdict.polls[0].differences.push("poll 1".to_owned()), "- poll 1");
        assert_fails(|verdict| verdict.unhealed.push("after a death".to_owned()), "after a death");
        let missing = ("missing", (3, vec!["vote 1".to_owned()]));
        assert_fails(
            |verdict| verdict.ledger_diff.differences.extend([missing]),
            "3 × missing, such as vote 1",
        );
    }

    #[test]
    fn a_fault_that_never_happened_makes_the_verdict_inconclusive() {
        let verdict = Verdict { missing: vec!["redis-flush".to_owned()], ..verdict() };
        let text = verdict.to_string();
        assert!(!verdict.holds() && text.contains("INCONCLUSIVE") && text.contains("redis-flush"), "{text}");
    }
}
