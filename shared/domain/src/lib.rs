//! The rules of voting, as pure functions of their arguments: no SQL, Redis, AWS, environment or clock.
//!
//! To add a rejection reason: 1. Add the variant, its name and its place in [`Rejection::ALL`] (`rejection.rs`).
//! 2. Return it from [`judge()`]. 3. Name it in `docs/openapi.yaml` and `frontend/text`. The name is stored, so it
//! never changes.
//!
//! To add a field of a poll: 1. Extend [`Poll`], [`Draft`] and [`Patch`]. 2. Add a migration. 3. Read and write the
//! column in the ledger's `polls.rs` and `change.rs`.

mod change;
mod closing;
mod cut;
mod definition;
mod evidence;
mod invalid;
mod journal;
mod judge;
mod key;
mod late;
mod ledger_address;
mod log_entry;
mod message;
mod names;
mod pace;
mod poll;
mod probe;
mod public_list;
mod public_names;
mod publication;
mod ranking;
mod receipt;
mod redrive;
mod rejection;
mod signature;
mod subject;
mod timestamp;

pub use change::{Facts, Patch};
pub use closing::{Basis, CertificationPolicy, Closing, OBSERVED_MAX, Sign, Waiting, WaitsFor};
pub use cut::{
    CutFiles, CutKind, FILE_BYTES_MAX, LOGGED_BYTES, LogAddress, LoggedVote, PublicCut, PublicLog,
};
pub use definition::Draft;
pub use evidence::{Counting, Observation, PROBES_NEEDED, Probe};
pub use invalid::{AfterOpening, Invalid};
pub use journal::{Action, Order, changes};
pub use judge::{LateVote, Rejected, Vote, judge};
pub use key::{ReceiptTag, VoteKey, Voter, VoterHasher, Voters};
pub use late::{LateVotes, LaterCertificate, LaterDocument};
pub use ledger_address::LedgerAddress;
pub use log_entry::{LogEntry, LogRequest, LogSubject, log_check};
pub use message::{BODY_BYTES_MAX, Choice, Malformed, Message, VOTES_MAX, VoteRequest, attribute};
pub use names::NameHistory;
pub use pace::Pace;
pub use poll::{
    Contestant, ContestantNumber, CrewView, Erratum, Gap, Poll, PollId, PollView, PollWithTally, Results,
    Status,
};
pub use probe::ProbeId;
pub use public_list::PublicList;
pub use public_names::NamesFile;
pub use publication::{Certificate, Publication, Recount, Supplement, Turnout};
pub use ranking::{Ranking, Standing, Tally};
pub use receipt::{Inquiry, PlacedReceipt, Receipt};
pub use redrive::Redrive;
pub use rejection::Rejection;
pub use signature::Signature;
pub use subject::{SUBJECT_BYTES_MAX, is_supported_subject};
pub use timestamp::Timestamp;
