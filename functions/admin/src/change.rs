//! Creates, changes and deletes polls, in both stores.
//!
//! Opening and closing act on the poll's state and are idempotent, so they ignore `If-Match`: a live show cannot
//! wait for an operator to reload a form.

use api::{NO_STORE, Problem, json_response, poll_id};
use domain::PollWithTally;
use domain::{Action, Draft, Facts, Invalid, Order, Patch, Poll, Timestamp};
use lambda_http::{
    Body, Request, Response,
    http::{HeaderValue, StatusCode, header},
};
use runtime::telemetry::error_chain;
use serde::Deserialize;
use serde_json::json;

use crate::{
    Handler, body,
    order::{order, order_if_match},
    read::{poll_response, tagged},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Withdrawal {
    contestant: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Correction {
    text: String,
}

impl Handler {
    /// Creates a poll. With an opening in the past it is open at once and no draft.
    pub(crate) async fn create(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let draft: Draft = body::parse(request)?;
        self.check_taps(1, draft.taps_max)?;
        let who = order(request, Action::Create).who;
        let created = self.stores.ledger.create_poll(&draft, &who).await?;
        self.write_through(&created).await;
        let mut response = poll_response(StatusCode::CREATED, &created.poll, self.clock.now());
        let location = HeaderValue::from_str(&format!("/admin/polls/{}", created.poll.id.0));
        response.headers_mut().insert(header::LOCATION, location.expect("a path of digits"));
        Ok(response)
    }

    pub(crate) async fn patch(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let patch: Patch = body::parse(request)?;
        let order = order_if_match(request, Action::Patch);
        let rule = |poll: &Poll, facts: &Facts, now| {
            let after = poll.patched(patch.clone(), facts, now)?;
            self.check_taps(poll.taps_max, after.taps_max)?;
            Ok(after)
        };
        self.change(request, &order, rule).await
    }

    pub(crate) async fn open(&self, request: &Request) -> Result<Response<Body>, Problem> {
        self.change(request, &order(request, Action::Open), |poll, _, now| poll.opened(now)).await
    }

    pub(crate) async fn close(&self, request: &Request) -> Result<Response<Body>, Problem> {
        self.change(request, &order(request, Action::Close), |poll, _, now| poll.closed(now)).await
    }

    pub(crate) async fn withdraw(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let Withdrawal { contestant } = body::parse(request)?;
        let order = order_if_match(request, Action::Withdraw);
        self.change(request, &order, |poll, _, now| poll.withdrawn(contestant, now)).await
    }

    pub(crate) async fn archive(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let order = order_if_match(request, Action::Archive);
        self.change(request, &order, |poll, _, now| poll.archived(now)).await
    }

    /// Adds an erratum to a certified result, whose file is then rewritten.
    pub(crate) async fn correct(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let Correction { text } = body::parse(request)?;
        let order = order_if_match(request, Action::Erratum);
        let poll = self.apply(request, &order, |poll, _, now| poll.corrected(&text, now)).await?;
        let answer = json!({"poll": poll.id, "errata": poll.errata});
        Ok(tagged(json_response(StatusCode::CREATED, NO_STORE, &answer), poll.version))
    }

    pub(crate) async fn delete(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let id = poll_id(request)?;
        if !self.stores.ledger.delete_poll(id, &order_if_match(request, Action::Delete)).await? {
            return Err(Problem::poll_not_found());
        }
        if let Err(error) = self.stores.ranking.forget_poll(id).await {
            tracing::warn!(error = error_chain(&error), "poll.not_forgotten");
        }
        self.refresh_list().await;
        self.wake(id).await;
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(NO_STORE));
        Ok(response)
    }

    /// Checks that `tapsMax` is raised only where each token's votes are limited. A poll that has it keeps it when the
    /// limit is switched off, so that its other fields can still be changed.
    fn check_taps(&self, before: i16, after: i16) -> Result<(), Invalid> {
        if after > before && !self.votes_are_limited() { Err(Invalid::TapsUnlimited) } else { Ok(()) }
    }

    async fn change(
        &self,
        request: &Request,
        order: &Order,
        rule: impl Fn(&Poll, &Facts, Timestamp) -> Result<Poll, Invalid>,
    ) -> Result<Response<Body>, Problem> {
        Ok(poll_response(StatusCode::OK, &self.apply(request, order, rule).await?, self.clock.now()))
    }

    /// Changes a poll by a rule, in both stores, and returns it.
    async fn apply(
        &self,
        request: &Request,
        order: &Order,
        rule: impl Fn(&Poll, &Facts, Timestamp) -> Result<Poll, Invalid>,
    ) -> Result<Poll, Problem> {
        let changed = self.stores.ledger.change_poll(poll_id(request)?, order, rule).await?;
        let changed = changed.ok_or_else(Problem::poll_not_found)?;
        self.write_through(&changed).await;
        Ok(changed.poll)
    }

    /// Writes the change to Redis, and wakes `functions/results`, which updates the public files within seconds.
    /// Without Redis the cache entries expire by themselves; the change is committed all the same.
    async fn write_through(&self, changed: &PollWithTally) {
        if let Err(error) =
            self.stores.ranking.keep_polls(std::slice::from_ref(changed), self.clock.now()).await
        {
            tracing::warn!(error = error_chain(&error), "poll.not_written_through");
        }
        self.refresh_list().await;
        self.wake(changed.poll.id).await;
    }

    async fn refresh_list(&self) {
        if let Err(error) = self.stores.catalog.refresh_current_polls().await {
            tracing::warn!(error = error_chain(&error), "list.not_written_through");
        }
    }
}
