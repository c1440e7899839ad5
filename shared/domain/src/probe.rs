//! Probes: test messages of our own in the votes' queue. They show how long messages take and whether batches are
//! counted.

use super::{Signature, VoterHasher};

/// The label of a probe's signature.
const LABEL: &str = "probe";

/// A probe's number in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProbeId(pub i64);

impl ProbeId {
    /// Returns the body of the probe's message. No valid vote has such a body.
    pub fn body(self) -> String {
        format!(r#"{{"probe":{}}}"#, self.0)
    }

    /// Parses the body of a probe's message. Returns `None` for any other body.
    pub fn read(body: &str) -> Option<Self> {
        let number: i64 = body.strip_prefix(r#"{"probe":"#)?.strip_suffix('}')?.parse().ok()?;
        Some(Self(number)).filter(|probe| probe.body() == body)
    }

    /// Signs the probe. The message carries the signature in the attribute [`PROBE`](super::attribute::PROBE).
    pub fn sign(self, hasher: &VoterHasher) -> Signature {
        hasher.sign(LABEL, &[&self.0.to_be_bytes()])
    }

    /// Returns whether the signature proves that one of our functions wrote the message.
    pub fn is_signed(self, signature: &str, hasher: &VoterHasher) -> bool {
        hasher.has_signed(signature, LABEL, &[&self.0.to_be_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::tests::hasher;

    #[test]
    fn a_probe_is_read_as_it_is_written_and_no_other_way() {
        assert_eq!(ProbeId::read(&ProbeId(7).body()), Some(ProbeId(7)));
        for body in
            [r#"{"probe":"7"}"#, r#"{"probe":7.0}"#, r#"{"probe":+7}"#, r#"{"probe":07}"#, "{}", "7", ""]
        {
            assert_eq!(ProbeId::read(body), None, "{body}");
        }
    }

    #[test]
    fn a_signature_is_of_one_probe() {
        let signature = ProbeId(7).sign(&hasher()).to_string();
        assert!(ProbeId(7).is_signed(&signature, &hasher()));
        assert!(!ProbeId(8).is_signed(&signature, &hasher()));
        assert!(!ProbeId(7).is_signed(&"0".repeat(32), &hasher()));
    }
}
