"""What `make deploy`, `destroy`, `crew` and `token` need to know of a deployed stack, and do to it.

Which stack: the environment ENV of samconfig.toml. Credentials: the AWS SDK's usual ones.
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
# Of a stack that has never been there whole: its creation failed, whatever came of undoing it.
NEVER_CREATED = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED")
# How often, and for how long, a deletion is waited for.
DELETION_WAITS = {"Delay": 15, "MaxAttempts": 240}
# As `is_supported_subject` in shared/domain/src/subject.rs: nothing that means something in JSON, XML, a URL or a log.
SUPPORTED_NAME = re.compile(r"[A-Za-z0-9._:|@+=/-]{1,128}")
QUEUE_COUNTS = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]


class Refused(Exception):
    """Why something is not done, and what to do."""


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
        return self.session.client(service, region_name=self.region)

    def describe(self):
        """The stack as CloudFormation has it."""
        return self.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"][0]

    def outputs(self):
        return {output["OutputKey"]: output["OutputValue"] for output in self.describe().get("Outputs", [])}

    def parameters(self):
        return {one["ParameterKey"]: one["ParameterValue"] for one in self.describe().get("Parameters", [])}


def is_first_deployment_that_failed(status):
    """Whether a stack in this state holds nothing but the leavings of its first deployment."""
    return status in NEVER_CREATED


def settings_of_a_deployed_stack(deployment):
    """Parameters that can be set only when the stack is there, as NAME=VALUE; none where they are set."""
    settings = []
    if deployment.parameters().get("Established") != "true":
        settings.append("Established=true")
    if url := sign_in_url(deployment):
        settings.append(f"SignInUrl={url}")
    return settings


def sign_in_url(deployment):
    """Where the user pool should send people, when it does not yet: the distribution's own name is known only after
    the first deployment. Empty when there is nothing to change."""
    parameters, outputs = deployment.parameters(), deployment.outputs()
    if "UserPoolId" not in outputs or parameters["DomainName"] or parameters["SignInUrl"]:
        return ""
    return f"{outputs['Url']}/"


def waiting_votes(deployment, outputs):
    """Messages in the queue of votes, and in its dead-letter queue."""
    sqs = deployment.client("sqs")
    counts = []
    for key in ("VotesQueueUrl", "VotesDeadLetterQueueUrl"):
        attributes = sqs.get_queue_attributes(QueueUrl=outputs[key], AttributeNames=QUEUE_COUNTS)["Attributes"]
        counts.append(sum(int(attributes[name]) for name in QUEUE_COUNTS))
    return counts


def check_nothing_is_lost(deployment, discards_queued):
    """Raises `Refused` with every reason why deleting the stack would lose votes, or would fail half-way."""
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
        return  # An earlier attempt has come so far.
    if instance["DeletionProtection"]:
        yield "the database is protected: deploy with DeletionProtection=false (samconfig.toml) first"
    if instance["DBInstanceStatus"] != "available":
        yield f"the database is {instance['DBInstanceStatus']}: no final snapshot can be made of it"


def instance_of(deployment, database):
    """The database as RDS has it; `None`: it is gone."""
    try:
        return deployment.client("rds").describe_db_instances(DBInstanceIdentifier=database)["DBInstances"][0]
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] == "DBInstanceNotFound":
            return None
        raise


def delete_database(deployment, database):
    """Deletes the database, and waits until it is gone. A final snapshot stays of one that can have one: of any other
    `database_objections` tells, unless it has never been in use. Safe to repeat."""
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
    """Deletes what is in a bucket, unfinished uploads included: CloudFormation deletes none that holds something."""
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
    """(logical id, type, physical id) of what there is of the stack."""
    lists = deployment.client("cloudformation").get_paginator("list_stack_resources")
    for page in lists.paginate(StackName=deployment.name):
        for one in page["StackResourceSummaries"]:
            if one["ResourceStatus"] != "DELETE_COMPLETE" and one.get("PhysicalResourceId"):
                yield one["LogicalResourceId"], one["ResourceType"], one["PhysicalResourceId"]


def delete_stack(deployment):
    """Deletes the stack, and before it what CloudFormation would not delete: the database, which the template retains,
    so that nothing but this can delete the ledger, and what is in buckets that go. Safe to repeat."""
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
    """Deletes what a first deployment that failed has left, which CloudFormation does not update: so that it can be
    repeated. Touches no stack that has ever been there whole."""
    try:
        status = deployment.describe()["StackStatus"]
    except botocore.exceptions.ClientError as error:
        if "does not exist" in str(error):
            return
        raise
    if is_first_deployment_that_failed(status):
        print(f"The first deployment of {deployment.name} failed ({status}): what it left is deleted.")
        delete_stack(deployment)


def destroy(deployment, confirmed, discards_queued):
    """Deletes the stack; a final snapshot of the ledger and the voters' key stay."""
    if is_first_deployment_that_failed(deployment.describe()["StackStatus"]):
        clear(deployment)
        return
    check_nothing_is_lost(deployment, discards_queued)
    if not confirmed:
        print(f"This deletes {deployment.name} in {deployment.region}; a final snapshot of the ledger stays.")
        confirmed = input("Its name, to go on: ")
    if confirmed != deployment.name:
        raise Refused(f"{deployment.name} is not deleted: CONFIRM is not its name")
    delete_stack(deployment)
    print(f"{deployment.name} is deleted. What stays: the ledger's final snapshot (RDS), the voters' key (Secrets")
    print("Manager), and the buckets of results and of access logs.")


def check_name(email):
    """Raises `Refused` for a name that must not become an account's."""
    if not SUPPORTED_NAME.fullmatch(email):
        raise Refused("EMAIL may hold A-Z a-z 0-9 . _ : | @ + = / - and nothing else, 128 characters at most")


def add_to_crew(deployment, email):
    """Makes a member of the crew, or makes a voter one. Safe to repeat."""
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
    """A token of someone in the user pool, good for 12 hours."""
    check_name(email)
    pool = user_pool(deployment)
    answer = deployment.client("cognito-idp").admin_initiate_auth(
        UserPoolId=pool,
        ClientId=deployment.outputs()["ClientId"],
        AuthFlow="ADMIN_USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": email, "PASSWORD": getpass.getpass(f"Password of {email}: ")},
    )
    if "AuthenticationResult" not in answer:
        raise Refused(f"{email} is asked for {answer['ChallengeName']}: sign in through a browser")
    print(answer["AuthenticationResult"]["AccessToken"])


def user_pool(deployment):
    pool = deployment.outputs().get("UserPoolId")
    if not pool:
        raise Refused(f"{deployment.name} has no user pool of its own: its issuer is JwtIssuer's")
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
        sys.exit(f"AWS refuses: {refusal}")
    except botocore.exceptions.BotoCoreError as problem:
        sys.exit(f"AWS cannot be asked: {problem} (make preflight says more)")
