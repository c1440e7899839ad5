"""The template's parameters as set by samconfig.toml, and the checks that AWS would apply to them. Offline.

To add a check: a generator that yields one line for each problem, with its remedy; name it in `objections` (stops a
deployment) or yield it in `cautions` (does not).
"""

import itertools
import re
import tomllib

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
# The shortest windows that RDS and ElastiCache accept.
DATABASE_WINDOW_MINUTES_MIN = 30
CACHE_WINDOW_MINUTES_MIN = 60
EDGE_REGION = "us-east-1"


def environments():
    """Yields (name, commands) of each deployable environment of samconfig.toml."""
    with open("samconfig.toml", "rb") as file:
        for name, commands in tomllib.load(file).items():
            if isinstance(commands, dict) and "deploy" in commands:
                yield name, commands


def overrides_of(commands, command="deploy"):
    """Returns the values that an environment sets, by parameter."""
    given = commands.get(command, {}).get("parameters", {}).get("parameter_overrides", [])
    return {name: text.strip('"') for name, text in (override.split("=", 1) for override in given)}


def values_of(template, overrides):
    """Returns every parameter's value, as text."""
    defaults = {name: str(declared.get("Default", "")) for name, declared in template["Parameters"].items()}
    return defaults | overrides


def objections(template, overrides, region):
    """Yields one line for each problem, with its remedy."""
    unknown = sorted(overrides.keys() - template["Parameters"].keys())
    if unknown:
        yield f"the template has no parameter {', '.join(unknown)}: correct samconfig.toml"
    values = values_of(template, overrides)
    found = itertools.chain(
        refused_values(template, values),
        broken_rules(template, values),
        missing_partners(values, region),
        windows(values),
    )
    yield from dict.fromkeys(found)


def refused_values(template, values):
    """Yields the values that CloudFormation refuses before a deployment. Hides a secret's value."""
    for name, declared in template["Parameters"].items():
        value = values[name]
        shown = "the value of " + name if declared.get("NoEcho") else f"{name}={value}"
        allowed = [str(one) for one in declared.get("AllowedValues", [])]
        if allowed and value not in allowed:
            yield f"{shown} is refused: use one of {', '.join(allowed)}"
        pattern = declared.get("AllowedPattern")
        if pattern and not re.fullmatch(pattern, value):
            yield f"{shown} is refused: it {declared.get('ConstraintDescription', 'must match ' + pattern)}"
        if declared["Type"] == "Number":
            yield from refused_number(name, value, declared)


def refused_number(name, value, declared):
    try:
        number = float(value)
    except ValueError:
        yield f"{name}={value} is refused: it must be a number"
        return
    lowest, highest = declared.get("MinValue", number), declared.get("MaxValue", number)
    if not float(lowest) <= number <= float(highest):
        span = f"from {declared.get('MinValue', '…')} to {declared.get('MaxValue', '…')}"
        yield f"{name}={value} is refused: it must be {span}"


def broken_rules(template, values):
    for rule in template.get("Rules", {}).values():
        if is_true(rule.get("RuleCondition", True), values):
            for assertion in rule["Assertions"]:
                if not is_true(assertion["Assert"], values):
                    yield assertion["AssertDescription"]


def is_true(condition, values):
    """Evaluates a condition of a rule, with the functions that the template uses."""
    if not isinstance(condition, dict):
        return bool(condition)
    ((function, argument),) = condition.items()
    match function:
        case "Fn::Equals":
            left, right = (values[side["Ref"]] if isinstance(side, dict) else str(side) for side in argument)
            return left == right
        case "Fn::Not":
            return not is_true(argument[0], values)
        case "Fn::And":
            return all(is_true(one, values) for one in argument)
        case "Fn::Or":
            return any(is_true(one, values) for one in argument)
    raise NotImplementedError(f"rules with {function}")


def missing_partners(values, region):
    """Yields the parameters that need another, missing one, as far as CloudFormation's rules cannot say so."""
    if bool(values["SubnetIds"]) != bool(values["SecurityGroupIds"]):
        yield "give both SubnetIds and SecurityGroupIds, or neither"
    if values["SubnetIds"] and not values["DatabaseUrl"]:
        yield "SubnetIds are for stores of your own: give DatabaseUrl and RedisUrl too, or leave them out"
    if values["HostedZoneId"] and not values["DomainName"]:
        yield "HostedZoneId is for DomainName: give both, or leave it out"
    if values["ApiCertificateArn"] and not values["DomainName"]:
        yield "ApiCertificateArn is for DomainName: give both, or leave it out"
    if region != EDGE_REGION and values["DomainName"] and not values["ApiCertificateArn"]:
        yield f"the gateway in {region} wants a certificate from there: give ApiCertificateArn"


def cautions(values, region):
    """Yields the settings that are deployed but may be unintended."""
    if region != EDGE_REGION and values["Waf"] != "off" and not values["WafArn"]:
        yield f"there will be no firewall, since it is made in {EDGE_REGION} only: give WafArn, or set Waf=off"
    if region != EDGE_REGION and values["AccessLogs"] != "off":
        yield f"there will be no access logs, which {EDGE_REGION} alone has: set AccessLogs=off"
    if not values["AlarmEmail"]:
        yield "alarms will reach nobody: give AlarmEmail"
    if values["DomainName"] and not values["HostedZoneId"]:
        yield f"nothing in DNS is changed: afterwards point {values['DomainName']} at the output EdgeDomainName"


def week_minutes(window):
    """Returns (first, last) minute of a window such as tue:08:00-tue:09:00, counted from Monday."""

    def minutes(moment):
        day, hour, minute = moment.split(":")
        return WEEKDAYS.index(day) * DAY_MINUTES + int(hour) * 60 + int(minute)

    first, last = window.split("-")
    return minutes(first), minutes(last)


def day_minutes(window):
    """Returns (first, last) minute of a daily window such as 07:00-07:30; the last may be of the next day."""

    def minutes(moment):
        hour, minute = moment.split(":")
        return int(hour) * 60 + int(minute)

    first, last = (minutes(moment) for moment in window.split("-"))
    return (first, last) if first < last else (first, last + DAY_MINUTES)


def overlap(one, other):
    return one[0] < other[1] and other[0] < one[1]


def windows(values):
    """Yields the windows that AWS refuses, or in which both stores may be away at once."""
    spans = {}
    for name, shortest in (
        ("DatabaseMaintenanceWindow", DATABASE_WINDOW_MINUTES_MIN),
        ("CacheMaintenanceWindow", CACHE_WINDOW_MINUTES_MIN),
    ):
        try:
            spans[name] = week_minutes(values[name])
        except ValueError:
            return  # Already reported, as a value that its pattern refuses.
        first, last = spans[name]
        if last - first < shortest:
            yield f"{name}={values[name]} is refused: it must last {shortest} minutes or more, within one week"
    try:
        first, last = day_minutes(values["DatabaseBackupWindow"])
    except ValueError:
        return
    if last - first < DATABASE_WINDOW_MINUTES_MIN:
        yield f"DatabaseBackupWindow={values['DatabaseBackupWindow']} is refused: it must last 30 minutes or more"
    days = range(-1, len(WEEKDAYS))
    backups = [(day * DAY_MINUTES + first, day * DAY_MINUTES + last) for day in days]
    if any(overlap(spans["DatabaseMaintenanceWindow"], backup) for backup in backups):
        yield "DatabaseBackupWindow is refused: it must lie outside DatabaseMaintenanceWindow on every day"
    if overlap(spans["DatabaseMaintenanceWindow"], spans["CacheMaintenanceWindow"]):
        yield "both stores may be away at once: set DatabaseMaintenanceWindow and CacheMaintenanceWindow apart"


def reserved_concurrency(template, values):
    """Returns the sum of the functions' reserved concurrency."""
    total = 0
    for resource in template["Resources"].values():
        if resource["Type"] in ("AWS::Serverless::Function", "AWS::Lambda::Function"):
            reserved = resource["Properties"].get("ReservedConcurrentExecutions", 0)
            total += int(values[reserved["Ref"]] if isinstance(reserved, dict) else reserved)
    return total
