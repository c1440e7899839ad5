//! Cuts of the public log: what was decided since the last cut, as files of at most 4 KiB that a page finds by the
//! first bits of a vote's tag.
//!
//! Files are a function of the records alone. Every publisher writes the same bytes.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{ContestantNumber, LedgerAddress, PollId, Timestamp, log_check};

/// The maximum size of a file in bytes, but for those where many votes came in few requests, or somebody chose ids whose tags
/// begin alike.
pub const FILE_BYTES_MAX: usize = 4_096;
/// Bits of a tag that may choose its file: its first four bytes are those of its whole request, and a cut of this many files
/// would have a quarter of a billion bytes.
const BITS_MAX: u8 = 16;
/// A cut has at most twice the files that its size needs: each is paid for, and ids whose tags begin alike must make no more.
const SPARSE_BITS: u8 = 1;
/// The stored form of a counted vote: tag, opening, contestant, count.
pub const LOGGED_BYTES: usize = 16 + 16 + 2 + 2;
/// The published form of a counted vote: tag, check.
pub const ENTRY_BYTES: usize = 32;

/// The two kinds of files of a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutKind {
    /// Entries of counted votes: tag and check, 32 bytes each, ascending.
    Votes,
    /// Outcomes that are no count: a line each of a tag in hexadecimal digits, a space and a reason, ascending.
    Others,
}

impl CutKind {
    fn extension(self) -> &'static str {
        match self {
            Self::Votes => "votes",
            Self::Others => "others",
        }
    }
}

/// The files of one kind in a cut: 2 to the power of `bits`, in the order of their tags' first bits. A file without
/// records is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutFiles {
    /// The number of a tag's first bits that choose its file.
    pub bits: u8,
    /// The contents.
    pub contents: Vec<Vec<u8>>,
}

/// A counted vote as the ledger stores it for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoggedVote<'a>(&'a [u8; LOGGED_BYTES]);

impl<'a> LoggedVote<'a> {
    /// Splits the stored entries of a batch. Bytes that are no whole entry, which only a defect can leave, are ignored.
    pub fn all(stored: &'a [u8]) -> impl Iterator<Item = Self> {
        stored.as_chunks().0.iter().map(Self)
    }

    /// Returns the stored form of a vote.
    pub fn stored(entry: super::LogEntry, contestant: ContestantNumber, count: i16) -> [u8; LOGGED_BYTES] {
        let mut stored = [0; LOGGED_BYTES];
        stored[..16].copy_from_slice(&entry.tag);
        stored[16..32].copy_from_slice(&entry.opening);
        stored[32..34].copy_from_slice(&contestant.0.to_be_bytes());
        stored[34..].copy_from_slice(&count.to_be_bytes());
        stored
    }

    /// Returns the number of taps that the vote stands for.
    pub fn count(self) -> i16 {
        let [.., high, low] = *self.0;
        i16::from_be_bytes([high, low])
    }

    fn entry(self) -> [u8; ENTRY_BYTES] {
        let (tag, rest) = self.0.split_first_chunk::<16>().expect("36 bytes");
        let (opening, rest) = rest.split_first_chunk::<16>().expect("20 bytes");
        let contestant = i16::from_be_bytes([rest[0], rest[1]]);
        let mut entry = [0; ENTRY_BYTES];
        entry[..16].copy_from_slice(tag);
        entry[16..].copy_from_slice(&log_check(opening, ContestantNumber(contestant), self.count()));
        entry
    }
}

impl CutFiles {
    /// Returns the files of counted votes; `None` without votes.
    pub fn votes<'a>(votes: impl Iterator<Item = LoggedVote<'a>>) -> Option<Self> {
        let mut entries: Vec<_> = votes.map(LoggedVote::entry).collect();
        entries.sort_unstable();
        Self::split(&entries, |entry| first_bits(entry), |_| ENTRY_BYTES, |file, entry| file.extend(entry))
    }

    /// Returns the files of other outcomes, by tag and reason; `None` without outcomes.
    pub fn others(mut outcomes: Vec<([u8; 16], String)>) -> Option<Self> {
        outcomes.sort_unstable();
        Self::split(
            &outcomes,
            |(tag, _)| first_bits(tag),
            |(_, reason)| 32 + 1 + reason.len() + 1,
            |file, (tag, reason)| {
                file.extend(format!("{:032x} {reason}\n", u128::from_be_bytes(*tag)).bytes());
            },
        )
    }

    fn split<T>(
        records: &[T],
        first_bits: impl Fn(&T) -> u32,
        size: impl Fn(&T) -> usize,
        append: impl Fn(&mut Vec<u8>, &T),
    ) -> Option<Self> {
        if records.is_empty() {
            return None;
        }
        let index = |record: &T, bits: u8| (u64::from(first_bits(record)) >> (32 - bits)) as usize;
        let fits = |bits: u8| {
            let mut sizes = vec![0; 1 << bits];
            records.iter().for_each(|record| sizes[index(record, bits)] += size(record));
            sizes.into_iter().all(|size: usize| size <= FILE_BYTES_MAX)
        };
        let needed = records.iter().map(&size).sum::<usize>().div_ceil(FILE_BYTES_MAX).next_power_of_two();
        let fewest = (needed.ilog2() as u8).min(BITS_MAX);
        let most = (fewest + SPARSE_BITS).min(BITS_MAX);
        let bits = (fewest..most).find(|&bits| fits(bits)).unwrap_or(most);
        let mut contents = vec![Vec::new(); 1 << bits];
        records.iter().for_each(|record| append(&mut contents[index(record, bits)], record));
        Some(Self { bits, contents })
    }

    /// Returns the SHA-256 of each file, one after the other.
    pub fn hashes(&self) -> Vec<u8> {
        self.contents.iter().flat_map(Sha256::digest).collect()
    }
}

fn first_bits(tag: &[u8]) -> u32 {
    u32::from_be_bytes(*tag.first_chunk().expect("a tag has 16 bytes"))
}

/// The log of one poll in one ledger. A restored ledger, which has another address, begins another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogAddress {
    /// The ledger.
    pub ledger: LedgerAddress,
    /// The poll.
    pub poll: PollId,
}

impl LogAddress {
    /// Returns the key of a file in the bucket; its path is the same after a slash.
    pub fn object_key(self, cut: i32, kind: CutKind, index: usize) -> String {
        format!("log/{}/{}/{cut}/{index}.{}", self.ledger, self.poll.0, kind.extension())
    }
}

/// The log as a poll's public file names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublicLog {
    /// The path of the cuts' folders.
    at: String,
    /// The latest cuts, newest first, all of whose files are there.
    cuts: Vec<PublicCut>,
}

impl PublicLog {
    /// Names the cuts, which are given newest first.
    pub fn new(address: LogAddress, cuts: Vec<PublicCut>) -> Self {
        Self { at: format!("/log/{}/{}", address.ledger, address.poll.0), cuts }
    }

    /// Returns whether the latest cut has counted votes.
    pub fn ends_with_votes(&self) -> bool {
        self.cuts.first().is_some_and(|cut| cut.bits.is_some())
    }
}

/// A cut whose files are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PublicCut {
    /// The number, from 1.
    pub cut: i32,
    /// [`CutFiles::bits`] of its counted votes. Absent without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits: Option<u8>,
    /// [`CutFiles::bits`] of its other outcomes. Absent without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_bits: Option<u8>,
    /// When the first of its votes was cast; no vote cast earlier is in it.
    pub from: Timestamp,
    /// When the last of its votes was cast.
    pub to: Timestamp,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{LogEntry, poll::tests::at};

    fn stored(tag: [u8; 16], contestant: i16, count: i16) -> [u8; LOGGED_BYTES] {
        LoggedVote::stored(LogEntry { tag, opening: [9; 16] }, ContestantNumber(contestant), count)
    }

    fn tag(start: u32, end: u8) -> [u8; 16] {
        let mut tag = [end; 16];
        tag[..4].copy_from_slice(&start.to_be_bytes());
        tag
    }

    fn votes(tags: &[[u8; 16]]) -> Option<CutFiles> {
        let stored: Vec<u8> = tags.iter().flat_map(|&tag| stored(tag, 7, 2)).collect();
        CutFiles::votes(LoggedVote::all(&stored))
    }

    #[test]
    fn an_entry_is_tag_and_check() {
        let files = votes(&[tag(5, 1)]).unwrap();
        let entry = [tag(5, 1), log_check(&[9; 16], ContestantNumber(7), 2)].concat();
        assert_eq!(files, CutFiles { bits: 0, contents: vec![entry] });
        assert_eq!(files.hashes(), Sha256::digest(&files.contents[0]).to_vec());
        assert_eq!(LoggedVote::all(&stored(tag(5, 1), 7, 300)).next().unwrap().count(), 300);
    }

    #[test]
    fn nothing_makes_no_files() {
        assert_eq!((votes(&[]), CutFiles::others(vec![])), (None, None));
    }

    #[test]
    fn an_outcome_is_a_line() {
        let files = CutFiles::others(vec![
            (tag(1 << 31, 2), "ballotUsed".to_owned()),
            (tag(5, 1), "afterClosing".to_owned()),
        ]);
        let lines =
            "00000005010101010101010101010101 afterClosing\n80000000020202020202020202020202 ballotUsed\n";
        assert_eq!(files, Some(CutFiles { bits: 0, contents: vec![lines.into()] }));
    }

    #[test]
    fn ids_whose_tags_begin_alike_make_few_files() {
        let alike: Vec<_> = (0..=255).map(|end| tag(7, end)).collect();
        let files = votes(&alike).unwrap();
        assert_eq!(files.contents.len(), 2 << SPARSE_BITS);
        assert_eq!(files.contents[0].len(), 256 * ENTRY_BYTES, "nothing is left out");
    }

    proptest! {
        #[test]
        fn a_tags_first_bits_find_its_file(starts in prop::collection::vec(any::<u32>(), 1..2_000)) {
            let tags: Vec<_> = starts.iter().map(|&start| tag(start, 1)).collect();
            let files = votes(&tags).unwrap();
            prop_assert_eq!(files.contents.len(), 1 << files.bits);
            for &tag in &tags {
                let index = u64::from(first_bits(&tag)) >> (32 - files.bits);
                let file = &files.contents[index as usize];
                prop_assert!(file.len() <= FILE_BYTES_MAX);
                prop_assert!(file.as_chunks::<ENTRY_BYTES>().0.iter().any(|entry| entry[..16] == tag));
                prop_assert!(file.as_chunks::<ENTRY_BYTES>().0.is_sorted());
            }
            let mut other_order = tags.clone();
            other_order.reverse();
            prop_assert_eq!(votes(&other_order), Some(files));
        }
    }

    #[test]
    fn the_public_file_names_the_folder_and_the_cuts() {
        let address = LogAddress { ledger: LedgerAddress::new("db.example", 5432, "votes"), poll: PollId(7) };
        let cut = PublicCut { cut: 57, bits: Some(8), other_bits: None, from: at(1_000), to: at(4_000) };
        let log = serde_json::to_value(PublicLog::new(address, vec![cut])).unwrap();
        let cuts = json!([{"cut": 57, "bits": 8, "from": at(1_000), "to": at(4_000)}]);
        assert_eq!(log, json!({"at": "/log/cd3c5bf7/7", "cuts": cuts}));
        assert_eq!(address.object_key(57, CutKind::Others, 3), "log/cd3c5bf7/7/57/3.others");
    }
}
