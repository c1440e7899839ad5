//! Exports of a certified poll's votes: request, progress and download link. `functions/export` writes the file.

use std::time::Duration;

use api::{NO_STORE, Problem, json_response, poll_id};
use domain::{PollId, Timestamp};
use lambda_http::{Body, Request, Response, http::StatusCode};
use ledger::{Asked, Export};
use runtime::telemetry::error_chain;
use serde::Serialize;

use crate::Handler;

/// How long a finished export is reused: slightly less than the bucket's retention of 30 days, so that no link
/// leads to an expired file.
const KEPT: Duration = Duration::from_secs(29 * 86_400);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Status {
    Running,
    Done,
    Failed,
}

/// The response.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    poll: PollId,
    status: Status,
    votes: u64,
    total_votes: Option<u64>,
    bytes: u64,
    started_at: Timestamp,
    finished_at: Option<Timestamp>,
    failure: Option<String>,
    url: Option<String>,
    url_expires_at: Option<Timestamp>,
}

impl Handler {
    /// Requests an export. Answers 202 while the file is being written, 200 with a link when it is complete.
    /// Idempotent.
    pub(crate) async fn ask_for_export(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let asked = self.stores.ledger.ask_for_export(poll_id(request)?, KEPT).await?;
        match asked.ok_or_else(Problem::poll_not_found)? {
            Asked::Export(export) => self.answer(export),
            Asked::NotCertified => {
                let message =
                    "poll: its result is not certified, so its votes may still change; certify it first";
                Err(Problem::new(StatusCode::CONFLICT, "pollNotCertified", message))
            }
        }
    }

    /// Answers with the export's progress, and with a link when it is complete.
    pub(crate) async fn show_export(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let export = self.stores.ledger.export(poll_id(request)?).await?.ok_or_else(|| {
            let message = "No export of this poll was requested; POST requests one.";
            Problem::new(StatusCode::NOT_FOUND, "exportNotFound", message)
        })?;
        self.answer(export)
    }

    fn answer(&self, export: Export) -> Result<Response<Body>, Problem> {
        let status = match (&export.finished_at, &export.failure) {
            (Some(_), _) => Status::Done,
            (None, Some(_)) => Status::Failed,
            (None, None) => Status::Running,
        };
        let now = self.clock.now();
        let link = (status == Status::Done).then(|| self.exports.link(&export)).transpose()?;
        let lifetime = i64::try_from(self.exports.link_lifetime.as_millis()).unwrap_or(0);
        let view = View {
            poll: export.poll,
            status,
            votes: export.votes,
            total_votes: export.total,
            bytes: export.bytes,
            started_at: export.started_at,
            finished_at: export.finished_at,
            failure: export.failure,
            url_expires_at: link.as_ref().and(Timestamp::from_millis(now.millis() + lifetime)),
            url: link,
        };
        let code = if status == Status::Running { StatusCode::ACCEPTED } else { StatusCode::OK };
        Ok(json_response(code, NO_STORE, &view))
    }
}

/// The bucket of exports, and the client that signs links to it.
#[derive(Debug)]
pub(crate) struct Exports {
    pub aws: aws::Aws,
    pub bucket: String,
    pub link_lifetime: Duration,
}

impl Exports {
    fn link(&self, export: &Export) -> Result<String, Problem> {
        let key = export.object_key();
        self.aws.link(&self.bucket, &key, self.link_lifetime).map_err(|error| {
            tracing::error!(error = error_chain(&error), "link.not_signed");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The link could not be made.")
        })
    }
}
