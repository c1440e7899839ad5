"""template.yaml as CloudFormation gets it: read, and put through SAM's own transform, offline."""

import os
import sys

import yaml
from samcli.yamlhelper import yaml_parse
from samtranslator.translator.transform import transform

TEMPLATE = "template.yaml"
REGION = "us-east-1"  # The transform wants one; nothing in the template depends on it.
NO_VALUE = {"Ref": "AWS::NoValue"}

failures = []


def expect(condition, message):
    """Collects a failure, so that one run shows them all."""
    if not condition:
        failures.append(message)


def report(success):
    """Ends the program: with the failures if there are any."""
    for failure in failures:
        print(f"{TEMPLATE}: {failure}", file=sys.stderr)
    if failures:
        sys.exit(1)
    print(f"{TEMPLATE}: {success}")


class NoManagedPolicies:
    """Roles are written out in the template: the transform has none to look up."""

    def load(self):
        return {}


def read_source():
    """The template as written, intrinsic functions in their long form."""
    with open(TEMPLATE, encoding="utf-8") as file:
        return yaml_parse(file.read())


def read_transformed():
    """The template as CloudFormation carries it out."""
    os.environ.setdefault("AWS_DEFAULT_REGION", REGION)
    template = read_source()
    for function in template["Resources"].values():
        if function["Type"] == "AWS::Serverless::Function":
            # `sam package` would put the built artifact's place here.
            function["Properties"]["CodeUri"] = "s3://bucket/key"
    return transform(template, {}, NoManagedPolicies())


def of_type(resources, kind):
    """(logical id, resource) of each resource of a type."""
    return ((name, resource) for name, resource in resources.items() if resource["Type"] == kind)


def read_yaml(path):
    """A YAML file without tags."""
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def variables(function):
    """The environment of a transformed function: what is set to AWS::NoValue is not there."""
    environment = function["Properties"].get("Environment", NO_VALUE)
    if environment == NO_VALUE:
        return {}
    return {name: value for name, value in environment["Variables"].items() if value != NO_VALUE}
