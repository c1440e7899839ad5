"""`make destroy` refuses where votes would be lost, and deletes where none would."""

import unittest
from types import SimpleNamespace

from deployment import Deployment, Refused, add_to_crew, check_name, check_nothing_is_lost, destroy, print_token, sign_in_url

OUTPUTS = {
    "VotesQueueUrl": "votes",
    "VotesDeadLetterQueueUrl": "dead",
    "DatabaseId": "ledger",
    "Url": "https://d.example",
}


class FakeAws:
    """Answers the few calls that are made, and remembers whether the stack was deleted."""

    def __init__(self, waiting=0, dead=0, protected=False, status="available", policy="Snapshot", parameters=None):
        self.waiting, self.dead = waiting, dead
        self.instance = {"DeletionProtection": protected, "DBInstanceStatus": status}
        self.policy = policy
        self.stack_parameters = {"DomainName": "", "SignInUrl": "", **(parameters or {})}
        self.outputs = dict(OUTPUTS)
        self.deleted = None
        self.files = ["index.html", "control/index.html"]

    def client(self, service, region_name):
        del service, region_name
        return self

    def describe_stacks(self, StackName):
        return {
            "Stacks": [
                {
                    "StackId": f"id of {StackName}",
                    "Outputs": [{"OutputKey": k, "OutputValue": v} for k, v in self.outputs.items()],
                    "Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in self.stack_parameters.items()],
                }
            ]
        }

    def get_queue_attributes(self, QueueUrl, AttributeNames):
        in_flight = {"votes": self.waiting, "dead": self.dead}[QueueUrl]
        return {"Attributes": dict(zip(AttributeNames, ("0", str(in_flight)), strict=True))}

    def describe_db_instances(self, DBInstanceIdentifier):
        assert DBInstanceIdentifier == "ledger"
        return {"DBInstances": [self.instance]}

    def get_template(self, StackName, TemplateStage):
        del StackName, TemplateStage
        return {"TemplateBody": {"Resources": {"Database": {"DeletionPolicy": self.policy}}}}

    def get_paginator(self, operation):
        assert operation == "list_objects_v2"
        return self

    def paginate(self, Bucket):
        assert Bucket == "pages"
        return [{"Contents": [{"Key": key}]} for key in self.files] + [{}]

    def delete_objects(self, Bucket, Delete):
        assert Bucket == "pages"
        self.files = [key for key in self.files if {"Key": key} not in Delete["Objects"]]
        return {}

    def delete_stack(self, StackName):
        assert not (self.files and "PagesBucketName" in self.outputs), "CloudFormation deletes no bucket with files"
        self.deleted = StackName

    def get_waiter(self, name):
        assert name == "stack_delete_complete"
        return SimpleNamespace(wait=lambda **_: None)


def deployment(aws):
    return Deployment("development", aws)


class Destroy(unittest.TestCase):
    def refused(self, aws, **arguments):
        with self.assertRaises(Refused) as raised:
            destroy(deployment(aws), "votes-development", arguments.get("discards_queued", False))
        self.assertIsNone(aws.deleted)
        return str(raised.exception)

    def test_votes_in_the_queue_are_not_deleted(self):
        self.assertIn("3 votes are in the queue", self.refused(FakeAws(waiting=3)))

    def test_dead_letters_are_not_deleted(self):
        self.assertIn("make redrive", self.refused(FakeAws(dead=1)))

    def test_a_protected_ledger_is_not_deleted(self):
        self.assertIn("DeletionProtection=false", self.refused(FakeAws(protected=True)))

    def test_a_ledger_that_cannot_be_kept_is_not_deleted(self):
        self.assertIn("final snapshot", self.refused(FakeAws(status="stopped")))
        self.assertIn("final snapshot", self.refused(FakeAws(policy="Delete")))

    def test_discarding_the_queue_discards_nothing_else(self):
        self.assertNotIn("queue", self.refused(FakeAws(waiting=3, dead=1, protected=True), discards_queued=True))

    def test_a_wrong_name_deletes_nothing(self):
        aws = FakeAws()
        with self.assertRaises(Refused):
            destroy(deployment(aws), "votes-production", False)
        self.assertIsNone(aws.deleted)

    def test_what_would_lose_nothing_is_deleted(self):
        aws = FakeAws(waiting=3, dead=1)
        destroy(deployment(aws), "votes-development", True)
        self.assertEqual(aws.deleted, "votes-development")

    def test_the_pages_go_with_the_stack_and_not_before(self):
        aws = FakeAws(dead=1)
        aws.outputs["PagesBucketName"] = "pages"
        self.refused(aws)
        self.assertEqual(len(aws.files), 2)
        destroy(deployment(aws), "votes-development", True)
        self.assertEqual((aws.files, aws.deleted), ([], "votes-development"))

    def test_stores_of_ones_own_are_not_looked_at(self):
        aws = FakeAws(protected=True)
        del aws.outputs["DatabaseId"]
        check_nothing_is_lost(deployment(aws), False)


class Accounts(unittest.TestCase):
    def test_no_account_has_a_name_that_is_syntax_somewhere(self):
        longest = f"{'v' * 118}@x.example"
        for email in ('a"b@x.example', "a b@x.example", "{a}@x.example", "joão@x.example", "a@x.example\n", f"v{longest}"):
            for task in (add_to_crew, print_token):
                # Refused before anything is asked of AWS: this one would fail on any call.
                with self.assertRaisesRegex(Refused, "EMAIL may hold"):
                    task(None, email)
        for email in ("anna.b+crew@x.example", longest):
            check_name(email)


class SignIn(unittest.TestCase):
    def test_only_a_pool_that_knows_no_address_is_told_one(self):
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
