"""Checks relations between the template's resources, beyond cfn-lint: connections, the order of a deployment, access to the
stores, paths around the edge, rollback, logs and alarms. Offline.

To add a check: a function that calls `expect(condition, message)`, its call in `main`, and a mutation in test_checks.py.
To add an alarm: explain it in docs/OPERATIONS.md, "Alarms".
"""

import json
import pathlib
import re

import parameters
from sam_template import expect, of_type, read_transformed, report, variables

# Explained in docs/OPERATIONS.md, "Connections".
CONNECTIONS_OF_AN_INSTANCE = {"ResultsFunction": 3}  # One otherwise.
INSTANCES_AT_A_DEPLOYMENT = 2  # The last release's instances keep their connections until Lambda ends them.
CONNECTIONS_KEPT = 20  # Reserved for PostgreSQL, RDS and the crew's psql.
REQUESTS_PER_SECOND_AND_INSTANCE = 10  # Lambda's limit on synchronous requests, by a function's reserved concurrency.
ABOVE = 4  # How far the gateway's throttle stands above the function's limits.

# Properties that protect a resource from deletion, each with its values for on and off.
PROTECTIONS = {
    "AWS::RDS::DBInstance": ("DeletionProtection", True, False),
    "AWS::RDS::DBCluster": ("DeletionProtection", True, False),
    "AWS::Cognito::UserPool": ("DeletionProtection", "ACTIVE", "INACTIVE"),
    "AWS::DynamoDB::Table": ("DeletionProtectionEnabled", True, False),
    "AWS::Logs::LogGroup": ("DeletionProtectionEnabled", True, False),
}
PROTECTED_ONLY_ONCE_ESTABLISHED = {
    "Fn::And": [
        {"Fn::Equals": [{"Ref": "DeletionProtection"}, "true"]},
        {"Fn::Equals": [{"Ref": "Established"}, "true"]},
    ]
}
# Kinds that cannot be deleted while they contain things that their stack did not make. scripts/deployment.py empties
# buckets, and none of the others.
FILLED_BY_OTHERS = ("AWS::ECR::Repository", "AWS::Backup::BackupVault", "AWS::Route53::HostedZone")
# Properties with a fixed name: a retained resource with one would block the next deployment.
NAMES = ("BucketName", "DBInstanceIdentifier", "Name", "UserPoolName", "QueueName", "LogGroupName")
# Kinds that AWS maintains in a window of its own choice unless one is configured.
WINDOWS = {
    "AWS::RDS::DBInstance": ("PreferredMaintenanceWindow", "PreferredBackupWindow"),
    "AWS::RDS::DBCluster": ("PreferredMaintenanceWindow", "PreferredBackupWindow"),
    "AWS::ElastiCache::ReplicationGroup": ("PreferredMaintenanceWindow",),
    "AWS::ElastiCache::CacheCluster": ("PreferredMaintenanceWindow",),
}
LOG_LEVELS = ["DEBUG", "INFO", "WARN", "ERROR"]
NO_LOG_LEVEL = {"ScopesFunction"}

IDENTIFYING_FIELD = "c-ip|forwarded|cookie|uri-query|referer|user-agent|asn|country"
# Policies with actions that have no narrower resource.
ANY_RESOURCE = {"NetworkPolicy", "TracingPolicy"}


def environments():
    """Yields (name, parameter overrides) of each environment of samconfig.toml, and of the template alone."""
    yield "the template", {}
    for name, commands in parameters.environments():
        yield name, parameters.overrides_of(commands)


def check_parameters(template):
    """Checks that AWS accepts the settings of each environment, and the defaults alone."""
    for name, overrides in environments():
        for objection in parameters.objections(template, overrides, parameters.EDGE_REGION):
            expect(False, f"{name}: {objection}")


def check_connections(template):
    for name, overrides in environments():

        def value(given, overrides=overrides):
            if isinstance(given, dict):
                return int(overrides.get(given["Ref"], template["Parameters"][given["Ref"]]["Default"]))
            return given

        functions = 0
        for function_name, function in of_type(template["Resources"], "AWS::Lambda::Function"):
            if "DATABASE_URL" in variables(function):
                reserved = function["Properties"].get("ReservedConcurrentExecutions")
                expect(reserved is not None, f"{function_name} has no bound on its connections")
                functions += value(reserved or 0) * CONNECTIONS_OF_AN_INSTANCE.get(function_name, 1)
        used = functions * INSTANCES_AT_A_DEPLOYMENT + CONNECTIONS_KEPT
        limit = value({"Ref": "DatabaseConnectionsMax"})
        expect(used <= limit, f"{name}: functions may hold {used} connections, DatabaseConnectionsMax is {limit}")


def check_throttles(template):
    """Checks that reads meet the function's limit, whose 503 the edge replaces, long before the gateway's, whose 429 it
    does not."""
    for name, overrides in environments():

        def value(parameter, overrides=overrides):
            return int(overrides.get(parameter, template["Parameters"][parameter]["Default"]))

        instances = value("PollsMaximumConcurrency")
        taken = instances * REQUESTS_PER_SECOND_AND_INSTANCE
        rate, burst = value("DefaultThrottleRate"), value("DefaultThrottleBurst")
        expect(rate >= ABOVE * taken, f"{name}: PollsFunction takes {taken} requests/s, DefaultThrottleRate is {rate}")
        expect(burst >= ABOVE * instances, f"{name}: PollsFunction takes {instances} at once, the burst is {burst}")


def check_reserves(template):
    """Checks that two pages state the functions' reserved concurrency, which the account's limit must leave room for."""
    total = parameters.reserved_concurrency(template, parameters.values_of(template, {}))
    for page in ("README.md", "docs/OPERATIONS.md"):
        text = pathlib.Path(page).read_text(encoding="utf-8")
        stated = re.findall(r"(\d+) (?:in all with the defaults|by default\))", text)
        expect(stated == [str(total)], f"{page} says {stated}; the functions reserve {total}")


def check_order(resources):
    """Checks that the schema comes first, and that it reaches the database and CloudFormation."""
    for name, function in of_type(resources, "AWS::Lambda::Function"):
        if "DATABASE_URL" in variables(function) and name != "MigrateFunction":
            expect(function.get("DependsOn") in ("Schema", ["Schema"]), f"{name} does not wait for Schema")
    schema = resources["Schema"]["Properties"]
    expect(schema["Release"]["Ref"].startswith("MigrateFunctionVersion"), "Schema does not run at each release")
    timeout = resources["MigrateFunction"]["Properties"]["Timeout"]
    expect(schema["ServiceTimeout"] > timeout, "CloudFormation gives up before MigrateFunction does")


def check_network(resources):
    """Checks that only functions reach the stores and the endpoint, and that nothing reaches the internet."""
    groups = {"DatabaseSecurityGroup", "CacheSecurityGroup", "QueueEndpointSecurityGroup"}
    functions = {"FunctionsSecurityGroup", "MigrateSecurityGroup", "ResultsSecurityGroup"}
    for name, rule in of_type(resources, "AWS::EC2::SecurityGroupIngress"):
        source = rule["Properties"].get("SourceSecurityGroupId", {}).get("Ref")
        expect(source in functions, f"{name}: admits {source}")
    for name, group in of_type(resources, "AWS::EC2::SecurityGroup"):
        expect("SecurityGroupIngress" not in group["Properties"], f"{name}: write rules out as resources")
        expect(group["Properties"].get("SecurityGroupEgress"), f"{name}: may reach everything")
    expect(resources["Database"]["Properties"]["VPCSecurityGroups"] == [{"Ref": "DatabaseSecurityGroup"}], "Database")
    expect(resources["Cache"]["Properties"]["SecurityGroupIds"] == [{"Ref": "CacheSecurityGroup"}], "Cache")
    assert groups <= resources.keys()
    for kind in ("InternetGateway", "NatGateway", "Route", "EgressOnlyInternetGateway"):
        expect(not list(of_type(resources, f"AWS::EC2::{kind}")), f"a way out of the network: {kind}")


def check_stores(resources):
    """Checks that no deployment can lose the votes."""
    database = resources["Database"]
    expect(database["DeletionPolicy"] == "RetainExceptOnCreate", "the ledger may be lost")
    expect(database["UpdateReplacePolicy"] == "Snapshot", "the ledger may be lost when it is replaced")
    key = resources["VoterHashKeySecret"]
    expect(key["DeletionPolicy"] == "RetainExceptOnCreate", "the voters' key may be lost")
    expect(key["UpdateReplacePolicy"] == "Retain", "the voters' key may be lost when it is replaced")
    settings = resources["DatabaseParameters"]["Properties"]["Parameters"]
    expect(settings["rds.force_ssl"] == "1", "the database accepts connections without TLS")
    expect(settings["max_connections"] == {"Ref": "DatabaseConnectionsMax"}, "max_connections")
    cache = resources["Cache"]["Properties"]
    expect(cache["TransitEncryptionMode"] == "required", "the cache accepts connections without TLS")
    expect("NumNodeGroups" not in cache, "the cache's cluster mode must be off")


def check_rollback(template):
    """Checks that a failed first deployment can be rolled back: no resource of it refuses deletion."""
    resources = template["Resources"]
    expect(template["Parameters"]["Established"]["Default"] == "false", "a first deployment would be protected")
    expect(
        template["Conditions"]["Protected"] == PROTECTED_ONLY_ONCE_ESTABLISHED,
        "Protected: holds before a deployment has succeeded",
    )
    for name, resource in resources.items():
        kind, policy = resource["Type"], resource.get("DeletionPolicy")
        properties = resource.get("Properties", {})
        if kind in PROTECTIONS:
            protection, on, off = PROTECTIONS[kind]
            given = properties.get(protection, off)
            expect(given in (off, {"Fn::If": ["Protected", on, off]}), f"{name}: {protection} would fail a rollback")
        unknown = [one for one in properties if "Protect" in one and one != PROTECTIONS.get(kind, [None])[0]]
        expect(not unknown, f"{name}: {unknown} is no protection that this check knows")
        expect(policy != "Snapshot", f"{name}: a rollback would take a snapshot of an incomplete store")
        if kind.startswith("AWS::RDS::DB") and kind.removeprefix("AWS::RDS::DB") in ("Instance", "Cluster"):
            expect(policy == "RetainExceptOnCreate", f"{name}: without a policy its kind takes a snapshot")
        if kind.startswith("Custom::"):
            expect(policy == "Retain", f"{name}: a rollback would wait for a function that may not answer")
        expect(kind not in FILLED_BY_OTHERS, f"{name}: scripts/deployment.py does not know how to empty it")
        if policy in ("Retain", "RetainExceptOnCreate"):
            named = [one for one in NAMES if one in properties]
            expect(not named, f"{name}: kept under its own name, it would block the next deployment")


def check_maintenance(template):
    """Checks that AWS maintains the stores in configured windows, and never at a weekend."""
    for kind, wanted in WINDOWS.items():
        for name, resource in of_type(template["Resources"], kind):
            for window in wanted:
                given = resource["Properties"].get(window)
                expect(given is not None, f"{name}: without {window} AWS chooses a day and an hour itself")
                if isinstance(given, dict):
                    declared = template["Parameters"].get(given.get("Ref"), {})
                    expect("Default" in declared and "AllowedPattern" in declared, f"{name}: {window} is not checked")
                    days = re.findall("sat|sun", str(declared.get("Default")) + str(declared.get("AllowedPattern")))
                    expect(not days, f"{name}: {window} may be at a weekend")


def check_log_levels(template):
    """Checks that Lambda never drops INFO: metrics are log lines without a level, which it treats as INFO."""
    resources = template["Resources"]
    levels = template["Parameters"]["LogLevel"]["AllowedValues"]
    expect(levels == LOG_LEVELS, "LogLevel: tracing has no FATAL, and at TRACE events are logged, voters included")
    details = template["Conditions"]["LogDetails"]
    expect(details == {"Fn::Equals": [{"Ref": "LogLevel"}, "DEBUG"]}, "LogDetails: Lambda would drop metrics")
    for name, function in of_type(resources, "AWS::Lambda::Function"):
        lambdas = function["Properties"]["LoggingConfig"].get("ApplicationLogLevel")
        expect(lambdas == {"Fn::If": ["LogDetails", "DEBUG", "INFO"]}, f"{name}: Lambda would drop metrics")
        level = variables(function).get("RUST_LOG")
        expect(name in NO_LOG_LEVEL or level == {"Ref": "LogLevel"}, f"{name}: LogLevel does nothing")


def check_edge(resources):
    servers = resources["Api"]["Properties"]["Body"]["servers"]
    endpoint = servers[0]["x-amazon-apigateway-endpoint-configuration"]
    expect(
        endpoint["disableExecuteApiEndpoint"] == {"Fn::If": ["HasDomain", True, False]},
        "with a domain, the gateway's own endpoint must be off",
    )
    for name, policy in of_type(resources, "AWS::CloudFront::OriginRequestPolicy"):
        cookies = policy["Properties"]["OriginRequestPolicyConfig"]["CookiesConfig"]
        expect(cookies == {"CookieBehavior": "none"}, f"{name}: cookies end the collapsing of simultaneous misses")
    fields = resources["AccessLogDelivery"]["Properties"]["RecordFields"]
    identifying = [field for field in fields if re.search(IDENTIFYING_FIELD, field, re.IGNORECASE)]
    expect(not identifying, f"access logs would identify viewers: {identifying}")


def check_permissions(resources):
    for name, resource in resources.items():
        for document in policy_documents(resource):
            for statement in document["Statement"]:
                if statement["Effect"] == "Allow" and statement.get("Resource") == "*":
                    expect(name in ANY_RESOURCE, f"{name}: a permission on every resource")
                expect("NotAction" not in statement and "NotResource" not in statement, f"{name}: uses NotAction or NotResource")
                if statement["Effect"] == "Allow":
                    listed = statement["Action"]
                    for action in [listed] if isinstance(listed, str) else listed:
                        expect("*" not in action, f"{name}: {action}")


def policy_documents(resource):
    properties = resource.get("Properties", {})
    if "PolicyDocument" in properties:
        yield properties["PolicyDocument"]
    for policy in properties.get("Policies", []) if resource["Type"] == "AWS::IAM::Role" else []:
        yield policy["PolicyDocument"]


def check_logs(resources):
    for name, group in of_type(resources, "AWS::Logs::LogGroup"):
        expect("RetentionInDays" in group["Properties"], f"{name}: is kept for ever")
    seen = set()
    for name, function in of_type(resources, "AWS::Lambda::Function"):
        logging = function["Properties"]["LoggingConfig"]
        expect(logging["LogFormat"] == "JSON", f"{name}: logs are not JSON")
        group = logging.get("LogGroup", {}).get("Ref")
        expect(group in resources and group not in seen, f"{name}: has no log group of its own")
        seen.add(group)


def is_awss(namespace):
    return isinstance(namespace, str) and namespace.startswith("AWS/")


def check_watching(resources):
    handbook = pathlib.Path("docs/OPERATIONS.md").read_text(encoding="utf-8")
    telemetry = pathlib.Path("shared/runtime/src/telemetry.rs").read_text(encoding="utf-8")
    namespace = variables(resources["VotesFunction"])["METRICS_NAMESPACE"]["Fn::Sub"]
    expect("${AWS::StackName}" in namespace, "two stacks in one account would have the same metrics")
    ours = set()
    alarms = dict(of_type(resources, "AWS::CloudWatch::Alarm"))
    for name, alarm in alarms.items():
        properties = alarm["Properties"]
        expect(f"`{name.removesuffix('Alarm')}`" in handbook, f"docs/OPERATIONS.md does not explain {name}")
        expect(properties["AlarmActions"] == [{"Ref": "AlarmTopic"}], f"{name}: notifies nobody")
        metrics = [properties, *(m.get("MetricStat", {}).get("Metric", {}) for m in properties.get("Metrics", []))]
        for metric in metrics:
            if not is_awss(metric.get("Namespace", "AWS/")):
                expect(metric["Namespace"] == {"Fn::Sub": namespace}, f"{name}: no function emits into that namespace")
                ours.add(metric["MetricName"])
    text, values = resources["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    widgets = json.loads(text)["widgets"]
    for widget in widgets:
        for metric in widget["properties"]["metrics"]:
            if isinstance(metric[0], str) and not is_awss(metric[0]):
                expect(metric[0] == namespace, f"Dashboard: no function emits into {metric[0]}")
                ours.add(metric[1])
            for searched, search in re.findall(r"SEARCH\('{(.*?),.*?} (.*?)'", json.dumps(metric).replace('\\"', '"')):
                expect(searched == f'"{namespace}"', f"Dashboard: no function emits into {searched}")
                ours |= set(re.findall(r'MetricName="(\w+)"', search))
    for metric in sorted(ours):
        expect(f'"{metric}"' in telemetry, f"no function emits the metric {metric}")
    for name in set(re.findall(r"\$\{(\w+)[.}]", text)) - values.keys():
        expect(name in resources and "Condition" not in resources[name], f"Dashboard: {name} may not exist")
    return len(alarms), len(widgets)


def main():
    template = read_transformed()
    resources = template["Resources"]
    check_parameters(template)
    check_connections(template)
    check_throttles(template)
    check_reserves(template)
    check_order(resources)
    check_network(resources)
    check_stores(resources)
    check_rollback(template)
    check_maintenance(template)
    check_log_levels(template)
    check_edge(resources)
    check_permissions(resources)
    check_logs(resources)
    alarms, widgets = check_watching(resources)
    agreed = "connections, order, network, permissions, rollback, windows and logs agree"
    report(f"{agreed}; {alarms} alarms explained, {widgets} graphs")


if __name__ == "__main__":
    main()
