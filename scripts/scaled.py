"""Prints options of `local run`, one a line, that divide by a number what an audience shares: throttles and concurrency."""

import sys

from sam_template import read_source

SHARED = [
    "VotesThrottleRate",
    "VotesThrottleBurst",
    "DefaultThrottleRate",
    "DefaultThrottleBurst",
    "PollsMaximumConcurrency",
]


def options(parameters, scale):
    """Returns the options for these parameters of the template: never 0, which would refuse everything."""
    return [f"--parameter={name}={-(-parameters[name]['Default'] // scale)}" for name in SHARED]


if __name__ == "__main__":
    print(*options(read_source()["Parameters"], int(sys.argv[1])), sep="\n")
