"""Tests the options that scale a stack down."""

import unittest

import scaled
from sam_template import read_source


class Scaled(unittest.TestCase):
    def test_every_shared_limit_is_divided(self):
        options = scaled.options(read_source(), 20)
        self.assertIn("--parameter=VotesThrottleRate=450", options)
        self.assertIn("--parameter=VotesThrottleBurst=225", options)
        self.assertIn("--set=VotesFunction.Events.Votes.BatchSize=15", options)
        self.assertEqual(len(options), len(scaled.SHARED) + 1)

    def test_a_limit_is_never_0(self):
        options = scaled.options(read_source(), 100_000)
        self.assertEqual({option.rpartition("=")[2] for option in options}, {"1"})


if __name__ == "__main__":
    unittest.main()
