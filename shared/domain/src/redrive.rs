use super::{Signature, VoterHasher};

/// Keeps a redrive's signature apart from those of other kinds of messages.
const LABEL: &str = "redrive";

/// What the redrive says of a message that it sends anew: as the message had it when it was cast. Each field is the
/// text that the queue carries.
///
/// The votes function believes it only with our signature over all four. So neither the moment, nor the message, nor
/// the voter, nor the body of one redriven message can be put into another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redrive<'a> {
    /// The body, as it is sent.
    pub body: &'a str,
    /// The token's `sub`; empty: the message has no voter.
    pub voter: &'a str,
    /// When the vote was cast, in milliseconds since the Unix epoch.
    pub cast_at_ms: &'a str,
    /// The id that SQS gave the message when it was cast.
    pub message_id: &'a str,
}

impl Redrive<'_> {
    /// Signs it.
    pub fn sign(&self, hasher: &VoterHasher) -> Signature {
        hasher.sign(LABEL, &self.fields())
    }

    /// Whether this signature, as text, is ours and of these four fields.
    pub fn is_signed(&self, signature: &str, hasher: &VoterHasher) -> bool {
        hasher.has_signed(signature, LABEL, &self.fields())
    }

    fn fields(&self) -> [&[u8]; 4] {
        [self.body, self.voter, self.cast_at_ms, self.message_id].map(str::as_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::tests::hasher;

    #[test]
    fn a_signature_holds_for_one_body_voter_moment_and_message() {
        let redrive = Redrive { body: "{}", voter: "alice", cast_at_ms: "1000", message_id: "m" };
        let signature = redrive.sign(&hasher()).to_string();
        assert!(redrive.is_signed(&signature, &hasher()));
        for other in [
            Redrive { body: "{} ", ..redrive },
            Redrive { voter: "bob", ..redrive },
            Redrive { cast_at_ms: "1001", ..redrive },
            Redrive { message_id: "n", ..redrive },
            Redrive { voter: "", ..redrive },
            Redrive { voter: "alic", cast_at_ms: "e1000", ..redrive },
        ] {
            assert!(!other.is_signed(&signature, &hasher()), "{other:?}");
        }
    }
}
