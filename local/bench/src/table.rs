//! The table: each figure with its spread, its target and whether the target is met.
//!
//! To add a figure: 1. add a [`row`] to the function of its group, or a group to [`rows`]. 2. Name its target as a
//! constant with the reason for the number.
use std::fmt::Write as _;

use super::{
    cell::{Design, Sample},
    front_door::FrontDoor,
    plan::{CONCURRENCIES, TEMPLATE_LOAD},
    report::{Measured, Report},
    spread::Spread,
    start::Function,
};

/// Targets for two cores that run everything, including the load.
const CAPACITY_MIN: f64 = 60_000.0;
const CAPACITY_300_MIN: f64 = 40_000.0;
const FLOOR_RATE_MIN: f64 = 0.6;
const FLOOR_CPU_MIN: f64 = 0.85;
const FIRST_DESIGN_MIN: f64 = 25.0;
const FRONT_DOOR_MIN: f64 = 6_000.0;
const FRONT_DOOR_TAPS_MIN: f64 = 60_000.0;
const FRONT_DOOR_LISTS_MIN: f64 = 35_000.0;
/// The crew's patience after the close.
const COUNTED_SECONDS_MAX: f64 = 60.0;
/// The template's batching window and half a second.
const LAG_MS_MAX: f64 = 3_500.0;
const INIT_MS_MAX: f64 = 10.0;
const FIRST_BATCH_MS_MAX: f64 = 50.0;
const MEMORY_MB_MAX: f64 = 32.0;
const PACKAGE_MB_MAX: f64 = 4.0;
/// One per batch of 300, and the statements of opening connections.
const PER_BATCH_MAX: f64 = 1.1;
const GROWTH_MIN: f64 = 0.8;
/// Retries are normal, so they may cost little more than the messages that they are.
const RETRIED_RATE_MIN: f64 = 0.9;
const RETRIED_LOG_MAX: f64 = 1.15;

/// Target of a figure.
#[derive(Debug, Clone, Copy)]
enum Target {
    AtLeast(f64),
    AtMost(f64),
    None,
}

#[derive(Debug)]
struct Row {
    figure: String,
    value: Spread,
    decimals: usize,
    unit: &'static str,
    target: Target,
}

impl Row {
    fn is_met(&self) -> Option<bool> {
        match self.target {
            Target::AtLeast(least) => Some(self.value.median >= least),
            Target::AtMost(most) => Some(self.value.median <= most),
            Target::None => None,
        }
    }

    fn fields(&self) -> [String; 5] {
        let number = |value: f64| grouped(value, self.decimals);
        let Spread { median, min, max } = self.value;
        let spread = if min == max { String::new() } else { format!("{} … {}", number(min), number(max)) };
        let target = match self.target {
            Target::AtLeast(least) => format!("≥ {}", grouped_short(least)),
            Target::AtMost(most) => format!("≤ {}", grouped_short(most)),
            Target::None => String::new(),
        };
        let met = self.is_met().map_or("", |met| if met { "met" } else { "not met" });
        let value = format!("{} {}", number(median), self.unit);
        [self.figure.clone(), value.trim().to_owned(), spread, target, met.to_owned()]
    }
}

/// Renders the table as Markdown, padded for reading on a terminal.
pub fn markdown(report: &Report) -> String {
    let head = ["figure", "median", "spread", "target", ""].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(rows(report).iter().map(Row::fields)).collect();
    let mut widths = [0; 5];
    for row in &rows {
        for (width, field) in widths.iter_mut().zip(row) {
            *width = (*width).max(field.chars().count());
        }
    }
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (column, (width, field)) in widths.iter().zip(row).enumerate() {
            let aligned = if column == 1 { format!("{field:>width$}") } else { format!("{field:<width$}") };
            let _ = write!(text, "| {aligned} ");
        }
        text += "|\n";
        if index == 0 {
            let rules = widths.map(|width| "-".repeat(width));
            let _ = writeln!(
                text,
                "| {} | {}: | {} | {} | {} |",
                rules[0],
                &rules[1][1..],
                rules[2],
                rules[3],
                rules[4]
            );
        }
    }
    text
}

fn rows(report: &Report) -> Vec<Row> {
    let mut rows = capacity(report);
    rows.extend(floor(report));
    rows.extend(first_design(report));
    rows.extend(report.front_doors.iter().flat_map(front_door));
    rows.extend(report.functions.iter().flat_map(function));
    rows.extend(report.reference().into_iter().flat_map(per_vote));
    rows.extend(growth(report));
    rows.extend(retries(report));
    rows
}

fn row(
    figure: impl Into<String>,
    value: Option<Spread>,
    (decimals, unit): (usize, &'static str),
    target: Target,
) -> Option<Row> {
    Some(Row { figure: figure.into(), value: value?, decimals, unit, target })
}

const VOTES_A_SECOND: (usize, &str) = (0, "votes/s");
const MICROSECONDS: (usize, &str) = (1, "µs");
const TIMES: (usize, &str) = (2, "×");

fn capacity(report: &Report) -> Vec<Row> {
    let name = |measured: &Measured| format!("{} × {}", measured.cell.concurrency, measured.cell.batch);
    let best = |batch, target| {
        let best = report.best(Design::Votes, batch)?;
        let of = batch.map_or_else(String::new, |batch| format!(" of batches of {batch}"));
        row(
            format!("best capacity{of}: {}", name(best)),
            best.rate(),
            VOTES_A_SECOND,
            Target::AtLeast(target),
        )
    };
    let all = report.default_cells(Design::Votes);
    let all = all.filter_map(|measured| {
        row(format!("capacity {}", name(measured)), measured.rate(), VOTES_A_SECOND, Target::None)
    });
    [best(None, CAPACITY_MIN), best(Some(TEMPLATE_LOAD.1), CAPACITY_300_MIN)]
        .into_iter()
        .flatten()
        .chain(all)
        .collect()
}

fn floor(report: &Report) -> Vec<Row> {
    let mut rows = Vec::new();
    for concurrency in CONCURRENCIES {
        let Some(floor) = report.find(Design::Floor, concurrency, TEMPLATE_LOAD.1) else { continue };
        rows.extend(row(
            format!("floor {concurrency} × {}", TEMPLATE_LOAD.1),
            floor.rate(),
            VOTES_A_SECOND,
            Target::None,
        ));
        rows.extend(row(
            "… CPU of PostgreSQL and client a vote",
            floor.spread(Sample::cpu_us),
            MICROSECONDS,
            Target::None,
        ));
        let Some(capacity) = report.find(Design::Votes, concurrency, TEMPLATE_LOAD.1) else { continue };
        let rate = capacity.ratio(floor, Sample::rate);
        rows.extend(row("… capacity by floor, votes/s", rate, TIMES, Target::AtLeast(FLOOR_RATE_MIN)));
        let cpu = floor.ratio(capacity, Sample::cpu_us);
        rows.extend(row(
            "… capacity by floor, votes a CPU-second",
            cpu,
            TIMES,
            Target::AtLeast(FLOOR_CPU_MIN),
        ));
    }
    rows
}

fn first_design(report: &Report) -> Vec<Row> {
    let (Some(first), Some(reference)) = (report.best(Design::First, None), report.reference()) else {
        return Vec::new();
    };
    let name = format!("first design at its best: {} at a time", first.cell.concurrency);
    let cpu = first.ratio(reference, Sample::cpu_us);
    [
        row(name, first.rate(), VOTES_A_SECOND, Target::None),
        row(
            "… capacity by first design, votes/s",
            reference.ratio(first, Sample::rate),
            TIMES,
            Target::AtLeast(FIRST_DESIGN_MIN),
        ),
        row("… capacity by first design, votes a CPU-second", cpu, TIMES, Target::None),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn front_door(front_door: &FrontDoor) -> Vec<Row> {
    let one = |value| Spread::of([value]);
    let (requests, votes_min) = match (front_door.count, front_door.list) {
        (1, 1) => (String::new(), FRONT_DOOR_MIN),
        (count, 1) => (format!(" with {count} taps a vote"), FRONT_DOOR_TAPS_MIN),
        (_, list) => (format!(" with {list} votes a request"), FRONT_DOOR_LISTS_MIN),
    };
    let name = format!("front door{requests}, for {} s, none lost", front_door.seconds);
    let mut rows = vec![
        row(name, one(front_door.rate()), VOTES_A_SECOND, Target::AtLeast(votes_min)),
        row(
            "… all counted after the last request",
            one(front_door.counted_after_seconds),
            (1, "s"),
            Target::AtMost(COUNTED_SECONDS_MAX),
        ),
        row("… vote to ranking, half", one(front_door.lag_p50_ms), (0, "ms"), Target::None),
        row("… vote to ranking, p99", one(front_door.lag_p99_ms), (0, "ms"), Target::AtMost(LAG_MS_MAX)),
        row("… answer to POST /votes, p99", one(front_door.post_p99_ms), (1, "ms"), Target::None),
        row("… CPU-seconds: k6", one(front_door.k6_cpu_seconds), (1, "s"), Target::None),
    ];
    let mut names: Vec<&str> = front_door.processes.iter().map(|process| process.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let same = front_door.processes.iter().filter(|process| process.name == name);
        let cpu = same.map(|process| process.cpu_seconds).sum();
        rows.push(row(format!("… CPU-seconds: {name}"), one(cpu), (1, "s"), Target::None));
    }
    rows.into_iter().flatten().collect()
}

fn function(function: &Function) -> Vec<Row> {
    let name = &function.name;
    let spread = |values: &[f64]| Spread::of(values.iter().copied());
    let megabytes = |bytes: u64| Spread::of([bytes as f64 / 1e6]);
    [
        row(
            format!("{name}: start to first poll"),
            spread(&function.init_ms),
            (1, "ms"),
            Target::AtMost(INIT_MS_MAX),
        ),
        row("… to first answer", spread(&function.first_ms), (1, "ms"), Target::AtMost(FIRST_BATCH_MS_MAX)),
        row("… peak memory", megabytes(function.memory_peak_bytes), (1, "MB"), Target::AtMost(MEMORY_MB_MAX)),
        row(
            "… package, zipped",
            megabytes(function.package_bytes),
            (2, "MB"),
            Target::AtMost(PACKAGE_MB_MAX),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn per_vote(reference: &Measured) -> Vec<Row> {
    let batch = TEMPLATE_LOAD.1 as f64;
    let each =
        |figure: fn(&Sample) -> f64| reference.spread(move |sample| figure(sample) / sample.votes as f64);
    let micro = |figure: fn(&Sample) -> f64| {
        reference.spread(move |sample| figure(sample) * 1e6 / sample.votes as f64)
    };
    let memory = reference.spread(|sample| sample.memory_peak_bytes as f64 / 1e6);
    [
        row(
            "300 votes: invocations",
            reference.spread(|s| s.invocations as f64 * batch / s.votes as f64),
            (2, ""),
            Target::AtMost(PER_BATCH_MAX),
        ),
        row("300 votes: commits", reference.spread(|s| s.commits_per_vote * batch), (2, ""), Target::None),
        row(
            "300 votes: waits for the disk",
            reference.spread(|s| s.syncs_per_vote * batch),
            (2, ""),
            Target::AtMost(PER_BATCH_MAX),
        ),
        row(
            "300 votes: Redis commands",
            reference.spread(|s| s.redis_commands as f64 * batch / s.votes as f64),
            (2, ""),
            Target::None,
        ),
        row("a vote: log of writes", each(|s| s.wal_bytes as f64), (0, "B"), Target::None),
        row("a vote: ledger, table", each(|s| s.table_bytes as f64), (0, "B"), Target::None),
        row("a vote: ledger, indexes", each(|s| s.index_bytes as f64), (0, "B"), Target::None),
        row("a vote: CPU of PostgreSQL", micro(|s| s.cpu.postgres), MICROSECONDS, Target::None),
        row("a vote: CPU of the function", micro(|s| s.cpu.function), MICROSECONDS, Target::None),
        row("a vote: CPU of Redis", micro(|s| s.cpu.redis), MICROSECONDS, Target::None),
        row("a vote: CPU of the stand-in for AWS", micro(|s| s.cpu.stand_in), MICROSECONDS, Target::None),
        row(
            "votes function under capacity load: peak memory",
            memory,
            (1, "MB"),
            Target::AtMost(MEMORY_MB_MAX),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn growth(report: &Report) -> Vec<Row> {
    let Some(reference) = report.reference() else { return Vec::new() };
    let rows = report.grown().filter_map(|grown| {
        let ratio = grown.ratio(reference, Sample::rate);
        row(format!("{} by the empty ledger's", grown.cell.name()), ratio, TIMES, Target::AtLeast(GROWTH_MIN))
    });
    rows.collect()
}

fn retries(report: &Report) -> Vec<Row> {
    let Some((retried, without)) = report.retried() else { return Vec::new() };
    let name = format!("{} by none retried", retried.cell.name());
    let rate = retried.ratio(without, Sample::rate);
    let log = retried.ratio(without, |sample| sample.wal_bytes as f64 / sample.votes as f64);
    let rows = [
        row(name.clone(), rate, TIMES, Target::AtLeast(RETRIED_RATE_MIN)),
        row(format!("{name}: bytes of log"), log, TIMES, Target::AtMost(RETRIED_LOG_MAX)),
    ];
    rows.into_iter().flatten().collect()
}

/// Formats a number with commas between thousands, from 10,000 on.
fn grouped(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), None), |(w, f)| (w, Some(f)));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) && whole.len() > 4 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    fraction.map_or(grouped.clone(), |fraction| format!("{grouped}.{fraction}"))
}

/// Formats a number without trailing zeros.
fn grouped_short(value: f64) -> String {
    if value.fract() == 0.0 { grouped(value, 0) } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(1_234_567.0, 0), "1,234,567");
        assert_eq!(grouped(1_234.0, 0), "1234");
        assert_eq!(grouped(0.25, 2), "0.25");
        assert_eq!(grouped_short(60_000.0), "60,000");
        assert_eq!(grouped_short(0.85), "0.85");
    }

    #[test]
    fn a_target_is_judged_by_the_median() {
        let value = Spread { median: 2.0, min: 1.0, max: 3.0 };
        let met = |target| Row { figure: String::new(), value, decimals: 0, unit: "", target }.is_met();
        assert_eq!(met(Target::AtLeast(2.0)), Some(true));
        assert_eq!(met(Target::AtLeast(2.1)), Some(false));
        assert_eq!(met(Target::AtMost(2.0)), Some(true));
        assert_eq!(met(Target::AtMost(1.9)), Some(false));
        assert_eq!(met(Target::None), None);
    }
}
