"""Computes the cost tables of docs/OPERATIONS.md from docs/prices.json and docs/measured.json.

Prints them; with --write inserts them into the page, and the cost of each pace into the desk's; with --check fails if one
differs, as scripts/test_cost.py does. To add a cost: a price in docs/prices.json, and a row in `idle`, `votes_cost` or
`viewers_cost`, whose name says what the figure is made of; then --write.
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
# The interval of the list beside an open poll, LIST_S in frontend/shared/standing.js.
LIST_SECONDS = 60
# The files of the page; the names of a poll; and, after the sign-in, the time and the page once more.
PAGE_FILES, NAMES_FILES, SIGN_IN_FILES = 6, 1, 2
# Functions that look for work each minute, whether there is any or not: ResultsFunction and ExportFunction.
LOOKS = HOURS * 60
EXPORT_MEMORY_MB = 1769
# X-Ray samples a function's first invocation in a second, and a twentieth of the others.
TRACED_SHARE = 1 / 20
ENTRY_BYTES = 32
HOME = "North America"
SECOND = "a second distribution without a firewall for the files"
# Rows that a second distribution without a firewall would save: it would have what is below /results/ and /log/.
LOOKED_UP_FIREWALL, FILES_FIREWALL = "looked up: firewall", "firewall before the files"
DESK = pathlib.Path("frontend/control/pace.js")
# Requests of the queue, each billed as one: a message is sent by itself, received with nine others and deleted with nine.
QUEUE_REQUESTS_PER_MESSAGE = 1 + 1 / 10 + 1 / 10
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


def stepped(amount, steps):
    """Returns the price of a month's amount, by its steps: [size, price], the last one without a size."""
    total = 0.0
    for size, price in steps:
        step = amount if size is None else min(amount, size)
        total += step * price
        amount -= step
    return total


def millions(amount, name):
    return amount / MILLION * PRICES["million"][name]


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
        "a look each minute for polls to publish": invoked(LOOKS, MEASURED["idle_look_ms"]),
        "a look each minute for exports": invoked(LOOKS, MEASURED["export_look_ms"], EXPORT_MEMORY_MB),
        f"traces of these {2 * LOOKS:,} looks": millions(2 * LOOKS, "traces"),
        "their lines in the logs": 2 * LOOKS * MEASURED["single"]["log_bytes"] / GB * PRICES["log GB"],
        f"polling {queues} empty queues, 5 pollers each": millions(queues * IDLE_QUEUE_REQUESTS, "queue requests"),
        "network with its endpoint to S3, gateway, edge, functions, user pool, logs": 0.0,
    }


def invoked(invocations, duration_ms, memory_mb=MEASURED["memory_mb"]):
    gb_seconds = invocations * duration_ms / 1_000 * memory_mb / 1_024
    return millions(invocations, "invocations") + gb_seconds * PRICES["GB-second arm64"]


def publishing_sentence():
    """Returns the sentence on an open poll's hour: one function at work throughout, the list and its file every 3 s."""
    files = millions(3_600 / MEASURED["written_every_seconds"], "files written")
    hour = invoked(60, 60_000) + files
    return (
        f"Publishing an open poll: {hour + files:.3f} USD an hour, {files:.3f} more for each poll that is open beside it; the\n"
        f"files of its log are counted with the votes.\n"
    )


def traced(invocations, votes):
    """Returns the cost of the traces of this many invocations at the peak's rate."""
    per_second = max(1, PEAK_VOTES_PER_SECOND * invocations / votes)
    return millions(invocations * (1 + TRACED_SHARE * (per_second - 1)) / per_second, "traces")


def caches_that_ask(lookups):
    """Returns how many of the edge's regional caches ask for a file that is looked up this often."""
    return REGIONAL_CACHES * (1 - (1 - 1 / REGIONAL_CACHES) ** lookups)


def votes_cost(votes, taps=1, listed=1, kind="batch", queued=True, region=HOME):
    """Returns the cost of this many votes in one month, by item, each of them looked up once.

    A vote stands for `taps`, and a request has `listed` of them. `kind`: the measurement, of a batch or of single votes.
    """
    figures, edge = MEASURED[kind], PRICES["edge"][region]
    casts = votes / taps
    requests = casts / listed
    invocations = casts / figures["votes"]
    log_bytes = requests * access_log_bytes() + invocations * figures["log_bytes"]
    queue_requests = requests * QUEUE_REQUESTS_PER_MESSAGE if queued else 0
    per_file = min(MEASURED["log_entries_per_file"], casts)
    files, looks = casts / per_file, requests * MEASURED["log_files_per_request"]
    file_bytes = MEASURED["log_headers_bytes"] + per_file * ENTRY_BYTES
    asked = files * caches_that_ask(looks / files)
    return {
        "edge, a request each": requests / MILLION * edge["million requests"],
        "its answers, and the request to the origin": stepped(requests * MEASURED["accepted_bytes"] / GB, edge["GB"])
        + requests * MEASURED["vote_request_bytes"] / GB * edge["GB to the origin"],
        "firewall": millions(requests, "firewall requests"),
        "gateway, 300 million at the first price": stepped(requests / MILLION, PRICES["gateway million"]),
        "queue, 1.2 requests each": millions(queue_requests, "fair queue requests"),
        "functions, and their traces": invoked(invocations, figures["duration_ms"]) + traced(invocations, votes),
        "logs": log_bytes / GB * PRICES["log GB"],
        "ledger, a month": casts * MEASURED["ledger_bytes_per_vote"] / GB * PRICES["month"]["storage gp3, GB"],
        "public log: files written, and kept a month": millions(files, "files written")
        + casts * ENTRY_BYTES / GB * PRICES["month"]["files, GB"],
        f"looked up, {MEASURED['log_files_per_request']} files each: edge, its function and traffic": looks
        * edge["million requests"]
        / MILLION
        + millions(looks, "edge functions")
        + stepped(looks * file_bytes / GB, edge["GB"]),
        "looked up: bucket, with Origin Shield": millions(files, "files read") + millions(asked, "Origin Shield requests"),
        LOOKED_UP_FIREWALL: millions(looks, "firewall requests"),
    }


def requests_an_hour(pace):
    """Returns the requests of a page in an hour of one poll, from its opening to its close."""
    seconds = 3_600
    if pace != "auto":
        return seconds / (pace * SPREAD)
    distances = (min(second, seconds - second) for second in range(seconds))
    intervals = (min(max(distance // AUTO_PART, AUTO_SECONDS_MIN), AUTO_SECONDS_MAX) for distance in distances)
    return sum(1 / (interval * SPREAD) for interval in intervals)


def viewers_cost(viewers, pace, region=HOME):
    """Returns the cost of viewers who open the page, sign in and follow a poll's file for an hour, by item."""
    edge = PRICES["edge"][region]
    file, listed = viewers * requests_an_hour(pace), viewers * 3_600 / (LIST_SECONDS * SPREAD)
    names, page = viewers * NAMES_FILES, viewers * (PAGE_FILES + SIGN_IN_FILES)
    sizes = [(file, "file_bytes"), (listed, "list_bytes"), (names, "names_bytes"), (viewers, "page_bytes")]
    traffic = sum(number * MEASURED[size] for number, size in sizes) + viewers * MEASURED["sign_in_bytes"]
    return {
        f"the poll's file, {requests_an_hour(pace):,.0f} a page": file / MILLION * edge["million requests"],
        f"the list, {listed / viewers:,.0f} a page": listed / MILLION * edge["million requests"],
        f"page, names and sign-in, {(page + names) / viewers:,.0f} a page": (page + names) / MILLION * edge["million requests"],
        "the edge's functions, at each": millions(file + listed + names + page, "edge functions"),
        "traffic": stepped(traffic / GB, edge["GB"]),
        "origin, file and list, with Origin Shield": 2
        * (millions(origin_requests(), "files read") + millions(origin_requests(), "Origin Shield requests")),
        "firewall before page and sign-in": millions(page, "firewall requests"),
        FILES_FIREWALL: millions(file + listed + names, "firewall requests"),
    }


def origin_requests():
    """Returns the upper bound for a file and an hour: each of the edge's regional caches asks once for each expiry."""
    return 3_600 / MEASURED["written_every_seconds"] * REGIONAL_CACHES


def usd(amount, digits=2):
    return f"{amount:,.{digits}f}" if amount < 100 else f"{amount:,.0f}"


def table(header, rows):
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def idle_table():
    costs = idle()
    total, firewall = sum(costs.values()), next(cost for what, cost in costs.items() if what.startswith("firewall"))
    rows = [[what, usd(amount)] for what, amount in costs.items()]
    rows += [["**together**", f"**{usd(total)}**"], ["with `Waf=off`", usd(total - firewall)]]
    return table(["idle, USD a month", ""], rows)


def sooner_sentence():
    """Returns the sentence on what a page asks beyond its pace until its vote is found."""
    more = MEASURED["seconds_to_counted"] / SPREAD * (1 / AUTO_SECONDS_MIN - 1 / AUTO_SECONDS_MAX)
    edge = PRICES["edge"][HOME]
    each = (edge["million requests"] + PRICES["million"]["edge functions"] + PRICES["million"]["firewall requests"]) / MILLION
    each += MEASURED["file_bytes"] / GB * edge["GB"][0][1]
    return (
        f"After its vote a page asks for the poll's file every {AUTO_SECONDS_MIN} s until the vote is found. Near opening and "
        f"close\nit does so anyway; where its pace is {AUTO_SECONDS_MAX} s, a million requests with votes bring "
        f"{more:.1f} million more for files,\n{more * MILLION * each:.2f} USD.\n"
    )


def without(costs, *rows):
    """Returns the sum of all but these rows."""
    return sum(amount for what, amount in costs.items() if what not in rows)


def firewall_rows(costs):
    return [what for what in costs if "firewall" in what]


def totals(of):
    """Returns the last rows of a table with the costs `of` each column."""
    return [
        ["**together**", *(f"**{usd(sum(costs.values()))}**" for costs in of)],
        [f"with {SECOND}", *(usd(without(costs, LOOKED_UP_FIREWALL, FILES_FIREWALL)) for costs in of)],
        ["with `Waf=off`", *(usd(without(costs, *firewall_rows(costs))) for costs in of)],
    ]


def million_table():
    """Returns the table of a million votes, by the votes in a request."""
    kinds = {"one a request": {}, "ten taps in a vote": {"taps": 10}, "ten votes in a request": {"listed": 10}}
    of = [votes_cost(MILLION, **kind) for kind in kinds.values()]
    rows = [[what, *(usd(costs[what], 3) for costs in of)] for what in of[0]] + totals(of)
    # Without the firewall's rule no vote stands for several taps.
    rows[-1][1 + list(kinds).index("ten taps in a vote")] = "–"
    return table(["USD for a million votes", *kinds], rows)


def votes_table():
    volumes = {"700 k": 0.7, "1 M": 1, "10 M": 10, "100 M": 100, "1.5 billion": 1_500}
    volumes = {name: number * MILLION for name, number in volumes.items()}
    ours = {name: votes_cost(votes) for name, votes in volumes.items()}
    first = {name: votes_cost(votes, kind="single", queued=False) for name, votes in volumes.items()}
    rows = [[what, *(usd(costs[what]) for costs in ours.values())] for what in ours["1 M"]]
    rows += totals(ours.values())
    rows.append(["ten taps in a vote, together", *(usd(sum(votes_cost(votes, taps=10).values())) for votes in volumes.values())])
    rows.append(["one invocation a vote, together", *(usd(sum(costs.values())) for costs in first.values())])
    for kind, label in (("batch", "invocations and commits"), ("single", "one invocation a vote: the same")):
        rows.append([label, *(f"{votes / MEASURED[kind]['votes']:,.0f}" for votes in volumes.values())])
    return table(["USD for votes, one a request", *volumes], rows)


def viewers_table():
    of = [viewers_cost(MILLION, pace) for pace in PACES]
    # The names of the first rows tell the number of requests, which differs.
    rows = [[name, *(usd(amount) for amount in amounts)] for name, *amounts in zip(of[0], *(c.values() for c in of))]
    rows[0][0] = "the poll's file: " + ", ".join(f"{requests_an_hour(pace):,.0f}" for pace in PACES) + " a page"
    header = ["USD for a million viewers, one hour, by the poll's pace", "auto", "3 s", "5 s", "10 s"]
    return table(header, rows + totals(of)) + "\n" + origin_sentence()


def regions_table():
    """Returns the table of the three continents of which the prices are known."""
    rows = [
        ["a million viewers, an hour, `auto`", lambda region: viewers_cost(MILLION, "auto", region)],
        ["a million votes, one a request", lambda region: votes_cost(MILLION, region=region)],
        ["a million votes, ten taps each", lambda region: votes_cost(MILLION, taps=10, region=region)],
    ]
    lines = []
    for what, costs in rows:
        by_region = [costs(region) for region in PRICES["edge"]]
        lines.append([what, *(usd(sum(of.values())) for of in by_region)])
        second = [usd(without(of, LOOKED_UP_FIREWALL, FILES_FIREWALL)) for of in by_region]
        lines.append([f"… with {SECOND}", *second])
    return table(["USD, by where the audience is", *PRICES["edge"]], lines)


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


def computed_tables():
    parts = [idle_table(), publishing_sentence(), million_table(), sooner_sentence(), votes_table()]
    return "\n".join([*parts, database_sentence(), viewers_table(), regions_table()])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if sum(idle().values()) >= IDLE_MAX:
        sys.exit(f"cost: {usd(sum(idle().values()))} USD a month idle, {IDLE_MAX} at most")
    computed = computed_tables()
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


if __name__ == "__main__":
    main()
