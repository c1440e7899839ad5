//! The deadletters function: lists the dead-letter queue, and redrives its messages to the votes queue.
//!
//! SQS's own redrive gives each message a new id and a new `SentTimestamp`. So a vote redriven after the close
//! would be rejected, and a vote without a client's id could count twice. This redrive adds the original id and the
//! moment of casting as attributes, and the vote is judged and counted by these.
//!
//! The votes function trusts these attributes only with a signature, under the voters' key, over body, voter, moment
//! and id, since a client could set any attribute.
//!
//! Invariant: the function uses the two queues and no store.
//!
//! To add a route:
//! 1. Add a method, and its arm to the match in [`Handler::handle`].
//! 2. Add the event to `template.yaml`, the path to `docs/openapi.yaml`, the route to `scripts/check_template.py`.

mod dead_letter;
mod listing;
mod queues;
mod redrive;

use std::convert::Infallible;

use api::{NO_STORE, Problem, json_response, route_key};
use lambda_http::{Body, Request, Response, http::StatusCode};
use runtime::environment::{self, Reader};
use runtime::telemetry::error_chain;

use crate::{listing::Listing, queues::Queues};

/// The function's handler, built once at start.
#[derive(Debug)]
pub struct Handler {
    queues: Queues,
}

impl Handler {
    /// Reads the configuration through `lookup` and prepares the client without connecting.
    ///
    /// # Errors
    /// Every error in the configuration.
    pub fn new(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, environment::Error> {
        let mut reader = Reader::new(lookup);
        let queues = Queues::read(&mut reader, lookup);
        Ok(Self { queues: reader.finish(queues)? })
    }

    /// Answers one HTTP request of the gateway, which has checked the scope. Never fails: every failure becomes a
    /// response.
    ///
    /// # Errors
    /// None.
    pub async fn handle(&self, request: Request) -> Result<Response<Body>, Infallible> {
        let route = route_key(&request).unwrap_or_default();
        let answer = match route.as_str() {
            "GET /admin/dead-letters" => self.list().await,
            "POST /admin/dead-letters/redrive" => self.redrive().await,
            _ => Err(Problem::new(StatusCode::NOT_FOUND, "routeNotFound", "There is no such route.")),
        };
        Ok(answer.unwrap_or_else(|problem| problem.into_response(NO_STORE)))
    }

    /// Lists a sample of the dead letters, which stay in the queue.
    async fn list(&self) -> Result<Response<Body>, Problem> {
        let (messages, sample) = listing::sample(&self.queues).await?;
        Ok(json_response(StatusCode::OK, NO_STORE, &Listing::new(messages, &sample)))
    }

    /// Redrives as many dead letters as the time allows.
    async fn redrive(&self) -> Result<Response<Body>, Problem> {
        let redriven = redrive::redrive(&self.queues).await?;
        tracing::info!(moved = redriven.moved, failed = redriven.failed, "dead_letters.redriven");
        Ok(json_response(StatusCode::OK, NO_STORE, &redriven))
    }
}

impl From<queues::Error> for Problem {
    fn from(error: queues::Error) -> Self {
        tracing::error!(error = error_chain(&error), "request.failed");
        let message = "The queue does not answer at the moment. Nothing is lost; try again shortly.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }
}
