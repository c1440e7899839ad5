use super::{Signature, VoterHasher};

/// The label that separates a redrive's signature from signatures of other message kinds.
const LABEL: &str = "redrive";

/// The original fields of a message that a redrive sends again. Each field is the text that the queue carries.
///
/// The votes function accepts these fields only with our signature over all four of them. So no body, voter, cast
/// time or message id of one redriven message can be copied into another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redrive<'a> {
    /// The message body.
    pub body: &'a str,
    /// The token's `sub`. Empty if the message has no voter.
    pub voter: &'a str,
    /// The time when the vote was cast, in milliseconds since the Unix epoch.
    pub cast_at_ms: &'a str,
    /// The id that SQS gave the message when it was cast.
    pub message_id: &'a str,
}

impl Redrive<'_> {
    /// Signs the four fields.
    pub fn sign(&self, hasher: &VoterHasher) -> Signature {
        hasher.sign(LABEL, &self.fields())
    }

    /// Returns whether `signature`, as text, is our signature of these four fields.
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
