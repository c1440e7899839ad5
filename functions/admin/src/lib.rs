//! The crew's routes: create polls, open and close them, certify results, audit the stores.
//!
//! A change is committed to PostgreSQL before its response, and then written to Redis. If Redis does not answer, its
//! cache entries expire within seconds.
//!
//! To add a route:
//! 1. Add a method that returns `Result<Response<Body>, Problem>`, and its arm to the match in [`Handler::handle`].
//! 2. Take an [`Order`](domain::Order) from `order` or, to honour `If-Match`, from `order_if_match`. Call `wake`
//!    after a change, so that `functions/results` publishes it.
//! 3. Add the event to `template.yaml`, the path to `docs/openapi.yaml`, the route to `scripts/check_template.py`.
//! 4. Add a test to `functions/admin/tests/polls.rs`.

mod audit;
mod body;
mod certify;
mod change;
mod edge;
mod export;
mod journal;
mod later;
mod live;
mod order;
mod read;
mod wake;

use std::{convert::Infallible, time::Duration};

use api::{NO_STORE, Problem, route_key};
use aws::Aws;
use domain::CertificationPolicy;
use lambda_http::{Body, Request, Response, http::StatusCode};
use runtime::{
    Clock,
    environment::{self, Reader},
};
use stores::Stores;

use crate::{edge::Edge, export::Exports};

/// The function's handler, built once at start.
#[derive(Debug)]
pub struct Handler {
    stores: Stores,
    audit_timeout: Duration,
    policy: CertificationPolicy,
    exports: Exports,
    aws: Aws,
    wake_queue_url: String,
    edge: Edge,
    clock: Clock,
}

impl Handler {
    /// Reads the configuration through `lookup` and prepares the clients without connecting.
    ///
    /// # Errors
    /// Every error in the configuration.
    pub fn new(lookup: &dyn Fn(&str) -> Option<String>, clock: Clock) -> Result<Self, environment::Error> {
        let mut reader = Reader::new(lookup);
        let (stores, audit_timeout_ms) =
            (Stores::read(&mut reader, &clock), reader.parsed("AUDIT_TIMEOUT_MS"));
        let policy = stores::certification_policy(&mut reader);
        let aws = Aws::read(&mut reader, &clock);
        let wake_queue_url = reader.text("WAKE_QUEUE_URL");
        let exports = exports(&mut reader, aws.clone());
        let edge = Edge::read(&mut reader);
        let built = || {
            Some(Self {
                stores: stores?,
                audit_timeout: Duration::from_millis(audit_timeout_ms?),
                policy: policy?,
                exports: exports?,
                aws: aws?,
                wake_queue_url: wake_queue_url?,
                edge: edge?,
                clock,
            })
        };
        reader.finish(built())
    }

    /// Returns whether the edge limits votes by token, and no client can bypass it.
    pub(crate) fn votes_are_limited(&self) -> bool {
        self.edge.limits_votes()
    }

    /// Answers one HTTP request of the gateway, which has checked the scope. Never fails: every failure becomes a
    /// response.
    ///
    /// # Errors
    /// None.
    pub async fn handle(&self, request: Request) -> Result<Response<Body>, Infallible> {
        let route = route_key(&request).unwrap_or_default();
        let answer = match route.as_str() {
            "POST /admin/polls" => self.create(&request).await,
            "GET /admin/polls" => self.list(&request).await,
            "GET /admin/polls/{id}" => self.show(&request).await,
            "PATCH /admin/polls/{id}" => self.patch(&request).await,
            "DELETE /admin/polls/{id}" => self.delete(&request).await,
            "POST /admin/polls/{id}/open" => self.open(&request).await,
            "POST /admin/polls/{id}/close" => self.close(&request).await,
            "POST /admin/polls/{id}/withdraw" => self.withdraw(&request).await,
            "POST /admin/polls/{id}/archive" => self.archive(&request).await,
            "POST /admin/polls/{id}/errata" => self.correct(&request).await,
            "GET /admin/polls/{id}/journal" => self.journal(&request).await,
            "GET /admin/polls/{id}/audit" => self.audit(&request).await,
            "GET /admin/polls/{id}/live" => self.live(&request).await,
            "POST /admin/polls/{id}/certify" => self.certify(&request).await,
            "POST /admin/polls/{id}/export" => self.ask_for_export(&request).await,
            "GET /admin/polls/{id}/export" => self.show_export(&request).await,
            "POST /admin/polls/{id}/rebuild" => self.rebuild(&request).await,
            _ => Err(Problem::new(StatusCode::NOT_FOUND, "routeNotFound", "There is no such route.")),
        };
        Ok(answer.unwrap_or_else(|problem| problem.into_response(NO_STORE)))
    }
}

/// Reads `EXPORTS_BUCKET` and `EXPORT_LINK_SECONDS`.
fn exports(reader: &mut Reader<'_>, aws: Option<Aws>) -> Option<Exports> {
    let bucket = reader.text("EXPORTS_BUCKET");
    let link_lifetime = reader.parsed("EXPORT_LINK_SECONDS").map(Duration::from_secs);
    Some(Exports { aws: aws?, bucket: bucket?, link_lifetime: link_lifetime? })
}
