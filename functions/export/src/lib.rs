//! The export function: writes the votes of certified polls into files in a private bucket, for independent recounts.
//!
//! A schedule starts a shift every minute; without a request it ends at once. A shift writes the file part by part:
//! it reads a part's votes from the ledger, compresses them in memory, uploads the part to the bucket, and records a
//! checkpoint in the ledger. So memory does not grow with the votes, and after a crash the next shift continues after
//! the last part. A certified poll's votes do not change, so writing a part twice gives the same part.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use aws::{Aws, Bytes};
use flate2::{Compression, write::GzEncoder};
use lambda_runtime::Diagnostic;
use ledger::{Export, Ledger, Piece};
use runtime::{
    Clock,
    environment::{self, Reader},
    telemetry::error_chain,
};

/// Votes read from the ledger in one call, which form one gzip member of the file, some 3 MB.
const PIECE_CASTS: u64 = 100_000;

/// Timeout of one piece. Reading and compressing it takes less than a second, longer on a busy database.
const PIECE_LIMIT: Duration = Duration::from_secs(20);

/// Fast, since pseudonyms and keys hardly compress at any level.
const LEVEL: Compression = Compression::fast();

/// The function's handler, built once at start.
#[derive(Debug)]
pub struct Handler {
    ledger: Ledger,
    aws: Aws,
    bucket: String,
    part_bytes: usize,
    shift: Duration,
}

/// An error that ends an export's shift early. The next shift continues.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ledger does not answer.
    #[error("votes not read")]
    Ledger(#[from] ledger::Error),
    /// The bucket does not accept the file.
    #[error("file not written")]
    Bucket(#[from] aws::Error),
    /// The number of votes differs from the certificate.
    #[error("the ledger has {votes} votes of the poll, its certificate says {certified}")]
    Differs {
        /// Votes in the file.
        votes: u64,
        /// Votes that should be in it.
        certified: u64,
    },
}

/// The error that Lambda reports. The cause has been logged.
impl From<Error> for Diagnostic {
    fn from(error: Error) -> Self {
        Self { error_type: "NotExported".to_owned(), error_message: error.to_string() }
    }
}

/// A part of the compressed file: one or more gzip members.
struct Part {
    body: Vec<u8>,
    piece: Piece,
    is_last: bool,
}

impl Handler {
    /// Reads the configuration through `lookup` and prepares the clients without connecting. Variables: the ledger's,
    /// `EXPORTS_BUCKET`, `CALL_TIMEOUT_MS`, `PART_BYTES` (minimum size of a part; S3 requires 5 MiB),
    /// `SHIFT_SECONDS` (no part is begun later).
    ///
    /// # Errors
    /// Every error in the configuration.
    pub fn new(lookup: &dyn Fn(&str) -> Option<String>, clock: &Clock) -> Result<Self, environment::Error> {
        let mut reader = Reader::new(lookup);
        let ledger = Ledger::read(&mut reader, clock);
        let aws = Aws::read(&mut reader, clock);
        let bucket = reader.text("EXPORTS_BUCKET");
        let part_bytes = reader.parsed("PART_BYTES");
        let shift = reader.parsed("SHIFT_SECONDS").map(Duration::from_secs);
        let built = || {
            Some(Self { ledger: ledger?, aws: aws?, bucket: bucket?, part_bytes: part_bytes?, shift: shift? })
        };
        let built = built();
        reader.finish(built)
    }

    /// Runs one shift. Writes at least one part if an export is unfinished.
    ///
    /// # Errors
    /// The error of the first export that failed. The other exports have been continued all the same.
    pub async fn handle(&self) -> Result<(), Error> {
        let end = Instant::now() + self.shift;
        let mut failed = Ok(());
        for export in self.ledger.unfinished_exports().await? {
            if let Err(error) = self.advance(export, end).await {
                failed = failed.and(Err(error));
            }
            if Instant::now() >= end {
                break;
            }
        }
        failed
    }

    async fn advance(&self, export: Export, end: Instant) -> Result<(), Error> {
        let poll = export.poll.0;
        let result = match self.write_parts(&export, end).await {
            Err(Error::Bucket(error)) if is_unknown(&error) => self.recover_lost_upload(&export).await,
            result => result,
        };
        if let Err(error) = &result {
            tracing::error!(error = error_chain(error), poll, "export.failed");
            self.ledger.export_failed(&export, &error.to_string()).await?;
        }
        result
    }

    /// Writes parts until the shift ends, or until the file has all votes.
    async fn write_parts(&self, export: &Export, end: Instant) -> Result<(), Error> {
        let mut export = export.clone();
        let key = export.object_key();
        let upload = match export.upload.clone() {
            Some(upload) => upload,
            None => {
                let upload = self.aws.begin_upload(&self.bucket, &key, "application/gzip").await?;
                if !self.ledger.export_begun(&export, &upload).await? {
                    return Ok(());
                }
                upload
            }
        };
        export.upload = Some(upload.clone());
        loop {
            let Part { body, piece, is_last } = self.part(&export).await?;
            if !body.is_empty() {
                let (number, bytes) = (export.etags.len() + 1, body.len());
                let etag =
                    self.aws.upload_part(&self.bucket, &key, &upload, number, Bytes::from(body)).await?;
                if !self.ledger.export_moved(&export, &etag, bytes, piece).await? {
                    return Ok(());
                }
                export.etags.push(etag);
                export.exported_to = piece.last.or(export.exported_to);
                export.votes += piece.votes;
            }
            if is_last {
                return self.complete(&export, &key, &upload).await;
            }
            if Instant::now() >= end {
                tracing::info!(poll = export.poll.0, votes = export.votes, "export.goes_on");
                return Ok(());
            }
        }
    }

    async fn complete(&self, export: &Export, key: &str, upload: &str) -> Result<(), Error> {
        if let Some(certified) = export.total.filter(|&certified| certified != export.votes) {
            return Err(Error::Differs { votes: export.votes, certified });
        }
        self.aws.complete_upload(&self.bucket, key, upload, &export.etags).await?;
        self.ledger.export_finished(export).await?;
        tracing::info!(
            poll = export.poll.0,
            votes = export.votes,
            parts = export.etags.len(),
            "export.finished"
        );
        Ok(())
    }

    /// Handles an upload unknown to the bucket. Either it was completed and the answer was lost, or the lifecycle
    /// aborted it; then the export starts again.
    async fn recover_lost_upload(&self, before: &Export) -> Result<(), Error> {
        let Some(export) = self.ledger.export(before.poll).await? else { return Ok(()) };
        if self.aws.has_object(&self.bucket, &export.object_key()).await? {
            return Ok(self.ledger.export_finished(&export).await?);
        }
        tracing::warn!(poll = export.poll.0, "export.begun_anew");
        Ok(self.ledger.export_lost(&export).await?)
    }

    /// Reads and compresses the votes after the checkpoint. The part is empty if the file has all votes.
    async fn part(&self, export: &Export) -> Result<Part, Error> {
        let mut part = Part { body: Vec::new(), piece: Piece::default(), is_last: false };
        while !part.is_last && part.body.len() < self.part_bytes {
            let before = part.body.len();
            let mut member = GzEncoder::new(&mut part.body, LEVEL);
            let after = part.piece.last.or(export.exported_to);
            let take = |line: &[u8]| member.write_all(line).expect("memory takes all that is written");
            let reading = self.ledger.export_piece(export.poll, after, PIECE_CASTS, PIECE_LIMIT, take);
            let piece = reading.await?;
            member.finish().expect("memory takes all that is written");
            part.is_last = piece.casts < PIECE_CASTS;
            // A poll without votes still gets a file: one empty member.
            if piece.casts == 0 && (before > 0 || !export.etags.is_empty()) {
                part.body.truncate(before);
            }
            part.piece = Piece {
                last: piece.last.or(part.piece.last),
                votes: part.piece.votes + piece.votes,
                casts: part.piece.casts + piece.casts,
            };
        }
        Ok(part)
    }
}

fn is_unknown(error: &aws::Error) -> bool {
    matches!(error, aws::Error::Refused { status, .. } if status.as_u16() == 404)
}
