"""Tests the local AWS endpoint with AWS's own client: invalidations of the stack's distribution.

Argument: the endpoint, such as http://localhost:4566.
"""

import sys
import uuid

import boto3
from botocore.exceptions import ClientError

DISTRIBUTION = "Distribution"


def batch(reference, *paths):
    return {"CallerReference": reference, "Paths": {"Quantity": len(paths), "Items": list(paths)}}


def code_of(call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    return None


def main():
    client = boto3.client(
        "cloudfront",
        endpoint_url=sys.argv[1],
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    create = client.create_invalidation
    reference = str(uuid.uuid4())
    asked = batch(reference, "/boto3/a&b.html", "/boto3/*")
    made = create(DistributionId=DISTRIBUTION, InvalidationBatch=asked)["Invalidation"]
    again = create(DistributionId=DISTRIBUTION, InvalidationBatch=asked)["Invalidation"]
    assert (made["Id"], made["CreateTime"]) == (again["Id"], again["CreateTime"]), again
    shown = client.get_invalidation(DistributionId=DISTRIBUTION, Id=made["Id"])["Invalidation"]
    assert shown["InvalidationBatch"] == asked, shown
    newest = client.list_invalidations(DistributionId=DISTRIBUTION, MaxItems="1")["InvalidationList"]["Items"]
    assert [one["Id"] for one in newest] == [made["Id"]], newest

    other = batch(reference, "/boto3/c")
    code = code_of(create, DistributionId=DISTRIBUTION, InvalidationBatch=other)
    assert code == "InvalidationBatchAlreadyExists", code
    code = code_of(create, DistributionId=DISTRIBUTION, InvalidationBatch=batch("relative", "boto3"))
    assert code == "InvalidArgument", code
    code = code_of(create, DistributionId="E", InvalidationBatch=batch("elsewhere", "/boto3"))
    assert code == "NoSuchDistribution", code
    print("invalidations: created once, shown, listed, refused")


main()
