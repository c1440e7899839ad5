//! A running `local` with the real functions, on private stores.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use flate2::read::GzDecoder;
use local_stores::scratch::Scratch;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// Timeout of any condition, for the slowest machine.
pub const TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Options of a stack that publishes nothing and sends no probes: the votes' queue is empty when all votes are
/// counted.
pub const WITHOUT_PROBES: [&str; 4] = [
    "--set",
    "ResultsFunction.Events.EveryMinute.Enabled=false",
    "--set",
    "ResultsFunction.Events.Woken.Enabled=false",
];

/// A running stack, stopped when dropped.
pub struct TestStack {
    process: Child,
    port: u16,
    aws_port: u16,
    crew: String,
    voter: String,
}

/// Status and body of a response.
pub type Answer = (u16, String);

impl TestStack {
    /// Starts a stack and waits until the demo poll is open.
    pub fn start(scratch: &Scratch, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let urls_file = folder.path().join("urls.json");
        let mut process = Command::new(env!("CARGO_BIN_EXE_local"))
            .args(["run", "--ephemeral", "--template", "../../template.yaml"])
            .args(["--port", "0", "--aws-port", "0", "--urls-file"])
            .arg(&urls_file)
            .args(arguments)
            .env("DATABASE_URL", &scratch.owner_url)
            .env("REDIS_URL", &scratch.redis_url)
            .stdout(Stdio::null())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        until("the stack is ready", || {
            assert!(process.try_wait().unwrap().is_none(), "the stack has ended");
            urls_file.exists()
        });
        let urls: Value = serde_json::from_slice(&std::fs::read(&urls_file).unwrap()).unwrap();
        let port = |name: &str| urls[name].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
        let (port, aws_port) = (port("baseUrl"), port("awsUrl"));
        let mut stack = Self { process, port, aws_port, crew: String::new(), voter: String::new() };
        until("the demo poll is open", || {
            let answer = stack.request("GET", "/polls/1", "", "");
            answer.is_ok_and(|(status, body)| status == 200 && body.contains(r#""status":"open""#))
        });
        stack.crew = stack.token("sub=crew&scope=admin");
        stack.voter = stack.token("sub=alice");
        stack
    }

    fn token(&self, query: &str) -> String {
        let (_, body) = self.request("GET", &format!("/_local/token?{query}"), "", "").unwrap();
        serde_json::from_str::<Value>(&body).unwrap()["access_token"].as_str().unwrap().to_owned()
    }

    /// Returns a token for any subject, as an issuer without the stack's rules would issue it.
    pub fn token_of_any_issuer(&self, sub: &str) -> String {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("sub", sub)
            .append_pair("anySubject", "true")
            .finish();
        self.token(&query)
    }

    /// Casts a vote with a token.
    pub fn cast(&self, token: &str, body: &str) -> Answer {
        self.request("POST", "/votes", token, body).unwrap()
    }

    fn request(&self, method: &str, path: &str, token: &str, body: &str) -> std::io::Result<Answer> {
        send_request(self.port, method, path, &format!("authorization: Bearer {token}"), body)
    }

    /// Sends messages to a queue, ten per call.
    pub fn send(&self, queue: &str, bodies: &[String]) {
        let url = format!("http://localhost:{}/000000000000/{queue}", self.aws_port);
        for ten in bodies.chunks(10) {
            let entry = |(id, body)| serde_json::json!({"Id": format!("{id}"), "MessageBody": body});
            let entries: Vec<_> = ten.iter().enumerate().map(entry).collect();
            let call = serde_json::json!({"QueueUrl": url, "Entries": entries}).to_string();
            let target = "x-amz-target: AmazonSQS.SendMessageBatch";
            let (status, answer) = send_request(self.aws_port, "POST", "/", target, &call).unwrap();
            assert_eq!((status, answer.contains("Failed\":[{")), (200, false), "{answer}");
        }
    }

    /// Sends a request with the crew's token.
    pub fn as_crew(&self, method: &str, path: &str, body: &str) -> Answer {
        self.request(method, path, &self.crew, body).unwrap()
    }

    /// Sends a GET with a voter's token.
    pub fn as_voter(&self, path: &str) -> Answer {
        self.request("GET", path, &self.voter, "").unwrap()
    }

    /// Sends a GET without a token.
    pub fn as_anyone(&self, path: &str) -> Answer {
        self.request("GET", path, "", "").unwrap()
    }

    /// Sends a request without a token, and returns the head of the answer.
    pub fn head_of(&self, method: &str, path: &str, headers: &str) -> String {
        exchange(self.port, method, path, headers, "").unwrap().0
    }

    /// Returns the number of requests that the edge has sent to its origins.
    pub fn origin_requests(&self) -> f64 {
        let (_, text) = self.request("GET", "/_local/metrics", "", "").unwrap();
        let ours = text.lines().filter(|line| line.starts_with("edge_origin_requests_total"));
        ours.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Casts a vote in the demo poll.
    pub fn vote(&self, contestant: u32) {
        self.vote_in(1, contestant);
    }

    /// Casts a vote in a poll.
    pub fn vote_in(&self, poll: i64, contestant: u32) {
        let body = format!(r#"{{"poll":{poll},"contestant":{contestant}}}"#);
        assert_eq!(self.request("POST", "/votes", &self.voter, &body).unwrap().0, 202);
    }

    /// Calls an admin route, which must answer with 200.
    pub fn admin(&self, method: &str, path: &str) -> Value {
        let (status, body) = self.request(method, &format!("/admin{path}"), &self.crew, "").unwrap();
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Tells whether the demo poll's audit succeeds.
    pub fn answers_the_crew(&self) -> bool {
        self.request("GET", "/admin/polls/1/audit", &self.crew, "").is_ok_and(|(status, _)| status == 200)
    }

    /// Returns the demo poll's ranking, as viewers see it.
    pub fn ranking(&self) -> Value {
        let (status, body) = self.request("GET", "/polls/1/ranking", "", "").unwrap();
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Returns the demo poll's audit.
    pub fn audit(&self) -> Value {
        self.admin("GET", "/polls/1/audit")
    }

    /// Returns a metric of `/_local/metrics`. `name` includes the labels, as printed there.
    pub fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.request("GET", "/_local/metrics", "", "").unwrap();
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}"));
        line.trim().parse().unwrap()
    }

    /// Kills every instance of the votes function by SIGKILL.
    pub fn kill_votes(&self) {
        let (_, text) = self.request("GET", "/_local/metrics", "", "").unwrap();
        let ours = |line: &&str| line.starts_with(r#"process_resident_memory_bytes{process="VotesFunction""#);
        let pids: Vec<i32> =
            text.lines().filter(ours).map(|line| line.split('"').nth(3).unwrap().parse().unwrap()).collect();
        assert!(!pids.is_empty());
        for pid in pids {
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        }
    }

    /// Waits until no vote is queued or in flight. The stack must be [`WITHOUT_PROBES`].
    pub fn until_the_queue_is_empty(&self) {
        self.until_is_empty("VotesQueue");
        assert_eq!(self.dead_letters(), 0);
    }

    /// Waits until a queue has no message queued or in flight.
    pub fn until_is_empty(&self, queue: &str) {
        until("the queue is empty", || {
            ["visible", "in_flight"]
                .iter()
                .all(|state| self.metric(&format!(r#"sqs_messages_{state}{{queue="{queue}"}}"#)) == 0.0)
        });
    }

    /// Returns the number of dead letters of votes.
    pub fn dead_letters(&self) -> u64 {
        self.metric(r#"sqs_messages_visible{queue="VotesDeadLetterQueue"}"#) as u64
    }
}

impl Drop for TestStack {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

fn send_request(port: u16, method: &str, path: &str, header: &str, body: &str) -> std::io::Result<Answer> {
    let (head, body) = exchange(port, method, path, header, body)?;
    let mut text = String::new();
    if head.contains("content-encoding: gzip") {
        GzDecoder::new(body.as_slice()).read_to_string(&mut text)?;
    } else {
        text = String::from_utf8_lossy(&body).into_owned();
    }
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok((status, text))
}

/// Sends a request, and returns the head and the body of the answer.
fn exchange(
    port: u16,
    method: &str,
    path: &str,
    header: &str,
    body: &str,
) -> std::io::Result<(String, Vec<u8>)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{header}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap_or(answer.len());
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    Ok((head, answer.get(end + 4..).unwrap_or_default().to_vec()))
}

/// Waits for a condition.
pub fn until(condition_name: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < TIMEOUT, "not within {TIMEOUT:?}: {condition_name}");
        std::thread::sleep(POLL_INTERVAL);
    }
}
