"""Publishes the pages to a deployed stack: make deploy, make pages, or this with --stack NAME [--region REGION].

Existing files stay, since an open page may still name them. The invalidations queue gets the changed paths, so that
CloudFront serves a new release within seconds; open pages follow within a minute.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import boto3
from botocore.config import Config


def outputs(stack, region):
    """Returns the stack's outputs by name."""
    stacks = boto3.client("cloudformation", region_name=region).describe_stacks(StackName=stack)["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in stacks[0]["Outputs"]}


def assemble(local, folder, issuer, client_id, extra):
    """Runs `local pages`, which writes the files and their list, and returns the list."""
    command = [local, "pages", "--out", folder, "--issuer", issuer, "--client-id", client_id, *extra]
    subprocess.run(command, check=True)
    return json.loads(Path(folder, "manifest.json").read_text(encoding="utf-8"))


def upload(pages, folder, bucket, client):
    """Uploads the files in the list's order, so that no page ever names a missing file."""
    for page in pages:
        client.put_object(
            Bucket=bucket,
            Key=page["key"],
            Body=Path(folder, page["key"]).read_bytes(),
            ContentType=page["contentType"],
            CacheControl=page["cacheControl"],
        )


def invalidate(pages, queue, client):
    """Requests invalidations of the files that are not named after their content; the others never change."""
    paths = [f"/{page['key']}" for page in pages if "immutable" not in page["cacheControl"]]
    client.send_message(QueueUrl=queue, MessageBody=json.dumps({"paths": paths}))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stack", help="name of the deployed stack, whose outputs give the rest")
    parser.add_argument("--region")
    parser.add_argument("--local", default="target/debug/local", help="the program `local`")
    parser.add_argument("--bucket", help="without --stack: the target bucket")
    parser.add_argument("--issuer", help="without --stack: the issuer of tokens")
    parser.add_argument("--client-id", help="without --stack: the client id of the pages at the issuer")
    parser.add_argument("--invalidations-queue", help="without --stack: URL of the invalidations queue; default: none")
    parser.add_argument("--endpoint-url", help="endpoint of another S3 and SQS than AWS's")
    return parser.parse_known_args()


def main():
    given, extra = arguments()
    if given.stack:
        found = outputs(given.stack, given.region)
        given.bucket = found["PagesBucketName"]
        given.invalidations_queue = found["InvalidationsQueueUrl"]
        given.issuer = given.issuer or found["Issuer"]
        given.client_id = given.client_id or found["ClientId"]
    if not (given.bucket and given.issuer and given.client_id):
        sys.exit("publish_pages: give --stack, or --bucket, --issuer and --client-id")
    # A bucket's own host name does not resolve on every machine.
    style = Config(s3={"addressing_style": "path"}) if given.endpoint_url else None
    client = boto3.client("s3", region_name=given.region, endpoint_url=given.endpoint_url, config=style)
    with tempfile.TemporaryDirectory() as folder:
        pages = assemble(given.local, folder, given.issuer, given.client_id, extra)
        upload(pages, folder, given.bucket, client)
    if given.invalidations_queue:
        sqs = boto3.client("sqs", region_name=given.region, endpoint_url=given.endpoint_url)
        invalidate(pages, given.invalidations_queue, sqs)
    print(f"published {len(pages)} files to {given.bucket}")


main()
