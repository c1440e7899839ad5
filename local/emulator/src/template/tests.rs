use serde_json::json;

use super::*;

fn context() -> Context {
    Context { aws_endpoint: "http://localhost:4566".to_owned(), ..Context::default() }
}

fn load(text: &str) -> anyhow::Result<Template> {
    Template::parse(text, "template.yaml", &context())
}

/// Resolves one expression in the properties of a resource.
fn resolved(expression: &str) -> anyhow::Result<Value> {
    let text = format!(
        "
Parameters:
  Stage: {{Type: String, Default: prod}}
  Count: {{Type: Number, Default: 3}}
Mappings: {{Sizes: {{prod: {{memory: 512}}}}}}
Conditions:
  IsProd: !Equals [!Ref Stage, prod]
  IsTest: !Not [!Condition IsProd]
  Both: !And [!Condition IsProd, !Condition IsTest]
  Either: !Or [!Condition IsProd, !Condition IsTest]
  Loop: !Not [!Condition Loop]
Resources:
  Queue: {{Type: AWS::SQS::Queue}}
  Named: {{Type: AWS::SQS::Queue, Properties: {{QueueName: !Sub '${{Stage}}-votes'}}}}
  Function: {{Type: AWS::Serverless::Function}}
  Absent: {{Type: AWS::SQS::Queue, Condition: IsTest}}
  Subject: {{Type: Test, Properties: {{Value: {expression}}}}}
"
    );
    load(&text).map(|template| template.resource("Subject").unwrap().properties["Value"].clone())
}

#[test]
fn intrinsic_functions_resolve() {
    let cases = [
        ("!Ref Stage", json!("prod")),
        ("!Ref Count", json!(3)),
        ("{Ref: 'AWS::Region'}", json!("us-east-1")),
        ("!Ref AWS::AccountId", json!("000000000000")),
        ("!Ref Queue", json!("http://localhost:4566/000000000000/Queue")),
        ("!Ref Named", json!("http://localhost:4566/000000000000/prod-votes")),
        ("!GetAtt Named.Arn", json!("arn:aws:sqs:us-east-1:000000000000:prod-votes")),
        ("{'Fn::GetAtt': [Queue, QueueName]}", json!("Queue")),
        ("{'Fn::GetAtt': Queue.Arn}", json!("arn:aws:sqs:us-east-1:000000000000:Queue")),
        ("!GetAtt Function.Arn", json!("arn:aws:lambda:us-east-1:000000000000:function:Function")),
        ("!GetAtt FunctionRole.Arn", json!("arn:aws:aws:us-east-1:000000000000:FunctionRole")),
        (
            "!Sub 'x-${Stage}-${Queue.QueueName}-${!kept}-${AWS::Partition}'",
            json!("x-prod-Queue-${kept}-aws"),
        ),
        ("!Sub ['${a}/${Stage}', {a: !Ref Count}]", json!("3/prod")),
        ("!If [IsProd, yes, no]", json!("yes")),
        ("!If [IsTest, yes, [!Ref Stage]]", json!(["prod"])),
        ("!If [Both, 1, 2]", json!(2)),
        ("!If [Either, 1, 2]", json!(1)),
        ("[a, !Ref AWS::NoValue, b]", json!(["a", "b"])),
        ("!If [IsTest, x, !Ref AWS::NoValue]", json!(null)),
        ("!Join ['-', [a, !Ref Stage, 3]]", json!("a-prod-3")),
        ("!Select [1, [a, b]]", json!("b")),
        ("!Select ['0', !Split [',', 'a,b']]", json!("a")),
        ("!FindInMap [Sizes, !Ref Stage, memory]", json!(512)),
        ("!Base64 hello", json!("aGVsbG8=")),
        ("{'Fn::Base64': !Sub '${Stage}'}", json!("cHJvZA==")),
        ("!ToJsonString {a: !Ref Count}", json!("{\"a\":3}")),
        ("!Length [a, b]", json!(2)),
        ("{Condition: {StringEquals: {a: b}}}", json!({"Condition": {"StringEquals": {"a": "b"}}})),
    ];
    for (expression, expected) in cases {
        assert_eq!(resolved(expression).unwrap(), expected, "{expression}");
    }
}

#[test]
fn errors_name_file_path_and_problem() {
    let cases = [
        ("!Ref Nothing", "Subject.Properties.Value.Ref: Nothing is neither"),
        ("!GetAtt Queue.Nope", "a queue has no attribute Nope"),
        ("!Sub '${Nothing}'", "Nothing is neither"),
        ("!Sub '${Stage'", "without its }"),
        ("!If [Unknown, 1, 2]", "no condition Unknown"),
        ("!If [Loop, 1, 2]", "refers to itself"),
        ("!Select [5, [a]]", "no item 5"),
        ("!FindInMap [Sizes, test, memory]", "Sizes.test.memory"),
        ("!Join [a]", "needs a delimiter and a list"),
        ("!Ref Absent", "Condition of Absent is false"),
        ("!ImportValue x", "requires AWS"),
        ("!Not [x]", "Conditions section"),
    ];
    for (expression, expected) in cases {
        let error = resolved(expression).unwrap_err().to_string();
        assert!(error.starts_with("template.yaml: "), "{error}");
        assert!(error.contains(expected), "{expression}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_syntax_error_names_its_line() {
    let error = load("Resources:\n  Q:\n    Type: [x\n").unwrap_err().to_string();
    assert!(error.starts_with("template.yaml:"), "{error}");
    let error = load("Resources:\n  Q: !Unknown x\n").unwrap_err().to_string();
    assert!(error.starts_with("template.yaml:2:"), "{error}");
}

#[test]
fn a_template_without_resources_or_types_is_refused() {
    assert!(load("Foo: 1").unwrap_err().to_string().contains("Resources"));
    assert!(load("").unwrap_err().to_string().contains("Resources"));
    assert!(
        load("Resources: {Q: {Properties: {}}}")
            .unwrap_err()
            .to_string()
            .contains("Q: a resource needs a Type")
    );
    assert!(
        load("Resources: {Q: {Type: T, Properties: 5}}").unwrap_err().to_string().contains("must be a map")
    );
}

#[test]
fn resources_keep_their_order_and_false_conditions_remove_them() {
    let template = load(
        "
Conditions: {Never: !Equals [a, b]}
Resources:
  Z: {Type: T}
  Gone: {Type: T, Condition: Never}
  A: {Type: T}
",
    )
    .unwrap();
    let ids: Vec<&str> = template.of_kind("T").map(|r| r.id.as_str()).collect();
    assert_eq!(ids, ["Z", "A"]);
    assert!(template.resource("Gone").is_none());
}

#[test]
fn overrides_apply_over_globals() {
    let context = Context {
        overrides: vec!["F.Timeout=60".to_owned(), "F.Events.Votes.BatchSize=1000".to_owned()],
        ..context()
    };
    let template = Template::parse(
        "
Globals: {Function: {Timeout: 3, MemorySize: 128}}
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties: {Events: {Votes: {Type: SQS, Properties: {BatchSize: 300}}}}
",
        "template.yaml",
        &context,
    )
    .unwrap();
    let function = template.resource("F").unwrap();
    assert_eq!(function.number(&["Timeout"], 1..=900).unwrap(), Some(60));
    assert_eq!(function.number(&["MemorySize"], 128..=10_240).unwrap(), Some(128));
    assert_eq!(function.number(&["Nope"], 1..=2).unwrap(), None);
    assert!(
        format!("{:#}", function.number(&["Timeout"], 1..=5).unwrap_err()).contains("F.Timeout: 60 is not")
    );
    assert_eq!(function.properties["Events"]["Votes"]["Properties"]["BatchSize"], json!(1000));
}
