//! Describes the machine and the settings, so that readers can judge the figures.
use std::{
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
    path::Path,
    process::Command,
    time::Instant,
};

use anyhow::Result;
use serde::Serialize;

use super::{spread::Spread, test_bed::TestBed};

/// PostgreSQL settings that determine a commit's durability and cost.
const SETTINGS: [&str; 11] = [
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "wal_level",
    "wal_compression",
    "shared_buffers",
    "max_wal_size",
    "checkpoint_timeout",
    "autovacuum",
    "jit",
];

/// Number of synced writes that measure the disk.
const SYNCS: usize = 200;
/// Bytes written by a small commit.
const SYNC_BYTES: usize = 8_192;

/// Name and value of each fact.
#[derive(Debug, Clone, Serialize)]
pub struct Machine(Vec<(String, String)>);

impl Machine {
    /// Collects the facts before the measurements.
    ///
    /// # Errors
    /// A store does not answer, or the disk cannot be written.
    pub async fn describe(test_bed: &TestBed) -> Result<Self> {
        let mut facts = vec![
            ("CPU".to_owned(), cpu()),
            ("Linux".to_owned(), read("/proc/sys/kernel/osrelease")),
            ("memory".to_owned(), memory()),
            ("disk".to_owned(), disk(test_bed.folder.path())?),
            ("load average before".to_owned(), read("/proc/loadavg")),
            ("commit".to_owned(), output("git", &["describe", "--always", "--dirty"])),
            ("rustc".to_owned(), output("rustc", &["--version"])),
        ];
        facts.push(("stores".to_owned(), test_bed.versions().await?));
        for name in SETTINGS {
            facts.push((format!("PostgreSQL {name}"), test_bed.setting(name).await?));
        }
        facts.push(("Redis aof_enabled".to_owned(), test_bed.redis_fact("aof_enabled").await?));
        Ok(Self(facts))
    }

    /// Returns name and value of each fact.
    pub fn facts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
    output.map_or_else(
        || "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

fn cpu() -> String {
    let text = read("/proc/cpuinfo");
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("{cores} cores, {model}")
}

fn memory() -> String {
    let text = read("/proc/meminfo");
    let kibibytes = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let kibibytes = kibibytes.and_then(|text| text.parse::<f64>().ok());
    kibibytes.map_or_else(|| "unknown".to_owned(), |size| format!("{:.1} GB", size * 1_024.0 / 1e9))
}

/// Returns the file system of a folder and the time to sync 8 kB.
fn disk(folder: &Path) -> Result<String> {
    let mut file = tempfile::tempfile_in(folder)?;
    file.write_all(&[0; SYNC_BYTES])?;
    file.sync_all()?;
    let mut durations = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        durations.push(sync_once(&mut file)?);
    }
    let sync = Spread::of(durations).map_or(0.0, |spread| spread.median);
    let mounts = read("/proc/self/mounts");
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?)).filter(|(point, _)| folder.starts_with(point))
    });
    let kind = mounts.max_by_key(|(point, _)| point.len()).map_or("unknown", |(_, kind)| kind);
    Ok(format!("{kind}, fdatasync of 8 kB {:.0} µs", sync * 1e6))
}

fn sync_once(file: &mut File) -> Result<f64> {
    let started = Instant::now();
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&[1; SYNC_BYTES])?;
    file.sync_data()?;
    Ok(started.elapsed().as_secs_f64())
}
