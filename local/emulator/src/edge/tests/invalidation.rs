//! Tests of invalidations: the invalidated objects, and no others, are fetched again.
use super::*;

const LONG: (&str, &str) =
    ("cache-control", "public, max-age=60, s-maxage=60, stale-while-revalidate=60, stale-if-error=60");

fn invalidate(fixture: &Fixture, paths: &[&str]) {
    fixture.edge.invalidate(&paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_path_matches_itself_and_a_wildcard_its_prefix() {
    let fixture = Fixture::new(&[LONG]);
    let all = ["/polls/1", "/polls/12", "/polls/2", "/polls?page=1"];
    for (invalidated, missing) in [
        (&["/polls/1"][..], &["/polls/1"][..]),
        (&["/polls/1*"], &["/polls/1", "/polls/12"]),
        (&["/polls"], &[]),
        (&["/polls?page=1", "/polls/2"], &["/polls/2", "/polls?page=1"]),
        (&["/*"], &all),
    ] {
        for path in all {
            fixture.get(path).await;
        }
        invalidate(&fixture, invalidated);
        let mut missed = Vec::new();
        for path in all {
            if fixture.get(path).await.x_cache() == "Miss" {
                missed.push(path);
            }
        }
        assert_eq!(missed, missing, "{invalidated:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_variant_is_invalidated() {
    let fixture = Fixture::new(&[LONG]);
    let variants: [&[(&str, &str)]; 3] = [&[], &[("x-show", "a")], &[("accept-encoding", "gzip")]];
    for headers in variants {
        fixture.ask("GET", "/polls/1", headers).await;
    }
    invalidate(&fixture, &["/polls/1"]);
    for headers in variants {
        assert_eq!(fixture.ask("GET", "/polls/1", headers).await.x_cache(), "Miss", "{headers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_requested_before_an_invalidation_is_not_cached() {
    let fixture = Fixture::new(&[LONG]);
    let while_in_flight = async {
        sleep(LATENCY / 2).await;
        fixture.answers(200, &[LONG], "second");
        invalidate(&fixture, &["/polls/*"]);
        fixture.get("/polls/1").await
    };
    let (before, after) = tokio::join!(fixture.get("/polls/1"), while_in_flight);
    assert_eq!((before.body.as_str(), after.body.as_str()), ("first", "second"), "no join of the first");
    let kept = fixture.get("/polls/1").await;
    assert_eq!((kept.x_cache(), kept.body.as_str()), ("Hit", "second"));
}

#[tokio::test(start_paused = true)]
async fn an_object_in_background_revalidation_is_invalidated_too() {
    let fixture = Fixture::new(&[LONG]);
    fixture.get("/polls/1").await;
    advance(Duration::from_secs(61)).await;
    assert_eq!(fixture.get("/polls/1").await.body, "first", "stale during the revalidation");
    sleep(LATENCY / 2).await;
    fixture.answers(200, &[LONG], "second");
    invalidate(&fixture, &["/polls/1"]);
    sleep(LATENCY).await;
    assert_eq!(fixture.get("/polls/1").await.body, "second");
}
