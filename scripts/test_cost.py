"""Tests the cost tables: their arithmetic, the targets that they meet, and the pages that quote them."""

import pathlib
import re
import unittest
from unittest import mock

import cost


def total(costs, *without):
    return cost.without(costs, *without)


class Arithmetic(unittest.TestCase):
    def test_prices_have_steps(self):
        self.assertEqual(cost.stepped(200, [[300, 1.0], [None, 0.9]]), 200)
        self.assertEqual(cost.stepped(400, [[300, 1.0], [None, 0.9]]), 390)

    def test_beyond_300_million_requests_the_gateway_is_cheaper(self):
        row = "gateway, 300 million at the first price"
        self.assertEqual(cost.votes_cost(300 * cost.MILLION)[row], 300)
        self.assertEqual(cost.votes_cost(301 * cost.MILLION)[row], 300.9)

    def test_a_file_is_asked_for_once_by_each_cache(self):
        self.assertAlmostEqual(cost.caches_that_ask(1), 1)
        self.assertAlmostEqual(cost.caches_that_ask(1_000), cost.REGIONAL_CACHES)

    def test_a_page_requests_the_file_at_its_pace(self):
        self.assertEqual(cost.requests_an_hour(3), 960)
        self.assertEqual(cost.requests_an_hour(10), 288)
        # 30 s at each end at 3 s, and 10 s between the first and the last 100 s.
        self.assertTrue(cost.requests_an_hour(10) < cost.requests_an_hour("auto") < 1.1 * cost.requests_an_hour(10))

    def test_a_price_that_the_page_needs_is_missing(self):
        with self.assertRaisesRegex(SystemExit, "no price for database db.unknown"):
            cost.priced(cost.PRICES["hour"], "database", "db.unknown")


class Targets(unittest.TestCase):
    def test_idle(self):
        self.assertLess(sum(cost.idle().values()), cost.IDLE_MAX)

    def test_a_million_viewers_for_an_hour_with_a_second_distribution(self):
        self.assertLessEqual(total(cost.viewers_cost(cost.MILLION, "auto"), cost.FILES_FIREWALL), 560)

    def test_a_million_votes_of_ten_taps_with_one_file_each_and_a_second_distribution(self):
        with mock.patch.dict(cost.MEASURED, log_files_per_request=1):
            costs = cost.votes_cost(cost.MILLION, taps=10)
        self.assertLessEqual(total(costs, cost.LOOKED_UP_FIREWALL), 0.55)


class Pages(unittest.TestCase):
    def test_the_tables_are_as_computed(self):
        page = cost.PAGE.read_text(encoding="utf-8")
        written = page.partition(cost.BEGIN)[2].partition(cost.END)[0]
        self.assertEqual(written.strip(), cost.computed_tables().strip())

    def test_the_desk_has_the_same_costs(self):
        self.assertIn(cost.desk_line(), cost.DESK.read_text(encoding="utf-8"))

    def test_the_readme_quotes_them(self):
        text = " ".join(pathlib.Path("README.md").read_text(encoding="utf-8").split())
        quoted = re.search(
            r"Idle it costs some \$(\S+) a month; a million votes, each looked up, some \$(\S+), or \$(\S+) with ten taps in a "
            r"vote; a million viewers for an hour some \$(\d+)",
            text,
        )
        figures = [
            sum(cost.idle().values()),
            total(cost.votes_cost(cost.MILLION)),
            total(cost.votes_cost(cost.MILLION, taps=10)),
            total(cost.viewers_cost(cost.MILLION, "auto")),
        ]
        for said, figure in zip(quoted.groups(), figures):
            self.assertAlmostEqual(float(said), figure, delta=figure / 100)


if __name__ == "__main__":
    unittest.main()
