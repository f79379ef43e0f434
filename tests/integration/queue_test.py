#!/usr/bin/env python3
"""Who gets devices, and jobs made from jobs: what a run loses by it is nothing, to the bit. Real processes."""
import unittest

from p2_cluster import Cluster, tiny_spec, wait_for

EXACT = ("--set", "training.reduction=exact", "--set", "training.shards=2")


class QueueTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.p2 = Cluster()
        cls.p2.__enter__()
        cls.addClassCleanup(cls.p2.__exit__, None, None, None)

    def made(self, *args: str) -> str:
        return self.p2.p2ctl(*args, "-o", "name").strip().splitlines()[-1].removeprefix("jobs/")

    def finished(self, job: str) -> dict[str, str]:
        self.p2.wait_state(job, "SUCCEEDED")
        return self.p2.final_digests(job)

    def test_a_higher_priority_takes_the_devices_and_costs_the_victim_no_bit(self):
        alone = self.finished(self.p2.submit(tiny_spec(images=1024, checkpoint=512)))
        victim = self.p2.submit(tiny_spec(images=1024, checkpoint=512))
        self.p2.wait_images(victim, 64)
        urgent = self.p2.submit(tiny_spec(images=64, checkpoint=64), "--priority", "5")
        self.finished(urgent)
        self.assertEqual(self.finished(victim), alone)
        job = self.p2.job(victim)
        self.assertEqual(job["preemptions"], 1)
        self.assertEqual([a["outcome"] for a in job["attempts"]], ["STOPPED", "SUCCEEDED"])
        self.assertEqual(job["attempts"][0]["reason"], "PREEMPTED")
        # What it went on from was saved when it was asked to go, not 512 images later.
        self.assertGreater(int(job["attempts"][1]["startImagesSeen"]), 0)
        self.assertLess(int(job["attempts"][1]["startImagesSeen"]), 512)

    def test_a_fork_with_the_same_spec_ends_in_the_same_bits(self):
        job = self.p2.submit(tiny_spec(images=256, checkpoint=128))
        whole = self.finished(job)
        fork = self.made("fork", f"{job}@128")
        self.assertEqual(self.finished(fork), whole)
        record = self.p2.job(fork)
        self.assertEqual(record["lineage"]["kind"], "FORK")
        self.assertEqual(record["lineage"]["job"], f"jobs/{job}")
        self.assertEqual(record["attempts"][0]["startImagesSeen"], "128")

    def test_an_extension_is_the_longer_run(self):
        longer = self.finished(self.p2.submit(tiny_spec(images=256, checkpoint=128)))
        job = self.p2.submit(tiny_spec(images=128, checkpoint=128))
        self.finished(job)
        self.assertEqual(self.finished(self.made("extend", job, "--images", "256")), longer)

    def test_why_names_who_holds_the_devices(self):
        holder = self.p2.submit(tiny_spec(images=100_000, checkpoint=50_000))
        self.p2.wait_images(holder, 16)
        waits = self.p2.submit(tiny_spec(images=64, checkpoint=64), "--set", "resources.preemptible=false")
        wait_for("a reason", lambda: self.p2.job(waits)["reason"] == "WAITING_FOR_DEVICES")
        text = self.p2.p2ctl("why", waits)
        self.assertIn(holder, text)
        self.assertIn("holds 2 devices", text)
        self.p2.p2ctl("kill", holder, "--yes")
        self.finished(waits)


class ElasticTest(unittest.TestCase):
    def test_an_elastic_job_grows_at_a_checkpoint_and_ends_in_the_same_bits(self):
        with Cluster(slots=1) as p2:
            spec = tiny_spec(images=1024, checkpoint=128, devices=1)
            plain = p2.submit(spec, *EXACT)
            p2.wait_state(plain, "SUCCEEDED")
            elastic = p2.submit(spec, "--devices", "1:2", *EXACT)
            p2.wait_images(elastic, 16)
            self.assertEqual(len(p2.job(elastic)["attempts"][0]["ranks"]), 1)
            p2.start_worker("w1", slots=1)
            p2.wait_state(elastic, "SUCCEEDED")
            job = p2.job(elastic)
            self.assertEqual(p2.final_digests(elastic), p2.final_digests(plain))
            self.assertEqual(job["attempts"][0]["reason"], "RESIZING")
            self.assertEqual(len(job["attempts"][-1]["ranks"]), 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
