//! The rules of voting. Everything here is a pure function of its arguments.

mod definition;
mod judge;
mod key;
mod message;
mod poll;
mod ranking;
mod receipt;
mod rejection;
mod timestamp;

pub use definition::{Draft, Invalid, Patch};
pub use judge::{Rejected, Vote, judge};
pub use key::{ReceiptTag, VoteKey, Voter, VoterHasher};
pub use message::{BODY_BYTES_MAX, Malformed, Message, VoteRequest, attribute};
pub use poll::{Contestant, ContestantNumber, Poll, PollId, PollView, Results, Status};
pub use ranking::{Ranking, Standing, Tally};
pub use receipt::{Inquiry, Receipt};
pub use rejection::Rejection;
pub use timestamp::Timestamp;
