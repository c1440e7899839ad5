//! The public file of a poll's title, contestants' names and pictures. It is named by its content, so that a page reads
//! it once per change, whatever else changes every three seconds.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Contestant, Poll, PollId, late::hex};

/// Bytes of the hash in a file's name. It tells a poll's own texts apart, and 64 bits do not collide by chance.
const HASH_BYTES: usize = 8;

/// The file's content and the name that follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamesFile {
    /// The poll.
    pub poll: PollId,
    /// 16 hexadecimal digits of the body's SHA-256.
    pub hash: String,
    /// The file as JSON.
    pub body: Vec<u8>,
}

#[derive(Serialize)]
struct PublicNames<'a> {
    poll: PollId,
    title: &'a str,
    contestants: &'a [Contestant],
}

impl NamesFile {
    /// Builds the file of a poll. The same names give the same bytes.
    pub fn new(poll: &Poll) -> Self {
        let names = PublicNames { poll: poll.id, title: &poll.title, contestants: &poll.contestants };
        let body = serde_json::to_vec(&names).expect("names are plain data");
        let hash = hex(&Sha256::digest(&body)[..HASH_BYTES]);
        Self { poll: poll.id, hash, body }
    }

    /// Returns the object key of the file in the bucket.
    pub fn object_key(&self) -> String {
        Self::key(self.poll, &self.hash)
    }

    /// Returns the object key of a poll's file with this hash.
    pub fn key(poll: PollId, hash: &str) -> String {
        format!("results/{}.names-{hash}.json", poll.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::poll::tests::{at, poll};

    #[test]
    fn the_file_is_named_by_what_it_says() {
        let (poll, named) = (poll(), NamesFile::new(&poll()));
        let body: Value = serde_json::from_slice(&named.body).unwrap();
        assert_eq!((&body["title"], &body["contestants"][2]["name"]), (&json!("Who stays?"), &json!("Caio")));
        assert_eq!(named.object_key(), format!("results/1.names-{}.json", named.hash));
        assert_eq!(named.hash.len(), 16);
        let later = Poll { version: 9, closes_at: None, gaps: Vec::new(), ..poll.clone() };
        assert_eq!(NamesFile::new(&later), named, "nothing else is in it");
        let mut withdrawn = poll.clone();
        withdrawn.contestants[0].withdrawn_at = Some(at(1_500));
        let mut pictured = poll.clone();
        pictured.contestants[0].image_url = Some("https://example.com/a.png".to_owned());
        for changed in [withdrawn, pictured, Poll { title: "Who goes?".to_owned(), ..poll }] {
            assert_ne!(NamesFile::new(&changed).hash, named.hash);
        }
    }
}
