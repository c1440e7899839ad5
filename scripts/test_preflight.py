"""`make preflight` says in one line each what a deployment would lack, within seconds, and asks AWS's real client."""

import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

import boto3

import parameters
import preflight
from aws_stub import AwsStub, Failure
from deployment import Deployment
from sam_template import read_source

TEMPLATE = read_source()
CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/one"
DOMAIN = {"DomainName": "vote.example", "CertificateArn": CERTIFICATE, "HostedZoneId": "Z1"}
# Far beyond what it takes, on a machine that is busy with other things: only what hangs takes longer.
SECONDS_MAX = 45


def stack(status, reason="", **parameters_of_it):
    members = "".join(
        f"<member><ParameterKey>{k}</ParameterKey><ParameterValue>{v}</ParameterValue></member>"
        for k, v in parameters_of_it.items()
    )
    return lambda _: (
        "<Stacks><member><StackName>votes-production</StackName><StackId>id</StackId>"
        f"<StackStatus>{status}</StackStatus>"
        f"<StackStatusReason>{reason}</StackStatusReason><CreationTime>2026-01-01T00:00:00Z</CreationTime>"
        f"<Parameters>{members}</Parameters></member></Stacks>"
    )


def fails(*arguments):
    def answer(_):
        raise Failure(*arguments)

    return answer


def account(concurrent, unreserved=None):
    limit = {"ConcurrentExecutions": concurrent, "UnreservedConcurrentExecutions": unreserved or concurrent}
    return lambda _: {"AccountLimit": limit, "AccountUsage": {}}


def certificate(status="ISSUED", *names):
    names = list(names or ["vote.example"])
    return lambda _: {
        "Certificate": {"Status": status, "DomainName": names[0], "SubjectAlternativeNames": names}
    }


def zone(name):
    return lambda _: (
        f"<GetHostedZoneResponse><HostedZone><Id>/hostedzone/Z1</Id><Name>{name}.</Name>"
        "<CallerReference>r</CallerReference></HostedZone></GetHostedZoneResponse>"
    )


# An account in which everything is in order.
IN_ORDER = {
    "GetCallerIdentity": lambda _: "<Account>123456789012</Account><Arn>a</Arn><UserId>u</UserId>",
    "DescribeStacks": fails("ValidationError", "Stack with id votes-production does not exist"),
    "/2016-08-19/account-settings": account(1000),
    "/2016-08-19/account-settings/": account(1000),
    "DescribeCertificate": certificate(),
    "/2013-04-01/hostedzone/Z1": zone("vote.example"),
    "DescribeOrderableDBInstanceOptions": lambda _: (
        "<OrderableDBInstanceOptions><OrderableDBInstanceOption><Engine>postgres</Engine></OrderableDBInstanceOption>"
        "</OrderableDBInstanceOptions>"
    ),
    "DescribeVpcs": lambda _: "<vpcSet><item><vpcId>vpc-1</vpcId></item></vpcSet>",
    "GetServiceQuota": lambda given: {"Quota": {"Value": 5.0 if given["ServiceCode"] == "vpc" else 10_000.0}},
}

# What the template's functions reserve with its defaults.
RESERVED = parameters.reserved_concurrency(
    TEMPLATE, {name: one.get("Default") for name, one in TEMPLATE["Parameters"].items()}
)


class Preflight(unittest.TestCase):
    def setUp(self):
        # This machine's tools and targets are not what is tested.
        unchanging = {"shutil.which": "/found", "preflight.has_target": True, "preflight.read_source": TEMPLATE}
        for name, answer in unchanging.items():
            patch = mock.patch(name, return_value=answer)
            patch.start()
            self.addCleanup(patch.stop)

    def findings(self, changes=None, overrides=None, environment="production"):
        """(problems, notes) in an account that is in order but for `changes`."""
        stub = AwsStub({**IN_ORDER, **(changes or {})})
        self.addCleanup(stub.close)
        given = {"AWS_ENDPOINT_URL": stub.url, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        with mock.patch.dict(os.environ, given):
            session = boto3.Session(region_name="us-east-1")
            commands = dict(parameters.environments())[environment]
            target = preflight.Target(Deployment(environment, session), commands)
            target.overrides |= overrides or {}
            target.values |= overrides or {}
            found = preflight.all_findings(target)
        self.calls = stub.calls
        for finding in found:
            self.assertNotIn("\n", finding.text)
        return [one.text for one in found if not one.is_note], [one.text for one in found if one.is_note]

    def only_problem(self, text, changes=None, overrides=None):
        problems, _ = self.findings(changes, overrides)
        self.assertEqual(len(problems), 1, problems)
        self.assertRegex(problems[0], text)

    def test_an_account_in_order_has_no_problem_and_every_check_can_be_made(self):
        for environment in ("development", "production"):
            problems, notes = self.findings(overrides=DOMAIN, environment=environment)
            self.assertEqual((problems, notes), ([], ["alarms will reach nobody: give AlarmEmail"]))
        self.assertTrue({"DescribeVpcs", "DescribeCertificate", "GetServiceQuota"} <= set(self.calls), self.calls)

    def test_a_new_accounts_concurrency_is_too_small(self):
        too_small = f"reserve {RESERVED} .* Lambda has 0 of the account's 10 .* ask Service Quotas for 1000"
        self.only_problem(too_small, account_of(10))
        self.only_problem(f"reserve {RESERVED} .* has {RESERVED - 1} of", account_of(RESERVED + 99))
        self.assertEqual(self.findings(account_of(RESERVED + 100))[0], [])

    def test_what_the_stack_itself_has_reserved_is_free_for_it(self):
        deployed = {"DescribeStacks": stack("UPDATE_COMPLETE", VotesMaximumConcurrency=11, PollsMaximumConcurrency=20)}
        self.assertEqual(self.findings({**account_of(RESERVED + 100, 100), **deployed})[0], [])
        more = {"VotesMaximumConcurrency": "12"}
        self.only_problem(f"reserve {RESERVED + 1}", {**account_of(RESERVED + 100, 100), **deployed}, more)

    def test_parameters_that_need_each_other(self):
        for overrides, text in (
            ({"DatabaseUrl": "postgres://u:p@h/d"}, "Give both DatabaseUrl and RedisUrl, or neither"),
            ({"JwtAudience": "votes"}, "Give both JwtIssuer and JwtAudience"),
            ({"DomainName": "vote.example"}, "Give both DomainName and CertificateArn"),
            ({"HostedZoneId": "Z1"}, "HostedZoneId is for DomainName"),
            ({"SecurityGroupIds": "sg-1"}, "give both SubnetIds and SecurityGroupIds"),
            ({"VotesMaximumConcurrency": "1"}, "VotesMaximumConcurrency=1 is refused: it must be from 2 to 1000"),
            ({"LogLevel": "LOUD"}, "LogLevel=LOUD is refused: use one of DEBUG, INFO"),
            ({"Alarm": "x"}, "no parameter Alarm"),
        ):
            self.only_problem(text, overrides=overrides)

    def test_a_secret_that_is_refused_is_not_shown(self):
        problems, _ = self.findings(overrides={"VoterHashKey": "secret"})
        self.assertRegex(problems[0], "the value of VoterHashKey is refused")
        self.assertNotIn("secret", problems[0])

    def test_a_stack_that_cannot_be_updated(self):
        for status, text in (
            ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback --stack-name votes-production"),
            ("UPDATE_IN_PROGRESS", "wait until that is over"),
            ("DELETE_FAILED", "make destroy again"),
        ):
            self.only_problem(text, {"DescribeStacks": stack(status, "why")})

    def test_a_first_deployment_that_failed_is_repeated(self):
        for status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED"):
            problems, notes = self.findings({"DescribeStacks": stack(status)})
            self.assertEqual(problems, [])
            self.assertRegex(notes[-1], f"first deployment .* failed \\({status}\\): make deploy deletes its remains")

    def test_certificates(self):
        self.only_problem("CertificateArn is PENDING", {"DescribeCertificate": certificate("PENDING")}, DOMAIN)
        other = certificate("ISSUED", "other.example", "*.vote.example")
        names = r"is for \*\.vote\.example, other\.example: take one for"
        self.only_problem(names, {"DescribeCertificate": other}, DOMAIN)
        star = certificate("ISSUED", "*.example")
        self.assertEqual(self.findings({"DescribeCertificate": star}, DOMAIN)[0], [])
        gone = {"DescribeCertificate": fails("ResourceNotFoundException", "no")}
        self.only_problem("no such certificate in us-east-1", gone, DOMAIN)

    def test_the_zone_is_the_domains(self):
        elsewhere = {"/2013-04-01/hostedzone/Z1": zone("show.example")}
        self.only_problem("in which there can be no vote.example", elsewhere, DOMAIN)
        gone = {"/2013-04-01/hostedzone/Z1": fails("NoSuchHostedZone", "no", 404)}
        self.only_problem("Route 53 has no zone Z1", gone, DOMAIN)

    def test_quotas_and_what_the_region_has(self):
        full = {"GetServiceQuota": lambda _: {"Quota": {"Value": 1.0}}}
        problems, notes = self.findings(full)
        self.assertRegex(problems[0], "has 1 of 1 networks")
        self.assertRegex(notes[-1], "takes 1 requests a second .* together \\(10000\\)")
        none = {"DescribeOrderableDBInstanceOptions": lambda _: "<OrderableDBInstanceOptions/>"}
        self.only_problem("RDS has no db.t4g.small for PostgreSQL", none)

    def test_an_issuer_that_shows_no_keys(self):
        closed = socket.create_server(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        closed.close()
        issuer = {"JwtIssuer": f"http://127.0.0.1:{port}/", "JwtAudience": "votes"}
        self.only_problem("JwtIssuer does not show", overrides=issuer)

    def test_what_may_not_be_read_is_told_and_stops_nothing(self):
        denied = {name: fails("AccessDeniedException", "no", 403) for name in ("GetServiceQuota", "DescribeVpcs")}
        problems, notes = self.findings(denied)
        self.assertEqual(problems, [])
        self.assertRegex(" ".join(notes), "networks could not be checked: the credentials may not call")

    def test_refused_credentials_end_it(self):
        for code, text in (("ExpiredToken", "have expired: sign in"), ("InvalidClientTokenId", "does not accept")):
            self.only_problem(text, {"GetCallerIdentity": fails(code, "no", 403)})
            self.assertNotIn("DescribeStacks", self.calls)

    def test_a_service_whose_settings_cannot_be_used_is_told_once(self):
        with mock.patch.dict(os.environ, {"AWS_ENDPOINT_URL_CLOUDFORMATION": "nonsense"}):
            self.only_problem("the AWS settings cannot be used .Invalid endpoint: nonsense.: check the AWS_ variables")

    def test_regions(self):
        values = parameters.values_of(TEMPLATE, DOMAIN)
        self.assertIn("give ApiCertificateArn", " ".join(parameters.objections(TEMPLATE, DOMAIN, "eu-west-1")))
        cautions = " ".join(parameters.cautions(values, "eu-west-1"))
        self.assertRegex(cautions, "no firewall.*no access logs")
        regions = preflight.regions_of_authorities()
        self.assertTrue("eu-west-1" in regions and "ca-west-1" not in regions and len(regions) == 27, regions)

    def test_a_region_whose_databases_are_not_believed(self):
        with mock.patch("preflight.regions_of_authorities", return_value={"eu-west-1"}):
            self.only_problem("would not believe a database in us-east-1")


def account_of(concurrent, unreserved=None):
    answer = account(concurrent, unreserved)
    return {"/2016-08-19/account-settings": answer, "/2016-08-19/account-settings/": answer}


class Windows(unittest.TestCase):
    def objections(self, **overrides):
        return " ".join(parameters.objections(TEMPLATE, overrides, "us-east-1"))

    def test_the_defaults_are_weekday_mornings(self):
        self.assertEqual(self.objections(), "")
        values = parameters.values_of(TEMPLATE, {})
        for name in ("DatabaseMaintenanceWindow", "CacheMaintenanceWindow"):
            first, last = parameters.week_minutes(values[name])
            self.assertTrue(first // 1440 == last // 1440 < 5 and 5 * 60 <= first % 1440 < last % 1440 <= 12 * 60)

    def test_windows_that_would_be_refused_or_bad(self):
        for name, window, text in (
            ("DatabaseMaintenanceWindow", "sat:20:00-sat:21:00", "is refused"),
            ("DatabaseMaintenanceWindow", "tue:08:00-tue:08:20", "30 minutes or more"),
            ("CacheMaintenanceWindow", "wed:08:00-wed:08:30", "60 minutes or more"),
            ("CacheMaintenanceWindow", "fri:23:00-mon:01:00", "within one week"),
            ("CacheMaintenanceWindow", "tue:08:30-tue:09:30", "both stores may be away"),
            ("DatabaseBackupWindow", "08:30-09:00", "outside DatabaseMaintenanceWindow"),
            ("DatabaseBackupWindow", "07:00-07:10", "30 minutes or more"),
            ("DatabaseBackupWindow", "7-8", "is refused"),
        ):
            self.assertIn(text, self.objections(**{name: window}), window)
        over_midnight = {"DatabaseMaintenanceWindow": "tue:00:10-tue:01:00", "DatabaseBackupWindow": "23:45-00:20"}
        self.assertIn("outside", self.objections(**over_midnight))


class Command(unittest.TestCase):
    """The program itself, as make runs it."""

    def run_with(self, environment, *more):
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "scripts/preflight.py", "--environment", "production", *more],
            env={**kept, "AWS_CONFIG_FILE": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere", **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.assertLess(time.monotonic() - started, SECONDS_MAX)
        self.assertEqual(done.returncode, 1)
        return done.stderr

    def test_without_credentials_it_ends_within_seconds_and_says_so(self):
        self.assertIn("no AWS credentials are found", self.run_with({"AWS_EC2_METADATA_DISABLED": "true"}))
        # A machine whose metadata server takes calls and never answers.
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"http://127.0.0.1:{silent.getsockname()[1]}"
            self.assertRegex(self.run_with({"AWS_EC2_METADATA_SERVICE_ENDPOINT": address}), "AWS credentials")

    def test_a_profile_that_is_not_there(self):
        self.assertIn("set AWS_PROFILE", self.run_with({"AWS_PROFILE": "nobody"}))

    def test_settings_that_boto3_cannot_use_are_one_sentence(self):
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        with tempfile.TemporaryDirectory() as folder:
            malformed, no_program, no_json, no_object = (pathlib.Path(folder, name) for name in "abcd")
            malformed.write_text("this is [not a config", encoding="ascii")
            no_program.write_text("[default]\ncredential_process=/nowhere/x\n", encoding="ascii")
            no_json.write_text("[default]\ncredential_process=echo no\n", encoding="ascii")
            no_object.write_text("[default]\ncredential_process=echo []\n", encoding="ascii")
            for given, text in (
                ({"AWS_CONFIG_FILE": str(malformed)}, f"Unable to parse config file: {malformed}"),
                ({"AWS_SHARED_CREDENTIALS_FILE": str(malformed)}, f"Unable to parse config file: {malformed}"),
                ({"AWS_CONFIG_FILE": str(no_program)}, "No such file or directory: '/nowhere/x'"),
                ({"AWS_CONFIG_FILE": str(no_json)}, "Expecting value"),
                ({"AWS_CONFIG_FILE": str(no_object)}, "'list' object"),
                ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere/t", "AWS_ROLE_ARN": "arn:aws:iam::1:role/r"}, "'/nowhere/t'"),
                ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://a.example/"}, "Unsupported host 'a.example'"),
                (keys | {"AWS_ENDPOINT_URL": "nonsense"}, "Invalid endpoint: nonsense"),
                (keys | {"AWS_ENDPOINT_URL_STS": "http://[x"}, "Invalid IPv6 URL"),
                (keys | {"AWS_RETRY_MODE": "x"}, 'Invalid value provided to "mode"'),
            ):
                said = self.run_with({"AWS_EC2_METADATA_DISABLED": "true"} | given, "--credentials")
                self.assertEqual([line for line in said.splitlines() if not line.startswith("preflight: ")], [], said)
                pattern = f"preflight: the AWS settings cannot be used .*{re.escape(text)}.*: check the AWS_ variables"
                self.assertRegex(said, pattern)

    def test_an_aws_that_cannot_be_reached(self):
        given = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
        self.assertIn("AWS cannot be reached in us-east-1", self.run_with(given))

    def test_make_runs_it_before_anything_is_compiled(self):
        for target in ("deploy", "pages"):
            shown = subprocess.run(["make", "-n", target], capture_output=True, text=True, check=True).stdout
            before, _, after = shown.partition("scripts/preflight.py")
            self.assertNotIn("cargo build", before)
            self.assertIn("cargo build", after)

    def test_other_tasks_say_it_in_one_line(self):
        nobody = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/nowhere"}
        nobody |= {"AWS_SHARED_CREDENTIALS_FILE": "/nowhere", "PATH": os.environ["PATH"]}
        for task in ("outputs", "destroy"):
            command = [sys.executable, "scripts/deployment.py", task, "--environment", "production"]
            done = subprocess.run(command, env=nobody, capture_output=True, text=True, check=False)
            self.assertRegex(done.stderr, "^AWS cannot be asked: .*credentials.*\n$")


if __name__ == "__main__":
    unittest.main()
