//! Responses in CloudFront's XML format.
use std::time::SystemTime;

use axum::http::StatusCode;
use quick_xml::escape::escape;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::Invalidation;

const NAMESPACE: &str = "http://cloudfront.amazonaws.com/doc/2020-05-31/";

/// An error response.
#[derive(Debug)]
pub(super) struct Fault {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Fault {
    pub fn new(status: StatusCode, code: &'static str, message: &str) -> Self {
        Self { status, code, message: message.to_owned() }
    }

    pub fn into_parts(self) -> (StatusCode, String) {
        let (code, message, request) = (self.code, escape(&self.message), Uuid::new_v4());
        let error =
            format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>");
        (self.status, xml("ErrorResponse", &format!("{error}<RequestId>{request}</RequestId>")))
    }
}

impl Invalidation {
    /// Serializes the content of an `Invalidation` element.
    pub(super) fn document(&self) -> String {
        let paths: String = self.paths.iter().map(|path| format!("<Path>{}</Path>", escape(path))).collect();
        format!(
            "{}<InvalidationBatch><Paths><Quantity>{}</Quantity><Items>{paths}</Items></Paths>\
             <CallerReference>{}</CallerReference></InvalidationBatch>",
            self.summary(),
            self.paths.len(),
            escape(&self.reference)
        )
    }

    fn summary(&self) -> String {
        let status = if self.is_in_progress() { "InProgress" } else { "Completed" };
        let (id, created) = (&self.id, text_of(self.created_at));
        format!("<Id>{id}</Id><Status>{status}</Status><CreateTime>{created}</CreateTime>")
    }
}

pub(super) fn list(newest: &[&Invalidation], max: usize, is_truncated: bool) -> String {
    let items: String = newest
        .iter()
        .map(|one| format!("<InvalidationSummary>{}</InvalidationSummary>", one.summary()))
        .collect();
    let count = newest.len();
    let marker = newest.last().filter(|_| is_truncated);
    let marker = marker.map(|one| format!("<NextMarker>{}</NextMarker>", one.id)).unwrap_or_default();
    xml(
        "InvalidationList",
        &format!(
            "<Marker></Marker>{marker}<MaxItems>{max}</MaxItems><IsTruncated>{is_truncated}</IsTruncated>\
             <Quantity>{count}</Quantity><Items>{items}</Items>"
        ),
    )
}

pub(super) fn xml(root: &str, inner: &str) -> String {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root} xmlns=\"{NAMESPACE}\">{inner}</{root}>")
}

/// Formats a time with milliseconds, as CloudFront does.
fn text_of(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    let time = time.replace_millisecond(time.millisecond()).unwrap_or(time);
    time.format(&Rfc3339).unwrap_or_default()
}
