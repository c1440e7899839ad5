use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::body::Bytes;
use emulator::{
    event_source::{self, Disturbance, Mappings},
    lambda::InvokeError,
    sqs::{NewMessage, Queue, Receipt},
};

use super::Stack;

/// Far beyond the duration of any test; reached only by a defect.
const TIMEOUT: Duration = Duration::from_secs(30);

struct Pipeline {
    stack: Stack,
    queue: Arc<Queue>,
    dead: Arc<Queue>,
    mappings: Mappings,
}

impl Pipeline {
    /// Starts a queue, a DLQ with `maxReceiveCount` 3, a function and a mapping. The visibility timeout is short, but
    /// longer than any batching window in these tests. `event`: properties of the mapping.
    fn start(event: &str, function: &str) -> Self {
        Self::start_with(event, function, |_| {})
    }

    fn start_with(event: &str, function: &str, before: impl FnOnce(&Queue)) -> Self {
        Self::start_disturbed(event, function, None, before)
    }

    fn start_disturbed(
        event: &str,
        function: &str,
        disturbance: Option<&Arc<dyn Disturbance>>,
        before: impl FnOnce(&Queue),
    ) -> Self {
        let stack = Stack::new(&format!(
            "  Q:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: 2
      RedrivePolicy: {{deadLetterTargetArn: !GetAtt D.Arn, maxReceiveCount: 3}}
  D: {{Type: AWS::SQS::Queue}}
  F:
    Type: AWS::Serverless::Function
    Metadata: {{BuildProperties: {{Binary: echo_function}}}}
    Properties:
      Timeout: 1
      {function}
      Events: {{Messages: {{Type: SQS, Properties: {{Queue: !GetAtt Q.Arn, {event}}}}}}}
"
        ))
        .unwrap();
        let (queue, dead) = (stack.queues.get("Q").unwrap(), stack.queues.get("D").unwrap());
        before(&queue);
        let mappings =
            event_source::start(&stack.template, &stack.queues, &stack.functions, disturbance).unwrap();
        Self { stack, queue, dead, mappings }
    }

    fn send(&self, bodies: &[&str]) {
        send(&self.queue, bodies);
    }

    /// Waits until the queue is empty. Returns the numbers of batches and records that the function received, and of
    /// dead letters.
    async fn drained(self) -> (f64, f64, u64) {
        tokio::time::timeout(TIMEOUT, self.mappings.drained()).await.unwrap();
        self.mappings.stop().await;
        self.stack.functions.shut_down().await;
        let logs = &self.stack.logs;
        (logs.total("Batches"), logs.total("Records"), self.dead.counts().visible)
    }
}

fn send(queue: &Queue, bodies: &[&str]) {
    for body in bodies {
        queue.send(NewMessage { body: (*body).to_owned(), ..NewMessage::default() }).unwrap();
    }
}

const REPORTS: &str = "FunctionResponseTypes: [ReportBatchItemFailures]";

#[tokio::test]
async fn full_batches_are_delivered_at_once_and_the_rest_after_the_window() {
    let bodies = ["x"; 25];
    let event = "BatchSize: 20, MaximumBatchingWindowInSeconds: 1";
    let pipeline = Pipeline::start_with(event, "", |queue| send(queue, &bodies));
    assert_eq!(pipeline.drained().await, (2.0, 25.0, 0));
}

#[tokio::test]
async fn a_single_failure_is_delivered_again_alone() {
    let pipeline = Pipeline::start_with(REPORTS, "", |queue| send(queue, &["ok", "fail once", "ok"]));
    assert_eq!(pipeline.drained().await, (2.0, 4.0, 0));
}

#[tokio::test]
async fn what_always_fails_goes_to_the_dead_letter_queue() {
    let pipeline = Pipeline::start_with(REPORTS, "", |queue| send(queue, &["ok", "fail"]));
    assert_eq!(pipeline.drained().await, (3.0, 4.0, 1));
}

#[tokio::test]
async fn an_answer_is_ignored_when_failures_are_not_reported() {
    let pipeline =
        Pipeline::start_with("BatchSize: 10", "", |queue| send(queue, &["ok", "fail", "malformed"]));
    assert_eq!(pipeline.drained().await, (1.0, 3.0, 0));
}

#[tokio::test]
async fn a_whole_batch_comes_again_after_a_malformed_answer() {
    let pipeline = Pipeline::start_with(REPORTS, "", |queue| send(queue, &["ok", "malformed", "ok"]));
    assert_eq!(pipeline.drained().await, (2.0, 6.0, 0));
}

#[tokio::test]
async fn a_whole_batch_comes_again_after_an_error_a_crash_and_a_timeout() {
    for body in ["error", "exit", "hang"] {
        let pipeline = Pipeline::start_with(REPORTS, "", |queue| send(queue, &["ok", body]));
        assert_eq!(pipeline.drained().await, (2.0, 4.0, 0), "{body}");
    }
}

#[tokio::test]
async fn concurrency_stays_within_the_limit() {
    let event = "BatchSize: 1, ScalingConfig: {MaximumConcurrency: 2}";
    let pipeline = Pipeline::start_with(event, "", |queue| send(queue, &["x"; 40]));
    tokio::time::timeout(TIMEOUT, pipeline.mappings.drained()).await.unwrap();
    let counts = pipeline.stack.functions.counts().pop().unwrap();
    assert_eq!((counts.invocations, counts.concurrent_max <= 2), (40, true), "{counts:?}");
    pipeline.stack.functions.shut_down().await;
}

#[tokio::test]
async fn throttled_batches_come_again() {
    let event = "BatchSize: 1, ScalingConfig: {MaximumConcurrency: 4}";
    // One of the two batches is throttled at its first delivery: the other one hangs until its timeout.
    let function = "ReservedConcurrentExecutions: 1";
    let pipeline = Pipeline::start_with(event, function, |queue| send(queue, &["hang", "x"]));
    let (_, records, dead) = pipeline.drained().await;
    assert_eq!((records, dead), (3.0, 0));
}

#[tokio::test]
async fn stop_leaves_messages_in_their_queue() {
    let pipeline = Pipeline::start("BatchSize: 10, MaximumBatchingWindowInSeconds: 300", "");
    pipeline.send(&["x", "y"]);
    pipeline.mappings.stop().await;
    let counts = pipeline.queue.counts();
    assert_eq!(counts.visible + counts.in_flight, 2);
    assert_eq!(pipeline.stack.logs.total("Batches"), 0.0);
}

/// A disturbance that injects each fault once, at the first opportunity.
#[derive(Debug, Default)]
struct FailOnce {
    again: AtomicUsize,
    answers: AtomicUsize,
    acknowledgements: AtomicUsize,
}

impl Disturbance for FailOnce {
    fn deliver_again(&self, _: &str, event: &Bytes) -> Option<Bytes> {
        (self.again.fetch_add(1, Ordering::SeqCst) == 0).then(|| event.clone())
    }

    fn delivered_again(&self, answer: &Result<Bytes, InvokeError>) {
        answer.as_ref().unwrap();
    }

    fn answer(&self, function: &str, answer: Result<Bytes, InvokeError>) -> Result<Bytes, InvokeError> {
        assert_eq!(function, "F");
        let is_first = self.answers.fetch_add(1, Ordering::SeqCst) == 0;
        if is_first { Ok(Bytes::from_static(b"nonsense")) } else { answer }
    }

    fn acknowledge(&self, _: &str, done: &mut Vec<Receipt>) {
        if self.acknowledgements.fetch_add(1, Ordering::SeqCst) == 0 {
            done.truncate(1);
        }
    }
}

#[tokio::test]
async fn what_is_disturbed_comes_again() {
    let disturbance: Arc<dyn Disturbance> = Arc::new(FailOnce::default());
    let pipeline =
        Pipeline::start_disturbed(REPORTS, "", Some(&disturbance), |queue| send(queue, &["x", "y"]));
    // Two concurrent deliveries with a corrupted response; a redelivery of both messages, of which one
    // acknowledgement is lost; a redelivery of that message.
    assert_eq!(pipeline.drained().await, (4.0, 7.0, 0));
}

#[test]
fn an_unknown_queue_is_refused() {
    let stack = Stack::new(
        "  F:
    Type: AWS::Serverless::Function
    Metadata: {BuildProperties: {Binary: echo_function}}
    Properties: {Events: {Messages: {Type: SQS, Properties: {Queue: 'arn:aws:sqs:us-east-1:0:Nope'}}}}
",
    )
    .unwrap();
    let error =
        event_source::start(&stack.template, &stack.queues, &stack.functions, None).unwrap_err().to_string();
    assert!(error.contains("F.Events.Messages: there is no queue") && error.contains("Nope"), "{error}");
}
