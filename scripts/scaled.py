"""Prints options of `local run`, one a line, that divide by a number what an audience shares: throttles, concurrency, and the
size of a batch, which fills in the same time as before then."""

import sys

from sam_template import read_source

SHARED = [
    "VotesThrottleRate",
    "VotesThrottleBurst",
    "DefaultThrottleRate",
    "DefaultThrottleBurst",
    "PollsMaximumConcurrency",
]


def options(template, scale):
    """Returns the options for this template: never 0, which would refuse everything."""
    parameters = template["Parameters"]
    votes = template["Resources"]["VotesFunction"]["Properties"]["Events"]["Votes"]["Properties"]
    batch = -(-votes["BatchSize"] // scale)
    divided = [f"--parameter={name}={-(-parameters[name]['Default'] // scale)}" for name in SHARED]
    return [*divided, f"--set=VotesFunction.Events.Votes.BatchSize={batch}"]


if __name__ == "__main__":
    print(*options(read_source(), int(sys.argv[1])), sep="\n")
