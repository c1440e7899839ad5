//! Wakes `functions/results` after a change, so that the public files have it within seconds.

use domain::PollId;
use runtime::telemetry::error_chain;
use serde_json::json;

use crate::Handler;

impl Handler {
    /// Wakes `functions/results` after a change of this poll is committed. Never fails: a lost message delays the
    /// files until the next scheduled start, within a minute. Idempotent.
    pub(crate) async fn wake(&self, poll: PollId) {
        let body = json!({"poll": poll.0}).to_string();
        if let Err(error) = self.aws.send_message(&self.wake_queue_url, &body, &[]).await {
            tracing::warn!(error = error_chain(&error), poll = poll.0, "results.not_woken");
        }
    }
}
