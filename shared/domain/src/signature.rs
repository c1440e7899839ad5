use std::fmt;

use super::VoterHasher;

/// Proof that one of our functions wrote a message of the votes queue: an HMAC-SHA-256, truncated to 16 bytes. Its
/// text form is 32 hexadecimal digits.
#[derive(Clone, Copy)]
pub struct Signature([u8; 16]);

impl fmt::Display for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl VoterHasher {
    /// Signs the fields of one kind of message. The label names the kind, so a signature of one kind is never valid
    /// for another. Each field is prefixed with its length, so two different lists of fields never hash the same
    /// bytes.
    pub fn sign(&self, label: &str, fields: &[&[u8]]) -> Signature {
        let lengths: Vec<[u8; 8]> = fields.iter().map(|field| (field.len() as u64).to_be_bytes()).collect();
        let label_length = (label.len() as u64).to_be_bytes();
        let mut parts: Vec<&[u8]> = vec![&label_length, label.as_bytes()];
        for (length, field) in lengths.iter().zip(fields) {
            parts.extend([length.as_slice(), field]);
        }
        Signature(self.hash(b's', &parts).to_be_bytes())
    }

    /// Returns whether `signature`, as text, is the one that [`VoterHasher::sign`] computes of these fields. The
    /// comparison takes constant time.
    pub fn has_signed(&self, signature: &str, label: &str, fields: &[&[u8]]) -> bool {
        let expected = self.sign(label, fields).to_string();
        let differences =
            expected.bytes().zip(signature.bytes()).fold(0, |sum, (ours, theirs)| sum | (ours ^ theirs));
        expected.len() == signature.len() && differences == 0
    }
}

#[cfg(test)]
mod tests {
    use crate::key::tests::hasher;

    #[test]
    fn a_signature_holds_for_its_label_and_fields_alone() {
        let fields: [&[u8]; 2] = [b"alice", b"7"];
        let signature = hasher().sign("redrive", &fields).to_string();
        assert_eq!(signature.len(), 32);
        assert!(hasher().has_signed(&signature, "redrive", &fields));
        assert!(!hasher().has_signed(&signature, "probe", &fields));
        assert!(!hasher().has_signed(&signature, "redrive", &[b"alice7", b""]));
        assert!(!hasher().has_signed(&signature, "redrive", &[b"alice"]));
        assert!(!hasher().has_signed(&signature[..31], "redrive", &fields));
        assert!(!hasher().has_signed("", "redrive", &fields));
    }
}
