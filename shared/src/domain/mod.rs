//! The rules of voting. Everything here is a pure function of its arguments.

mod closing;
mod definition;
mod evidence;
mod judge;
mod key;
mod message;
mod poll;
mod probe;
mod publication;
mod ranking;
mod receipt;
mod rejection;
mod signature;
mod timestamp;

pub use closing::{Basis, CertificationPolicy, Closing, OBSERVED_MAX, Sign, Waiting, WaitsFor};
pub use definition::{Draft, Invalid, Patch};
pub use evidence::{Counting, Observation, PROBES_NEEDED, Probe};
pub use judge::{Rejected, Vote, judge};
pub use key::{ReceiptTag, VoteKey, Voter, VoterHasher};
pub use message::{BODY_BYTES_MAX, Malformed, Message, VoteRequest, attribute};
pub use poll::{Contestant, ContestantNumber, Poll, PollId, PollView, Results, Status};
pub use probe::ProbeId;
pub use publication::{Certificate, Publication, Turnout};
pub use ranking::{Ranking, Standing, Tally};
pub use receipt::{Inquiry, Receipt};
pub use rejection::Rejection;
pub use signature::Signature;
pub use timestamp::Timestamp;
