"""Tests that `make destroy` refuses to lose votes and deletes otherwise, and that a failed first deployment can be
repeated."""

import contextlib
import io
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
from types import SimpleNamespace

from botocore.exceptions import ClientError

from deployment import (
    Deployment,
    Refused,
    add_to_crew,
    check_name,
    check_nothing_is_lost,
    clear,
    destroy,
    print_token,
    settings_of_a_deployed_stack,
    sign_in_url,
)

OUTPUTS = {
    "VotesQueueUrl": "votes",
    "VotesDeadLetterQueueUrl": "dead",
    "DatabaseId": "ledger",
    "Url": "https://d.example",
}
# Logical id: (type, DeletionPolicy) as in the template.
RESOURCES = {
    "Database": ("AWS::RDS::DBInstance", "RetainExceptOnCreate"),
    "PagesBucket": ("AWS::S3::Bucket", "Delete"),
    "ExportsBucket": ("AWS::S3::Bucket", "Delete"),
    "ResultsBucket": ("AWS::S3::Bucket", "RetainExceptOnCreate"),
}


class FakeAws:
    """Fakes the used calls of AWS, and records the remaining resources."""

    def __init__(
        self, waiting=0, dead=0, protected=False, status="available", stack="UPDATE_COMPLETE", parameters=None
    ):
        self.waiting, self.dead = waiting, dead
        self.instance = {"DeletionProtection": protected, "DBInstanceStatus": status}
        self.snapshots = []
        self.stack_status = stack
        self.stack_parameters = {"DomainName": "", "SignInUrl": "", "Established": "true", **(parameters or {})}
        self.outputs = dict(OUTPUTS)
        self.deleted = None
        self.files = {
            "PagesBucket": ["index.html", "control/index.html"],
            "ExportsBucket": ["exports/1/poll-1.csv.gz"],
            "ResultsBucket": ["results/1.json"],
        }
        self.uploads = {"ExportsBucket": ["unfinished"]}

    def get_credentials(self):
        return None

    def client(self, service, region_name):
        del service, region_name
        return self

    def describe_stacks(self, StackName):
        if self.stack_status is None:
            raise error("ValidationError", f"Stack with id {StackName} does not exist")
        return {
            "Stacks": [
                {
                    "StackId": f"id of {StackName}",
                    "StackStatus": self.stack_status,
                    "Outputs": [{"OutputKey": k, "OutputValue": v} for k, v in self.outputs.items()],
                    "Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in self.stack_parameters.items()],
                }
            ]
        }

    def get_queue_attributes(self, QueueUrl, AttributeNames):
        in_flight = {"votes": self.waiting, "dead": self.dead}[QueueUrl]
        return {"Attributes": dict(zip(AttributeNames, ("0", str(in_flight)), strict=True))}

    def describe_db_instances(self, DBInstanceIdentifier):
        assert DBInstanceIdentifier in ("ledger", "Database")
        if self.instance is None:
            raise error("DBInstanceNotFound", "gone")
        return {"DBInstances": [self.instance]}

    def delete_db_instance(self, DBInstanceIdentifier, SkipFinalSnapshot, FinalDBSnapshotIdentifier=None, **_):
        assert DBInstanceIdentifier == "Database" and not self.instance["DeletionProtection"]
        assert SkipFinalSnapshot or self.instance["DBInstanceStatus"] == "available", "RDS refuses such a snapshot"
        if not SkipFinalSnapshot:
            self.snapshots.append(FinalDBSnapshotIdentifier)
        self.instance = None

    def get_template(self, StackName, TemplateStage):
        del StackName, TemplateStage
        return {"TemplateBody": {"Resources": {k: {"DeletionPolicy": v[1]} for k, v in RESOURCES.items()}}}

    def get_paginator(self, operation):
        pages = {
            "list_stack_resources": lambda StackName: [{"StackResourceSummaries": self.summaries()}],
            "list_objects_v2": lambda Bucket: [{"Contents": [{"Key": k} for k in self.files[Bucket]]}, {}],
            "list_multipart_uploads": lambda Bucket: [
                {"Uploads": [{"Key": k, "UploadId": "u"} for k in self.uploads.get(Bucket, [])]}
            ],
        }
        return SimpleNamespace(paginate=pages[operation])

    def summaries(self):
        return [
            {"LogicalResourceId": k, "ResourceType": v[0], "PhysicalResourceId": k, "ResourceStatus": "CREATE_COMPLETE"}
            for k, v in RESOURCES.items()
            if k != "Database" or "DatabaseId" in self.outputs
        ]

    def delete_objects(self, Bucket, Delete):
        self.files[Bucket] = [key for key in self.files[Bucket] if {"Key": key} not in Delete["Objects"]]
        return {}

    def abort_multipart_upload(self, Bucket, Key, UploadId):
        del UploadId
        self.uploads[Bucket].remove(Key)

    def delete_stack(self, StackName):
        for name, (kind, policy) in RESOURCES.items():
            if kind == "AWS::S3::Bucket" and policy == "Delete":
                assert not self.files[name] and not self.uploads.get(name), f"S3 deletes no {name} that holds anything"
        assert "DatabaseId" not in self.outputs or self.instance is None, "its subnets cannot go before the database"
        self.deleted = StackName

    def get_waiter(self, name):
        assert name in ("stack_delete_complete", "db_instance_deleted")
        return SimpleNamespace(wait=lambda **_: None)


def error(code, message):
    return ClientError({"Error": {"Code": code, "Message": message}}, "Call")


def quietly(work, *arguments):
    with contextlib.redirect_stdout(io.StringIO()):
        work(*arguments)


def deployment(aws):
    return Deployment("development", aws)


class Destroy(unittest.TestCase):
    def refused(self, aws, **arguments):
        with self.assertRaises(Refused) as raised:
            quietly(destroy, deployment(aws), "votes-development", arguments.get("discards_queued", False))
        self.assertIsNone(aws.deleted)
        self.assertIsNotNone(aws.instance)
        return str(raised.exception)

    def test_votes_in_the_queue_are_not_deleted(self):
        self.assertIn("3 votes are in the queue", self.refused(FakeAws(waiting=3)))

    def test_dead_letters_are_not_deleted(self):
        self.assertIn("make redrive", self.refused(FakeAws(dead=1)))

    def test_a_protected_ledger_is_not_deleted(self):
        self.assertIn("DeletionProtection=false", self.refused(FakeAws(protected=True)))

    def test_a_ledger_that_cannot_be_kept_is_not_deleted(self):
        self.assertIn("final snapshot", self.refused(FakeAws(status="stopped")))

    def test_discarding_the_queue_discards_nothing_else(self):
        self.assertNotIn("queue", self.refused(FakeAws(waiting=3, dead=1, protected=True), discards_queued=True))

    def test_a_wrong_name_deletes_nothing(self):
        aws = FakeAws()
        with self.assertRaises(Refused):
            quietly(destroy, deployment(aws), "votes-production", False)
        self.assertIsNone(aws.deleted)

    def test_a_stack_that_loses_nothing_is_deleted(self):
        aws = FakeAws(waiting=3, dead=1)
        quietly(destroy, deployment(aws), "votes-development", True)
        self.assertEqual(aws.deleted, "votes-development")
        self.assertEqual(len(aws.snapshots), 1)
        self.assertRegex(aws.snapshots[0], "^votes-development-final-[0-9-]+$")

    def test_buckets_are_emptied_with_the_stack_and_not_before(self):
        aws = FakeAws(dead=1)
        self.refused(aws)
        self.assertEqual(len(aws.files["PagesBucket"]), 2)
        quietly(destroy, deployment(aws), "votes-development", True)
        self.assertEqual(aws.files, {"PagesBucket": [], "ExportsBucket": [], "ResultsBucket": ["results/1.json"]})

    def test_an_interrupted_deletion_is_resumed(self):
        for status in ("deleting", None):
            aws = FakeAws(status=status)
            aws.instance = aws.instance if status else None
            if status:
                # Deleted when the waiter returns.
                aws.get_waiter = lambda _, aws=aws: SimpleNamespace(wait=lambda **_: setattr(aws, "instance", None))
            quietly(destroy, deployment(aws), "votes-development", False)
            self.assertEqual((aws.deleted, aws.snapshots), ("votes-development", []))

    def test_external_stores_are_not_checked(self):
        aws = FakeAws(protected=True)
        del aws.outputs["DatabaseId"]
        check_nothing_is_lost(deployment(aws), False)


class FirstDeployment(unittest.TestCase):
    FAILED = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED")

    def test_the_remains_of_a_failed_deployment_are_deleted(self):
        for stack in self.FAILED:
            aws = FakeAws(stack=stack)
            aws.outputs = {"DatabaseId": "ledger"}
            quietly(clear, deployment(aws))
            self.assertEqual(aws.deleted, "votes-development")

    def test_an_incomplete_database_does_not_block_the_deletion(self):
        aws = FakeAws(stack="ROLLBACK_FAILED", status="failed")
        quietly(clear, deployment(aws))
        self.assertEqual((aws.deleted, aws.snapshots, aws.instance), ("votes-development", [], None))

    def test_destroy_does_the_same(self):
        aws = FakeAws(stack="ROLLBACK_FAILED", waiting=3)
        aws.outputs = {}
        quietly(destroy, deployment(aws), None, False)
        self.assertEqual(aws.deleted, "votes-development")

    def test_no_stack_that_was_ever_complete_is_touched(self):
        working = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_FAILED")
        for stack in (None, *working, "UPDATE_FAILED", "DELETE_FAILED", "CREATE_IN_PROGRESS", "REVIEW_IN_PROGRESS"):
            aws = FakeAws(stack=stack)
            quietly(clear, deployment(aws))
            self.assertIsNone(aws.deleted)
            self.assertEqual(len(aws.files["PagesBucket"]), 2)

    def test_protection_is_set_once_it_has_succeeded(self):
        aws = FakeAws(parameters={"Established": "false"})
        aws.outputs["UserPoolId"] = "pool"
        settings = ["Established=true", "SignInUrl=https://d.example/"]
        self.assertEqual(settings_of_a_deployed_stack(deployment(aws)), settings)
        aws.stack_parameters |= {"Established": "true", "SignInUrl": "https://d.example/"}
        self.assertEqual(settings_of_a_deployed_stack(deployment(aws)), [])


class DeployScript(unittest.TestCase):
    """Runs scripts/deploy.sh with stubs of sam and python that only record their calls."""

    def calls(self, settings, fails=""):
        with tempfile.TemporaryDirectory() as folder:
            log = pathlib.Path(folder, "calls")
            for name in ("sam", "python"):
                program = pathlib.Path(folder, name)
                program.write_text(
                    f'#!/bin/sh\necho "{name} $*" >>{log}\n'
                    f'case "$*" in *" settings "*) echo "{settings}";; *"{fails or "nothing fails"}"*) exit 1;; esac\n',
                    encoding="utf-8",
                )
                program.chmod(0o755)
            environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "ENV": "development"}
            done = subprocess.run(["scripts/deploy.sh"], env=environment, capture_output=True, check=False)
            return done.returncode, log.read_text(encoding="utf-8").splitlines()

    def test_remains_are_deleted_first_and_protection_follows_success(self):
        code, calls = self.calls("Established=true SignInUrl=https://d.example/")
        self.assertEqual(code, 0)
        tasks = [call.split(" --environment")[0].removeprefix("python scripts/deployment.py ") for call in calls]
        self.assertEqual(tasks[0], "clear")
        deploy = "sam deploy --config-env development --no-fail-on-empty-changeset"
        self.assertEqual(tasks[1:4], ["sam build --config-env development", deploy, "settings"])
        overrides = "--no-confirm-changeset --parameter-overrides Established=true SignInUrl=https://d.example/"
        self.assertEqual(tasks[4], f"{deploy} {overrides}")
        self.assertTrue(any("publish_pages" in call for call in calls[5:]))

    def test_current_settings_cause_no_second_deployment(self):
        _, calls = self.calls("")
        self.assertEqual(sum("sam deploy" in call for call in calls), 1)

    def test_nothing_is_protected_when_it_fails(self):
        code, calls = self.calls("Established=true", fails="deploy --config-env")
        self.assertNotEqual(code, 0)
        self.assertFalse(any("Established" in call or "publish" in call for call in calls), calls)


class Settings(unittest.TestCase):
    """Runs deployment.py as a program, with AWS settings that boto3 cannot use."""

    def message(self, settings, task="outputs"):
        given = {"PATH": os.environ["PATH"], "AWS_EC2_METADATA_DISABLED": "true"}
        given |= {"AWS_CONFIG_FILE": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere"}
        command = [sys.executable, "scripts/deployment.py", task, "--environment", "production"]
        done = subprocess.run(command, env=given | settings, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (1, "", 1), done.stderr)
        return done.stderr

    def test_unusable_settings_end_in_one_line_and_no_traceback(self):
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        with tempfile.TemporaryDirectory() as folder:
            no_program, no_json = (pathlib.Path(folder, name) for name in "ab")
            no_program.write_text("[default]\ncredential_process=/nowhere/x\n", encoding="ascii")
            no_json.write_text("[default]\ncredential_process=echo no\n", encoding="ascii")
            for settings, text in (
                ({"AWS_CONFIG_FILE": str(no_program)}, "No such file or directory: '/nowhere/x'"),
                ({"AWS_CONFIG_FILE": str(no_json)}, "Expecting value"),
                ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere/t", "AWS_ROLE_ARN": "arn:aws:iam::1:role/r"}, "'/nowhere/t'"),
                (keys | {"AWS_ENDPOINT_URL": "nonsense"}, "Invalid endpoint: nonsense"),
                (keys | {"AWS_ENDPOINT_URL": "http://[x"}, "Invalid IPv6 URL"),
                (keys | {"AWS_RETRY_MODE": "x"}, 'Invalid value provided to "mode"'),
            ):
                for task in ("outputs", "destroy"):
                    pattern = f"^the AWS settings cannot be used .*{re.escape(text)}.*: check the AWS_ variables"
                    self.assertRegex(self.message(settings, task), pattern)

    def test_a_malformed_config_file_ends_in_one_line(self):
        with tempfile.TemporaryDirectory() as folder:
            malformed = pathlib.Path(folder, "config")
            malformed.write_text("this is [not a config", encoding="ascii")
            for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
                self.assertIn(f"Unable to parse config file: {malformed}", self.message({name: str(malformed)}))


class Accounts(unittest.TestCase):
    def test_a_name_with_special_characters_gets_no_account(self):
        longest = f"{'v' * 118}@x.example"
        for email in ('a"b@x.example', "a b@x.example", "{a}@x.example", "joão@x.example", "a@x.example\n", f"v{longest}"):
            for task in (add_to_crew, print_token):
                # Refused before any call of AWS: `None` would fail on one.
                with self.assertRaisesRegex(Refused, "EMAIL may hold"):
                    task(None, email)
        for email in ("anna.b+crew@x.example", longest):
            check_name(email)


class SignIn(unittest.TestCase):
    def test_only_a_pool_without_an_address_gets_one(self):
        aws = FakeAws()
        self.assertEqual(sign_in_url(deployment(aws)), "")
        aws.outputs["UserPoolId"] = "pool"
        self.assertEqual(sign_in_url(deployment(aws)), "https://d.example/")
        aws.stack_parameters["SignInUrl"] = "https://d.example/"
        self.assertEqual(sign_in_url(deployment(aws)), "")

    def test_an_unknown_environment_names_the_known(self):
        with self.assertRaisesRegex(Refused, "development, production"):
            Deployment("staging", FakeAws())


if __name__ == "__main__":
    unittest.main()
