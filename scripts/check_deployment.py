"""Checks what holds between the template's resources, beyond what cfn-lint knows: connections, the order of a
deployment, who reaches the stores, what goes around the edge, what is watched. Offline.
"""

import json
import pathlib
import re
import tomllib

from sam_template import expect, of_type, read_transformed, report, variables

# docs/OPERATIONS.md, "Connections", explains these.
INSTANCES_AT_A_DEPLOYMENT = 2  # Those of the last release keep their connections until Lambda lets them go.
CONNECTIONS_KEPT = 20  # PostgreSQL's and RDS's own, and the crew's psql.

IDENTIFYING_FIELD = "c-ip|forwarded|cookie|uri-query|referer|user-agent|asn|country"
# Actions that know no narrower resource.
ANY_RESOURCE = {"NetworkPolicy", "TracingPolicy"}


def environments():
    """(name, parameter overrides) of each environment of samconfig.toml, and of the template alone."""
    yield "the template", {}
    with open("samconfig.toml", "rb") as file:
        for name, commands in tomllib.load(file).items():
            if isinstance(commands, dict) and "deploy" in commands:
                overrides = commands["deploy"]["parameters"]["parameter_overrides"]
                yield name, dict(override.split("=", 1) for override in overrides)


def check_parameters(template):
    for name, overrides in environments():
        unknown = overrides.keys() - template["Parameters"].keys()
        expect(not unknown, f"samconfig.toml: {name}: no such parameters: {sorted(unknown)}")


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
                expect(reserved is not None, f"{function_name} bounds its connections by nothing")
                functions += value(reserved or 0)
        used = functions * INSTANCES_AT_A_DEPLOYMENT + CONNECTIONS_KEPT
        limit = value({"Ref": "DatabaseConnectionsMax"})
        expect(used <= limit, f"{name}: functions may hold {used} connections, DatabaseConnectionsMax is {limit}")


def check_reserves(template):
    """The account's limit must leave room for what the functions reserve; two pages say how much that is."""
    total = 0
    for _, function in of_type(template["Resources"], "AWS::Lambda::Function"):
        reserved = function["Properties"].get("ReservedConcurrentExecutions", 0)
        total += template["Parameters"][reserved["Ref"]]["Default"] if isinstance(reserved, dict) else reserved
    for page in ("README.md", "docs/OPERATIONS.md"):
        text = pathlib.Path(page).read_text(encoding="utf-8")
        said = re.findall(r"(\d+) (?:in all with the defaults|by default\))", text)
        expect(said == [str(total)], f"{page} says {said} of the {total} that functions reserve")


def check_order(resources):
    """The schema comes first, and has its ways to the database and back to CloudFormation."""
    for name, function in of_type(resources, "AWS::Lambda::Function"):
        if "DATABASE_URL" in variables(function) and name != "MigrateFunction":
            expect(function.get("DependsOn") in ("Schema", ["Schema"]), f"{name} does not wait for Schema")
    schema = resources["Schema"]["Properties"]
    expect(schema["Release"]["Ref"].startswith("MigrateFunctionVersion"), "Schema does not run at each release")
    timeout = resources["MigrateFunction"]["Properties"]["Timeout"]
    expect(schema["ServiceTimeout"] > timeout, "CloudFormation gives up before MigrateFunction does")


def check_network(resources):
    """Only functions reach the stores and the endpoint; nothing reaches the internet."""
    groups = {"DatabaseSecurityGroup", "CacheSecurityGroup", "QueueEndpointSecurityGroup"}
    functions = {"FunctionsSecurityGroup", "MigrateSecurityGroup", "ResultsSecurityGroup"}
    for name, rule in of_type(resources, "AWS::EC2::SecurityGroupIngress"):
        source = rule["Properties"].get("SourceSecurityGroupId", {}).get("Ref")
        expect(source in functions, f"{name}: lets in {source}")
    for name, group in of_type(resources, "AWS::EC2::SecurityGroup"):
        expect("SecurityGroupIngress" not in group["Properties"], f"{name}: write rules out as resources")
        expect(group["Properties"].get("SecurityGroupEgress"), f"{name}: may go everywhere")
    expect(resources["Database"]["Properties"]["VPCSecurityGroups"] == [{"Ref": "DatabaseSecurityGroup"}], "Database")
    expect(resources["Cache"]["Properties"]["SecurityGroupIds"] == [{"Ref": "CacheSecurityGroup"}], "Cache")
    assert groups <= resources.keys()
    for kind in ("InternetGateway", "NatGateway", "Route", "EgressOnlyInternetGateway"):
        expect(not list(of_type(resources, f"AWS::EC2::{kind}")), f"a way out of the network: {kind}")


def check_stores(resources):
    """What keeps the votes, whatever is deployed."""
    database = resources["Database"]
    expect(database["DeletionPolicy"] == database["UpdateReplacePolicy"] == "Snapshot", "the ledger may be lost")
    key = resources["VoterHashKeySecret"]
    expect(key["DeletionPolicy"] == key["UpdateReplacePolicy"] == "Retain", "the voters' key may be lost")
    parameters = resources["DatabaseParameters"]["Properties"]["Parameters"]
    expect(parameters["rds.force_ssl"] == "1", "the database talks without TLS")
    expect(parameters["max_connections"] == {"Ref": "DatabaseConnectionsMax"}, "max_connections")
    cache = resources["Cache"]["Properties"]
    expect(cache["TransitEncryptionMode"] == "required", "the cache talks without TLS")
    expect("NumNodeGroups" not in cache, "the cache's cluster mode must be off")


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
    expect(not identifying, f"access logs would tell who asked: {identifying}")


def check_permissions(resources):
    for name, resource in resources.items():
        for document in policy_documents(resource):
            for statement in document["Statement"]:
                if statement["Effect"] == "Allow" and statement.get("Resource") == "*":
                    expect(name in ANY_RESOURCE, f"{name}: a permission on every resource")
                expect("NotAction" not in statement and "NotResource" not in statement, f"{name}: says what is not")
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


def check_watching(resources):
    handbook = pathlib.Path("docs/OPERATIONS.md").read_text(encoding="utf-8")
    telemetry = pathlib.Path("shared/src/telemetry.rs").read_text(encoding="utf-8")
    ours = set()
    alarms = dict(of_type(resources, "AWS::CloudWatch::Alarm"))
    for name, alarm in alarms.items():
        properties = alarm["Properties"]
        expect(f"`{name.removesuffix('Alarm')}`" in handbook, f"docs/OPERATIONS.md does not explain {name}")
        expect(properties["AlarmActions"] == [{"Ref": "AlarmTopic"}], f"{name}: tells nobody")
        metrics = [properties, *(m.get("MetricStat", {}).get("Metric", {}) for m in properties.get("Metrics", []))]
        ours |= {metric["MetricName"] for metric in metrics if metric.get("Namespace") == "Votes"}
    text, values = resources["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    widgets = json.loads(text)["widgets"]
    for widget in widgets:
        for metric in widget["properties"]["metrics"]:
            if metric[0] == "Votes":
                ours.add(metric[1])
            ours |= set(re.findall(r'MetricName="(\w+)"', json.dumps(metric).replace('\\"', '"')))
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
    check_reserves(template)
    check_order(resources)
    check_network(resources)
    check_stores(resources)
    check_edge(resources)
    check_permissions(resources)
    check_logs(resources)
    alarms, widgets = check_watching(resources)
    report(f"connections, order, network, permissions and logs agree; {alarms} alarms explained, {widgets} graphs")


if __name__ == "__main__":
    main()
