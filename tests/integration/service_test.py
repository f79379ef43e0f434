#!/usr/bin/env python3
"""The service with real processes: p2d, p2-worker, p2-trainer over Gloo, p2ctl."""
import json
import os
import re
import signal
import unittest
import urllib.request

from p2_cluster import Cluster, tiny_spec, wait_for


def expected_images(images: int, every: int = 64) -> list[int]:
    return list(range(every, images + 1, every))


class TrainingTest(unittest.TestCase):
    def test_two_ranks_train_to_the_end_and_everything_can_be_seen(self):
        with Cluster() as p2:
            job = p2.submit(tiny_spec(images=512, preview=256))
            done = p2.wait_state(job, "SUCCEEDED")
            self.assertEqual(int(done["progress"]["imagesSeen"]), 512)
            self.assertEqual(len(done["attempts"]), 1)
            self.assertEqual([x for x, _ in p2.points(job)], expected_images(512))
            checkpoints = p2.json("ckpt", "list", job)["items"]
            self.assertEqual(sorted(int(c["imagesSeen"]) for c in checkpoints), [256, 512])
            samples = p2.json("samples", "list", job)["items"]
            self.assertEqual(sorted(int(s["imagesSeen"]) for s in samples), [256, 512])
            out = p2.dir / "grid.png"
            p2.p2ctl("artifact", "get", job, samples[-1]["name"].split("/")[-1], "--out", out)
            self.assertEqual(out.read_bytes()[:8], b"\x89PNG\r\n\x1a\n")
            self.assertEqual(p2.run("wait", job, "--for", "SUCCEEDED").returncode, 0)
            self.assertTrue(p2.p2ctl("logs", job, "--rank", "0").strip())
            self.assertIn(job, p2.p2ctl("describe", job))
            reasons = [e["reason"] for e in p2.json("events")["items"] if e["resource"] == f"jobs/{job}"]
            self.assertIn("CHECKPOINT_COMMITTED", reasons)
            self.assertEqual([int(row["samples"]) for row in p2.progress_csv(job)], expected_images(512))
            self.assertEqual(len(list((p2.root / "jobs" / job / "tensorboard").iterdir())), 1)
            self.assertEqual(p2.trainers(), {})


class FaultTest(unittest.TestCase):
    IMAGES = 1536

    @classmethod
    def setUpClass(cls):
        # The uninterrupted run that every interrupted one must equal, bit for bit.
        with Cluster() as p2:
            job = p2.submit(tiny_spec(images=cls.IMAGES))
            p2.wait_state(job, "SUCCEEDED")
            cls.digests, cls.loss = p2.final_digests(job), p2.points(job)

    def check_equal(self, p2: Cluster, job: str):
        self.assertEqual(p2.final_digests(job), self.digests)
        self.assertEqual(p2.points(job), self.loss)
        rows = [(int(row["samples"]), float(row["loss"])) for row in p2.progress_csv(job)]
        self.assertEqual(rows, [(images, float(f"{loss:.9g}")) for images, loss in self.loss])

    def run_with_fault(self, fault, attempts: int):
        with Cluster() as p2:
            job = p2.submit(tiny_spec(images=self.IMAGES))
            p2.wait_images(job, 384)
            fault(p2, job)
            done = p2.wait_state(job, "SUCCEEDED")
            self.assertEqual(len(done["attempts"]), attempts)
            epochs = [int(a["epoch"]) for a in done["attempts"]]
            self.assertEqual(epochs, sorted(set(epochs)))
            self.check_equal(p2, job)
            self.assertEqual(p2.trainers(), {})

    def test_a_killed_trainer_is_replaced_and_the_run_is_bit_equal(self):
        def fault(p2, job):
            os.kill(next(pid for pid, rank in p2.trainers().items() if rank == 1), signal.SIGKILL)

        self.run_with_fault(fault, attempts=2)

    def test_a_frozen_trainer_is_noticed_and_replaced(self):
        def fault(p2, job):
            os.kill(next(pid for pid, rank in p2.trainers().items() if rank == 1), signal.SIGSTOP)
            wait_for("a second attempt", lambda: len(p2.job(job)["attempts"]) == 2)
            self.assertEqual(p2.job(job)["attempts"][0]["reason"], "RANK_FROZEN")

        self.run_with_fault(fault, attempts=2)

    def test_training_goes_on_while_p2d_is_dead(self):
        def fault(p2, job):
            before = set(p2.trainers())
            p2.kill("p2d")
            p2.start_p2d()
            self.assertEqual(set(p2.trainers()) - before, set())

        self.run_with_fault(fault, attempts=1)

    def test_a_killed_worker_leaves_a_checkpoint_and_no_orphans(self):
        def fault(p2, job):
            p2.kill("w0")
            wait_for("its trainers to end", lambda: not p2.trainers())
            p2.start_worker()

        self.run_with_fault(fault, attempts=2)

    def test_sigterm_of_a_trainer_checkpoints_and_the_job_goes_on(self):
        def fault(p2, job):
            os.kill(next(iter(p2.trainers())), signal.SIGTERM)
            wait_for("a second attempt", lambda: len(p2.job(job)["attempts"]) == 2)

        self.run_with_fault(fault, attempts=2)

    def test_sigterm_of_the_worker_is_clean(self):
        def fault(p2, job):
            self.assertEqual(p2.end("w0"), 0)
            self.assertEqual(p2.trainers(), {})
            p2.start_worker()

        self.run_with_fault(fault, attempts=2)

    def test_sigterm_of_p2d_is_clean_and_training_goes_on(self):
        def fault(p2, job):
            self.assertEqual(p2.end("p2d"), 0)
            p2.start_p2d()

        self.run_with_fault(fault, attempts=1)


class VerbTest(unittest.TestCase):
    def test_version_names_every_process(self):
        with Cluster() as p2:
            versions = {v["what"]: v["version"] for v in p2.json("version")["items"]}
            self.assertEqual(set(versions), {"p2ctl", "p2d", "p2-worker w0"})
            self.assertEqual(len(set(versions.values())), 1)

    def test_pause_resume_stop_kill_and_delete(self):
        with Cluster() as p2:
            job = p2.submit(tiny_spec(images=100000))
            p2.wait_images(job, 64)
            p2.p2ctl("pause", job)
            paused = p2.wait_state(job, "PAUSED")
            self.assertEqual(p2.trainers(), {})
            seen = int(paused["progress"]["imagesSeen"])
            self.assertIn(seen, [int(c["imagesSeen"]) for c in p2.json("ckpt", "list", job)["items"]])
            p2.p2ctl("resume", job)
            p2.wait_images(job, seen + 64)
            p2.p2ctl("stop", job)
            p2.wait_state(job, "CANCELLED")
            self.assertEqual(p2.run("wait", job, "--for", "SUCCEEDED").returncode, 11)
            self.assertEqual(p2.run("delete", job).returncode, 0)
            self.assertEqual(p2.run("get", job).returncode, 3)
            wait_for("its files to go", lambda: not (p2.root / "jobs" / job).exists())
            killed = p2.submit(tiny_spec(images=100000))
            p2.wait_images(killed, 64)
            p2.p2ctl("kill", killed)
            p2.wait_state(killed, "CANCELLED")
            wait_for("its trainers to end", lambda: not p2.trainers())

    def test_a_job_that_finds_no_device_says_so_and_runs_when_one_is_free(self):
        with Cluster() as p2:
            first = p2.submit(tiny_spec(images=100000))
            p2.wait_images(first, 64)
            second = p2.submit(tiny_spec(images=64))
            waiting = p2.job(second)
            self.assertEqual((waiting["state"], waiting["reason"]), ("QUEUED", "WAITING_FOR_DEVICES"))
            p2.p2ctl("stop", first)
            p2.wait_state(second, "SUCCEEDED")

    def test_a_request_id_makes_one_job(self):
        with Cluster() as p2:
            spec = tiny_spec(images=64)
            a = p2.submit(spec, "--request-id", "once")
            self.assertEqual(p2.submit(spec, "--request-id", "once"), a)
            p2.dir.joinpath("other.yaml").write_text(tiny_spec(images=128))
            self.assertEqual(p2.run("submit", "-f", p2.dir / "other.yaml", "--request-id", "once").returncode, 6)
            self.assertEqual(len(p2.json("list")["items"]), 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
