#!/usr/bin/env python3
"""What is wrong is said: what, its value, what to do, with the right exit code, and nothing is lost."""
import json
import os
import pathlib
import subprocess
import tempfile
import unittest

from p2_cluster import BIN, Cluster, make_images, tiny_spec, wait_for


def run_p2d(*flags: str, **environment: str) -> subprocess.CompletedProcess:
    """A p2d that is to end by itself, on ports of its own unless `flags` say otherwise."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("P2", "GRPC"))} | environment
    own = [part for flag in ("--listen", "--http") if flag not in flags for part in (flag, "127.0.0.1:0")]
    return subprocess.run([str(BIN / "p2d"), *flags, *own], env=env, capture_output=True, text=True, timeout=60)


class BadInputTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.p2 = cls.enterClassContext(Cluster())

    def fails(self, code: int, *words: str, args: tuple, timeout: float = 60):
        result = self.p2.run(*args, timeout=timeout)
        self.assertEqual(result.returncode, code, result.stderr + result.stdout)
        for word in words:
            self.assertIn(word, result.stderr)

    def submit_file(self, text: str) -> pathlib.Path:
        file = self.p2.dir / "bad.yaml"
        file.write_text(text)
        return file

    def test_unknown_preset_names_the_nearest(self):
        self.fails(3, "ffhq-gama0.5", "ffhq-gamma0.5", args=("submit", "ffhq-gama0.5"))

    def test_every_bad_field_is_named_at_once_with_its_line(self):
        file = self.submit_file("extends: mnist-demo\ntraining:\n  bach: 8\n  learning_rate: fast\nobjective: {gamma: -1}\n")
        self.fails(2, "bad.yaml:3", "batch", "bad.yaml:4", "learning_rate", args=("submit", "-f", file))
        self.fails(2, "objective.gamma", "-1", "objective.k", "training.batch",
                   args=("submit", "mnist-demo", "--dataset", "dots", "--set", "objective.gamma=-1", "--set", "objective.k=-2", "--set", "training.batch=0"))

    def test_more_devices_than_samples(self):
        self.fails(2, "devices", args=("submit", "-f", self.submit_file(tiny_spec(devices=9))))

    def test_a_missing_dataset(self):
        self.fails(3, "nowhere", "p2ctl dataset list", args=("submit", "-f", self.submit_file(tiny_spec()), "--dataset", "nowhere"))

    def test_a_dataset_of_another_resolution(self):
        self.fails(6, "16", "32", args=("submit", "-f", self.submit_file(tiny_spec().replace("image_size: 16", "image_size: 32"))))

    def test_a_dataset_that_does_not_fit_in_any_way_is_told_all_of_them(self):
        spec = tiny_spec().replace("image_size: 16", "image_size: 32").replace("in_channels: 1", "in_channels: 3").replace("batch: 8", "batch: 64")
        self.fails(6, "16 pixels", "--resolution 32", "1 channels", "model.in_channels=1", "48 images", "training.batch (64)",
                   args=("submit", "-f", self.submit_file(spec)))

    def test_every_error_has_a_reason_for_programs(self):
        for code, reason, args in ((3, "PRESET_NOT_FOUND", ("submit", "nope")),
                                   (3, "JOB_NOT_FOUND", ("get", "nope")),
                                   (3, "DATASET_NOT_FOUND", ("submit", "mnist-demo", "--dataset", "nope")),
                                   (2, "INVALID_SPEC", ("submit", "mnist-demo", "--dataset", "dots", "--set", "objective.gamma=-1")),
                                   (2, "PAGE_TOKEN_INVALID", ("list", "--page-token", "nope"))):
            result = self.p2.run(*args, "-o", "json")
            self.assertEqual(result.returncode, code, result.stderr)
            self.assertEqual(json.loads(result.stderr.splitlines()[-1])["reason"], reason)

    def test_an_empty_file_is_no_spec(self):
        self.fails(2, "bad.yaml", "is empty", args=("submit", "-f", self.submit_file("")))

    def test_k_of_zero_warns(self):
        result = self.p2.run("submit", "-f", self.submit_file(tiny_spec()), "--set", "objective.k=0", "--dry-run=server")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("objective.k", result.stderr)

    def test_an_empty_directory_is_no_dataset(self):
        empty = self.p2.dir / "empty"
        empty.mkdir()
        self.fails(2, "no image", "empty", args=("dataset", "prepare", empty, "none", "--resolution", 16, "--root", self.p2.root))

    def test_unreadable_images_are_listed_and_the_rest_is_used(self):
        images = self.p2.dir / "mixed"
        make_images(images, 8)
        (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot an image")
        result = self.p2.run("dataset", "prepare", images, "mixed", "--resolution", 16, "--channels", 1, "--root", self.p2.root)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("broken.png", result.stderr + result.stdout)
        mixed = [d for d in self.p2.json("dataset", "list")["items"] if d["name"] == "datasets/mixed"][0]
        self.assertEqual((int(mixed["imageCount"]), int(mixed["badImageCount"])), (8, 1))

    def test_a_directory_that_is_no_root(self):
        plain = self.p2.dir / "plain"
        plain.mkdir()
        self.fails(6, ".p2-root-id", "root init", args=("dataset", "prepare", self.p2.dir / "images-dots", "x", "--resolution", 16, "--root", plain))

    def test_a_root_that_no_worker_sees(self):
        away = self.p2.dir / "away"
        self.p2.p2ctl("root", "init", away)
        prepare = ("dataset", "prepare", self.p2.dir / "images-dots", "far", "--resolution", 16, "--channels", 1, "--root", away)
        self.fails(6, str(away), "--root NAME=", "p2ctl dataset register", args=prepare)
        self.p2.p2ctl("dataset", "register", away / "datasets/far", "--root", "away")
        self.fails(6, '"away"', "--root away=DIR", "p2ctl root list", args=("submit", "-f", self.submit_file(tiny_spec()), "--dataset", "far"))
        # Once a worker sees it the job runs; when that worker is gone, a job that waits says what it waits for.
        self.p2.start_worker("far", roots={"away": away})
        first = self.p2.submit(tiny_spec(images=64), "--dataset", "far")
        self.p2.wait_state(first, "SUCCEEDED")
        self.assertEqual(self.p2.end("far"), 0)
        second = self.p2.submit(tiny_spec(images=64), "--dataset", "far")
        waits = wait_for("it says why it waits", lambda: self.p2.job(second)["reason"] == "ROOT_NOT_VISIBLE" and self.p2.job(second))
        self.assertEqual(waits["state"], "QUEUED")
        self.assertIn("on workers that see root away", waits["message"])
        self.assertRegex(self.p2.p2ctl("why", waits["name"].removeprefix("jobs/")), r"far\s.*is (silent|not connected)")
        self.p2.start_worker("far", roots={"away": away})
        self.p2.wait_state(second, "SUCCEEDED")
        self.assertEqual(self.p2.end("far"), 0)

    def test_a_spec_that_is_too_big(self):
        self.fails(2, "262144", args=("submit", "-f", self.submit_file("description: " + "x" * 300000 + "\n")))

    def test_no_server(self):
        env = dict(self.p2.env, P2_ADDR="127.0.0.1:1")
        result = subprocess.run([str(BIN / "p2ctl"), "list", "--timeout", "3s"], env=env, capture_output=True, text=True, timeout=60)
        self.assertEqual(result.returncode, 7, result.stderr)
        self.assertIn("p2ctl local", result.stderr)

    def test_a_port_in_use_and_a_data_directory_in_use(self):
        second, grpc, http = ["--data-dir", str(self.p2.dir / "second")], self.p2.ports["grpc"], self.p2.ports["http"]
        for flags, words in (([*second, "--listen", f"127.0.0.1:{grpc}"], [str(grpc), "in use", "--listen"]),
                             ([*second, "--http", f"127.0.0.1:{http}"], [str(http), "in use", "another port"]),
                             (["--data-dir", str(self.p2.dir / "p2d")], ["p2d", "in use", "--data-dir"])):
            result = run_p2d(*flags)
            self.assertEqual(result.returncode, 6, result.stderr)
            # Our message is all there is: gRPC's own dump would stand before it.
            self.assertRegex(result.stderr, r"\Ap2d: [^\n]+\n\Z")
            for word in words:
                self.assertIn(word, result.stderr)
        self.assertEqual(self.p2.run("list").returncode, 0)

    def test_p2d_logs_where_each_job_goes(self):
        job = self.p2.submit(tiny_spec(images=64))
        self.p2.wait_state(job, "SUCCEEDED")
        lines = [json.loads(line)["msg"] for line in (self.p2.dir / "p2d.log").read_text().splitlines() if f"jobs/{job} " in line]
        moves = [line.split(" ", 2)[2] for line in lines if " JOB_STATE " in line]
        self.assertEqual([move.split(" (")[0] for move in moves], ["QUEUED -> STARTING", "STARTING -> RUNNING", "RUNNING -> SUCCEEDED"], lines)
        self.assertRegex(moves[2], r"\(COMPLETED\): completed 64 images \(attempt 1, epoch [1-9][0-9]*\)$")

    def test_a_flipped_byte_in_a_shard_fails_the_job_with_its_place(self):
        self.p2.add_dataset("flipped")
        shard = self.p2.root / "datasets/flipped/shard-00000.p2s"
        data = bytearray(shard.read_bytes())
        data[64 + 5 * 256 + 17] ^= 1
        shard.write_bytes(data)
        job = self.p2.submit(tiny_spec(budget=1), "--dataset", "flipped")
        failed = self.p2.wait_state(job, "FAILED")
        self.assertEqual({a["reason"] for a in failed["attempts"]}, {"DATA"})
        for word in (str(shard), "record 5 (bytes 1344 to 1599) is damaged", "p2ctl dataset validate"):
            self.assertIn(word, failed["attempts"][-1]["message"])
        self.fails(12, "record 5 (bytes 1344 to 1599) is damaged", args=("dataset", "validate", "flipped"))

    def test_a_flipped_byte_in_the_newest_checkpoint_falls_back_to_the_one_before(self):
        job = self.p2.submit(tiny_spec(images=100000, checkpoint=128))
        self.p2.wait_images(job, 512)
        self.p2.p2ctl("pause", job)
        self.p2.wait_state(job, "PAUSED")
        newest, previous = sorted(self.p2.json("ckpt", "list", job)["items"], key=lambda c: -int(c["imagesSeen"]))[:2]
        file = self.p2.root / newest["path"] / "model.safetensors"
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        self.p2.p2ctl("resume", job)

        def resumed():
            attempt = self.p2.job(job)["attempts"][-1]
            return int(attempt["number"]) == 2 and "startTime" in attempt and attempt.get("resumedFrom") and attempt

        attempt = wait_for("the second attempt runs", resumed)
        self.assertTrue(attempt["resumedFrom"].endswith(previous["name"].split("/")[-1]), attempt["resumedFrom"])
        self.assertEqual(int(attempt["startImagesSeen"]), int(previous["imagesSeen"]))
        self.assertIn("CHECKPOINT_CORRUPT", [e["reason"] for e in self.p2.json("events")["items"]])
        states = {c["name"]: c["state"] for c in self.p2.json("ckpt", "list", job)["items"]}
        self.assertEqual(states[newest["name"]], "CORRUPT")
        self.p2.p2ctl("kill", job)
        self.p2.wait_state(job, "CANCELLED")


class DaemonTest(unittest.TestCase):
    """p2d alone: what it ends with tells a supervisor whether starting it again can help."""

    def setUp(self):
        self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="p2-it-")))

    def ends(self, code: int, *words: str, flags: tuple = (), **environment: str):
        own = () if "--data-dir" in flags else ("--data-dir", str(self.dir / "data"))
        result = run_p2d(*own, *flags, **environment)
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertRegex(result.stderr, r"\Ap2d: ")
        for word in words:
            self.assertIn(word, result.stderr)

    def test_options_that_cannot_be_end_with_2(self):
        config = self.dir / "p2d.yaml"
        config.write_text("lost-aftr: 40s\n")
        self.ends(2, "--nonsense", "--help", flags=("--nonsense",))
        self.ends(2, "p2d.yaml:1", "lost-aftr", flags=("--config", str(config)))
        self.ends(2, "/proc/none", "--data-dir", flags=("--data-dir", "/proc/none"))
        self.ends(2, "--config /: ", flags=("--config", "/"))
        self.ends(2, "loud", "warning", flags=("--log-level", "loud"))
        self.ends(2, "nowhere.yaml", flags=("--config", str(self.dir / "nowhere.yaml")))
        self.ends(2, "--heartbeat-interval (10s)", "--suspect-after (5s)", flags=("--heartbeat-interval", "10s", "--suspect-after", "5s"))
        self.ends(2, "0.0.0.0:0", "--insecure", flags=("--listen", "0.0.0.0:0"))
        self.ends(2, "P2D_LOST_AFTER", "soon", P2D_LOST_AFTER="soon")
        self.ends(2, "--ready-file", "No such file", flags=("--ready-file", str(self.dir / "no/such/file")))

    def test_a_damaged_store_ends_with_70(self):
        with Cluster() as p2:
            self.assertEqual(p2.end("p2d"), 0)
            data = p2.dir / "p2d"
            for current in data.rglob("CURRENT"):
                current.write_text("MANIFEST-999999\n")
            result = run_p2d("--data-dir", str(data))
            self.assertEqual(result.returncode, 70, result.stderr)
            self.assertRegex(result.stderr, r"\Ap2d: database: ")

    def test_help_tells_the_exit_codes(self):
        result = run_p2d("--help")
        self.assertEqual(result.returncode, 0)
        for words in ("0 ended by SIGTERM", "2 options", "6 a port or the data directory is in use", "70 the store failed"):
            self.assertIn(words, result.stdout)


class RateTest(unittest.TestCase):
    def test_who_submits_too_much_is_told_when_to_go_on(self):
        with Cluster(d_flags=["--submit-rate", "1", "--submit-burst", "2"]) as p2:
            for _ in range(2):
                p2.submit(tiny_spec(images=64))
            refused = p2.run("submit", "-f", p2.dir / "spec.yaml", "-o", "json")
            self.assertEqual(refused.returncode, 5, refused.stderr)
            self.assertEqual(json.loads(refused.stderr)["reason"], "RATE_LIMITED")
            self.assertRegex(refused.stderr, r"submits more than 1 jobs a second .*try again in [0-9.]+m?s")


class DiskTest(unittest.TestCase):
    """p2d's data directory on a file system of 400 MiB that fills up."""

    def setUp(self):
        self.p2 = Cluster(d_flags=["--disk-interval", "100ms"])
        data = self.p2.dir / "p2d"
        data.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "p2-test", data], capture_output=True).returncode != 0:
            self.skipTest("cannot mount a tmpfs here (needs root)")
        self.addCleanup(lambda: subprocess.run(["umount", "-l", data], check=True))

    def test_a_nearly_full_disk_stops_admissions_and_nothing_else(self):
        with self.p2 as p2:
            running = p2.submit(tiny_spec(images=1000000))
            waiting = p2.submit(tiny_spec(images=64))
            p2.wait_images(running, 64)
            space = os.statvfs(p2.dir / "p2d")
            filler = p2.dir / "p2d/filler"
            with open(filler, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize - (12 << 20))
            refused = wait_for("a submit is refused", lambda: (r := p2.run("submit", "-f", p2.dir / "spec.yaml")).returncode != 0 and r)
            self.assertEqual(refused.returncode, 5, refused.stderr)
            for word in (str(p2.dir / "p2d"), "of 400 MiB free", "p2ctl delete", "what runs goes on"):
                self.assertIn(word, refused.stderr)
            # What runs goes on, is reported and can be read; what waits says why; nothing new begins.
            seen = int(p2.job(running)["progress"]["imagesSeen"])
            p2.wait_images(running, seen + 256)
            self.assertGreater(len(p2.points(running)), 0)
            p2.p2ctl("pause", running)
            p2.wait_state(running, "PAUSED")
            held = wait_for("the other job waits for space", lambda: p2.job(waiting)["reason"] == "DISK_FULL" and p2.job(waiting))
            self.assertEqual(held["state"], "QUEUED")
            # It heals by itself.
            filler.unlink()
            p2.wait_state(waiting, "SUCCEEDED")
            p2.p2ctl("resume", running)
            p2.wait_images(running, seen + 320)
            reasons = [e["reason"] for e in p2.json("events")["items"] if e["resource"] == "p2d"]
            self.assertEqual(reasons, ["DISK_FULL", "DISK_SPACE_BACK"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
