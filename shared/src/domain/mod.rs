//! The rules of voting. Everything here is a pure function of its arguments.

mod closing;
mod definition;
mod judge;
mod key;
mod late;
mod message;
mod poll;
mod publication;
mod ranking;
mod receipt;
mod redrive;
mod rejection;
mod signature;
mod subject;
mod timestamp;

pub use closing::{Basis, Closing, LOOKED_MAX, Patience};
pub use definition::{Draft, Invalid, Patch};
pub use judge::{Rejected, Vote, judge};
pub use key::{ReceiptTag, VoteKey, Voter, VoterHasher};
pub use late::{LateVotes, LaterCertificate, LaterDocument};
pub use message::{BODY_BYTES_MAX, Malformed, Message, VoteRequest, attribute};
pub use poll::{Contestant, ContestantNumber, Poll, PollId, PollView, Results, Status};
pub use publication::{Certificate, Publication, Turnout};
pub use ranking::{Ranking, Standing, Tally};
pub use receipt::{Inquiry, Receipt};
pub use redrive::Redrive;
pub use rejection::Rejection;
pub use signature::Signature;
pub use subject::{SUBJECT_BYTES_MAX, is_supported_subject};
pub use timestamp::Timestamp;
