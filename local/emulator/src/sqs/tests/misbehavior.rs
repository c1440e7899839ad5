use std::collections::BTreeSet;

use super::*;

/// Creates a queue with the given misbehavior.
fn misbehaving(how: Misbehavior) -> Arc<Queue> {
    let queue = queue("{}");
    queue.misbehave(how, 7);
    queue
}

#[tokio::test(start_paused = true)]
async fn counts_of_a_bad_queue_are_of_any_moment_of_the_last_minute() {
    let counts_age = Duration::from_secs(60);
    let queue = misbehaving(Misbehavior { counts_age, ..Misbehavior::default() });
    for _ in 0..100 {
        queue.send(message("m")).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let reported: Vec<_> = (0..1_000).map(|_| queue.reported_counts().visible).collect();
    let (least, most) = (reported.iter().min().copied(), reported.iter().max().copied());
    // One message a second; the samples are a 64th of a minute apart.
    assert!(
        least.is_some_and(|least| (40..=43).contains(&least)) && most == Some(100),
        "{least:?} to {most:?}"
    );
    assert_eq!(queue.counts().visible, 100);
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(queue.reported_counts().visible, 100);
}

#[tokio::test(start_paused = true)]
async fn counts_of_a_bad_queue_lag_behind_sends_and_deletes() {
    let counts_age = Duration::from_secs(60);
    let queue = misbehaving(Misbehavior { counts_age, ..Misbehavior::default() });
    let mut reported = BTreeSet::new();
    tokio::time::advance(Duration::from_secs(100)).await;
    queue.send(message("m")).unwrap();
    tokio::time::advance(Duration::from_secs(30)).await;
    for _ in 0..100 {
        reported.insert(queue.reported_counts().visible);
    }
    assert_eq!(reported.len(), 2, "the message is reported, or not yet");
    queue.delete(&receipts(&queue.receive(1, None, NOW).await));
    tokio::time::advance(Duration::from_secs(45)).await;
    let reported: BTreeSet<_> = (0..100).map(|_| queue.reported_counts().visible).collect();
    assert_eq!(reported.len(), 2, "the message is still reported, or gone");
}

#[tokio::test(start_paused = true)]
async fn counts_of_a_bad_queue_are_too_low() {
    let queue = misbehaving(Misbehavior { counts_low_percent: 50, ..Misbehavior::default() });
    for _ in 0..100 {
        queue.send(message("m")).unwrap();
    }
    queue.receive(50, None, NOW).await;
    let reported: Vec<_> = (0..1_000).map(|_| queue.reported_counts()).collect();
    assert!(
        reported
            .iter()
            .all(|reported| (25..=50).contains(&reported.visible) && (25..=50).contains(&reported.in_flight))
    );
    assert!(
        reported.iter().any(|reported| reported.visible < 27)
            && reported.iter().any(|reported| reported.visible == 50)
    );
}

#[tokio::test(start_paused = true)]
async fn a_bad_queue_withholds_single_messages() {
    let withheld_for = Duration::from_secs(300);
    let how = Misbehavior { withheld_one_in: 10, withheld_for, ..Misbehavior::default() };
    let queue = misbehaving(how);
    for _ in 0..1_000 {
        queue.send(message("m")).unwrap();
    }
    let withheld = queue.withheld();
    assert!((70..130).contains(&withheld.len()), "{}", withheld.len());
    let received = queue.receive(1_000, None, NOW).await;
    assert_eq!(received.len(), 1_000 - withheld.len());
    assert!(received.iter().all(|message| !withheld.contains(&message.content.id)));
    // Withheld messages count as visible.
    assert_eq!(counts_by_state(&queue), (withheld.len() as u64, received.len() as u64, 0));
    queue.delete(&receipts(&received));
    let start = Instant::now();
    let mut late = 0;
    while late < withheld.len() {
        let received = queue.receive(10, None, Duration::from_secs(20)).await;
        let is_in_time = (withheld_for / 2..=withheld_for).contains(&start.elapsed());
        assert!(received.is_empty() || is_in_time, "{:?}", start.elapsed());
        late += received.len();
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_queue_keeps_no_order_and_loses_nothing() {
    let queue = misbehaving(Misbehavior { any_order: true, ..Misbehavior::default() });
    let sent: Vec<_> = (0..200).map(|_| queue.send(message("m")).unwrap().message_id).collect();
    let mut received = Vec::new();
    for _ in 0..20 {
        received.extend(queue.receive(10, None, NOW).await.iter().map(|message| message.content.id));
    }
    let early = sent[..100].iter().filter(|id| received[..100].contains(id)).count();
    assert!((30..70).contains(&early), "{early} of the first half came in the first half");
    let (mut sent, mut received) = (sent, received);
    sent.sort_unstable();
    received.sort_unstable();
    assert_eq!(sent, received);
}

#[test]
fn a_queue_that_behaves_again_is_punctual_and_exact() {
    let queue =
        misbehaving(Misbehavior { withheld_one_in: 1, counts_low_percent: 100, ..Misbehavior::WORST });
    queue.misbehave(Misbehavior::default(), 7);
    queue.send(message("m")).unwrap();
    assert_eq!((queue.withheld(), queue.reported_counts().visible), (Vec::new(), 1));
    assert_eq!((queue.poller_pause(true), queue.quiet_window()), (Duration::ZERO, Duration::ZERO));
}

#[test]
fn a_poller_pauses_after_a_failure_and_now_and_then() {
    let poller_pause = Duration::from_secs(30);
    let queue = misbehaving(Misbehavior { poller_pause, ..Misbehavior::default() });
    let pauses = |has_failed| (0..1_000).map(move |_| queue.poller_pause(has_failed)).collect::<Vec<_>>();
    let (after_failures, others) = (pauses.clone()(true), pauses(false));
    assert!(after_failures.iter().all(|pause| !pause.is_zero() && *pause <= poller_pause));
    let random_pauses = others.iter().filter(|pause| !pause.is_zero()).count();
    assert!((80..180).contains(&random_pauses), "{random_pauses}");
}

#[test]
fn misbehavior_is_scaled_in_its_times_only() {
    let scaled = Misbehavior::WORST.scaled(10);
    assert_eq!((scaled.counts_age, scaled.withheld_for), (Duration::from_secs(6), Duration::from_secs(30)));
    assert_eq!((scaled.poller_pause, scaled.quiet_window), (Duration::from_secs(3), Duration::from_secs(2)));
    assert_eq!((scaled.withheld_one_in, scaled.counts_low_percent), (10_000, 100));
}
