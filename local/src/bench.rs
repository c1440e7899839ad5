//! `local bench`: what the backend does on this machine, as ratios to a floor measured in the same run.
//!
//! Repetitions are interleaved (A B A B), each on a database of its own that begins empty and after a checkpoint;
//! a figure is their median. A repetition in which a batch failed, or a vote was not counted, is no figure but an error.
mod ballots;
mod cell;
mod floor;
mod ground;
mod plan;
mod rig;
mod spread;
mod usage;

use std::collections::BTreeMap;

use anyhow::Result;

use crate::cli::{BenchArguments, Part};

/// Measures.
///
/// # Errors
/// Something does not work; there are no figures then.
pub async fn run(arguments: &BenchArguments) -> Result<()> {
    let parts = Part::chosen(arguments);
    let plan = plan::Plan::new(arguments.quick);
    let ground = ground::Ground::prepare(arguments).await?;
    let filled = BTreeMap::new();
    for repetition in 0..plan.repetitions {
        for cell in plan.cells(&parts) {
            let s = cell.run(&ground, &filled).await?;
            println!("{repetition} {:30} {:8.0}/s cpu/vote {:.1} pg {:.1} fn {:.1} stand-in {:.1} redis {:.2} inv {} commits/300 {:.2} wal {:.0} redis {:.3} table {:.0} idx {:.0} rss {:.1}",
              cell.name(), s.rate(), s.cpu_us(), s.cpu.postgres*1e6/s.votes as f64, s.cpu.function*1e6/s.votes as f64, s.cpu.stand_in*1e6/s.votes as f64, s.cpu.redis*1e6/s.votes as f64, s.invocations, s.commits_per_vote*300.0, s.wal_bytes as f64/s.votes as f64, s.redis_commands as f64/s.votes as f64*300.0, s.table_bytes as f64/s.votes as f64, s.index_bytes as f64/s.votes as f64, s.memory_peak_bytes as f64/1e6);
        }
    }
    ground.stores.stop().await;
    Ok(())
}
