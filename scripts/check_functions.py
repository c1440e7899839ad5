"""Checks that the template gives each function exactly the environment and permissions that its code uses.

Both are derived, not listed: the variables from the built binary's messages about missing ones, the SDK's calls from its
source. To add a call of the crate aws: add its method and permission to OWN_CALLS.
Argument: the folder of `sam build`, <folder>/<logical id>/bootstrap.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

from one_event import output_of
from sam_template import NO_VALUE, expect, of_type, read_source, read_transformed, report, variables

START_SECONDS_MAX = 30
# Valid values, with which a binary continues and reads its further variables.
GOOD_VALUES = {
    "DATABASE_URL": "postgres://votes@localhost:5432/votes?sslmode=verify-full",
    "DATABASE_AUTH": "iam",
    "REDIS_URL": "rediss://votes:password@localhost:6379",
    "VOTER_HASH_KEY": "0" * 64,
}
NONSENSE = "/nowhere"
# Read by the runtime's subscriber, which never reports it missing; local/cli/tests/it/log_level.rs tests its effect.
READ_WITHOUT_COMPLAINT = {"RUST_LOG"}
# CloudFormation's request to a custom resource's function.
CREATE = {
    "RequestType": "Create",
    "ResponseURL": "http://{api}/answer",
    "StackId": "arn:aws:cloudformation:us-east-1:000000000000:stack/votes/0",
    "RequestId": "0",
    "LogicalResourceId": "Schema",
    "ResourceType": "Custom::Schema",
}

WRITES_LOGS = {"logs:CreateLogStream", "logs:PutLogEvents"}
JOINS_VPC = {
    f"ec2:{action}"
    for action in (
        "CreateNetworkInterface",
        "DescribeNetworkInterfaces",
        "DescribeSubnets",
        "DeleteNetworkInterface",
        "AssignPrivateIpAddresses",
        "UnassignPrivateIpAddresses",
    )
}
IS_TRACED = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}
POLLS_QUEUE = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
# The permission for each call of the crate aws, by method.
OWN_CALLS = {
    "create_invalidation": "cloudfront:CreateInvalidation",
    "list_invalidations": "cloudfront:ListInvalidations",
    "get_invalidation": "cloudfront:GetInvalidation",
    "send_message": "sqs:SendMessage",
    "ask_to_invalidate": "sqs:SendMessage",
    "queued": "sqs:GetQueueAttributes",
    "put_object": "s3:PutObject",
    "delete_object": "s3:DeleteObject",
    "begin_upload": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "complete_upload": "s3:PutObject",
    "has_object": "s3:GetObject",
    "link": "s3:GetObject",
}
# Operations with a permission of another name:
# https://docs.aws.amazon.com/service-authorization/latest/reference/
PERMISSIONS = {
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "s3:HeadObject": "s3:GetObject",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:CreateMultipartUpload": "s3:PutObject",
    "s3:UploadPart": "s3:PutObject",
    "s3:CompleteMultipartUpload": "s3:PutObject",
}


def wrong_variables(binary, environment, complaint=" is not set"):
    """Returns the variables that a function reports when it is started with this environment."""
    process = subprocess.run(
        [binary], env=environment, capture_output=True, text=True, timeout=START_SECONDS_MAX, check=False
    )
    return names_in(process.stdout + process.stderr, complaint)


def names_in(output, complaint):
    names = re.findall(rf"\b([A-Z][A-Z0-9_]+){complaint}", output)
    # Lambda itself sets these.
    return {name for name in names if not name.startswith(("AWS_", "LAMBDA_", "_"))}


def check_environment(name, function, binary, answers_cloudformation):
    given = {name: value for name, value in variables(function).items() if name not in READ_WITHOUT_COMPLAINT}
    read = wrong_variables(binary, {})
    if answers_cloudformation:
        # It starts in any case, to report the problem in its answer. Never with valid values: it would change a database.
        read |= names_in(output_of(binary, {}, CREATE), " is not set")
        read |= names_in(output_of(binary, dict.fromkeys(given, NONSENSE), CREATE), ": ")
        compare(name, given.keys(), read)
        return
    good = {key: value if isinstance(value, str) else GOOD_VALUES.get(key, "1") for key, value in given.items()}
    good |= {key: value for key, value in GOOD_VALUES.items() if key in given}
    read |= wrong_variables(binary, good)
    # A variable that may be empty is not reported missing; but a malformed one is reported.
    read |= wrong_variables(binary, good | dict.fromkeys(given.keys() - read, NONSENSE), ": ")
    compare(name, given.keys(), read)


def compare(name, given, read):
    for variable in sorted(read - given):
        expect(False, f"{name} reads {variable}, which is not set")
    for variable in sorted(given - read):
        expect(False, f"{name} is given {variable}, which it does not read")


class Workspace:
    """The crates of the workspace, to find those that a function is made of."""

    def __init__(self):
        command = ["cargo", "metadata", "--format-version", "1", "--locked"]
        metadata = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        self.packages = {package["id"]: package for package in metadata["packages"]}
        self.members = set(metadata["workspace_members"])
        self.nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}

    def closure(self, binary):
        """Returns the packages that are linked into a binary."""
        found = [member for member in self.members if self.has_binary(member, binary)]
        assert len(found) == 1, f"no crate has the binary {binary}"
        seen, queue = set(found), found
        while queue:
            for dependency in self.nodes[queue.pop()]["deps"]:
                is_linked = any(kind["kind"] is None for kind in dependency["dep_kinds"])
                if is_linked and dependency["pkg"] not in seen:
                    seen.add(dependency["pkg"])
                    queue.append(dependency["pkg"])
        return seen

    def has_binary(self, package, name):
        targets = self.packages[package]["targets"]
        return any(target["name"] == name and "bin" in target["kind"] for target in targets)

    def sdk_calls(self, binary):
        """Returns the permissions for the calls of AWS's SDKs, and of the crate aws, in a binary's own source."""
        packages = self.closure(binary)
        names = {package: self.packages[package]["name"] for package in packages}
        sources = [self.folder(package) / "src" for package in packages & self.members if names[package] != "aws"]
        text = "".join(file.read_text() for source in sources for file in source.rglob("*.rs"))
        if "aws" in names.values():
            yield from (call for method, call in OWN_CALLS.items() if re.search(rf"\.{method}\(", text))
        for package in packages:
            service = re.fullmatch(r"aws-sdk-(\w+)", self.packages[package]["name"])
            if service is None:
                continue
            for operation in (self.folder(package) / "src" / "client").glob("*.rs"):
                if re.search(rf"\.{operation.stem}\(\)", text):
                    action = "".join(word.capitalize() for word in operation.stem.split("_"))
                    call = f"{service[1]}:{action}"
                    yield PERMISSIONS.get(call, call)

    def folder(self, package):
        return pathlib.Path(self.packages[package]["manifest_path"]).parent


def actions(policy_document):
    """Yields (action, resource) of every statement that allows something."""
    for statement in policy_document["Statement"]:
        if statement["Effect"] == "Allow":
            listed = statement["Action"]
            for action in [listed] if isinstance(listed, str) else listed:
                yield action, statement["Resource"]


def granted(resources, function):
    """Returns the actions that a function's role allows."""
    role = resources[function["Properties"]["Role"]["Fn::GetAtt"][0]]["Properties"]
    documents = [policy["PolicyDocument"] for policy in role["Policies"]]
    for reference in role.get("ManagedPolicyArns", []):
        condition, policy, otherwise = reference["Fn::If"]
        assert otherwise == NO_VALUE and resources[policy["Ref"]]["Condition"] == condition, reference
        documents.append(resources[policy["Ref"]]["Properties"]["PolicyDocument"])
    return {action for document in documents for action, _ in actions(document)}


def check_permissions(name, function, binary, resources, workspace):
    properties = function["Properties"]
    needed = WRITES_LOGS | set(workspace.sdk_calls(binary))
    if properties.get("VpcConfig", NO_VALUE) != NO_VALUE:
        needed |= JOINS_VPC
    if "TracingConfig" in properties:
        needed |= IS_TRACED
    if "iam" in json.dumps(variables(function).get("DATABASE_AUTH")):
        needed.add("rds-db:connect")
    for _, mapping in of_type(resources, "AWS::Lambda::EventSourceMapping"):
        if mapping["Properties"]["FunctionName"] == {"Ref": name}:
            needed |= POLLS_QUEUE
    has = granted(resources, function)
    for action in sorted(needed - has):
        expect(False, f"{name} needs {action}, which its role does not allow")
    for action in sorted(has - needed):
        expect(False, f"{name}'s role allows {action}, which it does not need")


def main():
    artifacts = pathlib.Path(sys.argv[1])
    binaries = {
        name: function["Metadata"]["BuildProperties"]["Binary"]
        for name, function in of_type(read_source()["Resources"], "AWS::Serverless::Function")
    }
    resources = read_transformed()["Resources"]
    custom = {
        resource["Properties"]["ServiceToken"]["Fn::GetAtt"][0]
        for resource in resources.values()
        if resource["Type"].startswith("Custom::")
    }
    workspace = Workspace()
    for name, function in of_type(resources, "AWS::Lambda::Function"):
        bootstrap = artifacts / name / "bootstrap"
        if not os.access(bootstrap, os.X_OK):
            expect(False, f"{name}: {bootstrap} is not built: run `make artifacts`")
            continue
        check_environment(name, function, bootstrap, name in custom)
        check_permissions(name, function, binaries[name], resources, workspace)
    report(f"{len(binaries)} functions, each with the variables and permissions that it uses")


main()
