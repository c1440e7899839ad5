//! Entries of the public log. A voter's page derives the entry of a vote as the function does, so that it can find
//! the vote in public files. To everyone else an entry is 32 random bytes.
//!
//! Each value is SHA-256 over a label and fields, each of them after its length in two bytes. Numbers are decimal
//! text.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::ContestantNumber;

/// The hash of a token's `sub`, from which the entries of all its votes derive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogSubject([u8; 32]);

/// What the entries of one request derive from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRequest {
    /// The first bytes of the tags of all votes of the request, so that one file has them all.
    group: [u8; LogRequest::GROUP_BYTES],
    seed: [u8; 32 - LogRequest::GROUP_BYTES],
}

/// The derived values of one vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEntry {
    /// The public name of the vote. Two votes never share it: it derives from the voter, and from whatever tells the
    /// voter's votes apart.
    pub tag: [u8; 16],
    /// The secret that opens the check. Only the voter's page and the ledger have it.
    pub opening: [u8; 16],
}

impl LogSubject {
    /// Hashes a token's `sub`.
    pub fn new(sub: &str) -> Self {
        Self(derive("subject", &[sub.as_bytes()]))
    }

    /// Derives what the votes of one request share. `id` is the client's, or without one that of SQS.
    pub fn request(self, poll: i64, id: Uuid) -> LogRequest {
        let id = id.hyphenated().to_string();
        let hash = derive("request", &[poll.to_string().as_bytes(), &self.0, id.as_bytes()]);
        let (group, seed) = hash.split_at(LogRequest::GROUP_BYTES);
        LogRequest {
            group: group.try_into().expect("the hash was split there"),
            seed: seed.try_into().expect("the hash was split there"),
        }
    }
}

impl LogRequest {
    const GROUP_BYTES: usize = 4;

    /// Derives the entry of the vote at a place of the request. `ballot` is 0 without one.
    pub fn entry(self, place: i16, ballot: i64) -> LogEntry {
        let (place, ballot) = (place.to_string(), ballot.to_string());
        let fields = [&self.seed[..], place.as_bytes(), ballot.as_bytes()];
        let mut tag = half(derive("tag", &fields));
        tag.copy_within(..16 - Self::GROUP_BYTES, Self::GROUP_BYTES);
        tag[..Self::GROUP_BYTES].copy_from_slice(&self.group);
        LogEntry { tag, opening: half(derive("opening", &fields)) }
    }
}

/// Returns the check of an entry: it binds the vote's contestant and count, and reveals neither without the opening.
pub fn log_check(opening: &[u8; 16], contestant: ContestantNumber, count: i16) -> [u8; 16] {
    let (contestant, count) = (contestant.0.to_string(), count.to_string());
    half(derive("check", &[opening, contestant.as_bytes(), count.as_bytes()]))
}

/// Hashes a label and fields. The lengths keep two different inputs from hashing the same bytes.
fn derive(label: &str, fields: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for field in [label.as_bytes()].iter().chain(fields) {
        let length = u16::try_from(field.len()).expect("a field is shorter than 64 KiB");
        hash.update(length.to_be_bytes());
        hash.update(field);
    }
    hash.finalize().into()
}

fn half(hash: [u8; 32]) -> [u8; 16] {
    *hash.first_chunk().expect("16 of 32 bytes")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(sub: &str, poll: i64, id: u128, place: i16, ballot: i64) -> LogEntry {
        LogSubject::new(sub).request(poll, Uuid::from_u128(id)).entry(place, ballot)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The same figures are in `frontend/tests/log.test.js`.
    #[test]
    fn an_entry_is_what_the_page_derives() {
        let entry = entry("alice", 7, 0x0194_f0c0_0000_7000_8000_0000_0000_0000, 2, 3);
        let check = log_check(&entry.opening, ContestantNumber(4), 5);
        assert_eq!(
            [hex(&entry.tag), hex(&entry.opening), hex(&check)],
            [
                "917bcf1fa2241ecd060417d2f41952e4",
                "52d4579f7d7fd33201eac032a5e5be68",
                "7db2a90f09746271d2313a2906b62ccd"
            ]
        );
    }

    #[test]
    fn a_check_binds_contestant_and_count() {
        let check =
            |opening: u8, contestant, count| log_check(&[opening; 16], ContestantNumber(contestant), count);
        assert_ne!(check(1, 1, 1), check(1, 2, 1));
        assert_ne!(check(1, 1, 1), check(1, 1, 2));
        assert_ne!(check(1, 1, 1), check(2, 1, 1));
        assert_ne!(check(1, 1, 11), check(1, 11, 1), "the lengths separate them");
    }

    proptest! {
        #[test]
        fn two_votes_never_share_a_tag_and_those_of_a_request_share_its_start(
            a in ("[ab]{1,2}", 1..3_i64, 0..2_u128, 0..2_i16, 0..2_i64),
            b in ("[ab]{1,2}", 1..3_i64, 0..2_u128, 0..2_i16, 0..2_i64),
        ) {
            let of = |(sub, poll, id, place, ballot): &(String, i64, u128, i16, i64)| entry(sub, *poll, *id, *place, *ballot);
            let same = a == b;
            prop_assert_eq!(of(&a).tag == of(&b).tag, same);
            prop_assert_eq!(of(&a).opening == of(&b).opening, same);
            prop_assert_eq!(of(&a).tag[..4] == of(&b).tag[..4], (&a.0, a.1, a.2) == (&b.0, b.1, b.2));
        }
    }
}
