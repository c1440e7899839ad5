//! Emulates CloudWatch: stores the functions' log lines and sums their embedded metrics.
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Size at which a log file is rotated to `<function>.log.1`: enough for hours of batches, and two such files per
/// function fit on any disk.
const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Number of warnings and errors kept for the status display: one screen.
const PROBLEMS_KEPT: usize = 50;

/// Log files and in-memory metrics.
#[derive(Debug)]
pub struct CloudWatch {
    folder: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    logs: HashMap<String, Log>,
    sums: BTreeMap<(String, Dimensions), Values>,
    totals: HashMap<String, f64>,
    problems: VecDeque<Problem>,
}

/// Names and values, in the directive's order.
type Dimensions = Vec<(String, String)>;

#[derive(Debug, Default)]
struct Values {
    sum: f64,
    count: u64,
}

#[derive(Debug)]
struct Log {
    file: File,
    bytes: u64,
}

/// The sum of one metric with its dimensions since start.
#[derive(Debug, Clone)]
pub struct Sum {
    /// Name of the metric, e.g. `Rejected`.
    pub metric: String,
    /// Names and values of the dimensions, in order, e.g. `[("Reason", "malformed")]`.
    pub dimensions: Vec<(String, String)>,
    /// Sum of the values.
    pub sum: f64,
    /// Number of values.
    pub count: u64,
}

/// A log line of a function at level WARN or ERROR.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Logical id of the function.
    pub function: String,
    /// `WARN` or `ERROR`.
    pub level: String,
    /// The whole line.
    pub line: String,
}

/// The metric directive of an embedded-metric line, which lists the fields that are metrics.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Directive {
    #[serde(default)]
    dimensions: Vec<Vec<String>>,
    metrics: Vec<MetricDefinition>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MetricDefinition {
    name: String,
}

impl CloudWatch {
    /// Creates the log folder if it does not exist.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn new(folder: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create the log folder {}", folder.display()))?;
        Ok(Self { folder, inner: Mutex::default() })
    }

    /// Ingests one line of a function's output: sums the metrics of an embedded-metric line, and appends every line
    /// to `<logs>/<function>.log`.
    pub fn ingest(&self, function: &str, line: &str) {
        let fields = serde_json::from_str::<Map<String, Value>>(line).ok();
        let mut inner = self.lock();
        if let Some(fields) = fields {
            inner.add_metrics(&fields);
            inner.keep_problem(function, line, &fields);
        }
        // A full disk must not stop the functions: a line that cannot be written is lost, as in CloudWatch.
        if let Err(error) = self.write(&mut inner, function, line) {
            tracing::warn!(function, %error, "a log line could not be written");
        }
    }

    /// Returns every sum.
    pub fn sums(&self) -> Vec<Sum> {
        let inner = self.lock();
        let sum = |((metric, dimensions), values): (&(String, Dimensions), &Values)| Sum {
            metric: metric.clone(),
            dimensions: dimensions.clone(),
            sum: values.sum,
            count: values.count,
        };
        inner.sums.iter().map(sum).collect()
    }

    /// Returns the sum of one metric over all dimensions; a value under several dimension sets counts once.
    pub fn total(&self, metric: &str) -> f64 {
        self.lock().totals.get(metric).copied().unwrap_or_default()
    }

    /// Returns the latest warnings and errors, oldest first.
    pub fn problems(&self) -> Vec<Problem> {
        self.lock().problems.iter().cloned().collect()
    }

    fn write(&self, inner: &mut Inner, function: &str, line: &str) -> std::io::Result<()> {
        let path = self.folder.join(format!("{function}.log"));
        let open = || -> std::io::Result<Log> {
            let file = OpenOptions::new().create(true).append(true).open(&path)?;
            let bytes = file.metadata()?.len();
            Ok(Log { file, bytes })
        };
        if !inner.logs.contains_key(function) {
            inner.logs.insert(function.to_owned(), open()?);
        }
        let Some(log) = inner.logs.get_mut(function) else { return Ok(()) };
        if log.bytes > LOG_BYTES_MAX {
            fs::rename(&path, path.with_extension("log.1"))?;
            *log = open()?;
        }
        log.bytes += line.len() as u64 + 1;
        log.file.write_all(format!("{line}\n").as_bytes())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn add_metrics(&mut self, fields: &Map<String, Value>) {
        let Some(directives) = fields.get("_aws").and_then(|aws| aws.get("CloudWatchMetrics")) else {
            return;
        };
        let Ok(directives) = Vec::<Directive>::deserialize(directives) else { return };
        for directive in &directives {
            for metric in &directive.metrics {
                let values = numbers(fields.get(&metric.name));
                self.add(&metric.name, &values, &directive.dimensions, fields);
            }
        }
    }

    fn add(&mut self, metric: &str, values: &[f64], sets: &[Vec<String>], fields: &Map<String, Value>) {
        if values.is_empty() {
            return;
        }
        let sum: f64 = values.iter().sum();
        *self.totals.entry(metric.to_owned()).or_default() += sum;
        let no_dimensions = [Vec::new()];
        let sets = if sets.is_empty() { &no_dimensions[..] } else { sets };
        for set in sets {
            let dimensions = set.iter().map(|name| (name.clone(), text(fields.get(name)))).collect();
            let entry = self.sums.entry((metric.to_owned(), dimensions)).or_default();
            entry.sum += sum;
            entry.count += values.len() as u64;
        }
    }

    fn keep_problem(&mut self, function: &str, line: &str, fields: &Map<String, Value>) {
        let Some(level @ ("WARN" | "ERROR")) = fields.get("level").and_then(Value::as_str) else { return };
        if self.problems.len() >= PROBLEMS_KEPT {
            self.problems.pop_front();
        }
        let (function, level, line) = (function.to_owned(), level.to_owned(), line.to_owned());
        self.problems.push_back(Problem { function, level, line });
    }
}

fn numbers(value: Option<&Value>) -> Vec<f64> {
    match value {
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_f64).collect(),
        Some(value) => value.as_f64().into_iter().collect(),
        None => Vec::new(),
    }
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cloud_watch() -> (tempfile::TempDir, CloudWatch) {
        let folder = tempfile::tempdir().unwrap();
        let logs = CloudWatch::new(folder.path().join("logs")).unwrap();
        (folder, logs)
    }

    #[test]
    fn embedded_metrics_are_added_up() {
        let (_folder, logs) = cloud_watch();
        let line = |reason: &str, value: &str| {
            format!(
                r#"{{"_aws":{{"Timestamp":1,"CloudWatchMetrics":[{{"Namespace":"Votes/stack","Dimensions":[["Reason"]],
                "Metrics":[{{"Name":"Rejected","Unit":"Count"}}]}}]}},"Reason":"{reason}","Rejected":{value}}}"#
            )
        };
        logs.ingest("F", &line("tooLarge", "2"));
        logs.ingest("F", &line("tooLarge", "[1, 3]"));
        logs.ingest("F", &line("notJson", "1"));
        assert_eq!(logs.total("Rejected"), 7.0);
        assert_eq!(logs.total("Nothing"), 0.0);
        let sums: Vec<_> =
            logs.sums().into_iter().map(|s| (s.dimensions[0].1.clone(), s.sum, s.count)).collect();
        assert_eq!(sums, [("notJson".to_owned(), 1.0, 1), ("tooLarge".to_owned(), 6.0, 3)]);
    }

    #[test]
    fn several_dimension_sets_do_not_count_twice() {
        let (_folder, logs) = cloud_watch();
        logs.ingest(
            "F",
            r#"{"_aws":{"CloudWatchMetrics":[{"Dimensions":[[],["A"]],"Metrics":[{"Name":"M"}]}]},"A":"x","M":4}"#,
        );
        assert_eq!(logs.total("M"), 4.0);
        assert_eq!(logs.sums().len(), 2);
    }

    #[test]
    fn lines_are_written_and_problems_kept() {
        let (folder, logs) = cloud_watch();
        logs.ingest("F", "plain");
        logs.ingest("F", r#"{"level":"INFO","message":"fine"}"#);
        for n in 0..=PROBLEMS_KEPT {
            logs.ingest("G", &format!(r#"{{"level":"ERROR","n":{n}}}"#));
        }
        let written = fs::read_to_string(folder.path().join("logs/F.log")).unwrap();
        assert_eq!(written, "plain\n{\"level\":\"INFO\",\"message\":\"fine\"}\n");
        let problems = logs.problems();
        assert_eq!(
            (problems.len(), problems[0].line.as_str()),
            (PROBLEMS_KEPT, r#"{"level":"ERROR","n":1}"#)
        );
    }

    #[test]
    fn a_long_log_is_rotated() {
        let (folder, logs) = cloud_watch();
        let path = folder.path().join("logs/F.log");
        File::create(&path).unwrap().set_len(LOG_BYTES_MAX + 1).unwrap();
        logs.ingest("F", "after");
        assert_eq!(fs::read_to_string(&path).unwrap(), "after\n");
        assert_eq!(fs::metadata(folder.path().join("logs/F.log.1")).unwrap().len(), LOG_BYTES_MAX + 1);
    }
}
