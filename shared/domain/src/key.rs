//! Pseudonyms of voters and keys of votes. A pseudonym tells voters apart without storing their identity.

use std::{collections::BTreeMap, fmt, str::FromStr};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

use super::{LogSubject, Poll, PollId, Timestamp};

/// Low bits of the millisecond time that a key's prefix omits, unless the key has the time of a UUIDv7. One prefix
/// lasts 4,096 ms, about one batching window. So a vote can be found by its message id alone, by trying all prefixes
/// of a poll.
const PREFIX_SHIFT: u32 = 12;

/// Bits of a time in milliseconds: enough until the year 10889.
const TIME_BITS: u32 = 48;

/// Prefixes tried for a vote of which only the message id is known. They cover 5 h 41 min, longer than a show. Each
/// one is an index lookup of 2 to 3 µs, so the slowest query takes 10 to 20 ms, for a poll of any age.
const PREFIXES_MAX: u64 = 5_000;

/// A voter without the token's `sub`, which is stored nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Voter {
    /// A keyed hash of the `sub`.
    pseudonym: [u8; 16],
    /// A hash of the `sub` that the voter's page derives as well. It is stored nowhere either.
    pub log: LogSubject,
}

impl Voter {
    /// Returns the half of the pseudonym that the ledger stores. Two of ten million voters share it with a
    /// probability of 3 in a million (n²/2⁶⁵). Even these have separate votes, since [`VoteKey`] is derived from the
    /// whole pseudonym.
    pub fn ledger_column(self) -> i64 {
        let [a, b, c, d, e, f, g, h, ..] = self.pseudonym;
        i64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

/// The primary key of a vote in the ledger, where each key counts once: 36 bits of time, then 92 bits of keyed hash.
/// For a vote with a UUIDv7: all 48 bits of its time, then 80 bits of hash.
///
/// The same vote has the same key at every delivery. The time prefix, itself a property of the vote, keeps inserts
/// at the right edge of the index. With millisecond prefixes, votes that arrive in the order of their ids fill one
/// index page after the other. Two of 1.5 billion votes with one prefix collide with a probability of 3 in 10¹⁰
/// (n²/2⁹³), two of a million in one millisecond with 4 in 10¹³ (n²/2⁸¹).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VoteKey(pub Uuid);

/// The lookup tag of a vote's receipt: a keyed hash of its voter and of the id of its message or its client. It
/// tells the votes of one voter apart and reveals nothing to a reader of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReceiptTag(pub i64);

/// Derives pseudonyms and keys with one secret. The secret must not change while votes of an open poll are in flight:
/// each voter would get a new pseudonym.
#[derive(Clone)]
pub struct VoterHasher(Hmac<Sha256>);

/// The secret is not 64 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("expected 64 hexadecimal digits (32 random bytes), as `openssl rand -hex 32` prints")]
pub struct InvalidSecret;

impl FromStr for VoterHasher {
    type Err = InvalidSecret;

    fn from_str(hex: &str) -> Result<Self, InvalidSecret> {
        if hex.len() != 64 || !hex.is_ascii() {
            return Err(InvalidSecret);
        }
        let mut secret = [0_u8; 32];
        for (index, byte) in secret.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).map_err(|_| InvalidSecret)?;
        }
        Hmac::new_from_slice(&secret).map(Self).map_err(|_| InvalidSecret)
    }
}

impl fmt::Debug for VoterHasher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("VoterHasher(secret)")
    }
}

impl VoterHasher {
    /// Returns the voter of a token's `sub`.
    pub fn voter(&self, sub: &str) -> Voter {
        Voter { pseudonym: self.hash(b'v', &[sub.as_bytes()]).to_be_bytes(), log: LogSubject::new(sub) }
    }

    /// Returns the key of a voter's ballot in a poll with a limit.
    pub fn ballot_key(&self, poll: PollId, created_at: Timestamp, voter: Voter, ballot: i16) -> VoteKey {
        key(created_at, self.hash(b'b', &[&poll.0.to_be_bytes(), &voter.pseudonym, &ballot.to_be_bytes()]))
    }

    /// Returns the keys of a voter's ballots from 1 to `last`.
    pub fn ballot_keys(&self, poll: &Poll, voter: Voter, last: i16) -> Vec<VoteKey> {
        (1..=last).map(|ballot| self.ballot_key(poll.id, poll.created_at, voter, ballot)).collect()
    }

    /// Returns the key of a vote with an id of its client, by the vote's place in its request. For a UUIDv7, the prefix is the id's own time: such votes
    /// are inserted fastest.
    pub fn client_key(
        &self,
        poll: PollId,
        created_at: Timestamp,
        voter: Voter,
        id: Uuid,
        place: i16,
    ) -> VoteKey {
        let minted_at =
            (id.get_version_num() == 7).then(|| Timestamp::from_millis((id.as_u128() >> 80) as i64));
        let hash =
            self.hash(b'i', &[&poll.0.to_be_bytes(), &voter.pseudonym, &place.to_be_bytes(), id.as_bytes()]);
        minted_at.flatten().map_or_else(|| key(created_at, hash), |time| prefixed(millis(time), 0, hash))
    }

    /// Returns the key of a vote without an id of its client.
    pub fn message_key(&self, poll: PollId, sent_at: Timestamp, message: Uuid) -> VoteKey {
        key(sent_at, self.message_hash(poll, message))
    }

    /// Returns the keys that a vote without an id of its client may have if it was cast from `first` to `last`: the
    /// newest 5,000 prefixes, ascending. The range includes one more prefix on either side, because the clocks of
    /// the bounds and of the vote may differ.
    pub fn message_keys(
        &self,
        poll: PollId,
        first: Timestamp,
        last: Timestamp,
        message: Uuid,
    ) -> impl Iterator<Item = VoteKey> + use<> {
        let hash = self.message_hash(poll, message);
        let end = prefix(last) + 2;
        let start = prefix(first).saturating_sub(1).max(end.saturating_sub(PREFIXES_MAX));
        (start..end).map(move |prefix| prefixed(prefix, PREFIX_SHIFT, hash))
    }

    /// Returns the tag of a voter's vote for the id of its message or its client.
    pub fn receipt_tag(&self, voter: Voter, id: Uuid) -> ReceiptTag {
        let hash = self.hash(b'r', &[&voter.pseudonym, id.as_bytes()]);
        ReceiptTag((hash >> 64) as i64)
    }

    /// Derives a UUID from a message id that is no UUID, so that the message is rejected once however often it
    /// arrives.
    pub fn unreadable_id(&self, message: &str) -> Uuid {
        Uuid::from_u128(self.hash(b'u', &[message.as_bytes()]))
    }

    fn message_hash(&self, poll: PollId, message: Uuid) -> u128 {
        self.hash(b'm', &[&poll.0.to_be_bytes(), message.as_bytes()])
    }

    /// Computes a truncated HMAC-SHA-256 (RFC 2104). All fields but the last have a fixed length or a length prefix,
    /// so two different inputs of one kind never hash the same bytes.
    pub(super) fn hash(&self, kind: u8, fields: &[&[u8]]) -> u128 {
        let mut mac = self.0.clone();
        mac.update(&[kind]);
        for field in fields {
            mac.update(field);
        }
        let digest: [u8; 32] = mac.finalize().into_bytes().into();
        let (half, _) = digest.split_at(16);
        u128::from_be_bytes(half.try_into().expect("16 of 32 bytes"))
    }
}

fn key(time: Timestamp, hash: u128) -> VoteKey {
    prefixed(prefix(time), PREFIX_SHIFT, hash)
}

fn prefix(time: Timestamp) -> u64 {
    millis(time) >> PREFIX_SHIFT
}

/// Converts without loss: a [`Timestamp`] is never negative.
fn millis(time: Timestamp) -> u64 {
    time.millis().unsigned_abs()
}

/// Builds a key that begins with a time without its `shift` low bits.
fn prefixed(prefix: u64, shift: u32, hash: u128) -> VoteKey {
    let bits = TIME_BITS - shift;
    VoteKey(Uuid::from_u128(u128::from(prefix) << (128 - bits) | hash >> bits))
}

/// Pseudonyms of a batch's voters by poll, in the form of [`Voter::ledger_column`].
pub type Voters = BTreeMap<PollId, Vec<i64>>;

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::poll::tests::at;

    pub fn hasher() -> VoterHasher {
        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff".parse().unwrap()
    }

    #[test]
    fn the_pseudonym_is_hmac_sha_256_of_the_sub() {
        // printf valice | openssl dgst -sha256 -mac HMAC -macopt hexkey:0011…eeff
        let hex: String =
            hasher().voter("alice").pseudonym.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "eb0ba67e08db37d365efba5f57049f8e");
    }

    #[test]
    fn a_secret_that_is_not_32_bytes_of_hex_is_refused() {
        for bad in ["", "00", &"0".repeat(63), &"g".repeat(64), &"é".repeat(32)] {
            assert!(bad.parse::<VoterHasher>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn keys_are_ordered_by_time(a in 0..1_i64 << 47, b in 0..1_i64 << 47, message: u128) {
            let key = |millis| hasher().message_key(PollId(1), at(millis % 253_402_300_799_999), Uuid::from_u128(message));
            let prefix = |millis: i64| (millis % 253_402_300_799_999) >> PREFIX_SHIFT;
            prop_assert_eq!(key(a).cmp(&key(b)), prefix(a).cmp(&prefix(b)));
        }

        #[test]
        fn whatever_distinguishes_two_votes_distinguishes_their_keys(
            poll in 1..3_i32, sub in "[ab]", ballot in 1..3_i16, id in 0..2_u128, place in 0..2_i16,
            other_poll in 1..3_i32, other_sub in "[ab]", other_ballot in 1..3_i16, other_id in 0..2_u128,
            other_place in 0..2_i16,
        ) {
            let hasher = hasher();
            let keys = |poll, sub: &str, ballot, id, place| {
                let voter = hasher.voter(sub);
                (
                    hasher.ballot_key(PollId(poll), at(0), voter, ballot),
                    hasher.client_key(PollId(poll), at(0), voter, Uuid::from_u128(id), place),
                    hasher.message_key(PollId(poll), at(0), Uuid::from_u128(id)),
                )
            };
            let a = keys(poll, &sub, ballot, id, place);
            let b = keys(other_poll, &other_sub, other_ballot, other_id, other_place);
            let same_voter = poll == other_poll && sub == other_sub;
            prop_assert_eq!(a.0 == b.0, same_voter && ballot == other_ballot);
            prop_assert_eq!(a.1 == b.1, same_voter && id == other_id && place == other_place);
            prop_assert_eq!(a.2 == b.2, poll == other_poll && id == other_id);
            prop_assert!(a.0 != b.1 && a.1 != b.2 && a.0 != b.2);
        }
    }

    proptest! {
        #[test]
        fn a_message_is_found_among_the_keys_of_its_time(
            first in 0..1_i64 << 40, length in 0..20_000_000_i64, share in 0.0..=1.0, message: u128,
        ) {
            let sent_at = first + (length as f64 * share) as i64;
            let message = Uuid::from_u128(message);
            let keys: Vec<_> = hasher().message_keys(PollId(1), at(first), at(first + length), message).collect();
            prop_assert!(keys.contains(&hasher().message_key(PollId(1), at(sent_at), message)));
            prop_assert!(keys.is_sorted() && keys.len() as i64 <= (length >> PREFIX_SHIFT) + 4);
        }
    }

    #[test]
    fn of_a_long_time_the_end_is_tried() {
        let (message, last) = (Uuid::from_u128(9), 1_i64 << 40);
        let keys: Vec<_> = hasher().message_keys(PollId(1), at(0), at(last), message).collect();
        let has = |millis| keys.contains(&hasher().message_key(PollId(1), at(millis), message));
        let length = (PREFIXES_MAX as i64 - 2) << PREFIX_SHIFT;
        assert_eq!(keys.len() as u64, PREFIXES_MAX);
        assert!(has(last) && has(last - length) && !has(last - length - 1));
    }

    #[test]
    fn a_poll_that_has_not_opened_has_no_keys_to_try() {
        assert_eq!(hasher().message_keys(PollId(1), at(1 << 40), at(0), Uuid::from_u128(9)).count(), 0);
    }

    #[test]
    fn a_tag_is_one_voters() {
        let tag = |sub: &str, id| hasher().receipt_tag(hasher().voter(sub), Uuid::from_u128(id));
        assert_eq!(tag("alice", 1), tag("alice", 1));
        assert_ne!(tag("alice", 1), tag("bob", 1));
        assert_ne!(tag("alice", 1), tag("alice", 2));
    }

    #[test]
    fn a_client_id_keeps_its_key_whenever_it_arrives() {
        let v7 = Uuid::from_u128(0x0194_f0c0_0000_7000_8000_0000_0000_0000);
        let v4 = Uuid::from_u128(0x0194_f0c0_0000_4000_8000_0000_0000_0000);
        let key = |id| hasher().client_key(PollId(1), at(5_000), hasher().voter("alice"), id, 0).0.as_u128();
        assert_eq!(key(v7) >> 80, 0x0194_f0c0_0000);
        assert_eq!(key(v4) >> 92, 5_000 >> PREFIX_SHIFT);
    }
}
