//! Creates the demo poll at the first start, through the admin API as the show's crew would.
use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use axum::{
    body::{Body, to_bytes},
    http::{Method, Request, header},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

use emulator::{edge::Edge, http_api::PAYLOAD_BYTES_MAX, issuer::Issuer};

/// Covers a cold start of the admin function.
const TIMEOUT: Duration = Duration::from_secs(30);

const CONTESTANTS: [&str; 8] = ["Ada", "Bruno", "Carmen", "Dario", "Elif", "Femi", "Greta", "Hiro"];

/// A poll to vote in.
#[derive(Debug, Clone, Copy)]
pub struct Poll {
    /// Its id.
    pub id: u64,
    /// One of its contestants.
    pub contestant: u64,
}

#[derive(Deserialize)]
struct Polls {
    current: Vec<PollBody>,
    polls: Vec<PollBody>,
}

#[derive(Deserialize)]
struct PollBody {
    id: u64,
    status: String,
    #[serde(default)]
    contestants: Vec<ContestantBody>,
}

#[derive(Deserialize)]
struct ContestantBody {
    number: u64,
}

impl PollBody {
    fn example(&self) -> Poll {
        Poll { id: self.id, contestant: self.contestants.first().map_or(1, |contestant| contestant.number) }
    }
}

/// The taps of a quick finger in a second, with room.
const TAPS_MAX: u8 = 50;

/// Returns an open poll. Creates and opens one if the ledger has no poll at all, unless `never_create`. Its votes may stand
/// for several taps if the edge limits each token's votes.
///
/// # Errors
/// The admin API does not answer within 30 s, or answers with an error.
pub async fn prepare(
    edge: &Arc<Edge>,
    issuer: &Issuer,
    never_create: bool,
    limits_votes: bool,
) -> Result<Option<Poll>> {
    let token = issuer.token("demo", Some("admin"))?;
    let client = Client { edge, token: &token };
    let prepared = async {
        let listed: Polls = client.call(Method::GET, "/admin/polls", String::new()).await?;
        let open = listed.current.iter().find(|poll| poll.status == "open");
        if never_create || !listed.polls.is_empty() {
            return Ok(open.map(PollBody::example));
        }
        let contestants: Vec<_> = CONTESTANTS.iter().map(|name| json!({ "name": name })).collect();
        let taps_max = if limits_votes { TAPS_MAX } else { 1 };
        let poll = json!({
            "title": "Who wins tonight?",
            "results": "live",
            "tapsMax": taps_max,
            "contestants": contestants,
        });
        let created: PollBody = client.call(Method::POST, "/admin/polls", poll.to_string()).await?;
        let opened: PollBody =
            client.call(Method::POST, &format!("/admin/polls/{}/open", created.id), String::new()).await?;
        Ok(Some(opened.example()))
    };
    tokio::time::timeout(TIMEOUT, prepared).await.context("the admin API did not answer in time")?
}

struct Client<'a> {
    edge: &'a Arc<Edge>,
    token: &'a str,
}

impl Client<'_> {
    /// Sends a request through the edge, without a socket.
    async fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: String) -> Result<T> {
        let request = Request::builder()
            .method(&method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))?;
        let response = self.edge.handle(request).await;
        let status = response.status();
        let answer = to_bytes(response.into_body(), PAYLOAD_BYTES_MAX).await?;
        let text = String::from_utf8_lossy(&answer);
        ensure!(status.is_success(), "{method} {path} answered {status}: {text}");
        serde_json::from_slice(&answer).with_context(|| format!("{method} {path} answered {text}"))
    }
}
