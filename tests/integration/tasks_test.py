#!/usr/bin/env python3
"""Jobs that do not train: samples, files of others, and trainings that start from a checkpoint. Real processes."""
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import unittest

from p2_cluster import BIN, SOURCE, Cluster, tiny_spec, wait_for

GOLDEN = SOURCE / "tests" / "golden" / "checkpoint"
# The model of the published files in tests/golden/checkpoint.
PICO = """
name: pico
model: {image_size: 16, model_channels: 32, channel_mult: [1], attention_resolutions: [16], num_head_channels: 16}
training: {images: 20, batch: 4, learning_rate: 1e-3}
ema: [{rate: 0.9999}]
resources: {kind: cpu, threads: 1}
"""


def digests(directory: pathlib.Path) -> dict[str, str]:
    return {str(p.relative_to(directory)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(directory.rglob("*")) if p.is_file()}


def pngs(directory: pathlib.Path) -> dict[str, str]:
    return {name: digest for name, digest in digests(directory).items() if name.endswith(".png")}


class TasksTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.p2 = Cluster()
        cls.p2.__enter__()
        cls.addClassCleanup(cls.p2.__exit__, None, None, None)
        cls.job = cls.p2.submit(tiny_spec(images=256, checkpoint=128))
        cls.p2.wait_state(cls.job, "SUCCEEDED")

    def task(self, *args: str) -> dict:
        job = self.p2.p2ctl(*args, "-o", "name", "--wait").strip().splitlines()[0]
        return self.p2.job(job)

    def output(self, job: dict) -> pathlib.Path:
        root, path = job["output"].split(":", 1)
        self.assertEqual(root, "main")
        return self.p2.root / path

    def test_samples_are_those_that_the_trainer_draws_by_hand_on_any_number_of_ranks(self):
        job = self.task("samples", "make", f"{self.job}@128", "--count", "6", "--steps", "5", "--seed", "3", "--devices", "2")
        self.assertEqual(job["state"], "SUCCEEDED")
        self.assertEqual((job["progress"]["imagesSeen"], job["progress"]["imagesTotal"]), ("6", "6"))
        drawn = pngs(self.output(job))
        self.assertEqual(len(drawn), 6)
        checkpoint = next(c for c in self.p2.json("ckpt", "list", self.job)["items"] if c["imagesSeen"] == "128")
        by_hand = self.p2.dir / "by-hand"
        subprocess.run([BIN / "p2-trainer", "sample", self.p2.root / checkpoint["path"], "--out", by_hand, "--count", "6", "--steps", "5",
                        "--seed", "3", "--device", "cpu"], check=True, capture_output=True)
        self.assertEqual(pngs(by_hand), drawn)

    def test_a_grid_comes_as_an_artifact(self):
        job = self.task("samples", "make", self.job, "--count", "4", "--steps", "5", "--format", "grid")
        name = job["name"].removeprefix("jobs/")
        sheet = self.p2.dir / "sheet.png"
        self.p2.p2ctl("samples", "get", name, "--out", sheet)
        self.assertEqual(sheet.read_bytes(), (self.output(job) / "grid.png").read_bytes())
        text = self.p2.p2ctl("describe", name)
        self.assertRegex(text, r"Task: +draw 4 images")
        self.assertIn(f"jobs/{self.job}/checkpoints/", text)

    def reconstructed_by_hand(self, out: str, checkpoint: str, *args: str) -> dict[str, str]:
        dataset, = (d for d in self.p2.json("dataset", "list")["items"] if d["name"] == "datasets/dots")
        subprocess.run([BIN / "p2-trainer", "reconstruct", self.p2.root / checkpoint, "--images", self.p2.root / dataset["path"], "--out", self.p2.dir / out,
                        "--device", "cpu", *args], check=True, capture_output=True)
        return pngs(self.p2.dir / out)

    def test_reconstructions_are_those_that_the_trainer_makes_by_hand_on_any_number_of_ranks(self):
        args = ["--steps", "ddim10", "--timestep", "900,300", "--snr", "0.01,10", "--count", "6", "--first", "5", "--seed", "3"]
        checkpoint = next(c for c in self.p2.json("ckpt", "list", self.job)["items"] if c["imagesSeen"] == "128")
        by_hand = self.reconstructed_by_hand("reconstructed", checkpoint["path"], *args)
        columns = sorted(path.name for path in (self.p2.dir / "reconstructed").glob("t*"))
        self.assertEqual(len(columns), 4)
        self.assertLessEqual({"t0300", "t0900"}, set(columns))
        self.assertEqual(sorted(by_hand), ["grid.png"] + [f"{column}/{index:06}.png" for column in columns for index in range(5, 11)])
        for devices in "1", "2":
            job = self.task("samples", "make", f"{self.job}@128", "--reconstruct", *args, "--devices", devices)
            self.assertEqual(job["state"], "SUCCEEDED")
            self.assertEqual((job["progress"]["imagesSeen"], job["progress"]["imagesTotal"]), ("24", "24"))
            self.assertEqual(pngs(self.output(job)), by_hand)
            name = job["name"].removeprefix("jobs/")
            sheet = self.p2.dir / f"reconstructed-{devices}.png"
            self.p2.p2ctl("samples", "get", name, "--out", sheet)
            self.assertEqual(sheet.read_bytes(), (self.output(job) / "grid.png").read_bytes())
        self.assertRegex(self.p2.p2ctl("describe", name), r"Task: +reconstruct 6 images of datasets/dots at timestep 900, timestep 300, SNR 0.01, SNR 10")

    def test_an_interrupted_reconstruction_goes_on_where_it_stopped(self):
        args = ["--snr", "1e-4,0.01", "--steps", "100", "--count", "48"]
        job = self.p2.p2ctl("samples", "make", self.job, "--reconstruct", *args, "-o", "name").strip().removeprefix("jobs/")
        output = self.output(self.p2.wait_images(job, 8))
        os.kill(next(iter(self.p2.trainers())), signal.SIGKILL)
        before = {path: path.stat().st_mtime_ns for path in output.glob("t*/*.png")}
        self.assertLess(len(before), 96)
        done = self.p2.wait_state(job, "SUCCEEDED")
        self.assertEqual(len(done["attempts"]), 2)
        self.assertEqual({path: path.stat().st_mtime_ns for path in before}, before)
        newest = self.p2.json("ckpt", "list", self.job)["items"][0]
        self.assertEqual(pngs(output), self.reconstructed_by_hand("interrupted", newest["path"], *args))

    def test_a_reconstruction_waits_for_a_worker_that_sees_its_dataset(self):
        far = self.p2.dir / "far"
        self.p2.p2ctl("root", "init", str(far))
        roots = {"main": self.p2.root, "far": far}
        self.p2.start_worker("far", slots=1, roots=roots)
        self.p2.p2ctl("dataset", "prepare", self.p2.dir / "images-dots", "far-dots", "--resolution", "16", "--channels", "1", "--root", far)
        self.p2.end("far")
        job = self.p2.p2ctl("samples", "make", self.job, "--reconstruct", "--timestep", "100", "--dataset", "far-dots", "--steps", "ddim10",
                            "-o", "name").strip().removeprefix("jobs/")
        wait_for("it says why it waits", lambda: self.p2.job(job)["reason"] == "ROOT_NOT_VISIBLE")
        self.assertIn("on workers that see roots far and main", self.p2.job(job)["message"])
        self.p2.start_worker("far", slots=1, roots=roots)
        done = self.p2.wait_state(job, "SUCCEEDED")
        self.assertEqual(done["attempts"][-1]["ranks"][0]["worker"], "workers/far")
        self.p2.end("far")

    def test_interrupted_sampling_goes_on_where_it_stopped(self):
        self.p2.p2ctl("samples", "make", self.job, "--count", "300", "--steps", "50", "--name", "long")
        job = self.p2.json("list")["items"][0]["name"].removeprefix("jobs/")
        self.p2.wait_images(job, 10)
        trainer = next(iter(self.p2.trainers()))
        os.kill(trainer, signal.SIGKILL)
        wait_for("a second attempt", lambda: len(self.p2.job(job)["attempts"]) == 2)
        self.p2.p2ctl("pause", job)
        paused = self.p2.wait_state(job, "PAUSED")
        before = digests(self.output(paused))
        self.assertGreater(len(before), 10)
        self.assertLess(len(before), 300)
        self.p2.p2ctl("resume", job)
        done = self.p2.wait_state(job, "SUCCEEDED")
        after = digests(self.output(done))
        self.assertEqual({k: after[k] for k in before}, before)
        self.assertEqual(sum(k.endswith(".png") for k in after), 300)
        self.p2.p2ctl("delete", job, "--yes")
        wait_for("the output is deleted", lambda: not self.output(done).exists())

    def test_export_and_import_bring_the_same_weights_back(self):
        exported = self.task("ckpt", "export", self.job, "--format", "safetensors")
        files = digests(self.output(exported))
        self.assertEqual(sorted(files), ["ema_0.99_000031.safetensors", "model000031.safetensors"])
        published = self.p2.root / "published"
        shutil.copytree(GOLDEN, published)
        (self.p2.dir / "pico.yaml").write_text(PICO)
        imported = self.task("ckpt", "import", str(published), "-f", str(self.p2.dir / "pico.yaml"))
        self.assertEqual(imported["state"], "SUCCEEDED")
        checkpoint, = self.p2.json("ckpt", "list", imported["name"])["items"]
        self.assertEqual((checkpoint["state"], checkpoint["imagesSeen"]), ("COMMITTED", "8"))
        back = self.output(self.task("ckpt", "export", imported["name"], "--format", "pt"))
        self.assertEqual(sorted(digests(back)), ["ema_0.9999_000001.pt", "model000001.pt", "opt000001.pt"])
        inspect = [json.loads(subprocess.run([BIN / "p2-trainer", "inspect", path / "model000001.pt", "-o", "json"], check=True,
                                             capture_output=True).stdout)["tensors"] for path in (GOLDEN, back)]
        self.assertEqual(*({t["name"]: t["sha256"] for t in tensors} for tensors in inspect))

    def test_an_average_of_any_width_is_made_afterwards(self):
        spec = tiny_spec(images=256, checkpoint=128).replace("ema: [{rate: 0.99}]", "ema: [{sigma_rel: 0.05}, {sigma_rel: 0.1}]\nema_snapshots: {every_images: 32}")
        job = self.p2.submit(spec)
        self.p2.wait_state(job, "SUCCEEDED")
        average = self.task("ckpt", "ema", job, "--at", "256", "--sigma-rel", "0.07")
        self.assertEqual(average["state"], "SUCCEEDED")
        self.assertEqual(list(digests(self.output(average))), ["ema_s0.07.safetensors"])
        log = self.p2.p2ctl("logs", average["name"])
        self.assertRegex(log, r"sigma_rel 0.07 at 256 images \(32 updates\), from 8 snapshots of s0.05, s0.1\nresidual 0\.")
        # What was stored at a position comes out as it was stored.
        stored = self.task("ckpt", "ema", job, "--sigma-rel", "0.05")
        inspect = [json.loads(subprocess.run([BIN / "p2-trainer", "inspect", file, "-o", "json"], check=True, capture_output=True).stdout)
                   for file in (self.output(stored) / "ema_s0.05.safetensors", self.p2.checkpoint_dir(job) / "000000000256-e1" / "ema_s0.05.safetensors")]
        self.assertEqual(*([t["name"] for t in one["tensors"]] for one in inspect))
        refused = self.p2.run("ckpt", "ema", job, "--sigma-rel", "0.5")
        self.assertEqual(refused.returncode, 2)
        self.assertIn("must be 0.001 to 0.288", refused.stderr)
        none = self.p2.p2ctl("ckpt", "ema", self.job, "--sigma-rel", "0.05", "-o", "name").strip()
        self.assertIn("snapshots", self.p2.wait_state(none, "FAILED")["message"])

    def test_a_training_begins_with_the_weights_of_another(self):
        spec = self.p2.dir / "next.yaml"
        spec.write_text(tiny_spec(images=8, checkpoint=8).replace("learning_rate: 1e-3", "learning_rate: 1e-30"))
        job = self.task("submit", "-f", str(spec), "--init-from", self.job)
        self.assertEqual(job["source"]["imagesSeen"], "256")
        self.assertEqual(job["progress"]["imagesSeen"], "8")

        def model(name: str) -> str:
            newest = self.p2.json("ckpt", "list", name)["items"][0]
            return next(f["sha256"] for f in newest["files"] if f["path"] == "model.safetensors")

        self.assertEqual(model(job["name"].removeprefix("jobs/")), model(self.job))

    def test_what_a_training_began_from_is_kept_until_it_has_ended(self):
        first = self.p2.submit(tiny_spec(images=64, checkpoint=64))
        self.p2.wait_state(first, "SUCCEEDED")
        spec = self.p2.dir / "second.yaml"
        spec.write_text(tiny_spec(images=4096, checkpoint=64))
        second = self.p2.p2ctl("submit", "-f", str(spec), "--init-from", first, "-o", "name").strip().removeprefix("jobs/")
        self.p2.wait_images(second, 128)
        wait_for("a checkpoint of its own", lambda: self.p2.json("ckpt", "list", second)["items"])
        self.p2.p2ctl("pause", second)
        self.p2.wait_state(second, "PAUSED")
        self.assertIn("began from its checkpoint", self.p2.run("delete", first, "--yes").stderr)
        self.p2.p2ctl("resume", second)
        self.p2.wait_state(second, "SUCCEEDED")
        self.p2.p2ctl("delete", first, "--yes")
        wait_for("the source is gone", lambda: not self.p2.checkpoint_dir(first).exists())

    def test_what_does_not_fit_is_refused_with_the_reason(self):
        def refused(code: int, *args: str) -> str:
            result = self.p2.run(*args)
            self.assertEqual(result.returncode, code, result.stderr)
            return result.stderr

        self.assertIn("it has them at 128, 256", refused(3, "samples", "make", f"{self.job}@200", "--count", "1"))
        self.assertIn('holds 0.99', refused(2, "samples", "make", self.job, "--count", "1", "--ema", "0.5"))
        self.assertIn("ask for at most 1000", refused(2, "samples", "make", self.job, "--count", "1", "--steps", "2000"))
        self.assertIn("was trained with", refused(2, "samples", "make", self.job, "--count", "1", "--set", "training.batch=4"))
        self.assertIn("must be 1 to", refused(2, "samples", "make", self.job, "--count", "0"))
        self.assertIn("--count is missing", refused(2, "samples", "make", self.job))
        self.assertIn("--reconstruct", refused(2, "samples", "make", self.job, "--snr", "1"))
        self.assertIn("says nothing of where to", refused(2, "samples", "make", self.job, "--reconstruct"))
        self.assertIn("must be a positive number", refused(2, "samples", "make", self.job, "--reconstruct", "--snr=-1"))
        self.assertIn("leave it out", refused(2, "samples", "make", self.job, "--reconstruct", "--snr", "1", "--format", "npz"))
        self.assertIn("has 48 images", refused(6, "samples", "make", self.job, "--reconstruct", "--snr", "1", "--count", "49"))
        self.assertIn("without . and ..", refused(2, "ckpt", "import", "main:../etc", "--preset", "mnist-demo"))
        self.assertIn("no worker has ever reported", refused(6, "ckpt", "import", "other:files", "--preset", "mnist-demo"))
        self.assertIn("one sheet holds at most 4096", refused(2, "samples", "make", self.job, "--count", "5000", "--format", "grid"))
        self.assertIn("an export task takes 1", refused(2, "ckpt", "export", self.job, "--format", "pt", "--devices", "2"))
        typo = self.p2.p2ctl("ckpt", "import", "main:publishd", "--preset", "mnist-demo", "--set", "restart.budget=0", "-o", "name").strip()
        self.assertIn("No such file", self.p2.wait_state(typo, "FAILED")["message"])
        links = self.p2.root / "links"
        links.mkdir()
        (links / "model000001.pt").symlink_to(GOLDEN / "model000001.pt")
        linked = self.p2.p2ctl("ckpt", "import", str(links), "--preset", "mnist-demo", "-o", "name").strip()
        self.assertIn("symbolic link", self.p2.wait_state(linked, "FAILED")["message"])
        other = self.p2.dir / "wide.yaml"
        other.write_text(tiny_spec(images=8).replace("model_channels: 32", "model_channels: 64"))
        job = self.p2.p2ctl("submit", "-f", str(other), "--init-from", self.job, "-o", "name").strip()
        failed = self.p2.wait_state(job, "FAILED")
        self.assertEqual(failed["reason"], "BAD_SPEC")
        self.assertIn("this spec's is F32", failed["message"])


if __name__ == "__main__":
    unittest.main()
