//! Writes the votes of certified polls into files in a private bucket, for whoever wants to count them again.
//!
//! Started every minute; with nothing asked for it ends at once. Else it goes on for a shift, part by part: a part's
//! votes are read from the ledger, compressed in memory and put into the bucket, and then the ledger remembers how far
//! the file is. So memory does not grow with the votes, and whatever dies, the next shift goes on after the last part.
//! A certified poll's votes do not change: a part that is made twice is the same.

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

/// Votes that are asked of the ledger at a time, and make one member of the compressed file: some 3 MB.
const PIECE_VOTES: u64 = 100_000;

/// Reading and compressing one piece takes less than a second; a database that is at work may take longer.
const PIECE_LIMIT: Duration = Duration::from_secs(20);

/// As small as it is quickly: pseudonyms and keys hardly compress.
const LEVEL: Compression = Compression::fast();

/// The function, built once at start.
#[derive(Debug)]
pub struct Handler {
    ledger: Ledger,
    aws: Aws,
    bucket: String,
    part_bytes: usize,
    shift: Duration,
}

/// Why a shift ended early. The next one goes on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ledger does not answer.
    #[error("votes not read")]
    Ledger(#[from] ledger::Error),
    /// The bucket does not take it.
    #[error("file not written")]
    Bucket(#[from] aws::Error),
    /// More or fewer than were certified.
    #[error("the ledger has {votes} votes of the poll, its certificate says {certified}")]
    Differs {
        /// Votes in the file.
        votes: u64,
        /// Votes that should be in it.
        certified: u64,
    },
}

/// What Lambda is told; the cause has been logged.
impl From<Error> for Diagnostic {
    fn from(error: Error) -> Self {
        Self { error_type: "NotExported".to_owned(), error_message: error.to_string() }
    }
}

/// Some members of the compressed file.
struct Part {
    body: Vec<u8>,
    piece: Piece,
    is_last: bool,
}

impl Handler {
    /// Reads the configuration through `lookup` and prepares the clients without connecting: the ledger's,
    /// `EXPORTS_BUCKET`, `CALL_TIMEOUT_MS`, `PART_BYTES` (from when on a part is large enough; 5 MiB is S3's least),
    /// `SHIFT_SECONDS` (after which no part is begun).
    ///
    /// # Errors
    /// All that is wrong with the configuration.
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

    /// One shift: a part at least, where something is asked for.
    ///
    /// # Errors
    /// The first export's that failed; the others were gone on with all the same.
    pub async fn handle(&self) -> Result<(), Error> {
        let end = Instant::now() + self.shift;
        let mut failed = Ok(());
        for export in self.ledger.unfinished_exports().await? {
            if let Err(error) = self.go_on(export, end).await {
                failed = failed.and(Err(error));
            }
            if Instant::now() >= end {
                break;
            }
        }
        failed
    }

    async fn go_on(&self, export: Export, end: Instant) -> Result<(), Error> {
        let poll = export.poll.0;
        let worked = match self.work(&export, end).await {
            Err(Error::Bucket(error)) if is_unknown(&error) => self.after_loss(&export).await,
            worked => worked,
        };
        if let Err(error) = &worked {
            tracing::error!(error = error_chain(error), poll, "export.failed");
            self.ledger.export_failed(&export, &error.to_string()).await?;
        }
        worked
    }

    /// Writes parts until the end of the shift, or of the votes.
    async fn work(&self, export: &Export, end: Instant) -> Result<(), Error> {
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

    /// The bucket knows no such upload: it was completed, and nobody was told, or the lifecycle has taken it.
    async fn after_loss(&self, before: &Export) -> Result<(), Error> {
        let Some(export) = self.ledger.export(before.poll).await? else { return Ok(()) };
        if self.aws.has_object(&self.bucket, &export.object_key()).await? {
            return Ok(self.ledger.export_finished(&export).await?);
        }
        tracing::warn!(poll = export.poll.0, "export.begun_anew");
        Ok(self.ledger.export_lost(&export).await?)
    }

    /// The votes after those in the file, compressed; nothing, where the file has all.
    async fn part(&self, export: &Export) -> Result<Part, Error> {
        let mut part = Part { body: Vec::new(), piece: Piece { last: None, votes: 0 }, is_last: false };
        while !part.is_last && part.body.len() < self.part_bytes {
            let before = part.body.len();
            let mut member = GzEncoder::new(&mut part.body, LEVEL);
            let after = part.piece.last.or(export.exported_to);
            let take = |line: &[u8]| member.write_all(line).expect("memory takes all that is written");
            let reading = self.ledger.export_piece(export.poll, after, PIECE_VOTES, PIECE_LIMIT, take);
            let piece = reading.await?;
            member.finish().expect("memory takes all that is written");
            part.is_last = piece.votes < PIECE_VOTES;
            // A file without votes is one empty member.
            if piece.votes == 0 && (before > 0 || !export.etags.is_empty()) {
                part.body.truncate(before);
            }
            part.piece =
                Piece { last: piece.last.or(part.piece.last), votes: part.piece.votes + piece.votes };
        }
        Ok(part)
    }
}

fn is_unknown(error: &aws::Error) -> bool {
    matches!(error, aws::Error::Refused { status, .. } if status.as_u16() == 404)
}
