use super::*;

const POLICY: CertificationPolicy =
    CertificationPolicy { sign: Duration::from_secs(146), probe_late: Duration::from_secs(43) };

/// The window of the tests' poll, in seconds.
const OPENS: i64 = 1_000;
const CLOSES: i64 = 1_600;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000).unwrap()
}

/// Creates a probe with a latency of 4 s.
fn probe(sent: i64) -> Probe {
    Probe {
        sent_at: at(sent),
        cast_at: Some(at(sent)),
        decided_at: Some(at(sent + 4)),
        handled: Some(10_000),
        failed: false,
    }
}

fn undecided(sent: i64) -> Probe {
    Probe { cast_at: None, decided_at: None, ..probe(sent) }
}

/// Creates a healthy observation: one probe every 3 s since before the opening, and ten in each of two ticks after
/// the close.
fn healthy(now: i64) -> Observation {
    let mut probes: Vec<_> = (OPENS - 50..now).step_by(3).map(probe).collect();
    probes.extend(
        [CLOSES + 2, CLOSES + 5].into_iter().filter(|&sent| sent < now).flat_map(|sent| [probe(sent); 10]),
    );
    probes.sort_by_key(|probe| probe.sent_at);
    for probe in &mut probes {
        if probe.decided_at.is_some_and(|decided| decided > at(now)) {
            *probe = Probe { cast_at: None, decided_at: None, ..*probe };
        }
    }
    Observation {
        now: at(now),
        probes,
        signs: Vec::new(),
        outstanding: Vec::new(),
        queued: Some(0),
        handled: Some(10_000),
    }
}

fn judge(observation: &Observation) -> Result<(), (WaitsFor, Option<Sign>, Option<i64>)> {
    let judged = observation.judge(at(OPENS), at(CLOSES), POLICY);
    judged.map_err(|waiting| {
        (waiting.waits_for, waiting.sign, waiting.until.map(|until| until.millis() / 1_000))
    })
}

/// Changes a healthy observation at `now` and judges it.
fn changed(
    now: i64,
    change: impl FnOnce(&mut Observation),
) -> Result<(), (WaitsFor, Option<Sign>, Option<i64>)> {
    let mut observation = healthy(now);
    change(&mut observation);
    judge(&observation)
}

#[test]
fn without_a_sign_a_result_is_certified_once_the_probes_are_decided() {
    assert_eq!(judge(&healthy(CLOSES + 8)), Err((WaitsFor::Probes, None, None)));
    assert_eq!(judge(&healthy(CLOSES + 10)), Ok(()));
}

#[test]
fn nothing_is_certified_while_nothing_is_counted() {
    let stopped = |now| {
        changed(now, |observation| {
            for probe in observation.probes.iter_mut().filter(|probe| probe.sent_at >= at(CLOSES - 100)) {
                *probe = Probe { cast_at: None, decided_at: None, ..*probe };
            }
            observation.queued = Some(50 + 60);
        })
    };
    assert_eq!(stopped(CLOSES + 60), Err((WaitsFor::Counting, None, None)));
    assert_eq!(stopped(CLOSES + 100_000), Err((WaitsFor::Counting, None, None)), "for ever");
}

#[test]
fn one_probe_that_is_not_decided_is_waited_for() {
    for sent in [OPENS + 1, CLOSES - 1, CLOSES + 1] {
        let place = |observation: &mut Observation| {
            observation.probes.push(undecided(sent));
            observation.probes.sort_by_key(|probe| probe.sent_at);
        };
        let now = CLOSES + 60;
        assert_eq!(changed(now, place), Err((WaitsFor::Probes, Some(Sign::ProbeMissing), None)), "{sent}");
    }
    let earlier = |observation: &mut Observation| observation.probes.insert(0, undecided(OPENS - 60));
    assert_eq!(changed(CLOSES + 60, earlier), Ok(()), "no vote of this poll was with it");
}

/// Each sign counts for exactly 146 s.
#[test]
fn a_sign_counts_until_the_failed_batch_must_have_come_again() {
    let young = CLOSES + 100 - 145;
    for sign in [Sign::Redelivered, Sign::Announced, Sign::RedisAway] {
        let seen = |moment| changed(CLOSES + 100, |seen| seen.signs.push((sign, at(moment))));
        assert_eq!(seen(young), Err((WaitsFor::Sign, Some(sign), Some(young + 146))));
        assert_eq!(seen(young - 1), Ok(()));
    }
}

#[test]
fn a_sign_counts_longer_while_there_is_a_backlog() {
    // The failed batch is redelivered after 123 s. Then it waits as long as any message, and may take 20 s.
    let waited = |seconds: i64, now: i64| {
        changed(now, |observation| {
            observation.signs.push((Sign::Redelivered, at(CLOSES - 40)));
            for probe in observation.probes.iter_mut().filter(|probe| probe.sent_at == at(CLOSES + 79)) {
                probe.decided_at = Some(at(CLOSES + 79 + seconds));
            }
        })
    };
    let until = CLOSES - 40 + 146;
    assert!(healthy(until).probes.iter().any(|probe| probe.sent_at == at(CLOSES + 79)));
    assert_eq!(waited(23, until), Ok(()));
    assert_eq!(waited(25, until), Err((WaitsFor::Sign, Some(Sign::Redelivered), Some(until + 2))));
    assert_eq!(waited(25, until + 2), Ok(()));
}

#[test]
fn a_full_queue_may_keep_no_order_and_is_watched_for_longer() {
    let handled =
        |votes: u64, now: i64| changed(now, |observation| observation.handled = Some(10_000 + votes));
    // The last probe is decided 9 s after the close. Each probe took 4 s.
    assert_eq!(handled(700, CLOSES + 10), Ok(()), "280 at a time are one batch");
    assert_eq!(handled(20_000, CLOSES + 10), Err((WaitsFor::Probes, None, None)));
    assert_eq!(handled(20_000, CLOSES + 16), Err((WaitsFor::Probes, None, None)));
    assert_eq!(handled(20_000, CLOSES + 17), Ok(()));
}

#[test]
fn a_late_probe_is_a_sign_of_when_it_was_decided() {
    let late = |decided: i64| {
        changed(CLOSES + 100, |observation| {
            observation.probes[30].decided_at = Some(at(decided));
        })
    };
    let sent = healthy(0).now.millis() + OPENS - 50 + 90;
    assert_eq!(late(sent + 43), Ok(()), "it took 43 s");
    assert_eq!(late(CLOSES), Err((WaitsFor::Sign, Some(Sign::ProbeLate), Some(CLOSES + 146))));
    assert_eq!(late(CLOSES - 46), Ok(()), "votes that failed with it have been redelivered");
}

#[test]
fn a_pause_in_the_series_is_a_sign_of_its_end() {
    let pause = |from: i64, to: i64, now: i64| {
        changed(now, |observation| {
            observation.probes.retain(|probe| !(at(from)..at(to)).contains(&probe.sent_at));
        })
    };
    let sign = |end: i64| Err((WaitsFor::Sign, Some(Sign::ProbeMissing), Some(end + 146)));
    assert!(matches!(
        pause(CLOSES - 90, CLOSES - 50, CLOSES + 30),
        Err((WaitsFor::Sign, Some(Sign::ProbeMissing), _))
    ));
    assert_eq!(pause(CLOSES - 60, CLOSES - 40, CLOSES + 30), Ok(()), "20 s are no pause");
    let mut unobserved_opening = healthy(CLOSES + 30);
    unobserved_opening.probes.retain(|probe| probe.sent_at >= at(CLOSES));
    let first = unobserved_opening.probes[0].sent_at.millis() / 1_000;
    assert_eq!(judge(&unobserved_opening), sign(first), "nothing is known of the time before");
}

#[test]
fn what_the_queue_did_not_take_is_a_sign_and_not_waited_for() {
    let unsent = |sent| {
        changed(CLOSES + 100, |observation| {
            observation.probes.push(Probe { failed: true, ..undecided(sent) });
            observation.probes.sort_by_key(|probe| probe.sent_at);
        })
    };
    assert_eq!(unsent(CLOSES - 30), Err((WaitsFor::Sign, Some(Sign::ProbeMissing), Some(CLOSES + 116))));
    assert_eq!(unsent(CLOSES - 50), Ok(()));
}

#[test]
fn a_batch_that_began_before_the_last_probe_was_decided_is_waited_for() {
    let started = |start: i64, now: i64| changed(now, |observation| observation.outstanding.push(at(start)));
    let decided = CLOSES + 9;
    let in_flight = Err((WaitsFor::Sign, Some(Sign::Announced), None));
    assert_eq!(started(decided - 5, decided + 20), in_flight);
    assert_eq!(
        started(decided + 2, decided + 20),
        Ok(()),
        "later batches are ignored, or certification would never end"
    );
    let vanished = Err((WaitsFor::Sign, Some(Sign::Announced), Some(decided + 2 + 146)));
    assert_eq!(started(decided + 2, decided + 46), vanished, "it cannot be in flight any more");
    assert_eq!(started(decided - 5, decided - 5 + 146), Ok(()));
}

#[test]
fn a_batch_that_brought_failed_votes_again_is_waited_for() {
    let redelivered = |start: i64| {
        changed(CLOSES + 160, |observation| {
            observation.signs.push((Sign::Redelivered, at(CLOSES + 10)));
            observation.outstanding.push(at(start));
        })
    };
    assert_eq!(redelivered(CLOSES + 156), Err((WaitsFor::Sign, Some(Sign::Announced), None)));
    assert_eq!(redelivered(CLOSES + 157), Ok(()));
}

#[test]
fn the_queues_count_must_be_explained_by_what_was_handled_since_the_close() {
    let queue = |queued, handled| {
        changed(CLOSES + 10, |observation| (observation.queued, observation.handled) = (queued, handled))
    };
    // The queue's count includes the probes of the last seconds.
    let ours = 12;
    assert_eq!(queue(Some(ours), Some(10_000)), Ok(()));
    assert_eq!(queue(Some(ours + 2), Some(10_000)), Err((WaitsFor::Queue, None, None)));
    assert_eq!(queue(Some(300), Some(10_300)), Ok(()), "later votes explain the count");
    assert_eq!(queue(None, Some(10_300)), Err((WaitsFor::Queue, None, None)), "no answer is no evidence");
    assert_eq!(queue(Some(300), None), Err((WaitsFor::Queue, None, None)));
    assert_eq!(queue(Some(300), Some(300)), Ok(()), "a reset counter counts from 0");
    assert_eq!(queue(Some(300), Some(200)), Err((WaitsFor::Queue, None, None)));
}

#[test]
fn what_is_handled_after_the_probes_explains_nothing_that_was_in_the_queue_at_the_close() {
    // Ten messages a second arrive after the close, and 300 are in an instance whose announcement was lost.
    let late_senders = |now: i64, queued: u64| {
        changed(now, |observation| {
            let handled = |at: i64| Some(10_000 + 10 * (at - CLOSES).max(0).unsigned_abs());
            for probe in &mut observation.probes {
                probe.handled = handled(probe.sent_at.millis() / 1_000);
            }
            (observation.queued, observation.handled) = (Some(queued), handled(now));
        })
    };
    for now in [CLOSES + 15, CLOSES + 60, CLOSES + 145] {
        assert_eq!(late_senders(now, 300 + 30), Err((WaitsFor::Queue, None, None)), "{now}");
        assert_eq!(late_senders(now, 30), Ok(()), "{now}");
    }
    assert_eq!(late_senders(CLOSES + 146, 300 + 30), Ok(()), "by then they have been redelivered");
}

#[test]
fn counting_is_told_apart_from_not_knowing() {
    assert_eq!(healthy(CLOSES).counting(POLICY), Counting::Moving);
    let mut idle = healthy(CLOSES);
    idle.now = at(CLOSES + 60);
    for probe in &mut idle.probes {
        *probe = self::probe(probe.sent_at.millis() / 1_000);
    }
    assert_eq!(idle.counting(POLICY), Counting::Unknown, "none has been sent for a minute");
    let mut stopped = healthy(CLOSES);
    for probe in stopped.probes.iter_mut().filter(|probe| probe.sent_at > at(CLOSES - 60)) {
        *probe = undecided(probe.sent_at.millis() / 1_000);
    }
    let Counting::Stopped(since) = stopped.counting(POLICY) else { panic!("none was decided for a minute") };
    assert!((at(CLOSES - 60)..=at(CLOSES - 53)).contains(&since), "{since:?}");
    stopped.probes.insert(0, Probe { decided_at: Some(at(CLOSES - 1)), ..probe(CLOSES - 100) });
    assert_eq!(stopped.counting(POLICY), Counting::Moving, "an old probe was decided: there is a backlog");
}

#[test]
fn twenty_probes_follow_a_close_and_no_more_than_sixty_are_under_way() {
    let due = |observation: &Observation, closes: &[i64]| {
        observation.probes_due(closes.iter().map(|&close| at(close)))
    };
    let before = healthy(CLOSES + 1);
    assert_eq!(due(&before, &[]), 1);
    assert_eq!(due(&before, &[CLOSES]), 10);
    assert_eq!(due(&healthy(CLOSES + 4), &[CLOSES]), 9, "eleven are sent");
    assert_eq!(due(&healthy(CLOSES + 8), &[CLOSES, OPENS]), 1, "one series serves all polls");
    assert_eq!(due(&healthy(CLOSES + 8), &[CLOSES, CLOSES + 7]), 10);
    let mut stuck = before.clone();
    stuck.probes.extend([undecided(CLOSES - 1); 55]);
    assert_eq!(due(&stuck, &[CLOSES]), 4, "one probe of the series is in flight");
    stuck.probes.extend([undecided(CLOSES - 1); 4]);
    assert_eq!(due(&stuck, &[CLOSES]), 0);
    stuck.now = at(CLOSES + 700);
    assert_eq!(due(&stuck, &[CLOSES]), 10, "they count as lost");
}
