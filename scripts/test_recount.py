"""Tests the errors that the recount finds in a file."""

import contextlib
import gzip
import hashlib
import io
import json
import pathlib
import tempfile
import unittest
from unittest import mock

import recount

OPENS, CLOSES = 1_768_000_000_000, 1_768_000_060_000


def published(votes, **changes):
    """Returns a published file of these votes, with a window of one minute and a gap of 1.5 seconds."""
    document = {
        "opensAt": "2026-01-09T23:06:40Z",
        "closesAt": "2026-01-09T23:07:40Z",
        "gaps": [{"from": "2026-01-09T23:06:50Z", "to": "2026-01-09T23:06:51.5Z"}],
        "contestants": [{"number": 1, "name": "Ana"}, {"number": 2, "name": "Bia", "withdrawnAt": "2026-01-09T23:07:00Z"}],
        "turnout": {"votes": len(votes), "voters": None, "votersError": None},
        "certificate": {"digest": hashlib.sha256(text(votes)).hexdigest()},
        "ranking": [
            {"contestant": number, "votes": sum(contestant == number for _, contestant in votes)} for number in (1, 2)
        ],
    }
    return document | changes


def text(votes):
    return b"".join(b"%08d,%d,7,%d,,1\n" % (key, cast, contestant) for key, (cast, contestant) in enumerate(votes, 1))


class Recount(unittest.TestCase):
    def recounted(self, votes, document):
        """Returns the output of the recount, or its error."""
        with tempfile.TemporaryDirectory() as folder:
            file, result = pathlib.Path(folder, "poll.csv.gz"), pathlib.Path(folder, "result.json")
            file.write_bytes(gzip.compress(text(votes)))
            result.write_text(json.dumps(document), encoding="utf-8")
            printed = io.StringIO()
            arguments = ["recount.py", str(file), "--result", str(result)]
            with mock.patch("sys.argv", arguments), contextlib.redirect_stdout(printed):
                try:
                    recount.main()
                except SystemExit as error:
                    return str(error)
            return printed.getvalue()

    def test_every_vote_is_within_the_window(self):
        votes = [(OPENS, 1), (OPENS + 9_999, 2), (OPENS + 11_500, 2), (OPENS + 19_999, 2), (CLOSES - 1, 1)]
        self.assertIn("all cast while the poll was open", self.recounted(votes, published(votes)))

    def test_a_vote_outside_is_found(self):
        for vote, violation in [
            ((OPENS - 1, 1), "before the poll opened"),
            ((CLOSES, 1), "after the poll closed"),
            ((OPENS + 10_000, 1), "while the poll was closed"),
            ((OPENS + 11_499, 1), "while the poll was closed"),
            ((OPENS + 20_000, 2), "had been withdrawn"),
        ]:
            with self.subTest(violation=violation):
                votes = [(OPENS, 1), vote]
                self.assertIn(violation, self.recounted(votes, published(votes)))

    def test_an_open_end_and_no_gaps(self):
        votes = [(CLOSES + 1, 1)]
        self.assertIn("all cast", self.recounted(votes, published(votes, closesAt=None, gaps=[])))
        document = published(votes, closesAt=None)
        del document["gaps"]
        self.assertIn("all cast", self.recounted(votes, document))
        self.assertIn("before the poll opened", self.recounted(votes, published(votes, opensAt=None)))

    def test_a_line_stands_for_as_many_votes_as_its_count_and_for_one_without(self):
        lines = [(b"%08d,%d,7,1,,5\n" % (1, OPENS), 5), (b"%08d,%d,7,1,\n" % (1, OPENS), 1)]
        for line, votes in lines:
            with tempfile.TemporaryDirectory() as folder:
                file = pathlib.Path(folder, "poll.csv.gz")
                file.write_bytes(gzip.compress(line))
                self.assertEqual(recount.recount(file), ({1: votes}, None, hashlib.sha256(line).hexdigest()))

    def test_a_certificate_without_its_supplement_is_told_apart_from_none(self):
        votes = [(OPENS, 1)]
        document = published(votes, certificate={"certifiedAt": "2026-01-09T23:08:00Z", "basis": "evidence", "rejected": {}})
        self.assertIn("has no digest yet", self.recounted(votes, document))
        del document["certificate"]
        self.assertIn("contains no certificate", self.recounted(votes, document))

    def test_the_answer_of_certify_tells_no_window(self):
        votes = [(CLOSES, 1)]
        answer = {
            "certificate": {
                "digest": hashlib.sha256(text(votes)).hexdigest(),
                "voters": 1,
                "contestants": [{"number": 1, "votes": 1}],
            }
        }
        self.assertNotIn("all cast", self.recounted(votes, answer))


if __name__ == "__main__":
    unittest.main()
