//! What the edge keeps from the functions, on the real template.

use std::{
    thread,
    time::{Duration, Instant},
};

use local_stores::scratch::Scratch;

use crate::stack::{TestStack, until};

/// How long the edge keeps an absence.
const ABSENT: Duration = Duration::from_secs(3);

#[tokio::test]
async fn each_public_address_has_one_spelling() {
    let scratch = Scratch::new().await.unwrap();
    let stack = TestStack::start(&scratch, &[]);
    let before = stack.origin_requests();
    for path in [
        "/polls/01",
        "/polls/+1",
        "/polls/%31",
        "/polls/1.0",
        "/polls/1/",
        "/polls/1/ranking/",
        "/polls/1/nothing",
        "/polls/0000000000000000000001/ranking",
        "/polls/12345678901",
        "/results/01.json",
        "/results/%31.json",
    ] {
        let (status, body) = stack.as_anyone(path);
        assert_eq!((status, body.contains("pollNotFound")), (404, true), "{path}: {body}");
    }
    assert_eq!(stack.origin_requests(), before, "no origin was asked");
}

#[tokio::test]
async fn every_read_answers_head_and_preflights() {
    let scratch = Scratch::new().await.unwrap();
    let stack = TestStack::start(&scratch, &[]);
    until("the demo poll has a file", || stack.as_anyone("/results/1.json").0 == 200);
    for path in ["/polls", "/polls/1", "/polls/1/ranking", "/results/1.json"] {
        let head = stack.head_of("HEAD", path, "accept: */*");
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
    }
    let before = stack.origin_requests();
    for path in [
        "/polls",
        "/polls/1",
        "/polls/1/ranking",
        "/polls/1/votes/mine",
        "/results/1.json",
        "/results/9.json",
    ] {
        let head = stack.head_of(
            "OPTIONS",
            path,
            "origin: https://show.example\r\naccess-control-request-method: GET",
        );
        assert!(head.starts_with("HTTP/1.1 204"), "{path}: {head}");
        assert!(head.contains("access-control-allow-origin: *"), "{path}: {head}");
    }
    assert_eq!(stack.origin_requests(), before, "the edge itself answers preflights");
}

#[tokio::test]
async fn numbers_without_a_poll_do_not_take_the_ranking_away() {
    let scratch = Scratch::new().await.unwrap();
    // Two instances take 20 requests a second.
    let stack = TestStack::start(&scratch, &["--set", "PollsFunction.ReservedConcurrentExecutions=2"]);
    until("the ranking is at the edge", || stack.as_anyone("/polls/1/ranking").0 == 200);
    let until = Instant::now() + Duration::from_secs(8);
    thread::scope(|scope| {
        let flood = |first: i64| {
            let stack = &stack;
            scope.spawn(move || {
                let asked = (first..).step_by(4).take_while(|_| Instant::now() < until);
                asked.map(|id| stack.as_anyone(&format!("/polls/{id}/ranking")).0).collect::<Vec<_>>()
            })
        };
        let floods: Vec<_> = (1_000_000..1_000_004).map(flood).collect();
        let mut read = 0;
        while Instant::now() < until {
            let (status, body) = stack.as_anyone("/polls/1/ranking");
            assert_eq!(status, 200, "{body}");
            read += 1;
            thread::sleep(Duration::from_millis(20));
        }
        assert!(read > 50);
        let statuses: Vec<u16> = floods.into_iter().flat_map(|flood| flood.join().unwrap()).collect();
        assert!(statuses.len() > 1_000, "no flood: {}", statuses.len());
        assert!(
            statuses.contains(&503) && !statuses.contains(&429),
            "the function bounds reads, not the throttle"
        );
    });
}

#[tokio::test]
async fn a_poll_is_visible_in_three_seconds_however_often_it_was_asked_for() {
    let scratch = Scratch::new().await.unwrap();
    let stack = TestStack::start(&scratch, &[]);
    let paths = ["/polls/2", "/polls/2/ranking"];
    for path in paths {
        assert_eq!(stack.as_anyone(path).0, 404);
    }
    let poll = r#"{"title":"Who stays?","contestants":[{"name":"Ana"},{"name":"Bia"}]}"#;
    assert_eq!(stack.as_crew("POST", "/admin/polls", poll).0, 201);
    for _ in 0..20 {
        assert_eq!(stack.as_anyone("/polls/2").0, 404, "a draft");
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(stack.as_crew("POST", "/admin/polls/2/open", "").0, 200);
    let opened = Instant::now();
    for path in paths {
        until("the poll is visible", || stack.as_anyone(path).0 == 200);
    }
    let seconds = opened.elapsed();
    assert!(seconds < ABSENT + Duration::from_millis(500), "{seconds:?}");
}
