//! The stack's metrics as Prometheus text.
//!
//! To add a metric: 1. Add a [`Family`] to the function of its part. 2. For a new part, write such a function and
//! extend `families` in [`render`]. Metrics that functions embed in their logs appear without a change.
use std::fmt::Write as _;

use crate::local_api::LocalApi;
use emulator::cloudwatch::Sum;
use processes::{memory, with_children};

/// A metric family: name, type, help and lines of labels and value.
struct Family {
    name: String,
    kind: &'static str,
    help: &'static str,
    lines: Vec<(String, f64)>,
}

impl Family {
    fn new(name: &str, kind: &'static str, help: &'static str, lines: Vec<(String, f64)>) -> Self {
        Self { name: name.to_owned(), kind, help, lines }
    }
}

/// Renders every metric of the stack.
pub fn render(api: &LocalApi) -> String {
    let mut families = functions(api);
    families.extend(queues(api));
    families.extend(edge(api));
    families.extend(embedded(&api.figures.logs.sums()));
    families.extend(processes(api));
    let mut text = String::new();
    for family in families.iter().filter(|family| !family.lines.is_empty()) {
        let Family { name, kind, help, lines } = family;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in lines {
            let _ = writeln!(text, "{name}{{{labels}}} {value}");
        }
    }
    text
}

fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

fn functions(api: &LocalApi) -> Vec<Family> {
    let counts = api.figures.functions.counts();
    let lines = |value: fn(&emulator::lambda::FunctionCounts) -> u64| {
        counts.iter().map(|count| (label("function", &count.function), value(count) as f64)).collect()
    };
    vec![
        Family::new("lambda_invocations_total", "counter", "Invocations started.", lines(|c| c.invocations)),
        Family::new("lambda_errors_total", "counter", "Invocations without an answer.", lines(|c| c.errors)),
        Family::new(
            "lambda_concurrent_max",
            "gauge",
            "Most invocations at a time.",
            lines(|c| c.concurrent_max),
        ),
        Family::new("lambda_cold_starts_total", "counter", "Instances started.", lines(|c| c.cold_starts)),
        Family::new("lambda_instances", "gauge", "Instances alive.", lines(|c| c.pids.len() as u64)),
    ]
}

fn queues(api: &LocalApi) -> Vec<Family> {
    let counts: Vec<_> =
        api.figures.queues.all().iter().map(|queue| (label("queue", queue.name()), queue.counts())).collect();
    let lines = |value: fn(&emulator::sqs::Counts) -> u64| {
        counts.iter().map(|(label, count)| (label.clone(), value(count) as f64)).collect()
    };
    vec![
        Family::new("sqs_messages_visible", "gauge", "Receivable messages.", lines(|c| c.visible)),
        Family::new("sqs_messages_in_flight", "gauge", "Received, not yet deleted.", lines(|c| c.in_flight)),
        Family::new("sqs_messages_delayed", "gauge", "Sent with a delay not yet over.", lines(|c| c.delayed)),
        Family::new("sqs_messages_sent_total", "counter", "Accepted messages.", lines(|c| c.sent_total)),
    ]
}

fn edge(api: &LocalApi) -> Vec<Family> {
    let counts = api.edge.counts();
    let served = [
        ("hit", counts.hit),
        ("miss", counts.miss),
        ("stale", counts.stale),
        ("collapsed", counts.collapsed),
    ];
    let served = served.map(|(cache, count)| (label("cache", cache), count as f64));
    let origin = counts.origin.iter().map(|(route, count)| (label("route", route), *count as f64));
    let invalidated = [("invalidations", counts.invalidations), ("paths", counts.invalidated_paths)];
    let invalidated = invalidated.map(|(unit, count)| (label("count", unit), count as f64));
    vec![
        Family::new("edge_requests_total", "counter", "Viewers' requests.", served.to_vec()),
        Family::new("edge_origin_requests_total", "counter", "Requests to the origin.", origin.collect()),
        Family::new(
            "edge_invalidations_total",
            "counter",
            "Invalidations, and their paths.",
            invalidated.to_vec(),
        ),
    ]
}

/// Returns sum and number of values of each embedded metric of the functions, by its dimensions.
fn embedded(sums: &[Sum]) -> Vec<Family> {
    let labels = |sum: &Sum| {
        let dimensions = sum.dimensions.iter().map(|(name, value)| label(&snake_case(name), value));
        std::iter::once(label("metric", &sum.metric)).chain(dimensions).collect::<Vec<_>>().join(",")
    };
    let totals = sums.iter().map(|sum| (labels(sum), sum.sum)).collect();
    let counts = sums.iter().map(|sum| (labels(sum), sum.count as f64)).collect();
    vec![
        Family::new("cloudwatch_metric_sum", "counter", "Embedded metrics, added up.", totals),
        Family::new("cloudwatch_metric_count", "counter", "Values of embedded metrics.", counts),
    ]
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for character in name.chars() {
        if character.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(if character.is_ascii_alphanumeric() { character.to_ascii_lowercase() } else { '_' });
    }
    snake
}

fn processes(api: &LocalApi) -> Vec<Family> {
    let own = ("local".to_owned(), std::process::id());
    let stores = api.stores.iter().map(|(name, pid)| ((*name).to_owned(), *pid));
    let stores =
        stores.flat_map(|(name, pid)| with_children(pid).into_iter().map(move |pid| (name.clone(), pid)));
    let counts = api.figures.functions.counts();
    let functions =
        counts.iter().flat_map(|count| count.pids.iter().map(|pid| (count.function.clone(), *pid)));
    let (mut resident, mut peak) = (Vec::new(), Vec::new());
    for (name, pid) in std::iter::once(own).chain(stores).chain(functions) {
        let Some((now, highest)) = memory(pid) else { continue };
        let labels = format!("{},{}", label("process", &name), label("pid", &pid.to_string()));
        resident.push((labels.clone(), now as f64));
        peak.push((labels, highest as f64));
    }
    vec![
        Family::new("process_resident_memory_bytes", "gauge", "Resident memory.", resident),
        Family::new("process_resident_memory_peak_bytes", "gauge", "Highest resident memory.", peak),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_metrics_keep_their_dimensions() {
        let sum = Sum {
            metric: "VotesRejected".to_owned(),
            dimensions: vec![("RejectReason".to_owned(), "not\"Json".to_owned())],
            sum: 3.0,
            count: 2,
        };
        let families = embedded(&[sum]);
        let labels = r#"metric="VotesRejected",reject_reason="not\"Json""#.to_owned();
        assert_eq!(families[0].lines, [(labels.clone(), 3.0)]);
        assert_eq!(families[1].lines, [(labels, 2.0)]);
    }
}
