//! `local bench`: measures the backend on this machine, with ratios to a floor measured in the same run.
//!
//! Repetitions are interleaved (A B A B). Each uses a separate, empty database and starts after a checkpoint; a
//! figure is their median. A failed batch or a vote that was not counted makes the repetition an error, not a
//! figure.
//!
//! To add a figure: 1. measure it into a field of `Sample` (`cell.rs`), or as a part: add a variant to [`Part`], a
//! field to `Report` and a call in `measure`. 2. Add its row and target to `table.rs`. 3. A new configuration is a
//! `Cell`: add it to `Plan::cells` (`plan.rs`).
mod arguments;
mod ballots;
mod cell;
mod floor;
mod front_door;
mod lag;
mod machine;
mod pipeline;
mod plan;
mod plots;
mod progress;
mod report;
mod spread;
mod start;
mod surge;
mod table;
mod test_bed;
mod usage;

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};

pub use self::arguments::{BenchArguments, Part};
use self::{
    cell::Cell,
    front_door::Load,
    machine::Machine,
    plan::{Plan, TEMPLATE_LOAD},
    progress::Progress,
    report::{Measured, Report},
    test_bed::{Database, TestBed},
};
use stack::StopRequests;

/// Runs the benchmark and writes the table, the raw figures and the plots.
///
/// # Errors
/// A measurement failed or was stopped by Ctrl-C; there are no figures then.
pub async fn run(arguments: &BenchArguments) -> Result<()> {
    let stop = StopRequests::listen()?;
    let parts = Part::chosen(arguments);
    let mut plan = Plan::new(arguments.quick);
    if let Some(repetitions) = arguments.repetitions {
        plan.repetitions = repetitions.into();
    }
    let test_bed = TestBed::prepare(arguments).await?;
    let measured = tokio::select! {
        measured = measure(&test_bed, &plan, &parts) => measured,
        () = stop.reached(1) => Err(anyhow::anyhow!("stopped before there were figures")),
    };
    test_bed.stores.stop().await;
    let report = measured?;
    write(&report, &arguments.out)?;
    Ok(())
}

async fn measure(test_bed: &TestBed, plan: &Plan, parts: &[Part]) -> Result<Report> {
    let cells = plan.cells(parts);
    let is_chosen = |part| parts.contains(&part);
    let mut ledgers: Vec<u64> =
        cells.iter().map(|cell| cell.ledger_votes).filter(|votes| *votes > 0).collect();
    ledgers.dedup();
    let others = [Part::Surge, Part::Surge, Part::Front, Part::FrontTaps, Part::FrontLists, Part::Start]
        .into_iter()
        .filter(|part| is_chosen(*part))
        .count();
    let mut progress = Progress::start((ledgers.len() + cells.len() * plan.repetitions + others) as u64);
    let mut report = Report {
        quick: plan.quick,
        machine: Machine::describe(test_bed).await?,
        cells: Vec::new(),
        evening: None,
        surge: None,
        front_doors: Vec::new(),
        functions: Vec::new(),
    };
    if is_chosen(Part::Start) {
        progress.step("starts of each function");
        report.functions = start::run(test_bed, plan).await?;
    }
    for load in Load::of(plan).into_iter().filter(|load| is_chosen(load.part)) {
        progress.step("front door");
        report.front_doors.push(front_door::run(test_bed, plan, load).await?);
    }
    if is_chosen(Part::Surge) {
        progress.step("surge");
        report.surge = Some(surge::run(test_bed, plan).await?);
        progress.step("an evening's votes");
        let evening = Cell::capacity(TEMPLATE_LOAD.0, TEMPLATE_LOAD.1, plan.evening_votes);
        report.evening = Some(evening.run(test_bed, &BTreeMap::new()).await?);
    }
    let filled = fill(test_bed, &ledgers, &mut progress).await?;
    report.cells = interleave(test_bed, &cells, &filled, plan, &mut progress).await?;
    progress.finish();
    Ok(report)
}

/// Prepares ledgers with past votes and returns them by their number of votes.
async fn fill(
    test_bed: &TestBed,
    ledgers: &[u64],
    progress: &mut Progress,
) -> Result<BTreeMap<u64, Database>> {
    let mut filled = BTreeMap::new();
    for &votes in ledgers {
        progress.step(&format!("a ledger of {} million votes", votes / 1_000_000));
        let database = test_bed.database(cell::POLLS, cell::CONTESTANTS).await?;
        database.fill(votes).await.context("a large ledger needs 170 bytes of disk per vote")?;
        filled.insert(votes, database);
    }
    Ok(filled)
}

async fn interleave(
    test_bed: &TestBed,
    cells: &[Cell],
    filled: &BTreeMap<u64, Database>,
    plan: &Plan,
    progress: &mut Progress,
) -> Result<Vec<Measured>> {
    let mut measured: Vec<_> = cells.iter().map(|&cell| Measured { cell, samples: Vec::new() }).collect();
    for repetition in 1..=plan.repetitions {
        for Measured { cell, samples } in &mut measured {
            progress.step(&format!("{}, {repetition} of {}", cell.name(), plan.repetitions));
            samples.push(cell.run(test_bed, filled).await.with_context(|| cell.name())?);
        }
    }
    Ok(measured)
}

fn write(report: &Report, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let mut text = table::markdown(report);
    text += "\n| machine and settings | |\n|---|---|\n";
    for (name, value) in report.machine.facts() {
        text += &format!("| {name} | {value} |\n");
    }
    if report.quick {
        text += "\nA quick run: it shows that everything works, not how fast.\n";
    }
    print!("{text}");
    fs::write(folder.join("table.md"), &text)?;
    fs::write(folder.join("figures.json"), serde_json::to_vec_pretty(report)?)?;
    plots::write(report, folder)?;
    eprintln!("\nwritten to {}: table.md, figures.json and the plots", folder.display());
    Ok(())
}
