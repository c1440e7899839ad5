//! The rules of voting. Everything here is a pure function of its arguments.

mod change;
mod closing;
mod definition;
mod invalid;
mod journal;
mod judge;
mod key;
mod message;
mod names;
mod poll;
mod publication;
mod ranking;
mod receipt;
mod rejection;
mod signature;
mod timestamp;

pub use change::{Facts, Patch};
pub use closing::{Basis, Closing, LOOKED_MAX, Patience};
pub use definition::Draft;
pub use invalid::{AfterOpening, Invalid};
pub use journal::{Action, Order, changes};
pub use judge::{Rejected, Vote, judge};
pub use key::{ReceiptTag, VoteKey, Voter, VoterHasher};
pub use message::{BODY_BYTES_MAX, Malformed, Message, VoteRequest, attribute};
pub use names::BorneNames;
pub use poll::{
    Contestant, ContestantNumber, CrewView, Erratum, Gap, Poll, PollId, PollView, Results, Status,
};
pub use publication::{Certificate, Publication, Turnout};
pub use ranking::{Ranking, Standing, Tally};
pub use receipt::{Inquiry, Receipt};
pub use rejection::Rejection;
pub use signature::Signature;
pub use timestamp::Timestamp;
