//! What is in the dead-letter queue, and the way back from there.
//!
//! SQS's own redrive sends a message anew: with another id, and with the moment of moving as its moment of sending.
//! So a vote moved back after the bell would come too late, and one without an id of its client could count twice.
//! This one sends the original id and the moment of casting along, which is what the vote is judged and counted by.
//!
//! The votes function believes that only with a signature, under the voters' key, over the body, the voter, the moment
//! and the id: a message says nothing about itself that a client could have put there.
//!
//! The function knows the two queues and no store.

mod dead_letter;
mod listing;
mod queues;
mod redrive;

use std::convert::Infallible;

use api::{NO_STORE, Problem, json_response, route_key};
use lambda_http::{Body, Request, Response, http::StatusCode};
use runtime::environment::{self, Reader};

use crate::{listing::Listing, queues::Queues};

/// The function, built once at start.
#[derive(Debug)]
pub struct Handler {
    queues: Queues,
}

impl Handler {
    /// Reads the configuration through `lookup` and prepares the client without connecting.
    ///
    /// # Errors
    /// All that is wrong with the configuration.
    pub fn new(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, environment::Error> {
        let mut reader = Reader::new(lookup);
        let queues = Queues::read(&mut reader, lookup);
        Ok(Self { queues: reader.finish(queues)? })
    }

    /// Answers one request of the gateway, which has checked the scope. It never fails: every failure is an answer.
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

    /// Takes nothing out: what was looked at is given back.
    async fn list(&self) -> Result<Response<Body>, Problem> {
        let (messages, sample) = listing::sample(&self.queues).await?;
        Ok(json_response(StatusCode::OK, NO_STORE, &Listing::new(messages, &sample)))
    }

    /// Sends back as many as the time allows.
    async fn redrive(&self) -> Result<Response<Body>, Problem> {
        let redriven = redrive::redrive(&self.queues).await?;
        tracing::info!(moved = redriven.moved, failed = redriven.failed, "dead_letters.redriven");
        Ok(json_response(StatusCode::OK, NO_STORE, &redriven))
    }
}

impl From<queues::Error> for Problem {
    fn from(error: queues::Error) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "request.failed");
        let message = "The queue does not answer at the moment. Nothing is lost; try again shortly.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }
}
