"""Says within seconds what a deployment of an environment would lack, before anything is compiled: `make preflight`,
which `make deploy` runs first.

Each finding is one line: what is wrong, and what to do. Checks without read permission are reported as skipped.
"""

import argparse
import base64
import os
import pathlib
import platform
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass

import boto3
import botocore.exceptions
from botocore.config import Config

import parameters
from deployment import (
    Deployment,
    Refused,
    UnusableSettings,
    client_of,
    credentials_of,
    is_first_deployment_that_failed,
    one_line,
)
from sam_template import read_source

# A finding that comes later than this is not worth waiting for.
CREDENTIALS_SECONDS_MAX = 10
CHECKS_SECONDS_MAX = 20
CALLS = Config(connect_timeout=4, read_timeout=6, retries={"total_max_attempts": 2})

# Lambda leaves so much of an account's concurrency to the functions that reserve none.
UNRESERVED_MIN = 100
# The usual quota after an increase; a new account may have 10.
CONCURRENCY_ASKED = 1000
VPC_QUOTA = ("vpc", "L-F678F1CE")
GATEWAY_RATE_QUOTA = ("apigateway", "L-8A5B8E43")
PROGRAMS = {"cargo": "get Rust from https://rustup.rs", "sam": "make tools", "cargo-lambda": "make tools"}
AUTHORITIES = "shared/runtime/certs/amazon.pem"
TARGETS = {"arm64": "aarch64-unknown-linux-gnu", "x86_64": "x86_64-unknown-linux-gnu"}
MACHINES = {"aarch64": "arm64", "arm64": "arm64", "x86_64": "x86_64", "AMD64": "x86_64"}
UNREACHABLE = (botocore.exceptions.HTTPClientError, botocore.exceptions.ConnectionError)
NOT_ALLOWED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "NotAuthorized")


@dataclass(frozen=True)
class Finding:
    """One line. A note stops no deployment."""

    text: str
    is_note: bool = False


def note(text):
    return Finding(text, is_note=True)


class Target:
    """What is to be deployed, and where."""

    def __init__(self, deployment, commands):
        self.deployment = deployment
        self.name, self.region = deployment.name, deployment.region
        self.commands = commands
        self.overrides = parameters.overrides_of(commands)
        self.template = read_source()
        self.values = parameters.values_of(self.template, self.overrides)

    def client(self, service, region=None):
        return client_of(self.deployment.session, service, region_name=region or self.region, config=CALLS)

    def stack(self):
        """The stack as CloudFormation has it; `None`: there is none."""
        try:
            return self.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"][0]
        except botocore.exceptions.ClientError as error:
            if "does not exist" in str(error):
                return None
            raise

    def makes_stores(self):
        return not self.values["DatabaseUrl"]


# ---------------------------------------------------------------- Without AWS


def tools(target):
    # Those of .venv, too, where this runs from there without make.
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    for program, remedy in PROGRAMS.items():
        if not shutil.which(program, path=path):
            yield Finding(f"{program} is not installed: {remedy}")
    wanted = target.values["Architecture"]
    default = target.template["Parameters"]["Architecture"]["Default"]
    built = parameters.overrides_of(target.commands, "build").get("Architecture", default)
    if built != wanted:
        yield Finding(f"samconfig.toml builds for {built} and deploys {wanted}: set Architecture under both")
    if MACHINES.get(platform.machine()) != wanted and wanted in TARGETS and not has_target(TARGETS[wanted]):
        yield Finding(f"Rust cannot compile for {wanted} here: rustup target add {TARGETS[wanted]}")


def has_target(name):
    try:
        found = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return False
    return pathlib.Path(found.stdout.strip(), "lib/rustlib", name).is_dir()


def given(target):
    """Parameters against each other, and against the Region."""
    for objection in parameters.objections(target.template, target.overrides, target.region):
        yield Finding(objection)
    for caution in parameters.cautions(target.values, target.region):
        yield note(caution)
    if target.makes_stores() and target.region not in regions_of_authorities():
        yield Finding(
            f"the functions would not believe a database in {target.region}: add its roots to {AUTHORITIES}, as"
            " docs/OPERATIONS.md says under Certificates"
        )


def regions_of_authorities():
    """Returns the Regions whose database certificates the functions trust."""
    text = pathlib.Path(AUTHORITIES).read_text(encoding="ascii")
    blocks = re.findall("-----BEGIN CERTIFICATE-----(.*?)-----END", text, re.DOTALL)
    names = (re.findall(rb"Amazon RDS ([a-z0-9-]+) Root CA", base64.b64decode(block)) for block in blocks)
    return {name.decode() for found in names for name in found}


# ---------------------------------------------------------------- Credentials


def credentials(target):
    """A finding where AWS does not know who is asking; the lookup itself may ask a server that never answers."""
    try:
        found = within(CREDENTIALS_SECONDS_MAX, lambda: credentials_of(target.deployment.session))
        if found is None:
            return Finding("no AWS credentials are found: run aws configure or aws sso login, or set AWS_PROFILE")
        target.client("sts").get_caller_identity()
    except TimeoutError:
        return Finding(
            f"the search for AWS credentials takes longer than {CREDENTIALS_SECONDS_MAX} s: set AWS_PROFILE or the keys"
        )
    except botocore.exceptions.ClientError as error:
        return Finding(refusal(error))
    except UNREACHABLE as error:
        why = one_line(error)
        return Finding(f"AWS cannot be reached in {target.region} ({why}): check network, proxy and the Region's name")
    except UnusableSettings as error:
        return Finding(str(error))
    except botocore.exceptions.BotoCoreError as error:
        return Finding(f"the AWS credentials cannot be used ({one_line(error)}): run aws configure or aws sso login")
    return None


def refusal(error):
    code = error.response["Error"]["Code"]
    if "Expired" in code:
        return "the AWS credentials have expired: sign in again (aws sso login), or take new keys"
    return f"AWS does not accept the credentials ({code}): check AWS_PROFILE, the keys, and that the Region is enabled"


# ---------------------------------------------------------------- With AWS


def stack_state(target):
    stack = target.stack()
    if stack is None:
        return
    status, name = stack["StackStatus"], target.name
    why = one_line(stack.get("StackStatusReason", ""))
    if is_first_deployment_that_failed(status):
        yield note(f"the first deployment of {name} failed ({status}): make deploy deletes its remains and starts again")
    elif status == "REVIEW_IN_PROGRESS":
        pass  # A change set that nobody has carried out.
    elif status.endswith("_CLEANUP_IN_PROGRESS"):
        yield Finding(f"{name} is still being cleaned up ({status}): wait some minutes")
    elif status.endswith("_IN_PROGRESS"):
        yield Finding(f"{name} is being changed ({status}): wait until that is over")
    elif status == "UPDATE_ROLLBACK_FAILED":
        yield Finding(
            f"{name} could not go back to its last release ({why}): put that right, and then"
            f" aws cloudformation continue-update-rollback --stack-name {name}"
        )
    elif status == "UPDATE_FAILED":
        yield Finding(f"{name} is stuck in an update ({why}): aws cloudformation rollback-stack --stack-name {name}")
    elif status == "DELETE_FAILED":
        yield Finding(f"{name} was not deleted whole ({why}): make destroy again")


def concurrency(target):
    limits = target.client("lambda").get_account_settings()["AccountLimit"]
    stack = target.stack()
    ours = 0
    if stack and not is_first_deployment_that_failed(stack["StackStatus"]):
        deployed = {one["ParameterKey"]: one["ParameterValue"] for one in stack.get("Parameters", [])}
        ours = parameters.reserved_concurrency(target.template, target.values | deployed)
    wanted = parameters.reserved_concurrency(target.template, target.values)
    free = limits["UnreservedConcurrentExecutions"] + ours - UNRESERVED_MIN
    if wanted > free:
        lacking = limits["ConcurrentExecutions"] + wanted - free
        yield Finding(
            f"the functions reserve {wanted} concurrent executions, and Lambda has {max(free, 0)} of the account's"
            f" {limits['ConcurrentExecutions']} in {target.region} for that: ask Service Quotas for"
            f" {max(lacking, CONCURRENCY_ASKED)} (Lambda, Concurrent executions)"
        )


def certificates(target):
    domain = target.values["DomainName"]
    for name, region in (("CertificateArn", parameters.EDGE_REGION), ("ApiCertificateArn", target.region)):
        arn = target.values[name]
        if not arn or not domain:
            continue
        try:
            found = target.client("acm", region).describe_certificate(CertificateArn=arn)["Certificate"]
        except botocore.exceptions.ClientError as error:
            if "NotFound" not in error.response["Error"]["Code"]:
                raise
            yield Finding(f"{name}: there is no such certificate in {region}: make one for {domain} there")
            continue
        if found["Status"] != "ISSUED":
            yield Finding(f"{name} is {found['Status']}: validate it in DNS, and wait until it is ISSUED")
        names = {found["DomainName"], *found.get("SubjectAlternativeNames", [])}
        if not any(covers(one, domain) for one in names):
            yield Finding(f"{name} is for {', '.join(sorted(names))}: take one for {domain}")


def covers(name, domain):
    return name == domain or (name.startswith("*.") and domain.partition(".")[2] == name[2:])


def hosted_zone(target):
    zone, domain = target.values["HostedZoneId"], target.values["DomainName"]
    if not zone or not domain:
        return
    try:
        found = target.client("route53").get_hosted_zone(Id=zone)["HostedZone"]["Name"].rstrip(".")
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] not in ("NoSuchHostedZone", "InvalidInput"):
            raise
        yield Finding(f"HostedZoneId: Route 53 has no zone {zone} in this account: give the one of {domain}, or none")
        return
    if domain != found and not domain.endswith(f".{found}"):
        yield Finding(f"HostedZoneId is the zone {found}, in which there can be no {domain}: give the one of {domain}")


def issuer(target):
    """The gateway reads the issuer's keys when the API is made, and refuses one that does not show them."""
    url = target.values["JwtIssuer"].rstrip("/")
    if not url:
        return
    try:
        with urllib.request.urlopen(f"{url}/.well-known/openid-configuration", timeout=6) as answer:
            answer.read(1)
    except (OSError, ValueError) as error:
        why = one_line(error)
        yield Finding(f"JwtIssuer does not show {url}/.well-known/openid-configuration ({why}): check the address")


def database_class(target):
    if not target.makes_stores():
        return
    name = target.values["DatabaseClass"]
    asked = {"Engine": "postgres", "DBInstanceClass": name, "MaxRecords": 20}
    if not target.client("rds").describe_orderable_db_instance_options(**asked)["OrderableDBInstanceOptions"]:
        yield Finding(f"RDS has no {name} for PostgreSQL in {target.region}: choose another DatabaseClass")


def networks(target):
    stack = target.stack()
    has_its_own = stack is not None and not is_first_deployment_that_failed(stack["StackStatus"])
    if not target.makes_stores() or has_its_own:
        return
    limit = quota(target, *VPC_QUOTA)
    used = len(target.client("ec2").describe_vpcs()["Vpcs"])
    if used >= limit:
        yield Finding(
            f"the account has {used} of {limit:.0f} networks (VPCs) in {target.region}: delete one, or ask for more"
        )


def gateway_rate(target):
    limit = quota(target, *GATEWAY_RATE_QUOTA)
    wanted = int(target.values["VotesThrottleRate"]) + int(target.values["DefaultThrottleRate"])
    if wanted > limit:
        yield note(
            f"the gateway takes {limit:.0f} requests a second of the whole account, less than VotesThrottleRate and"
            f" DefaultThrottleRate together ({wanted}): ask Service Quotas for more before a show"
        )


def quota(target, service, code):
    return target.client("service-quotas").get_service_quota(ServiceCode=service, QuotaCode=code)["Quota"]["Value"]


OFFLINE = (tools, given)
ONLINE = (stack_state, concurrency, certificates, hosted_zone, issuer, database_class, networks, gateway_rate)


# ---------------------------------------------------------------- Running them


def within(seconds, work):
    """What `work` returns or raises; `TimeoutError` when it takes longer. It is left behind then."""
    answer = queue.Queue()

    def run():
        try:
            answer.put((work(), None))
        except Exception as error:
            answer.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        result, error = answer.get(timeout=seconds)
    except queue.Empty as late:
        raise TimeoutError from late
    if error:
        raise error
    return result


def unknown(check, why):
    return note(f"{check.__name__.replace('_', ' ')} could not be checked: {why}")


def checked(check, target):
    """Returns a check's findings. A failed lookup becomes a note and does not stop the deployment."""
    try:
        return list(check(target))
    except botocore.exceptions.ClientError as error:
        code = error.response["Error"]["Code"]
        action = error.operation_name
        why = f"the credentials may not call {action}" if code in NOT_ALLOWED else f"{action} says {one_line(error)}"
        return [unknown(check, why)]
    except UnusableSettings as error:
        return [Finding(str(error))]
    except botocore.exceptions.BotoCoreError as error:
        return [unknown(check, one_line(error))]


def answer_with(answer, check, target):
    answer.put(checked(check, target))


def all_findings(target):
    """Returns all findings, in the order of the checks. Without credentials, runs only the offline checks."""
    findings = [finding for check in OFFLINE for finding in checked(check, target)]
    if missing := credentials(target):
        return [*findings, missing]
    end = time.monotonic() + CHECKS_SECONDS_MAX
    answers = {check: queue.Queue() for check in ONLINE}
    for check, answer in answers.items():
        threading.Thread(target=answer_with, args=(answer, check, target), daemon=True).start()
    for check, answer in answers.items():
        try:
            findings += answer.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            findings.append(unknown(check, f"no answer within {CHECKS_SECONDS_MAX} s"))
    # Checks that need the same service may stumble over the same.
    return list(dict.fromkeys(findings))


def target_of(environment):
    try:
        deployment = Deployment(environment)
    except botocore.exceptions.ProfileNotFound as error:
        raise Refused(f"preflight: {one_line(error)}: set AWS_PROFILE to one of aws configure list-profiles") from error
    except botocore.exceptions.BotoCoreError as error:
        raise Refused(f"preflight: {UnusableSettings(error)}") from error
    return Target(deployment, dict(parameters.environments())[environment])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environment", required=True)
    parser.add_argument("--credentials", action="store_true", help="look at the credentials alone")
    arguments = parser.parse_args()
    target = target_of(arguments.environment)
    findings = list(filter(None, [credentials(target)])) if arguments.credentials else all_findings(target)
    for finding in findings:
        print(f"preflight: {'note: ' if finding.is_note else ''}{finding.text}", file=sys.stderr)
    problems = sum(not finding.is_note for finding in findings)
    if problems:
        print(f"preflight: {target.name}: {problems} problems to fix", file=sys.stderr)
    elif not arguments.credentials:
        print(f"preflight: {target.name} can be deployed in {target.region}", file=sys.stderr)
    sys.stderr.flush()
    # Exits without waiting for pending calls.
    os._exit(1 if problems else 0)


if __name__ == "__main__":
    try:
        main()
    except Refused as reason:
        sys.exit(str(reason))
