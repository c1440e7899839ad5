"""Tests the template's checks: each mutation of the template must fail one."""

import copy
import unittest

import check_deployment
import sam_template

TEMPLATE = sam_template.read_transformed()


class Checks(unittest.TestCase):
    def failures(self, mutate):
        template = copy.deepcopy(TEMPLATE)
        mutate(template, template["Resources"])
        sam_template.failures.clear()
        self.addCleanup(sam_template.failures.clear)
        for check in (
            check_deployment.check_rollback,
            check_deployment.check_maintenance,
            check_deployment.check_log_levels,
            check_deployment.check_parameters,
            check_deployment.check_throttles,
        ):
            check(template)
        return list(sam_template.failures)

    def assert_fails(self, text, mutate):
        failures = self.failures(mutate)
        self.assertTrue(any(text in one for one in failures), failures)

    def test_the_template_as_it_is(self):
        self.assertEqual(self.failures(lambda template, resources: None), [])

    def test_what_would_refuse_to_be_deleted_at_first(self):
        def set_property(resource, name, value):
            return lambda _, resources: resources[resource]["Properties"].__setitem__(name, value)

        def set_policy(resource, policy):
            return lambda _, resources: resources[resource].__setitem__("DeletionPolicy", policy)

        fails = "would fail a rollback"
        self.assert_fails(fails, set_property("Database", "DeletionProtection", {"Ref": "DeletionProtection"}))
        self.assert_fails(fails, set_property("Database", "DeletionProtection", True))
        self.assert_fails(fails, set_property("UserPool", "DeletionProtection", "ACTIVE"))
        self.assert_fails("no protection that this check knows", set_property("VotesQueue", "DeletionProtection", True))
        self.assert_fails("takes a snapshot", lambda _, resources: resources["Database"].pop("DeletionPolicy"))
        self.assert_fails("would take a snapshot", set_policy("Database", "Snapshot"))
        self.assert_fails("would take a snapshot", set_policy("Cache", "Snapshot"))
        self.assert_fails("may not answer", set_policy("Schema", "Delete"))
        self.assert_fails("under its own name", set_property("ResultsBucket", "BucketName", "results"))
        repository = {"Type": "AWS::ECR::Repository"}
        self.assert_fails("how to empty it", lambda _, resources: resources.__setitem__("Images", repository))
        always = {"Fn::Equals": [{"Ref": "DeletionProtection"}, "true"]}
        self.assert_fails("Protected", lambda template, _: template["Conditions"].__setitem__("Protected", always))
        self.assert_fails("protected", lambda template, _: template["Parameters"]["Established"].update(Default="true"))

    def test_what_aws_would_do_at_an_hour_of_its_own(self):
        for resource, window in (
            ("Database", "PreferredMaintenanceWindow"),
            ("Database", "PreferredBackupWindow"),
            ("Cache", "PreferredMaintenanceWindow"),
        ):
            self.assert_fails(f"{resource}: without {window}", lambda _, r, n=resource, w=window: r[n]["Properties"].pop(w))
        saturday = {"Default": "sat:20:00-sat:21:00", "AllowedPattern": ".*"}
        self.assert_fails("at a weekend", lambda t, _: t["Parameters"]["CacheMaintenanceWindow"].update(saturday))

    def test_what_would_drop_metrics(self):
        def logging(value):
            return lambda _, resources: resources["VotesFunction"]["Properties"]["LoggingConfig"].update(value)

        self.assert_fails("would drop metrics", logging({"ApplicationLogLevel": {"Ref": "LogLevel"}}))
        self.assert_fails("would drop metrics", logging({"ApplicationLogLevel": "WARN"}))
        environment = lambda resources: resources["PollsFunction"]["Properties"]["Environment"]["Variables"]
        self.assert_fails("LogLevel does nothing", lambda _, resources: environment(resources).pop("RUST_LOG"))
        levels = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"]
        self.assert_fails("voters included", lambda t, _: t["Parameters"]["LogLevel"].update(AllowedValues=levels))

    def test_what_would_refuse_reads_with_a_429(self):
        def default(parameter, value):
            return lambda template, _: template["Parameters"][parameter].update(Default=value)

        self.assert_fails("DefaultThrottleRate is 500", default("DefaultThrottleRate", 500))
        self.assert_fails("the burst is 50", default("DefaultThrottleBurst", 50))
        self.assert_fails("takes 400 requests/s", default("PollsMaximumConcurrency", 40))


if __name__ == "__main__":
    unittest.main()
