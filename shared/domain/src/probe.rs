//! Probes: messages of our own that go the way of the votes, so that it is known what that way does.

use super::{Signature, VoterHasher};

/// What a probe's signature is labelled with.
const LABEL: &str = "probe";

/// A probe's number in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProbeId(pub i64);

impl ProbeId {
    /// The body of its message, which no voter's body is.
    pub fn body(self) -> String {
        format!(r#"{{"probe":{}}}"#, self.0)
    }

    /// Reads such a body; `None`: it is none.
    pub fn read(body: &str) -> Option<Self> {
        let number: i64 = body.strip_prefix(r#"{"probe":"#)?.strip_suffix('}')?.parse().ok()?;
        Some(Self(number)).filter(|probe| probe.body() == body)
    }

    /// Proves that its message is ours: the attribute [`PROBE`](super::attribute::PROBE).
    pub fn sign(self, hasher: &VoterHasher) -> Signature {
        hasher.sign(LABEL, &[&self.0.to_be_bytes()])
    }

    /// Whether the message is ours.
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
