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
        "/log/cd3c5bf7/1/01/0.votes",
        "/log/cd3c5bf7/1/1/0.json",
        "/log/cd3c5bf/1/1/0.votes",
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
        // Some 600 requests a second, as many as four addresses may send without `WafPollReadsPerAddress`.
        let flood = |first: i64| {
            let stack = &stack;
            scope.spawn(move || {
                let asked = (first..).step_by(4).take_while(|_| Instant::now() < until);
                let ask = |id| {
                    thread::sleep(Duration::from_millis(5));
                    stack.as_anyone(&format!("/polls/{id}/ranking")).0
                };
                asked.map(ask).collect::<Vec<_>>()
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
        let count = |status| statuses.iter().filter(|&&one| one == status).count();
        assert!(count(503) > count(404) && count(429) == 0, "{} {} {}", count(404), count(503), count(429));
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

#[tokio::test]
async fn a_token_above_its_rate_is_refused_and_other_voters_are_not() {
    let scratch = Scratch::new().await.unwrap();
    let limits = ["--parameter", "WafVotesPerToken=10", "--parameter", "WafLookupsPerToken=10"];
    let stack = TestStack::start(&scratch, &limits);
    let (one, other) = (stack.token_of_any_issuer("one"), stack.token_of_any_issuer("other"));
    let vote = r#"{"poll":1,"contestant":1}"#;
    let cast: Vec<u16> = (0..12).map(|_| stack.cast(&one, vote).0).collect();
    assert_eq!(cast, [[202; 10].as_slice(), &[429; 2]].concat());
    let (_, body) = stack.cast(&one, vote);
    let error = &serde_json::from_str::<serde_json::Value>(&body).unwrap()["error"];
    assert_eq!(error["code"], "tooManyRequests", "{body}");
    assert_eq!(stack.cast(&other, vote).0, 202);
    for path in ["/polls/1/votes/mine", "/votes/mine?polls=1"].iter().cycle().take(10) {
        assert_eq!(stack.as_voter(path).0, 200, "{path}");
    }
    assert_eq!(stack.as_voter("/votes/mine?polls=1").0, 429);
    assert_eq!(stack.as_anyone("/polls/1").0, 200);
}

#[tokio::test]
async fn without_the_rule_no_token_is_refused() {
    let scratch = Scratch::new().await.unwrap();
    let stack = TestStack::start(&scratch, &["--parameter", "WafVotesPerToken=0"]);
    let token = stack.token_of_any_issuer("one");
    assert!((0..130).all(|_| stack.cast(&token, "{}").0 == 202));
}
