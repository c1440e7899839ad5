//! The show's own routes: making polls, opening and closing them, and checking the books.
//!
//! A change is in PostgreSQL when it is answered, and in Redis as far as that answers: otherwise what Redis has
//! goes out of date by itself within seconds.

mod audit;
mod body;
mod certify;
mod export;
mod later;
mod live;

use std::{convert::Infallible, time::Duration};

use aws::Aws;
use lambda_http::{
    Body, Request, RequestExt, Response,
    http::{HeaderValue, StatusCode, header},
};
use serde_json::json;
use shared::{
    api::{NO_STORE, Problem, json_response, poll_id, route_key},
    clock,
    config::{self, Stores},
    domain::{Draft, Invalid, Patch, Patience, Poll, PollId, Timestamp},
    ledger::PollWithTally,
    telemetry::causes,
};

use crate::export::Exports;

/// The function, built once at start.
#[derive(Debug)]
pub struct Handler {
    stores: Stores,
    audit_timeout: Duration,
    patience: Patience,
    exports: Exports,
}

impl Handler {
    /// Reads the configuration through `lookup` and prepares the clients without connecting.
    ///
    /// # Errors
    /// All that is wrong with the configuration.
    pub fn new(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, config::Error> {
        let mut reader = config::Reader::new(lookup);
        let (stores, audit_timeout_ms) = (reader.stores(), reader.parsed("AUDIT_TIMEOUT_MS"));
        let patience = reader.patience();
        let exports = exports(&mut reader);
        let ((stores, audit_timeout_ms), (patience, exports)) =
            reader.finish(stores.zip(audit_timeout_ms).zip(patience.zip(exports)))?;
        Ok(Self { stores, audit_timeout: Duration::from_millis(audit_timeout_ms), patience, exports })
    }

    /// Answers one request of the gateway, which has checked the scope. It never fails: every failure is an answer.
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
            "POST /admin/polls/{id}/open" => self.change(&request, |poll, _, now| poll.opened(now)).await,
            "POST /admin/polls/{id}/close" => self.change(&request, |poll, _, now| poll.closed(now)).await,
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

    async fn create(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let draft: Draft = body::parse(request)?;
        let created = self.stores.ledger.create_poll(&draft).await?;
        self.write_through(&created).await;
        let mut response = poll_response(StatusCode::CREATED, &created.poll);
        let location = HeaderValue::from_str(&format!("/admin/polls/{}", created.poll.id.0));
        response.headers_mut().insert(header::LOCATION, location.expect("a path of digits"));
        Ok(response)
    }

    async fn list(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let parameters = request.query_string_parameters();
        let before = match parameters.first("before").map(str::parse) {
            None => i32::MAX,
            Some(Ok(id)) if id > 0 => id,
            Some(_) => {
                let message = "before: expected the number of a poll";
                return Err(Problem::new(StatusCode::BAD_REQUEST, "invalidBefore", message));
            }
        };
        let polls = self.stores.ledger.polls_before(PollId(before)).await?;
        let now = clock::now();
        let views: Vec<_> = polls.iter().map(|poll| poll.view(now)).collect();
        Ok(json_response(StatusCode::OK, NO_STORE, &json!({ "polls": views })))
    }

    async fn show(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let found = self.stores.ledger.polls(&[poll_id(request)?]).await?.pop();
        Ok(poll_response(StatusCode::OK, &found.ok_or_else(Problem::poll_not_found)?.poll))
    }

    async fn patch(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let patch: Patch = body::parse(request)?;
        self.change(request, |poll, has_votes, _| poll.patched(patch.clone(), has_votes)).await
    }

    async fn delete(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let id = poll_id(request)?;
        if !self.stores.ledger.delete_poll(id).await? {
            return Err(Problem::poll_not_found());
        }
        if let Err(error) = self.stores.ranking.forget_poll(id).await {
            tracing::warn!(error = causes(&error), "poll.not_forgotten");
        }
        self.refresh_list().await;
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(NO_STORE));
        Ok(response)
    }

    /// Changes a poll by a rule, in both stores.
    async fn change(
        &self,
        request: &Request,
        rule: impl Fn(&Poll, bool, Timestamp) -> Result<Poll, Invalid>,
    ) -> Result<Response<Body>, Problem> {
        let changed = self.stores.ledger.change_poll(poll_id(request)?, rule).await?;
        let changed = changed.ok_or_else(Problem::poll_not_found)?;
        self.write_through(&changed).await;
        Ok(poll_response(StatusCode::OK, &changed.poll))
    }

    /// Redis may be away: then it goes out of date by itself, and the change is no less made.
    async fn write_through(&self, changed: &PollWithTally) {
        if let Err(error) = self.stores.ranking.keep_polls(std::slice::from_ref(changed), clock::now()).await
        {
            tracing::warn!(error = causes(&error), "poll.not_written_through");
        }
        self.refresh_list().await;
    }

    async fn refresh_list(&self) {
        if let Err(error) = self.stores.catalog.refresh_current_polls().await {
            tracing::warn!(error = causes(&error), "list.not_written_through");
        }
    }
}

/// `EXPORTS_BUCKET` and `EXPORT_LINK_SECONDS`, and what Lambda sets for whoever signs.
fn exports(reader: &mut config::Reader<'_>) -> Option<Exports> {
    let bucket = reader.text("EXPORTS_BUCKET");
    let link_lifetime = reader.parsed("EXPORT_LINK_SECONDS").map(Duration::from_secs);
    // It makes no calls: links are signed without one.
    let aws = Aws::with_timeout(reader, Duration::ZERO);
    Some(Exports { aws: aws?, bucket: bucket?, link_lifetime: link_lifetime? })
}

fn poll_response(status: StatusCode, poll: &Poll) -> Response<Body> {
    json_response(status, NO_STORE, &poll.view(clock::now()))
}
