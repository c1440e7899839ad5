"""Counts the votes of an export again, from the file alone: python scripts/recount.py poll-7.csv.gz [--result 7.json]

Prints the votes of each contestant and the digest: SHA-256 over the uncompressed file, which is a line of CSV for each
vote, in the order of their keys: key, moment of casting in milliseconds, voter's pseudonym, contestant, ballot. With
--result, the published file results/{id}.json or the answer of .../certify, it says whether both agree, and else ends
with 1. The published file also tells when votes count: each vote must have been cast within its window, outside its gaps,
and for no contestant that had been withdrawn. Voters are counted with --voters, which takes some 100 bytes of memory for
each.
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
    """The file's lines, a piece at a time, all of them put into the digest."""
    with gzip.open(path, "rb") as file:
        rest = b""
        while piece := file.read(READ_BYTES):
            digest.update(piece)
            whole, _, rest = (rest + piece).rpartition(b"\n")
            yield from whole.split(b"\n") if whole else ()
        if rest:
            sys.exit(f"{path}: ends in the midst of a line")


def millis(moment):
    """A moment of the published file in milliseconds since 1970; None for null."""
    if moment is None:
        return None
    since = datetime.datetime.fromisoformat(moment) - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return since // datetime.timedelta(milliseconds=1)


class Window:
    """When votes count, as a published file says."""

    def __init__(self, document):
        self.opens, self.closes = millis(document["opensAt"]), millis(document["closesAt"])
        self.gaps = [(millis(gap["from"]), millis(gap["to"])) for gap in document.get("gaps", [])]
        withdrawn = ((one["number"], millis(one.get("withdrawnAt"))) for one in document["contestants"])
        self.withdrawn = {number: moment for number, moment in withdrawn if moment is not None}

    def complaint(self, cast, contestant):
        """Why a vote should not count; None: it should."""
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
    """(votes by contestant, voters or None, digest) of a file, whose votes are all within the window."""
    digest, votes, voters, last = hashlib.sha256(), collections.Counter(), set(), b""
    for line in lines(path, digest):
        key, cast, voter, contestant, _ = line.split(b",")
        if key <= last:
            sys.exit(f"{path}: {key.decode()} stands after {last.decode()}: a vote is there twice, or out of order")
        last = key
        if window and (complaint := window.complaint(int(cast), int(contestant))):
            sys.exit(f"{path}: {key.decode()} {complaint}")
        votes[int(contestant)] += 1
        if with_voters:
            voters.add(int(voter))
    return dict(sorted(votes.items())), len(voters) if with_voters else None, digest.hexdigest()


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def certified(path, document):
    """(votes by contestant, voters, digest) as certified, of a published file or of an answer of certify."""
    certificate = document.get("certificate") or {}
    if "digest" not in certificate:
        sys.exit(f"{path}: there is no certificate in it")
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
        said = certified(given.result, result)
        differs = [
            what
            for what, found, expected in zip(("votes", "voters", "digest"), (votes, voters, digest), said, strict=True)
            if found is not None and found != expected
        ]
        if differs:
            sys.exit(f"{given.result}: says otherwise about {', '.join(differs)}: {said}")
        print(f"as {given.result} says")
        if window:
            print("all cast while the poll was open")


if __name__ == "__main__":
    main()
