#!/usr/bin/env python3
"""deploy/slurm/p2-worker.sbatch under a real Slurm: workers come up on its nodes, and leave without losing anything. Needs Debian's munge and Slurm."""
import os
import re
import subprocess
import sys
import unittest

from p2_cluster import BIN, SOURCE, Cluster, tiny_spec
from slurm_cluster import PROGRAMS, CannotRun, SlurmCluster, installation

SCRIPT = SOURCE / "deploy/slurm/p2-worker.sbatch"
SPEC = tiny_spec(images=640, checkpoint=40)


class RefusalTest(unittest.TestCase):
    """What the script says before it starts anything."""

    def said(self, **env: str) -> str:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("P2_", "SLURM_"))}
        done = subprocess.run(["bash", SCRIPT], env=clean | env, capture_output=True, text=True, timeout=30)
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        return done.stderr

    def test_says_what_is_missing(self):
        self.assertIn("this is for sbatch", self.said())
        self.assertIn("P2_ADDR is not set", self.said(SLURM_JOB_ID="1"))
        self.assertIn("no storage root is named", self.said(SLURM_JOB_ID="1", P2_ADDR="head:7250"))
        known = dict(SLURM_JOB_ID="1", P2_ADDR="head:7250", P2_WORKER_ROOT="main=/p2")
        self.assertIn("set P2_BIN_DIR", self.said(**known, PATH="/usr/bin:/bin"))
        self.assertIn("P2_BIN_DIR /no/where holds no p2-worker", self.said(**known, P2_BIN_DIR="/no/where"))


class SlurmTest(unittest.TestCase):
    slurm: SlurmCluster  # Set below.

    @classmethod
    def setUpClass(cls):
        cls.p2 = Cluster()
        cls.p2.__enter__()
        cls.addClassCleanup(cls.p2.__exit__, None, None, None)
        cls.scratch = cls.p2.dir / "scratch"
        cls.scratch.mkdir()
        cls.p2.wait_state(whole := cls.p2.submit(SPEC), "SUCCEEDED")
        cls.expected = cls.p2.final_digests(whole)

    def sbatch(self, *flags: str, devices: str = "cpu:2", slower_ms: int = 1000, **env: str) -> str:
        """A Slurm job of the script, with w0 cordoned: what is submitted next runs on its workers. Each of the 16 checkpoints takes
        `slower_ms` more there, so that the run cannot end before its worker must leave."""
        self.p2.p2ctl("node", "cordon", "w0")
        env |= {"P2_TRAINER_FAILPOINTS": f"checkpoint.before_write=delay:{slower_ms}", "P2_ADDR": self.p2.env["P2_ADDR"], "P2_WORKER_ROOT": f"main={self.p2.root}", "P2_BIN_DIR": str(BIN),
                         "P2_WORKER_DATA_DIR": str(self.scratch), "P2_WORKER_DEVICES": devices}
        return self.slurm.call("sbatch", "--parsable", f"--output={self.p2.dir}/slurm-%j.log", *flags, SCRIPT, "--enable-failpoints", env=env)

    def trains_on(self, workers: list[str], job: str) -> None:
        """Waits until `job` has saved a checkpoint there, then lets it move to w0."""
        self.p2.wait_images(job, 65)
        self.assertEqual(sorted({rank["worker"] for rank in self.p2.job(job)["attempts"][0]["ranks"]}), [f"workers/{w}" for w in workers])
        self.p2.p2ctl("node", "uncordon", "w0")

    def moved_whole(self, job: str, number: str, *reasons: str) -> None:
        """`job` went on at w0 where it had stopped, and ends in the bits of the undisturbed run. Slurm's job left no directory."""
        first, second = self.ended_right(job)
        self.assertEqual(first["outcome"], "STOPPED")
        self.assertIn(first["reason"], reasons)
        self.assertEqual(second["startImagesSeen"], first["endImagesSeen"])
        self.assertEqual(list(self.scratch.glob(f"p2-slurm-{number}-*")), [])

    def ended_right(self, job: str) -> list[dict]:
        """Its two attempts."""
        first, second = self.p2.wait_state(job, "SUCCEEDED")["attempts"]
        print(f"{first['reason']} at {first['endImagesSeen']} images on {first['ranks'][0]['worker']}; went on at {second['startImagesSeen']}")
        self.assertEqual({rank["worker"] for rank in second["ranks"]}, {"workers/w0"})
        self.assertEqual(self.p2.final_digests(job), self.expected)
        self.assertEqual(self.p2.trainers(), {})
        return [first, second]

    def test_before_the_time_limit_all_workers_drain_and_their_job_moves(self):
        # Slurm looks every 30 s: the signal comes 10 to 40 s after the start.
        number = self.sbatch("--time=1", "--signal=B:USR1@20", "--nodes=2", devices="cpu:1", slower_ms=3000)
        job = self.p2.submit(SPEC)
        self.trains_on([f"slurm-{number}-n1", f"slurm-{number}-n2"], job)
        labels = {w["name"]: w["labels"] for w in self.p2.json("node", "list")["items"]}
        self.assertEqual(labels[f"workers/slurm-{number}-n2"], {"slurm-job": number, "slurm-node": "n2", "slurm-partition": "main"})
        ended = self.slurm.wait_ended(number, "COMPLETED", 90)
        self.assertEqual(ended["ExitCode"], "0:0")
        log = (self.p2.dir / f"slurm-{number}.log").read_text()
        # What is left until the limit, less 15 s.
        within = re.search(rf"nears its end: draining slurm-{number}-n1 slurm-{number}-n2 within (\d+) s\n", log)
        self.assertTrue(within and 5 <= int(within[1]) <= 35, log)
        self.moved_whole(job, number, "WORKER_DRAINED")

    def test_scancel_lets_the_worker_save_and_leaves_no_process(self):
        number = self.sbatch("--time=10")
        job = self.p2.submit(SPEC)
        self.trains_on([f"slurm-{number}-n1"], job)
        self.slurm.call("scancel", number)
        self.slurm.wait_ended(number, "CANCELLED")
        self.moved_whole(job, number, "WORKER_STOPPED", "WORKER_DRAINED")

    def test_a_dead_node_takes_no_other_along_and_the_rest_drains_and_queues_again(self):
        number = self.sbatch("--time=10", "--nodes=2", devices="cpu:1", P2_REQUEUE="1")
        job = self.p2.submit(SPEC)
        self.trains_on([f"slurm-{number}-n1", f"slurm-{number}-n2"], job)
        self.slurm.kill_node("n2", number)
        self.addCleanup(self.slurm.revive_node, "n2")
        self.assertEqual(self.ended_right(job)[0]["reason"], "WORKER_LOST")
        states = {w["name"]: w["state"] for w in self.p2.json("node", "list")["items"]}
        self.assertEqual((states[f"workers/slurm-{number}-n1"], states[f"workers/slurm-{number}-n2"]), ("READY", "LOST"))
        self.slurm.call("scancel", "--batch", "--signal=USR1", number)
        self.assertEqual(self.slurm.wait_ended(number, "PENDING")["Restarts"], "1")
        self.slurm.call("scancel", number)


if __name__ == "__main__":
    if installation() is None:
        print(f"skipped: no Slurm here ({', '.join(PROGRAMS)}); scripts/bootstrap --for test unpacks Debian's")
        sys.exit(77)
    try:
        with SlurmCluster() as SlurmTest.slurm:
            passed = unittest.main(verbosity=2, exit=False).result.wasSuccessful()
            if not passed:
                print(SlurmTest.slurm.logs())
    except CannotRun as why:
        print(f"skipped: Slurm's daemons do not come up here: {why}")
        sys.exit(77)
    sys.exit(0 if passed else 1)
