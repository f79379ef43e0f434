"""p2_loadgen measures every scenario without errors, says the same fields for each, and leaves nothing behind."""
import json
import os
import pathlib
import subprocess
import tempfile
import unittest

BIN = pathlib.Path(os.environ["P2_BIN_DIR"])


class LoadgenTest(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory(prefix="p2-loadgen-test-")
        self.addCleanup(self.dir.cleanup)

    def run_loadgen(self, *args):
        return subprocess.run([BIN / "p2_loadgen", *map(str, args), "--dir", self.dir.name, "-o", "json"], capture_output=True, text=True, timeout=60)

    def measure(self, scenario, *args):
        result = self.run_loadgen(scenario, "--spawn", "--seconds", "0.5", *args)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        measured = json.loads(result.stdout)
        self.assertEqual(measured["scenario"], scenario)
        self.assertEqual(measured["errors"], 0)
        self.assertGreater(measured["rate_per_s"], 0)
        self.assertGreater(measured["p50_ms"], 0)
        self.assertGreaterEqual(measured["p99_ms"], measured["p50_ms"])
        self.assertGreater(measured["p2d_rss_bytes"], 0)
        self.assertEqual(os.listdir(self.dir.name), [], "p2d's data are left")
        return measured

    def test_submits_in_a_closed_loop(self):
        self.assertLessEqual(self.measure("submits", "--clients", 4)["most_in_flight"], 4)

    def test_submits_at_a_rate_beside_scrapes_and_watches(self):
        measured = self.measure("submits", "--rate", 50, "--with-load")
        self.assertGreater(measured["background"]["scrapes"], 0)
        self.assertGreater(measured["background"]["watch_events"], 0)

    def test_batch(self):
        self.assertEqual(self.measure("batch", "--clients", 2)["jobs_a_call"], 100)

    def test_metrics_are_durable_and_found(self):
        measured = self.measure("metrics", "--workers", 2)
        self.assertEqual(measured["messages_lost"], 0)
        self.assertGreater(measured["queryable_p99_ms"], 0)

    def test_every_watch_gets_every_event(self):
        measured = self.measure("watch", "--watchers", 20)
        self.assertTrue(measured["complete"])
        self.assertGreaterEqual(measured["watch_events"], 20 * measured["submits"]["calls"])

    def test_schedule(self):
        measured = self.measure("schedule", "--live", 500, "--clients", 12)
        self.assertEqual(measured["devices"], 12)
        self.assertGreater(measured["gangs"], 0)
        self.assertGreater(measured["gang_p99_ms"], 0)

    def test_restart_keeps_what_was_acknowledged(self):
        measured = self.measure("restart", "--jobs", 300, "--live", 300)
        self.assertGreater(measured["acknowledged_before_kill"], 0)
        self.assertEqual(measured["lost_acks"], 0)

    def test_status(self):
        self.assertEqual(self.measure("status", "--live", 300)["live_jobs"], 300)

    def test_scrape_has_ten_thousand_series(self):
        self.assertGreater(self.measure("scrape")["series"], 10_000)

    def test_baselines(self):
        for baseline in ("echo", "rocksdb", "etcd"):
            with self.subTest(baseline):
                result = subprocess.run([BIN / "p2_baseline", baseline, "--seconds", "0.3", "--clients", "4", "--dir", self.dir.name],
                                        capture_output=True, text=True, timeout=60)
                if result.returncode == 3:
                    self.skipTest(result.stderr)
                self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
                measured = json.loads(result.stdout)
                self.assertEqual(measured["errors"], 0)
                self.assertGreater(measured["rate_per_s"], 0)
                self.assertEqual(measured["most_in_flight"], 4)
                self.assertEqual(os.listdir(self.dir.name), [])

    def test_a_p2d_that_cannot_start_is_an_error(self):
        result = self.run_loadgen("submits", "--spawn", "--seconds", "0.5", "--p2d-flag=--tick-interval=-1s")
        self.assertEqual(result.returncode, 1, result.stdout)
        self.assertIn("tick", result.stderr)
        self.assertEqual(os.listdir(self.dir.name), [])


if __name__ == "__main__":
    unittest.main()
