use std::{
    fs::Permissions,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::body::Bytes;
use emulator::{
    cloudwatch::CloudWatch,
    lambda::{EnvironmentHook, FunctionCounts, Functions, InvokeError, PAYLOAD_BYTES_MAX},
    template::{Context, Template},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{Stack, examples};

/// Far beyond the duration of any test; reached only by a defect.
const TIMEOUT: Duration = Duration::from_secs(20);

fn stack(properties: &str) -> Stack {
    Stack::new(&format!(
        "  F:
    Type: AWS::Serverless::Function
    Metadata: {{BuildProperties: {{Binary: echo_function}}}}
    Properties: {properties}
"
    ))
    .unwrap()
}

async fn invoke(functions: &Functions, payload: &str) -> Result<Value, InvokeError> {
    let answer = functions.invoke("F", Bytes::copy_from_slice(payload.as_bytes())).await?;
    Ok(serde_json::from_slice(&answer).unwrap())
}

fn counts(functions: &Functions) -> FunctionCounts {
    functions.counts().pop().unwrap()
}

fn is_alive(pid: u32) -> bool {
    // A zombie has ended; only its parent has not waited for it yet.
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

async fn wait_until(description: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < TIMEOUT, "{description}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_invocation_gets_its_answer_and_only_its_own_environment() {
    let stack = stack(
        "{MemorySize: 256, Timeout: 7, Environment: {Variables: {DATABASE_URL: x, RETRIES: 3}},
          LoggingConfig: {LogFormat: JSON, ApplicationLogLevel: DEBUG}}",
    );
    let answer = invoke(&stack.functions, r#"{"do":"echo","text":"ä"}"#).await.unwrap();
    assert_eq!(answer["payload"]["text"], "ä");
    let environment: Vec<(String, String)> = serde_json::from_value(answer["environment"].clone()).unwrap();
    let value = |name: &str| environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    for (name, expected) in [
        ("DATABASE_URL", "x"),
        ("RETRIES", "3"),
        ("AWS_LAMBDA_FUNCTION_NAME", "F"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_REGION", "us-east-1"),
        ("_HANDLER", "bootstrap"),
        ("LAMBDA_TASK_ROOT", examples().to_str().unwrap()),
        ("AWS_LAMBDA_LOG_FORMAT", "JSON"),
        ("AWS_LAMBDA_LOG_LEVEL", "DEBUG"),
        ("AWS_ENDPOINT_URL", "http://localhost:4566"),
    ] {
        assert_eq!(value(name), Some(expected), "{name}");
    }
    // Both are set in this process: by cargo, and by any login.
    assert_eq!((value("CARGO_PKG_NAME"), value("HOME")), (None, None));
    let context = &answer["context"];
    assert_eq!(context["arn"], "arn:aws:lambda:us-east-1:000000000000:function:F");
    assert_eq!(context["requestId"].as_str().unwrap().len(), 36);
    let now_ms = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    let deadline_ms = context["deadlineMs"].as_u64().unwrap();
    assert!((now_ms..=now_ms + 7_000).contains(&deadline_ms), "{deadline_ms} at {now_ms}");
    stack.functions.shut_down().await;
}

#[derive(Debug)]
struct MarkHook;

impl EnvironmentHook for MarkHook {
    fn environment(&self, function: &str) -> Vec<(String, String)> {
        vec![("MARK".to_owned(), format!("started for {function}"))]
    }
}

#[tokio::test]
async fn the_next_process_can_be_a_new_one_with_more_environment() {
    let stack = stack("{}");
    let mark = async || {
        let answer = invoke(&stack.functions, "{}").await.unwrap();
        let environment: Vec<(String, String)> =
            serde_json::from_value(answer["environment"].clone()).unwrap();
        environment.into_iter().find(|(name, _)| name == "MARK").map(|(_, value)| value)
    };
    assert_eq!(mark().await, None);
    let environment_hook: Arc<dyn EnvironmentHook> = Arc::new(MarkHook);
    stack.functions.set_environment_hook(&environment_hook);
    assert_eq!(mark().await, None, "the process started before the hook was set");
    stack.functions.force_cold_start("F");
    assert_eq!(mark().await.as_deref(), Some("started for F"));
    assert_eq!(counts(&stack.functions).cold_starts, 2);
    stack.functions.shut_down().await;
}

#[tokio::test]
async fn only_a_process_in_mid_invocation_is_killed() {
    let stack = stack("{Timeout: 20}");
    invoke(&stack.functions, "{}").await.unwrap();
    assert!(!stack.functions.kill_busy("F", 0), "it is idle");
    let functions = Arc::clone(&stack.functions);
    let hanging = tokio::spawn(async move { invoke(&functions, r#"{"do":"hang"}"#).await });
    wait_until("one is busy", || stack.functions.kill_busy("F", 7)).await;
    let error = hanging.await.unwrap().unwrap_err();
    assert!(matches!(&error, InvokeError::Crashed(reason) if reason.contains("signal: 9")), "{error}");
    stack.functions.shut_down().await;
}

#[tokio::test]
async fn idle_instances_are_used_again_also_after_an_error() {
    let stack = stack("{}");
    for _ in 0..3 {
        invoke(&stack.functions, "{}").await.unwrap();
    }
    let error = invoke(&stack.functions, r#"{"do":"fail"}"#).await.unwrap_err();
    assert!(matches!(&error, InvokeError::Unhandled(body) if body.contains("asked to fail")), "{error}");
    invoke(&stack.functions, "{}").await.unwrap();
    let counts = counts(&stack.functions);
    assert_eq!((counts.invocations, counts.errors, counts.cold_starts, counts.concurrent_max), (5, 1, 1, 1));
    assert_eq!(counts.pids.len(), 1);
    let log = std::fs::read_to_string(stack.folder.path().join("F.log")).unwrap();
    assert!(log.contains("started"), "{log}");
    stack.functions.shut_down().await;
}

#[tokio::test]
async fn the_concurrency_limit_throttles() {
    let stack = stack("{ReservedConcurrentExecutions: 2, Timeout: 60}");
    let hang = || {
        let functions = Arc::clone(&stack.functions);
        tokio::spawn(async move { invoke(&functions, r#"{"do":"hang"}"#).await })
    };
    let hanging = [hang(), hang()];
    wait_until("two invocations run", || counts(&stack.functions).invocations == 2).await;
    assert!(matches!(invoke(&stack.functions, "{}").await, Err(InvokeError::Throttled)));
    wait_until("two instances live", || counts(&stack.functions).pids.len() == 2).await;
    stack.functions.shut_down().await;
    for hanging in hanging {
        assert!(matches!(hanging.await.unwrap(), Err(InvokeError::Crashed(_))));
    }
    let counts = counts(&stack.functions);
    assert_eq!((counts.concurrent_max, counts.invocations), (2, 2));
    assert!(counts.pids.is_empty());
}

#[tokio::test]
async fn a_timeout_kills_the_instance() {
    let stack = stack("{Timeout: 1}");
    invoke(&stack.functions, "{}").await.unwrap();
    let pid = counts(&stack.functions).pids[0];
    let start = Instant::now();
    assert!(matches!(invoke(&stack.functions, r#"{"do":"hang"}"#).await, Err(InvokeError::TimedOut)));
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert!(!is_alive(pid));
    invoke(&stack.functions, "{}").await.unwrap();
    let counts = counts(&stack.functions);
    assert_eq!((counts.errors, counts.cold_starts), (1, 2));
    stack.functions.shut_down().await;
}

#[tokio::test]
async fn a_crash_is_reported_with_the_last_line() {
    let stack = stack("{}");
    let error = invoke(&stack.functions, r#"{"do":"exit"}"#).await.unwrap_err();
    assert!(matches!(&error, InvokeError::Crashed(why) if why == "exit status: 3: asked to exit"), "{error}");
    invoke(&stack.functions, "{}").await.unwrap();
    stack.functions.shut_down().await;
}

#[tokio::test]
async fn sigkill_in_mid_invocation_is_a_crash_and_while_idle_is_not() {
    let stack = stack("{Timeout: 60}");
    invoke(&stack.functions, "{}").await.unwrap();
    let kill_one =
        || kill(Pid::from_raw(counts(&stack.functions).pids[0].cast_signed()), Signal::SIGKILL).unwrap();
    let functions = Arc::clone(&stack.functions);
    let hanging = tokio::spawn(async move { invoke(&functions, r#"{"do":"hang"}"#).await });
    wait_until("the second invocation runs", || counts(&stack.functions).invocations == 2).await;
    kill_one();
    // The kill may precede the delivery of the invocation: then another instance hangs instead.
    wait_until("the killed instance is gone or replaced", || {
        hanging.is_finished() || counts(&stack.functions).cold_starts == 2
    })
    .await;
    if !hanging.is_finished() {
        kill_one();
    }
    let error = hanging.await.unwrap().unwrap_err();
    assert!(matches!(&error, InvokeError::Crashed(why) if why.contains("signal: 9")), "{error}");

    invoke(&stack.functions, "{}").await.unwrap();
    kill_one();
    wait_until("the idle instance is gone", || counts(&stack.functions).pids.is_empty()).await;
    invoke(&stack.functions, "{}").await.unwrap();
    assert_eq!(counts(&stack.functions).errors, 1);
    stack.functions.shut_down().await;
}

#[tokio::test]
async fn a_failed_start_is_reported_with_the_functions_own_words() {
    let stack = stack("{Environment: {Variables: {FAIL_AT_START: 1}}}");
    let error = invoke(&stack.functions, "{}").await.unwrap_err();
    assert!(matches!(&error, InvokeError::Crashed(why) if why.contains("address is missing")), "{error}");
    assert_eq!(counts(&stack.functions).errors, 1);
}

#[tokio::test]
async fn payloads_are_limited_both_ways() {
    let stack = stack("{}");
    let large = format!("\"{}\"", "x".repeat(PAYLOAD_BYTES_MAX));
    let error = invoke(&stack.functions, &large).await.unwrap_err();
    assert!(matches!(&error, InvokeError::Unhandled(body) if body.contains("RequestTooLarge")), "{error}");
    assert_eq!(counts(&stack.functions).cold_starts, 0);
    let largest = format!(r#"{{"text":"{}"}}"#, "x".repeat(5 * 1024 * 1024));
    invoke(&stack.functions, &largest).await.unwrap();
    let error = invoke(&stack.functions, r#"{"do":"large"}"#).await.unwrap_err();
    assert!(
        matches!(&error, InvokeError::Unhandled(body) if body.contains("ResponseSizeTooLarge")),
        "{error}"
    );
    stack.functions.shut_down().await;
}

#[tokio::test]
async fn an_invocation_outlives_its_caller() {
    let stack = stack("{Timeout: 1}");
    let abandoned =
        tokio::time::timeout(Duration::from_millis(1), invoke(&stack.functions, r#"{"do":"hang"}"#)).await;
    assert!(abandoned.is_err());
    wait_until("the abandoned invocation times out", || counts(&stack.functions).errors == 1).await;
    wait_until("its instance is gone", || counts(&stack.functions).pids.is_empty()).await;
}

#[tokio::test]
async fn nothing_starts_after_shut_down() {
    let stack = stack("{}");
    invoke(&stack.functions, "{}").await.unwrap();
    let pid = counts(&stack.functions).pids[0];
    stack.functions.shut_down().await;
    assert!(!is_alive(pid));
    assert!(matches!(invoke(&stack.functions, "{}").await, Err(InvokeError::Throttled)));
}

/// The variable that makes a copy of this test act as the parent to kill.
const PARENT: &str = "LAMBDA_TEST_PARENT";

#[cfg(target_os = "linux")]
#[tokio::test]
async fn functions_die_with_a_killed_stack() {
    if std::env::var_os(PARENT).is_some() {
        let stack = stack("{Timeout: 900}");
        invoke(&stack.functions, "{}").await.unwrap();
        println!("pid {}", counts(&stack.functions).pids[0]);
        // A busy function does not notice that its Runtime API is gone.
        let _never = invoke(&stack.functions, r#"{"do":"hang"}"#).await;
        return;
    }
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lambda::functions_die_with_a_killed_stack", "--nocapture"])
        .env(PARENT, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let pid: u32 = lines
        .map_while(Result::ok)
        .find_map(|line| line.split("pid ").nth(1).map(str::to_owned))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(is_alive(pid));
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_until("the function has ended", || !is_alive(pid)).await;
}

/// Creates a function whose binary is a shell script.
fn script(folder: &Path, text: &str) -> Arc<Functions> {
    std::fs::create_dir(folder.join("F")).unwrap();
    let binary = folder.join("F/bootstrap");
    std::fs::write(&binary, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&binary, Permissions::from_mode(0o755)).unwrap();
    let template =
        Template::parse("Resources: {F: {Type: AWS::Serverless::Function}}", "t", &Context::default())
            .unwrap();
    let logs = Arc::new(CloudWatch::new(folder.join("logs")).unwrap());
    Functions::from_template(&template, folder.to_owned(), logs).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_function_that_never_asks_for_work_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let functions = script(folder.path(), "exec sleep 600");
    let start = tokio::time::Instant::now();
    let error = invoke(&functions, "{}").await.unwrap_err();
    assert!(matches!(&error, InvokeError::Crashed(why) if why.contains("within 10 s")), "{error}");
    assert!(start.elapsed() >= Duration::from_secs(10));
    wait_until("the process is gone", || counts(&functions).pids.is_empty()).await;
}

#[tokio::test]
async fn a_function_that_ignores_sigterm_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let functions = script(folder.path(), "trap '' TERM; echo ready; exec sleep 600");
    let invocation = tokio::spawn({
        let functions = Arc::clone(&functions);
        async move { invoke(&functions, "{}").await }
    });
    let log = folder.path().join("logs/F.log");
    wait_until("the trap is set", || std::fs::read_to_string(&log).is_ok_and(|log| log.contains("ready")))
        .await;
    let pid = counts(&functions).pids[0];
    let start = Instant::now();
    functions.shut_down().await;
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert!(!is_alive(pid));
    assert!(matches!(invocation.await.unwrap(), Err(InvokeError::Crashed(_))));
}

#[test]
fn binaries_are_found_in_every_layout() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        "Resources: {F: {Type: AWS::Serverless::Function, Metadata: {BuildProperties: {Binary: votes}}}}";
    let template = Template::parse(text, "t", &Context::default()).unwrap();
    let logs = Arc::new(CloudWatch::new(folder.path().join("logs")).unwrap());
    let find = |layout: &str| {
        let artifacts = folder.path().join(layout.replace('/', "_"));
        let path = artifacts.join(layout);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
        Functions::from_template(&template, artifacts, Arc::clone(&logs)).map(|_| ())
    };
    for layout in ["votes", "votes/bootstrap", "F/bootstrap"] {
        find(layout).unwrap();
    }
    let error = find("other").unwrap_err().to_string();
    assert!(error.contains("F: there is no binary") && error.contains("votes/bootstrap"), "{error}");
}
