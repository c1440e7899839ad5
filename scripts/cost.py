"""Computes the cost tables of docs/OPERATIONS.md from docs/prices.json and docs/measured.json.

Prints them; with --write inserts them into the page, and the cost of each pace into the desk's; with --check fails if one
differs. To add a cost: a price in docs/prices.json, and a row in `idle`, `votes_cost` or `viewers_cost`; then --write.
"""

import argparse
import json
import pathlib
import re
import sys

from sam_template import of_type, read_source

PAGE = pathlib.Path("docs/OPERATIONS.md")
BEGIN, END = "<!-- scripts/cost.py writes this -->\n", "<!-- to here -->\n"
IDLE_MAX = 70  # USD a month: the price of the predecessor system.
HOURS = 730  # Of a month.
MILLION = 1_000_000
GB = 1_000_000_000
PEAK_VOTES_PER_SECOND = 9_000  # The template's VotesThrottleRate.

# CloudFront's additional metrics, each billed: hit rate, origin latency, and the rates of six errors.
EDGE_METRICS = 8
# Caches between the edge and the origin; with Origin Shield only one of them asks. A file has one encoding.
REGIONAL_CACHES = 15
# How often a page requests a poll's file, `Pace` in shared/domain. By the clock it is a tenth of the distance to the
# nearest opening or close, within these bounds.
PACES = ["auto", 3, 5, 10]
AUTO_SECONDS_MIN, AUTO_SECONDS_MAX, AUTO_PART = 3, 10, 10
# A page adds up to a half to each interval, `spread` in frontend/shared/feed.js.
SPREAD = 1.25
DESK = pathlib.Path("frontend/control/pace.js")
# Requests of the queue, each billed as one: a vote is sent by itself, received with nine others and deleted with nine.
QUEUE_REQUESTS_PER_VOTE = 1 + 1 / 10 + 1 / 10
# A vote's line in the gateway's access log: values of the usual length for each field of its format.
ACCESS_LOG_VALUES = {
    "requestId": "JKJaXmPLvHcESHA=",
    "requestTime": "21/Nov/2026:20:15:00 +0000",
    "routeKey": "POST /votes",
    "status": "202",
    "responseLength": "378",
    "responseLatency": "18",
    "integrationLatency": "16",
    "integrationErrorMessage": "-",
    "authorizer.error": "-",
}
# Lambda polls an empty queue with 5 pollers, each for 20 s.
IDLE_QUEUE_REQUESTS = 5 * 3 * 60 * HOURS


def read(name):
    return json.loads(pathlib.Path("docs", name).read_text(encoding="utf-8"))


PRICES = read("prices.json")
MEASURED = read("measured.json")
TEMPLATE = read_source()
RESOURCES = TEMPLATE["Resources"]


def parameter(name):
    """Returns a parameter's default."""
    return TEMPLATE["Parameters"][name]["Default"]


def alarm_metrics():
    """Yields the number of metrics of each alarm: every metric is billed, an expression is not."""
    for _, alarm in of_type(RESOURCES, "AWS::CloudWatch::Alarm"):
        metrics = alarm["Properties"].get("Metrics")
        yield 1 if metrics is None else sum("Expression" not in metric for metric in metrics)


def priced(price, *words):
    """Returns the price with this name, which contains the template's default; exits if there is none."""
    name = " ".join(words)
    if name not in price:
        sys.exit(f"docs/prices.json has no price for {name}, which is the template's default")
    return price[name]


def access_log_bytes():
    """Returns the size of the gateway's log line for one vote."""
    line = RESOURCES["Api"]["Properties"]["AccessLogSettings"]["Format"]
    return len(re.sub(r"\$context\.([A-Za-z.]+)", lambda name: ACCESS_LOG_VALUES[name[1]], line))


def edge_traffic(gigabytes):
    """Returns the price of the edge's monthly traffic, by its tiers."""
    total = 0.0
    for size, price in PRICES["edge GB"]:
        step = gigabytes if size is None else min(gigabytes, size)
        total += step * price
        gigabytes -= step
    return total


def idle():
    hour, month = PRICES["hour"], PRICES["month"]
    database, node, storage = parameter("DatabaseClass"), parameter("CacheNodeType"), parameter("DatabaseStorageGb")
    nodes = RESOURCES["Cache"]["Properties"]["NumCacheClusters"]
    # The optional rule, against bots, is off by default.
    rules = sum("Name" in rule for rule in RESOURCES["WebAcl"]["Properties"]["Rules"])
    secrets = len(list(of_type(RESOURCES, "AWS::SecretsManager::Secret")))
    functions = (function["Properties"] for _, function in of_type(RESOURCES, "AWS::Serverless::Function"))
    queues = sum(event["Type"] == "SQS" for function in functions for event in function.get("Events", {}).values())
    zones = sum(len(endpoint["Properties"].get("SubnetIds", [])) for _, endpoint in of_type(RESOURCES, "AWS::EC2::VPCEndpoint"))
    return {
        f"PostgreSQL, {database}": priced(hour, "database", database) * HOURS,
        f"its storage, {storage} GB": storage * month["storage gp3, GB"],
        f"Valkey, {nodes} × {node}": nodes * priced(hour, "cache", node, "(Valkey)") * HOURS,
        f"firewall, {rules} rules; with `Waf=off` nothing": month["firewall"] + rules * month["firewall rule"],
        "dashboard": month["dashboard"],
        "the edge's additional metrics": EDGE_METRICS * month["edge metric"],
        f"alarms, {sum(alarm_metrics())} metrics": sum(alarm_metrics()) * month["alarm metric"],
        f"secrets, {secrets}": secrets * month["secret"],
        f"endpoint to the queue, in {zones} zone": zones * hour["endpoint in a zone"] * HOURS,
        "a check each minute for polls to publish": publishing(HOURS * 60, MEASURED["idle_look_ms"]),
        f"polling {queues} empty queues": queues * IDLE_QUEUE_REQUESTS / MILLION * PRICES["million"]["queue requests"],
        "network with its endpoint to S3, gateway, edge, functions, user pool, logs": 0.0,
    }


def publishing(invocations, duration_ms):
    gb_seconds = invocations * duration_ms / 1_000 * MEASURED["memory_mb"] / 1_024
    return invocations / MILLION * PRICES["million"]["invocations"] + gb_seconds * PRICES["GB-second arm64"]


def publishing_sentence():
    """Returns the sentence on an open poll's hour: one function at work throughout, the list and its file every 3 s."""
    files = 3_600 / MEASURED["written_every_seconds"] / MILLION * PRICES["million"]["files written"]
    hour = publishing(60, 60_000) + files
    return f"Publishing an open poll: {hour + files:.3f} USD an hour, {files:.3f} more for each poll that is open beside it.\n"


def votes_cost(votes, kind, queued):
    """Returns the cost of this many votes in one month, by item. `kind`: the measurement, of a batch or of single votes."""
    figures, per_million = MEASURED[kind], PRICES["million"]
    invocations = votes / figures["votes"]
    gb_seconds = invocations * figures["duration_ms"] / 1_000 * MEASURED["memory_mb"] / 1_024
    log_bytes = votes * access_log_bytes() + invocations * figures["log_bytes"]
    queue_requests = votes * QUEUE_REQUESTS_PER_VOTE if queued else 0
    return {
        "edge": votes / MILLION * per_million["edge requests"]
        + edge_traffic(votes * MEASURED["accepted_bytes"] / GB),
        "firewall": votes / MILLION * per_million["firewall requests"],
        "gateway": votes / MILLION * per_million["gateway requests"],
        "queue": queue_requests / MILLION * per_million["queue requests"],
        "functions": invocations / MILLION * per_million["invocations"] + gb_seconds * PRICES["GB-second arm64"],
        "logs": log_bytes / GB * PRICES["log GB"],
        "ledger, a month": votes * MEASURED["ledger_bytes_per_vote"] / GB * PRICES["month"]["storage gp3, GB"],
    }


def requests_an_hour(pace):
    """Returns the requests of a page in an hour of one poll, from its opening to its close."""
    seconds = 3_600
    if pace != "auto":
        return seconds / (pace * SPREAD)
    distances = (min(second, seconds - second) for second in range(seconds))
    intervals = (min(max(distance // AUTO_PART, AUTO_SECONDS_MIN), AUTO_SECONDS_MAX) for distance in distances)
    return sum(1 / (interval * SPREAD) for interval in intervals)


def viewers_cost(viewers, pace):
    """Returns the cost of viewers who follow a poll's file for an hour, by item."""
    per_million = PRICES["million"]
    requests = viewers * requests_an_hour(pace)
    asked = origin_requests()
    return {
        "edge requests": requests / MILLION * per_million["edge requests"],
        "edge traffic": edge_traffic(requests * MEASURED["file_bytes"] / GB),
        "origin, with Origin Shield": asked / MILLION * (per_million["files read"] + per_million["Origin Shield requests"]),
        "firewall; with `Waf=off` nothing": requests / MILLION * per_million["firewall requests"],
    }


def origin_requests():
    """Returns the upper bound for a file and an hour: each of the edge's regional caches asks once for each expiry."""
    return 3_600 / MEASURED["written_every_seconds"] * REGIONAL_CACHES


def usd(amount):
    return f"{amount:,.2f}" if amount < 100 else f"{amount:,.0f}"


def table(header, rows):
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def idle_table():
    costs = idle()
    total, firewall = sum(costs.values()), next(cost for what, cost in costs.items() if what.startswith("firewall"))
    rows = [[what, usd(amount)] for what, amount in costs.items()]
    rows += [["**together**", f"**{usd(total)}**"], ["with `Waf=off`", usd(total - firewall)]]
    return table(["idle, USD a month", ""], rows)


def votes_table():
    volumes = {"700 k": 0.7, "1 M": 1, "10 M": 10, "100 M": 100, "1.5 billion": 1_500}
    volumes = {name: millions * MILLION for name, millions in volumes.items()}
    ours = {name: votes_cost(votes, "batch", True) for name, votes in volumes.items()}
    first = {name: votes_cost(votes, "single", False) for name, votes in volumes.items()}
    rows = [[what, *(usd(costs[what]) for costs in ours.values())] for what in ours["1 M"]]
    rows.append(["**together**", *(f"**{usd(sum(costs.values()))}**" for costs in ours.values())])
    rows.append(["one invocation a vote, together", *(usd(sum(costs.values())) for costs in first.values())])
    for kind, label in (("batch", "invocations and commits"), ("single", "one invocation a vote: the same")):
        rows.append([label, *(f"{votes / MEASURED[kind]['votes']:,.0f}" for votes in volumes.values())])
    return table(["USD for votes", *volumes], rows)


def viewers_table():
    costs = {pace: viewers_cost(MILLION, pace) for pace in PACES}
    rows = [["requests of a page", *(f"{requests_an_hour(pace):,.0f}" for pace in PACES)]]
    rows += [[what, *(usd(of[what]) for of in costs.values())] for what in costs["auto"]]
    totals = [sum(of.values()) for of in costs.values()]
    firewall = [list(of.values())[-1] for of in costs.values()]
    rows.append(["**together**", *(f"**{usd(total)}**" for total in totals)])
    rows.append(["with `Waf=off`", *(usd(total - off) for total, off in zip(totals, firewall))])
    header = ["USD for a million viewers, one hour, by the poll's pace", "auto", "3 s", "5 s", "10 s"]
    return table(header, rows) + "\n" + origin_sentence()


def desk_line():
    """Returns the line of the desk's script with the cost of each pace, rounded to tens."""
    costs = {str(pace): round(sum(viewers_cost(MILLION, pace).values()), -1) for pace in PACES}
    return "const USD = { " + ", ".join(f'"{pace}": {cost:.0f}' for pace, cost in costs.items()) + " };"


def origin_sentence():
    every = MEASURED["written_every_seconds"]
    asked, in_all = origin_requests(), MILLION * requests_an_hour(3)
    return (
        f"The origin: 3,600 s / {every} s × {REGIONAL_CACHES} regional caches = {asked:,.0f} requests an hour at most for a file,\n"
        f"of {in_all:,.0f} at a pace of 3 s: the edge answers all but 1 in {in_all / asked:,.0f}. The number does not grow with "
        f"the viewers.\n"
    )


def database_sentence():
    article = MEASURED["article"]
    commits_max = article["commits_per_second"] / article["cpu_share_at_that"]
    batch = MEASURED["batch"]["votes"]
    return (
        f"At {PEAK_VOTES_PER_SECOND:,} votes/s one invocation a vote means {PEAK_VOTES_PER_SECOND:,} commits/s, by the "
        f"article's figure ({article['commits_per_second']} commits/s took {article['cpu_share_at_that']:.0%} of its\n"
        f"database) the work of {PEAK_VOTES_PER_SECOND / commits_max:.0f} such databases, each of them idle for the "
        f"rest of the month; batches of {batch} mean {PEAK_VOTES_PER_SECOND / batch:.0f} commits/s.\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if sum(idle().values()) >= IDLE_MAX:
        sys.exit(f"cost: {usd(sum(idle().values()))} USD a month idle, {IDLE_MAX} at most")
    parts = [idle_table(), publishing_sentence(), votes_table(), database_sentence(), viewers_table()]
    computed = "\n".join(parts)
    if not (arguments.check or arguments.write):
        print(computed)
        return
    desk = DESK.read_text(encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    written, end, after = rest.partition(END)
    if not end:
        sys.exit(f"{PAGE} lacks the markers for the tables: {BEGIN.strip()} … {END.strip()}")
    if arguments.write:
        PAGE.write_text(f"{before}{BEGIN}\n{computed}\n{END}{after}", encoding="utf-8")
        DESK.write_text(re.sub(r"^const USD = .*$", desk_line(), desk, flags=re.MULTILINE), encoding="utf-8")
    elif written.strip() != computed.strip():
        sys.exit(f"{PAGE}: the cost tables are not what scripts/cost.py computes: run it with --write")
    elif desk_line() not in desk:
        sys.exit(f"{DESK}: the costs are not what scripts/cost.py computes: run it with --write")
    else:
        print(f"{PAGE}: the cost tables are as computed; {usd(sum(idle().values()))} USD a month idle")


main()
