"""Reads template.yaml and applies SAM's own transform, offline: the template as CloudFormation gets it."""

import os
import sys

import yaml
from samcli.yamlhelper import yaml_parse
from samtranslator.translator.transform import transform

TEMPLATE = "template.yaml"
REGION = "us-east-1"  # The transform requires one; nothing in the template depends on it.
NO_VALUE = {"Ref": "AWS::NoValue"}

failures = []


def expect(condition, message):
    """Collects a failure unless `condition` holds, so that one run shows all failures."""
    if not condition:
        failures.append(message)


def report(success):
    """Prints the failures and exits with 1, or prints the success."""
    for failure in failures:
        print(f"{TEMPLATE}: {failure}", file=sys.stderr)
    if failures:
        sys.exit(1)
    print(f"{TEMPLATE}: {success}")


class NoManagedPolicies:
    """No managed policies: the template writes out its roles."""

    def load(self):
        return {}


def read_source():
    """Returns the template as written, with intrinsic functions in their long form."""
    with open(TEMPLATE, encoding="utf-8") as file:
        return yaml_parse(file.read())


def read_transformed():
    """Returns the template as CloudFormation executes it."""
    os.environ.setdefault("AWS_DEFAULT_REGION", REGION)
    template = read_source()
    for function in template["Resources"].values():
        if function["Type"] == "AWS::Serverless::Function":
            # `sam package` would insert the artifact's address here.
            function["Properties"]["CodeUri"] = "s3://bucket/key"
    return transform(template, {}, NoManagedPolicies())


def of_type(resources, kind):
    """Yields (logical id, resource) of each resource of a type."""
    return ((name, resource) for name, resource in resources.items() if resource["Type"] == kind)


def read_yaml(path):
    """Reads a YAML file without tags."""
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def variables(function):
    """Returns the environment of a transformed function, without variables that are AWS::NoValue."""
    environment = function["Properties"].get("Environment", NO_VALUE)
    if environment == NO_VALUE:
        return {}
    return {name: value for name, value in environment["Variables"].items() if value != NO_VALUE}
