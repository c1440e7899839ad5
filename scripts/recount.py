"""Counts the votes of an export again, from the file alone: python scripts/recount.py poll-7.csv.gz [--result 7.json]

Prints the votes of each contestant and the digest: SHA-256 over the uncompressed file, which has a line of CSV for each
vote, in the order of their keys: key, moment of casting in milliseconds, voter's pseudonym, contestant, ballot, count. A
file from before votes had a count has five fields, and each of its lines is one vote.

With --result, the published file results/{id}.json or the answer of .../certify, it compares both, and exits with 1 if
they differ. Digest and voters are in both once the service has recounted the votes. The published file also has the rules
of counting: each vote must have been cast within its window, outside its gaps, and for no contestant that had been
withdrawn. With --voters it counts the voters, too, which takes some 100 bytes of memory for each.
"""

import argparse
import collections
import datetime
import gzip
import hashlib
import json
import sys

READ_BYTES = 1 << 20


def lines(path, digest):
    """Yields the file's lines, a piece at a time, and adds them to the digest."""
    with gzip.open(path, "rb") as file:
        rest = b""
        while piece := file.read(READ_BYTES):
            digest.update(piece)
            whole, _, rest = (rest + piece).rpartition(b"\n")
            yield from whole.split(b"\n") if whole else ()
        if rest:
            sys.exit(f"{path}: ends in the middle of a line")


def millis(moment):
    """Converts a moment of the published file into milliseconds since 1970; None for null."""
    if moment is None:
        return None
    since = datetime.datetime.fromisoformat(moment) - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return since // datetime.timedelta(milliseconds=1)


class Window:
    """The times at which votes count, from a published file."""

    def __init__(self, document):
        self.opens, self.closes = millis(document["opensAt"]), millis(document["closesAt"])
        self.gaps = [(millis(gap["from"]), millis(gap["to"])) for gap in document.get("gaps", [])]
        withdrawn = ((one["number"], millis(one.get("withdrawnAt"))) for one in document["contestants"])
        self.withdrawn = {number: moment for number, moment in withdrawn if moment is not None}

    def violation(self, cast, contestant):
        """Returns why a vote must not count, or None if it counts."""
        if self.opens is None or cast < self.opens:
            return "was cast before the poll opened"
        if self.closes is not None and cast >= self.closes:
            return "was cast after the poll closed"
        if any(start <= cast < end for start, end in self.gaps):
            return "was cast while the poll was closed, before it was opened again"
        if cast >= self.withdrawn.get(contestant, cast + 1):
            return f"is for contestant {contestant}, who had been withdrawn"
        return None


def recount(path, with_voters=False, window=None):
    """Returns (votes by contestant, voters or None, digest) of a file. Exits if a vote is outside the window."""
    digest, votes, voters, last = hashlib.sha256(), collections.Counter(), set(), b""
    for line in lines(path, digest):
        key, cast, voter, contestant, _, *count = line.split(b",")
        if key <= last:
            sys.exit(f"{path}: {key.decode()} follows {last.decode()}: a vote is there twice, or out of order")
        last = key
        if window and (violation := window.violation(int(cast), int(contestant))):
            sys.exit(f"{path}: {key.decode()} {violation}")
        votes[int(contestant)] += int(count[0]) if count else 1
        if with_voters:
            voters.add(int(voter))
    return dict(sorted(votes.items())), len(voters) if with_voters else None, digest.hexdigest()


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def certified(path, document):
    """Returns the certified (votes by contestant, voters, digest) of a published file or of an answer of certify."""
    certificate = document.get("certificate") or {}
    if not certificate:
        sys.exit(f"{path}: contains no certificate")
    if "digest" not in certificate:
        sys.exit(f"{path}: the certificate has no digest yet; read it again once it has `supplementedAt`")
    figures = certificate.get("contestants") or document.get("ranking")
    if figures is None:
        sys.exit(f"{path}: it withholds the standing; use the answer of .../certify")
    votes = {line.get("number", line.get("contestant")): line["votes"] for line in figures}
    voters = certificate.get("voters", document.get("turnout", {}).get("voters"))
    return {number: count for number, count in sorted(votes.items()) if count}, voters, certificate["digest"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--result", help="the published file, or the answer of .../certify, to compare with")
    parser.add_argument("--voters", action="store_true", help="count voters too: some 100 bytes of memory for each")
    given = parser.parse_args()
    result = read(given.result) if given.result else {}
    window = Window(result) if "opensAt" in result else None
    votes, voters, digest = recount(given.file, given.voters, window)
    for contestant, count in votes.items():
        print(f"contestant {contestant}: {count}")
    print(f"votes: {sum(votes.values())}")
    if voters is not None:
        print(f"voters: {voters}")
    print(f"digest: {digest}")
    if given.result:
        expected_figures = certified(given.result, result)
        differs = [
            what
            for what, found, expected in zip(("votes", "voters", "digest"), (votes, voters, digest), expected_figures, strict=True)
            if found is not None and found != expected
        ]
        if differs:
            sys.exit(f"{given.result}: says otherwise about {', '.join(differs)}: {expected_figures}")
        print(f"{given.result} agrees")
        if window:
            print("all cast while the poll was open")


if __name__ == "__main__":
    main()
