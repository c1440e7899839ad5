use futures_util::future::BoxFuture;
use serde_json::json;

use super::*;
use crate::{
    edge::{Origin, behavior::Distribution},
    template::{Context, Template},
};

/// An origin that no test requests.
struct UnusedOrigin;

impl Origin for UnusedOrigin {
    fn fetch(&self, _: Request<Body>) -> BoxFuture<'static, (Response<Bytes>, String)> {
        Box::pin(std::future::ready((Response::default(), String::new())))
    }
}

fn cloudfront() -> CloudFront {
    let template = json!({"Resources": {"D": {"Type": "AWS::CloudFront::Distribution", "Properties": {
        "DistributionConfig": {"Origins": [{"Id": "o", "DomainName": "o"}], "DefaultCacheBehavior": {"TargetOriginId": "o",
            "CachePolicyId": "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"}}}}}});
    let template = Template::parse(&template.to_string(), "t", &Context::default()).unwrap();
    let distribution =
        Distribution::read(template.resource("D").unwrap(), &|id| template.resource(id)).unwrap();
    CloudFront::new("D".to_owned(), Edge::new(distribution, |_| Some(Arc::new(UnusedOrigin))).unwrap())
}

async fn call(cloudfront: &CloudFront, method: &str, path: &str, body: String) -> (u16, String) {
    let request = Request::builder().method(method).uri(format!("{BASE_PATH}{path}"));
    let answer = cloudfront.handle(request.body(Body::from(body)).unwrap()).await;
    let status = answer.status().as_u16();
    (status, String::from_utf8(to_bytes(answer.into_body(), BODY_BYTES_MAX).await.unwrap().to_vec()).unwrap())
}

async fn create(cloudfront: &CloudFront, reference: &str, paths: &[&str]) -> (u16, String) {
    let items: String = paths.iter().map(|path| format!("<Path>{path}</Path>")).collect();
    let body = format!(
        "<InvalidationBatch xmlns=\"x\"><CallerReference>{reference}</CallerReference><Paths><Quantity>{}</Quantity>\
         <Items>{items}</Items></Paths></InvalidationBatch>",
        paths.len()
    );
    call(cloudfront, "POST", "D/invalidation", body).await
}

fn id_of(answer: &str) -> &str {
    answer.split_once("<Id>").unwrap().1.split_once("</Id>").unwrap().0
}

#[tokio::test]
async fn a_caller_reference_stands_for_one_invalidation() {
    let cloudfront = cloudfront();
    let (status, first) = create(&cloudfront, "r", &["/a&amp;b", "/c*"]).await;
    assert_eq!(status, 201, "{first}");
    let (status, again) = create(&cloudfront, "r", &["/c*", "/a&amp;b"]).await;
    assert_eq!((status, id_of(&again)), (201, id_of(&first)));
    assert_eq!(cloudfront.edge.counts().invalidations, 1);
    let (status, other) = create(&cloudfront, "r", &["/c*"]).await;
    assert!(status == 400 && other.contains("<Code>InvalidationBatchAlreadyExists</Code>"), "{other}");
    let (status, shown) =
        call(&cloudfront, "GET", &format!("D/invalidation/{}", id_of(&first)), String::new()).await;
    assert!(status == 200 && shown.contains("<Path>/a&amp;b</Path><Path>/c*</Path>"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn fifteen_wildcards_and_3000_paths_are_in_progress_at_most() {
    let cloudfront = cloudfront();
    let paths: Vec<_> = (0..3_000).map(|n| format!("/{n}")).collect();
    let mut paths: Vec<_> = paths.iter().map(String::as_str).collect();
    paths.extend(["/w*"; 15]);
    assert_eq!(create(&cloudfront, "1", &paths).await.0, 201);
    for path in ["/x*", "/x"] {
        let (status, refused) = create(&cloudfront, path, &[path]).await;
        assert!(status == 400 && refused.contains("TooManyInvalidationsInProgress"), "{refused}");
    }
    tokio::time::advance(IN_PROGRESS).await;
    assert_eq!(create(&cloudfront, "/x*", &["/x*"]).await.0, 201, "what was refused may be asked again");
}

#[tokio::test]
async fn the_newest_come_first() {
    let cloudfront = cloudfront();
    let mut ids = Vec::new();
    for path in ["/1", "/2", "/3"] {
        ids.push(id_of(&create(&cloudfront, path, &[path]).await.1).to_owned());
    }
    let (_, list) = call(&cloudfront, "GET", "D/invalidation?MaxItems=2", String::new()).await;
    assert!(
        list.contains("<IsTruncated>true</IsTruncated>") && list.contains("<Quantity>2</Quantity>"),
        "{list}"
    );
    let listed: Vec<_> = list.split("<Id>").skip(1).map(|rest| rest.split("</Id>").next().unwrap()).collect();
    assert_eq!(listed, [&ids[2], &ids[1]]);
}

#[tokio::test]
async fn what_cloudfront_refuses_is_refused() {
    let cloudfront = cloudfront();
    for (reference, paths, code) in [
        ("r", &["results/7.json"][..], "InvalidArgument"),
        ("r", &["/a b"], "InvalidArgument"),
        ("", &["/a"], "InvalidArgument"),
        ("r", &[], "InconsistentQuantities"),
    ] {
        let (status, refused) = create(&cloudfront, reference, paths).await;
        assert!(status == 400 && refused.contains(code), "{refused}");
    }
    assert!(call(&cloudfront, "POST", "D/invalidation", "no".to_owned()).await.1.contains("MalformedXML"));
    let (status, other) = call(&cloudfront, "GET", "E/invalidation", String::new()).await;
    assert!(status == 404 && other.contains("NoSuchDistribution"), "{other}");
    assert_eq!(cloudfront.edge.counts().invalidations, 0);
}
