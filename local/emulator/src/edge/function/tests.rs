use axum::http::Request;

use super::*;
use crate::template::Resource;

fn function(code: &str) -> Function {
    Function { code: code.into() }
}

fn run(code: &str, uri: &str) -> Result<Outcome> {
    function(code).run(&Request::get(uri).body(()).unwrap().into_parts().0)
}

fn forwarded(code: &str, uri: &str) -> String {
    match run(code, uri).unwrap() {
        Outcome::Forward(uri) => uri.to_string(),
        Outcome::Answer(answer) => panic!("answered {answer:?}"),
    }
}

#[test]
fn a_request_goes_on_to_the_path_that_the_function_gives_it() {
    let code = "function handler(event) { event.request.uri += 'index.html'; return event.request; }";
    assert_eq!(forwarded(code, "/overlay/?poll=1&lang=pt"), "/overlay/index.html?poll=1&lang=pt");
    assert_eq!(forwarded(code, "/"), "/index.html");
}

#[test]
fn a_function_sees_method_path_and_query() {
    let code = "function handler(event) { var r = event.request;
        r.uri = '/' + r.method + r.uri + '/' + r.querystring.name.value; return r; }";
    assert_eq!(forwarded(code, "/a?name=b"), "/GET/a/b?name=b");
}

#[test]
fn a_function_may_return_the_response() {
    let code = "function handler() { return { statusCode: 301, statusDescription: 'Moved Permanently',
        headers: { location: { value: '/control/' } }, body: 'moved' }; }";
    let Outcome::Answer(answer) = run(code, "/control").unwrap() else { panic!("it was forwarded") };
    assert_eq!(answer.status(), StatusCode::MOVED_PERMANENTLY);
    assert_eq!(
        (&answer.headers()["location"], answer.body().as_str()),
        (&"/control/".parse().unwrap(), "moved")
    );
}

#[test]
fn a_failing_function_reports_its_error() {
    for (code, says) in [
        ("function handler() { throw new Error('no such thing'); }", "no such thing"),
        ("function handler() {}", "failed"),
        ("function handler() { return {}; }", "neither a request nor a response"),
        ("function handler() { return { statusCode: 99 }; }", "status code"),
        (
            "function handler() { return { statusCode: 301, headers: { 'a b': { value: '' } } }; }",
            "not a header name",
        ),
        ("not JavaScript", "failed"),
        // The function exceeds CloudFront's memory limit of 2 MB.
        ("function handler() { var all = []; for (;;) all.push(new Array(1000)); }", "failed"),
    ] {
        let error = run(code, "/").unwrap_err();
        assert!(format!("{error:#}").contains(says), "{code}: {error:#}");
    }
}

#[test]
fn a_function_is_found_by_its_association() {
    let code = json!({"FunctionCode": "function handler(event) { return event.request; }"});
    let kind = "AWS::CloudFront::Function".to_owned();
    let pages = Resource { id: "Pages".to_owned(), kind, properties: code, metadata: Value::Null };
    let resources = |id: &str| (id == "Pages").then_some(&pages);
    let find = |associations: Value| Function::find(&associations, &resources);
    let on = |event: &str, arn: &str| json!([{"EventType": event, "FunctionARN": arn}]);
    assert!(find(Value::Null).unwrap().is_none());
    assert!(find(on("viewer-request", "Pages.FunctionARN")).unwrap().is_some());
    let unknown = find(on("viewer-request", "Others.FunctionARN")).unwrap_err();
    assert!(unknown.to_string().contains("is not a function of the template"), "{unknown}");
    let response = find(on("viewer-response", "Pages.FunctionARN")).unwrap_err();
    assert!(response.to_string().contains("only viewer-request"), "{response}");
}
