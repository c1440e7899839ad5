"""The tasks of `make deploy`, `destroy`, `crew` and `token` on a deployed stack.

The stack is the environment ENV of samconfig.toml. Credentials: the AWS SDK's usual ones. To add a task: a function here,
a `case` in `main` and its name in `choices`, a target in the Makefile, and tests in test_deployment.py.
"""

import argparse
import datetime
import getpass
import os
import re
import sys
import tomllib

import boto3
import botocore.exceptions

CREW_GROUP = "crew"
# States of a stack that was never complete: its creation failed, and its rollback may have failed too.
NEVER_CREATED = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED")
# The interval in seconds between checks for a deletion, and their number: an hour in all.
DELETION_WAITS = {"Delay": 15, "MaxAttempts": 240}
# Like `is_supported_subject` in shared/domain/src/subject.rs: no character with a meaning in JSON, XML, a URL or a log.
SUPPORTED_NAME = re.compile(r"[A-Za-z0-9._:|@+=/-]{1,128}")
QUEUE_COUNTS = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]


class Refused(Exception):
    """A refusal: its reason, and the remedy."""


class UnusableSettings(Refused):
    """AWS settings from which boto3 cannot make a session, a client or credentials. It raises its own and Python's errors
    then."""

    def __init__(self, error):
        reason = one_line(error) or type(error).__name__
        super().__init__(
            f"the AWS settings cannot be used ({reason}): check the AWS_ variables of the environment, and the files of"
            " aws configure"
        )


def one_line(error):
    return " ".join(str(error).split())


def credentials_of(session):
    """Returns the credentials, or `None` if there are none. Raises `UnusableSettings`, or botocore's error if a source of
    credentials refuses or cannot be reached."""
    try:
        credentials = session.get_credentials()
        return credentials and credentials.get_frozen_credentials()
    except botocore.exceptions.ConfigParseError as error:
        raise UnusableSettings(error) from error
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
        raise
    except Exception as error:
        raise UnusableSettings(error) from error


def client_of(session, service, **options):
    """Returns a client of a service, or raises `UnusableSettings`."""
    try:
        return session.client(service, **options)
    except Exception as error:
        raise UnusableSettings(error) from error


class Deployment:
    """One environment's stack."""

    def __init__(self, environment, session=None):
        with open("samconfig.toml", "rb") as file:
            environments = tomllib.load(file)
        commands = {name: section for name, section in environments.items() if isinstance(section, dict)}
        deployable = [name for name, section in commands.items() if "deploy" in section]
        if environment not in deployable:
            raise Refused(f"samconfig.toml has no environment {environment}; there are: {', '.join(deployable)}")
        settings = environments[environment]["deploy"]["parameters"]
        self.name = settings["stack_name"]
        self.region = settings["region"]
        self.session = session or boto3.Session(region_name=self.region)

    def client(self, service):
        credentials_of(self.session)
        return client_of(self.session, service, region_name=self.region)

    def describe(self):
        """Returns CloudFormation's description of the stack."""
        return self.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"][0]

    def outputs(self):
        return {output["OutputKey"]: output["OutputValue"] for output in self.describe().get("Outputs", [])}

    def parameters(self):
        return {one["ParameterKey"]: one["ParameterValue"] for one in self.describe().get("Parameters", [])}


def is_first_deployment_that_failed(status):
    """Returns whether a stack in this state has only the remains of a failed first deployment."""
    return status in NEVER_CREATED


def settings_of_a_deployed_stack(deployment):
    """Returns the unset parameters that need an existing stack, as NAME=VALUE."""
    settings = []
    if deployment.parameters().get("Established") != "true":
        settings.append("Established=true")
    if url := sign_in_url(deployment):
        settings.append(f"SignInUrl={url}")
    return settings


def sign_in_url(deployment):
    """Returns the return address that the user pool lacks, or an empty string if it lacks none. The distribution's own name
    is known only after the first deployment."""
    parameters, outputs = deployment.parameters(), deployment.outputs()
    if "UserPoolId" not in outputs or parameters["DomainName"] or parameters["SignInUrl"]:
        return ""
    return f"{outputs['Url']}/"


def waiting_votes(deployment, outputs):
    """Returns the numbers of messages in the queue of votes and in its dead-letter queue."""
    sqs = deployment.client("sqs")
    counts = []
    for key in ("VotesQueueUrl", "VotesDeadLetterQueueUrl"):
        attributes = sqs.get_queue_attributes(QueueUrl=outputs[key], AttributeNames=QUEUE_COUNTS)["Attributes"]
        counts.append(sum(int(attributes[name]) for name in QUEUE_COUNTS))
    return counts


def check_nothing_is_lost(deployment, discards_queued):
    """Raises `Refused` with every reason why a deletion of the stack would lose votes, or would fail half-way."""
    outputs = deployment.outputs()
    reasons = []
    waiting, dead = waiting_votes(deployment, outputs)
    if waiting and not discards_queued:
        reasons.append(f"{waiting} votes are in the queue: wait until they are counted")
    if dead and not discards_queued:
        reasons.append(f"{dead} votes are in the dead-letter queue: send them back with `make redrive`")
    if (waiting or dead) and not discards_queued:
        reasons.append("or give them up with DISCARD_QUEUED=yes")
    if "DatabaseId" in outputs:
        reasons.extend(database_objections(deployment, outputs["DatabaseId"]))
    if reasons:
        raise Refused("\n  ".join([f"{deployment.name} is not deleted:", *reasons]))


def database_objections(deployment, database):
    instance = instance_of(deployment, database)
    if instance is None or instance["DBInstanceStatus"] == "deleting":
        return  # An earlier attempt got this far.
    if instance["DeletionProtection"]:
        yield "the database is protected: deploy with DeletionProtection=false (samconfig.toml) first"
    if instance["DBInstanceStatus"] != "available":
        yield f"the database is {instance['DBInstanceStatus']}: no final snapshot can be made of it"


def instance_of(deployment, database):
    """Returns RDS's description of the database, or `None` if it does not exist."""
    try:
        return deployment.client("rds").describe_db_instances(DBInstanceIdentifier=database)["DBInstances"][0]
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] == "DBInstanceNotFound":
            return None
        raise


def delete_database(deployment, database):
    """Deletes the database, and waits for the end of the deletion. Takes a final snapshot if the state of the database allows
    one; `database_objections` reports the other states, unless the database was never in use. Idempotent."""
    instance = instance_of(deployment, database)
    if instance is None:
        return
    rds = deployment.client("rds")
    if instance["DBInstanceStatus"] == "available":
        snapshot = f"{deployment.name}-final-{datetime.datetime.now(datetime.UTC):%Y-%m-%d-%H-%M-%S}"
        rds.delete_db_instance(
            DBInstanceIdentifier=database,
            SkipFinalSnapshot=False,
            FinalDBSnapshotIdentifier=snapshot,
            DeleteAutomatedBackups=False,
        )
        print(f"The ledger is being deleted; its final snapshot is {snapshot}.")
    elif instance["DBInstanceStatus"] != "deleting":
        rds.delete_db_instance(DBInstanceIdentifier=database, SkipFinalSnapshot=True)
    rds.get_waiter("db_instance_deleted").wait(DBInstanceIdentifier=database, WaiterConfig=DELETION_WAITS)


def empty(deployment, bucket):
    """Deletes the objects and unfinished uploads of a bucket: CloudFormation deletes only empty buckets."""
    s3 = deployment.client("s3")
    for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
        for one in page.get("Uploads", []):
            s3.abort_multipart_upload(Bucket=bucket, Key=one["Key"], UploadId=one["UploadId"])
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        keys = [{"Key": one["Key"]} for one in page.get("Contents", [])]
        if keys:
            answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
            if answer.get("Errors"):
                raise Refused(f"{bucket} cannot be emptied: {answer['Errors'][0]['Message']}")


def resources_of(deployment):
    """Yields (logical id, type, physical id) of each existing resource of the stack."""
    lists = deployment.client("cloudformation").get_paginator("list_stack_resources")
    for page in lists.paginate(StackName=deployment.name):
        for one in page["StackResourceSummaries"]:
            if one["ResourceStatus"] != "DELETE_COMPLETE" and one.get("PhysicalResourceId"):
                yield one["LogicalResourceId"], one["ResourceType"], one["PhysicalResourceId"]


def delete_stack(deployment):
    """Deletes the stack, and before it everything that CloudFormation would not delete: the database, which the template
    retains so that only this function can delete the ledger, and the contents of its buckets. Idempotent."""
    cloudformation = deployment.client("cloudformation")
    stack_id = deployment.describe()["StackId"]
    template = cloudformation.get_template(StackName=deployment.name, TemplateStage="Processed")["TemplateBody"]
    for name, kind, physical_id in resources_of(deployment):
        policy = template["Resources"].get(name, {}).get("DeletionPolicy", "Delete")
        if kind == "AWS::RDS::DBInstance":
            delete_database(deployment, physical_id)
        elif kind == "AWS::S3::Bucket" and policy == "Delete":
            empty(deployment, physical_id)
    cloudformation.delete_stack(StackName=deployment.name)
    print("Deleting. The functions' network interfaces take Lambda up to 40 minutes.")
    waiter = cloudformation.get_waiter("stack_delete_complete")
    waiter.wait(StackName=stack_id, WaiterConfig=DELETION_WAITS)


def clear(deployment):
    """Deletes the remains of a failed first deployment, which CloudFormation cannot update, so that it can be repeated.
    Touches no stack that was ever complete."""
    try:
        status = deployment.describe()["StackStatus"]
    except botocore.exceptions.ClientError as error:
        if "does not exist" in str(error):
            return
        raise
    if is_first_deployment_that_failed(status):
        print(f"The first deployment of {deployment.name} failed ({status}): deleting its remains.")
        delete_stack(deployment)


def destroy(deployment, confirmed, discards_queued):
    """Deletes the stack. A final snapshot of the ledger and the voters' key stay."""
    if is_first_deployment_that_failed(deployment.describe()["StackStatus"]):
        clear(deployment)
        return
    check_nothing_is_lost(deployment, discards_queued)
    if not confirmed:
        print(f"This deletes {deployment.name} in {deployment.region}; a final snapshot of the ledger stays.")
        confirmed = input("Type its name to confirm: ")
    if confirmed != deployment.name:
        raise Refused(f"{deployment.name} is not deleted: CONFIRM must be its name")
    delete_stack(deployment)
    print(f"{deployment.name} is deleted. Kept: the ledger's final snapshot (RDS), the voters' key (Secrets")
    print("Manager), and the buckets of results and of access logs.")


def check_name(email):
    """Raises `Refused` for a name that an account must not have."""
    if not SUPPORTED_NAME.fullmatch(email):
        raise Refused("EMAIL may hold A-Z a-z 0-9 . _ : | @ + = / - and nothing else, 128 characters at most")


def add_to_crew(deployment, email):
    """Makes an account of the crew, or adds a voter's account to it. Idempotent."""
    check_name(email)
    pool = user_pool(deployment)
    cognito = deployment.client("cognito-idp")
    try:
        cognito.admin_create_user(
            UserPoolId=pool,
            Username=email,
            MessageAction="SUPPRESS",
            UserAttributes=[{"Name": "email", "Value": email}, {"Name": "email_verified", "Value": "true"}],
        )
    except cognito.exceptions.UsernameExistsException:
        pass
    cognito.admin_set_user_password(
        UserPoolId=pool, Username=email, Password=getpass.getpass(f"Password of {email}: "), Permanent=True
    )
    cognito.admin_add_user_to_group(UserPoolId=pool, Username=email, GroupName=CREW_GROUP)
    print(f"{email} is in the group {CREW_GROUP}")


def print_token(deployment, email):
    """Prints a token of a user of the user pool, valid for 12 hours."""
    check_name(email)
    pool = user_pool(deployment)
    answer = deployment.client("cognito-idp").admin_initiate_auth(
        UserPoolId=pool,
        ClientId=deployment.outputs()["ClientId"],
        AuthFlow="ADMIN_USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": email, "PASSWORD": getpass.getpass(f"Password of {email}: ")},
    )
    if "AuthenticationResult" not in answer:
        raise Refused(f"{email} must answer the challenge {answer['ChallengeName']}: sign in through a browser")
    print(answer["AuthenticationResult"]["AccessToken"])


def user_pool(deployment):
    pool = deployment.outputs().get("UserPoolId")
    if not pool:
        raise Refused(f"{deployment.name} has no user pool: it uses the issuer in JwtIssuer")
    return pool


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["outputs", "stack", "clear", "settings", "destroy", "crew", "token"])
    parser.add_argument("--environment", required=True)
    parser.add_argument("--email")
    arguments = parser.parse_args()
    deployment = Deployment(arguments.environment)
    if arguments.task in ("crew", "token") and not arguments.email:
        raise Refused(f"make {arguments.task} needs EMAIL=…")
    match arguments.task:
        case "outputs":
            for key, value in deployment.outputs().items():
                print(f"{key:24} {value}")
        case "stack":
            print(f"--stack {deployment.name} --region {deployment.region}")
        case "clear":
            clear(deployment)
        case "settings":
            print(*settings_of_a_deployed_stack(deployment))
        case "destroy":
            destroy(deployment, os.environ.get("CONFIRM"), os.environ.get("DISCARD_QUEUED") == "yes")
        case "crew":
            add_to_crew(deployment, arguments.email)
        case "token":
            print_token(deployment, arguments.email)


if __name__ == "__main__":
    try:
        main()
    except Refused as reason:
        sys.exit(str(reason))
    except botocore.exceptions.ClientError as refusal:
        sys.exit(f"AWS refused the call: {refusal}")
    except botocore.exceptions.BotoCoreError as problem:
        sys.exit(f"AWS cannot be asked: {problem} (make preflight says more)")
