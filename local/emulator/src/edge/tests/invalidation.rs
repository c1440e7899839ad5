//! What is invalidated is asked for again, and nothing else.
use super::*;

const LONG: (&str, &str) =
    ("cache-control", "public, max-age=60, s-maxage=60, stale-while-revalidate=60, stale-if-error=60");

fn forget(show: &Show, paths: &[&str]) {
    show.edge.invalidate(&paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_path_names_itself_and_a_star_all_that_begin_so() {
    let show = Show::new(&[LONG]);
    let all = ["/polls/1", "/polls/12", "/polls/2", "/polls?page=1"];
    for (forgotten, missing) in [
        (&["/polls/1"][..], &["/polls/1"][..]),
        (&["/polls/1*"], &["/polls/1", "/polls/12"]),
        (&["/polls"], &[]),
        (&["/polls?page=1", "/polls/2"], &["/polls/2", "/polls?page=1"]),
        (&["/*"], &all),
    ] {
        for path in all {
            show.get(path).await;
        }
        forget(&show, forgotten);
        let mut missed = Vec::new();
        for path in all {
            if show.get(path).await.x_cache() == "Miss" {
                missed.push(path);
            }
        }
        assert_eq!(missed, missing, "{forgotten:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_variant_is_forgotten() {
    let show = Show::new(&[LONG]);
    let variants: [&[(&str, &str)]; 3] = [&[], &[("x-show", "a")], &[("accept-encoding", "gzip")]];
    for headers in variants {
        show.ask("GET", "/polls/1", headers).await;
    }
    forget(&show, &["/polls/1"]);
    for headers in variants {
        assert_eq!(show.ask("GET", "/polls/1", headers).await.x_cache(), "Miss", "{headers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_asked_for_before_is_not_kept_after() {
    let show = Show::new(&[LONG]);
    let while_it_is_under_way = async {
        sleep(LATENCY / 2).await;
        show.answers(200, &[LONG], "second");
        forget(&show, &["/polls/*"]);
        show.get("/polls/1").await
    };
    let (before, after) = tokio::join!(show.get("/polls/1"), while_it_is_under_way);
    assert_eq!((before.body.as_str(), after.body.as_str()), ("first", "second"), "the second joins nobody");
    let kept = show.get("/polls/1").await;
    assert_eq!((kept.x_cache(), kept.body.as_str()), ("Hit", "second"));
}

#[tokio::test(start_paused = true)]
async fn what_is_revalidated_in_the_background_is_forgotten_too() {
    let show = Show::new(&[LONG]);
    show.get("/polls/1").await;
    advance(Duration::from_secs(61)).await;
    assert_eq!(show.get("/polls/1").await.body, "first", "while it is asked for again");
    sleep(LATENCY / 2).await;
    show.answers(200, &[LONG], "second");
    forget(&show, &["/polls/1"]);
    sleep(LATENCY).await;
    assert_eq!(show.get("/polls/1").await.body, "second");
}
