"""Tests SQS on the AWS endpoint with boto3: python sqs_boto3.py http://localhost:4566

The script creates and deletes its own queues, so that it can run against a stack in use. It prints one line per
capability; the first difference from SQS ends it with a traceback.
"""

import json
import sys
import time
import uuid

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

# Long enough for a loaded machine; reached only by a defect.
TIMEOUT_SECONDS = 20


def connect(endpoint):
    return boto3.client(
        "sqs",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=TIMEOUT_SECONDS + 10),
    )


def arn(sqs, url):
    return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


def receive(sqs, url, count=1, **options):
    """Receives until there are `count` messages."""
    messages, deadline = [], time.monotonic() + TIMEOUT_SECONDS
    while len(messages) < count:
        assert time.monotonic() < deadline, f"only {len(messages)} of {count} messages came"
        answer = sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=min(10, count - len(messages)),
            WaitTimeSeconds=1,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
            **options,
        )
        messages += answer.get("Messages", [])
    return messages


def empty(sqs, url):
    return "Messages" not in sqs.receive_message(QueueUrl=url)


def fails(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error.response
        assert error.response["Error"]["Message"]
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        return error
    raise AssertionError(f"{call.__name__} should have failed with {code}")


def send_and_receive(sqs, url, _):
    before = int(time.time() * 1000)
    attributes = {
        "requestId": {"DataType": "String", "StringValue": "r ÄÖ"},
        "n": {"DataType": "Number.int", "StringValue": "42"},
        "raw": {"DataType": "Binary", "BinaryValue": b"\x00\x01\xff"},
    }
    sent = sqs.send_message(QueueUrl=url, MessageBody='{"poll":1} "ü"', MessageAttributes=attributes, MessageGroupId="auth0|alice")
    (message,) = receive(sqs, url)
    assert message["MessageId"] == sent["MessageId"] and message["Body"] == '{"poll":1} "ü"'
    assert message["MD5OfBody"] == sent["MD5OfMessageBody"]
    assert message["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]
    for name, attribute in attributes.items():
        got = {key: message["MessageAttributes"][name][key] for key in attribute}
        assert got == attribute, got
    system = message["Attributes"]
    assert system["ApproximateReceiveCount"] == "1" and system["MessageGroupId"] == "auth0|alice"
    assert before - 1000 <= int(system["SentTimestamp"]) <= int(system["ApproximateFirstReceiveTimestamp"])
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert empty(sqs, url)


def attribute_names_filter(sqs, url, _):
    attributes = {name: {"DataType": "String", "StringValue": "x"} for name in ("a.one", "a.two", "b")}
    sqs.send_message(QueueUrl=url, MessageBody="m", MessageAttributes=attributes)
    answer = sqs.receive_message(QueueUrl=url, MessageAttributeNames=["a.*"], AttributeNames=["SentTimestamp"])
    (message,) = answer["Messages"]
    assert sorted(message["MessageAttributes"]) == ["a.one", "a.two"]
    assert list(message["Attributes"]) == ["SentTimestamp"]
    sqs.purge_queue(QueueUrl=url)


def batches(sqs, url, _):
    entries = [{"Id": str(n), "MessageBody": f"body {n}"} for n in range(9)] + [{"Id": "bad", "MessageBody": "\x01"}]
    answer = sqs.send_message_batch(QueueUrl=url, Entries=entries)
    assert len(answer["Successful"]) == 9
    assert [(f["Id"], f["Code"], f["SenderFault"]) for f in answer["Failed"]] == [("bad", "InvalidMessageContents", True)]
    messages = receive(sqs, url, 9)
    assert {m["Body"] for m in messages} == {f"body {n}" for n in range(9)}
    handles = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)]
    changed = sqs.change_message_visibility_batch(
        QueueUrl=url, Entries=[{**handle, "VisibilityTimeout": 60} for handle in handles]
    )
    assert len(changed["Successful"]) == 9
    deleted = sqs.delete_message_batch(QueueUrl=url, Entries=handles + [{"Id": "bad", "ReceiptHandle": "nonsense"}])
    assert len(deleted["Successful"]) == 9 and deleted["Failed"][0]["Code"] == "ReceiptHandleIsInvalid"
    assert counts(sqs, url) == (0, 0, 0)


def counts(sqs, url):
    names = [f"ApproximateNumberOfMessages{suffix}" for suffix in ("", "NotVisible", "Delayed")]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return tuple(int(attributes[name]) for name in names)


def visibility(sqs, url, _):
    sent = sqs.send_message(QueueUrl=url, MessageBody="m")
    (first,) = receive(sqs, url, VisibilityTimeout=60)
    assert empty(sqs, url) and counts(sqs, url) == (0, 1, 0)
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=1)
    (second,) = receive(sqs, url, VisibilityTimeout=0)
    assert second["MessageId"] == sent["MessageId"] and second["ReceiptHandle"] != first["ReceiptHandle"]
    assert second["Attributes"]["ApproximateReceiveCount"] == "2"
    assert second["Attributes"]["SentTimestamp"] == first["Attributes"]["SentTimestamp"]
    handle = {"QueueUrl": url, "ReceiptHandle": second["ReceiptHandle"]}
    fails("AWS.SimpleQueueService.MessageNotInflight", sqs.change_message_visibility, VisibilityTimeout=5, **handle)
    sqs.delete_message(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"])
    assert counts(sqs, url) == (1, 0, 0), "only the latest receipt handle deletes"
    sqs.delete_message(**handle)
    assert counts(sqs, url) == (0, 0, 0)


def delay_and_long_poll(sqs, url, _):
    start = time.monotonic()
    assert "Messages" not in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1)
    assert time.monotonic() - start >= 0.9, "a long poll waits"
    sqs.send_message(QueueUrl=url, MessageBody="later", DelaySeconds=1)
    assert counts(sqs, url) == (0, 0, 1) and empty(sqs, url)
    answer = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=TIMEOUT_SECONDS)
    assert answer["Messages"][0]["Body"] == "later"
    sqs.delete_message(QueueUrl=url, ReceiptHandle=answer["Messages"][0]["ReceiptHandle"])


def queue_attributes(sqs, url, _):
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "45", "MaximumMessageSize": "1024"})
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert attributes["VisibilityTimeout"] == "45" and attributes["MessageRetentionPeriod"] == "345600"
    fails("InvalidParameterValue", sqs.send_message, QueueUrl=url, MessageBody="x" * 1025)
    fails("InvalidAttributeValue", sqs.set_queue_attributes, QueueUrl=url, Attributes={"DelaySeconds": "901"})
    fails("InvalidAttributeName", sqs.get_queue_attributes, QueueUrl=url, AttributeNames=["Nope"])
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "30", "MaximumMessageSize": "1048576"})


def names_and_lists(sqs, url, _):
    name = url.rsplit("/", 1)[1]
    assert sqs.get_queue_url(QueueName=name)["QueueUrl"] == url
    assert sqs.list_queues(QueueNamePrefix=name)["QueueUrls"] == [url, f"{url}-dead"]
    assert sqs.create_queue(QueueName=name)["QueueUrl"] == url
    fails("QueueAlreadyExists", sqs.create_queue, QueueName=name, Attributes={"DelaySeconds": "7"})
    missing = fails("AWS.SimpleQueueService.NonExistentQueue", sqs.get_queue_url, QueueName="no-such-queue")
    assert isinstance(missing, sqs.exceptions.QueueDoesNotExist)


def refusals(sqs, url, _):
    entry = {"Id": "1", "MessageBody": "m"}
    batch = {"call": sqs.send_message_batch, "QueueUrl": url}
    fails("AWS.SimpleQueueService.EmptyBatchRequest", Entries=[], **batch)
    fails("AWS.SimpleQueueService.BatchEntryIdsNotDistinct", Entries=[entry, entry], **batch)
    eleven = [{**entry, "Id": str(n)} for n in range(11)]
    fails("AWS.SimpleQueueService.TooManyEntriesInBatchRequest", Entries=eleven, **batch)
    fails("AWS.SimpleQueueService.InvalidBatchEntryId", Entries=[{**entry, "Id": "a b"}], **batch)
    long = [{"Id": str(n), "MessageBody": "x" * 600_000} for n in range(2)]
    fails("AWS.SimpleQueueService.BatchRequestTooLong", Entries=long, **batch)
    fails("InvalidMessageContents", sqs.send_message, QueueUrl=url, MessageBody="\x00")
    fails("MissingParameter", sqs.send_message, QueueUrl=url, MessageBody="")
    fails("InvalidParameterValue", sqs.send_message, QueueUrl=url, MessageBody="m", DelaySeconds=901)
    fails("InvalidParameterValue", sqs.receive_message, QueueUrl=url, MaxNumberOfMessages=11)
    fails("InvalidParameterValue", sqs.receive_message, QueueUrl=url, WaitTimeSeconds=21)
    fails("ReceiptHandleIsInvalid", sqs.delete_message, QueueUrl=url, ReceiptHandle="nonsense")
    fails("AWS.SimpleQueueService.UnsupportedOperation", sqs.tag_queue, QueueUrl=url, Tags={"a": "b"})
    for group in ("", "v" * 129, "anna b", "joão"):
        fails("InvalidParameterValue", sqs.send_message, QueueUrl=url, MessageBody="m", MessageGroupId=group)
    many = {f"a{n}": {"DataType": "String", "StringValue": "x"} for n in range(11)}
    fails("InvalidParameterValue", sqs.send_message, QueueUrl=url, MessageBody="m", MessageAttributes=many)
    assert empty(sqs, url)


def dead_letters(sqs, url, dead_letter_url):
    policy = {"deadLetterTargetArn": arn(sqs, dead_letter_url), "maxReceiveCount": "2"}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": json.dumps(policy)})
    assert sqs.list_dead_letter_source_queues(QueueUrl=dead_letter_url)["queueUrls"] == [url]
    sent = sqs.send_message(QueueUrl=url, MessageBody="poison")
    for _ in range(2):
        receive(sqs, url, VisibilityTimeout=0)
    assert empty(sqs, url), "the third receive gives it up"
    (dead,) = receive(sqs, dead_letter_url, VisibilityTimeout=0)
    assert dead["MessageId"] == sent["MessageId"]
    assert dead["Attributes"]["DeadLetterQueueSourceArn"] == arn(sqs, url)


def move_back(sqs, url, dead_letter_url):
    fails("InvalidParameterValue", sqs.start_message_move_task, SourceArn=arn(sqs, url))
    fails("ResourceNotFoundException", sqs.start_message_move_task, SourceArn=arn(sqs, url) + "-not")
    sqs.start_message_move_task(SourceArn=arn(sqs, dead_letter_url))
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while (task := sqs.list_message_move_tasks(SourceArn=arn(sqs, dead_letter_url))["Results"][0])["Status"] == "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert (task["Status"], task["ApproximateNumberOfMessagesMoved"]) == ("COMPLETED", 1), task
    assert empty(sqs, dead_letter_url)
    (back,) = receive(sqs, url)
    assert back["Body"] == "poison" and back["Attributes"]["ApproximateReceiveCount"] == "1"
    sqs.delete_message(QueueUrl=url, ReceiptHandle=back["ReceiptHandle"])


CAPABILITIES = [
    ("send, receive, delete; MD5 of body and attributes", send_and_receive),
    ("attribute names select what a receive returns", attribute_names_filter),
    ("batches of sends, deletes and visibility changes", batches),
    ("visibility timeouts, receive counts, receipt handles", visibility),
    ("delayed messages and long polling", delay_and_long_poll),
    ("queue attributes", queue_attributes),
    ("queue names and lists", names_and_lists),
    ("refusals with SQS's error codes", refusals),
    ("redrive to the dead-letter queue by receive count", dead_letters),
    ("StartMessageMoveTask moves dead letters back", move_back),
]


def main(endpoint):
    sqs = connect(endpoint)
    name = f"boto3-check-{uuid.uuid4().hex[:12]}"
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    dead_letter_url = sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
    try:
        for capability, check in CAPABILITIES:
            check(sqs, url, dead_letter_url)
            print(f"ok: {capability}")
    finally:
        sqs.delete_queue(QueueUrl=url)
        sqs.delete_queue(QueueUrl=dead_letter_url)
    fails("AWS.SimpleQueueService.NonExistentQueue", sqs.send_message, QueueUrl=url, MessageBody="m")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python sqs_boto3.py <endpoint URL>")
    main(sys.argv[1])
