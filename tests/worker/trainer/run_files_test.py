#!/usr/bin/env python3
"""A run's TensorBoard files, read by tensorboard's own reader, and its progress.csv and averages, by Python's."""
import csv
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

from PIL import Image
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

BIN = pathlib.Path(os.environ["P2_BIN_DIR"])
SPEC = """
data: {dataset: dots}
model: {image_size: 16, model_channels: 32, channel_mult: [1], attention_resolutions: [16], num_head_channels: 16}
training: {images: 24, batch: 4, learning_rate: 1e-3, log_every_images: 4}
ema: [{rate: 0.9999}, {sigma_rel: 0.05}, {sigma_rel: 0.10}]
ema_snapshots: {every_images: 4}
checkpoint: {every_images: 8, keep_last: 4}
preview: {every_images: 8, count: 4, steps: "2"}
resources: {threads: 1}
"""


class RunFilesTest(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="p2-run-files-"))
        self.addCleanup(shutil.rmtree, self.dir)
        self.out = self.dir / "run"
        (self.dir / "spec.yaml").write_text(SPEC)

    def run_p2(self, program: str, *args, code: int = 0) -> subprocess.CompletedProcess:
        result = subprocess.run([BIN / program, *map(str, args)], capture_output=True, text=True, timeout=120)
        self.assertEqual(result.returncode, code, result.stdout + result.stderr)
        return result

    def prepare(self, resolution: int) -> pathlib.Path:
        images = self.dir / f"images{resolution}"
        images.mkdir()
        for i in range(6):
            image = Image.linear_gradient("L").resize((resolution, resolution)).rotate(90 * i)
            Image.merge("RGB", (image, image.point(lambda v: v * i // 6), image)).save(images / f"{i}.png")
        self.run_p2("p2ctl", "root", "init", self.dir / "root")
        self.run_p2("p2ctl", "dataset", "prepare", images, f"dots{resolution}", "--resolution", resolution, "--root", self.dir / "root")
        return next((self.dir / "root").rglob(f"dots{resolution}/dataset.json")).parent

    def train(self, data: pathlib.Path, *args, code: int = 0) -> subprocess.CompletedProcess:
        return self.run_p2("p2-trainer", "--standalone", self.dir / "spec.yaml", "--data", data, "--out", self.out, *args, code=code)

    def test_tensorboard_and_csv_tell_each_point_once_across_attempts(self):
        data = self.prepare(16)
        self.train(data)
        for name in ("000000000016-e1", "000000000024-e1"):
            shutil.rmtree(self.out / "checkpoints" / name)
        self.train(data, "--resume", "--set", "training.images=32")
        self.assertEqual(len(list((self.out / "tensorboard").iterdir())), 2)

        events = EventAccumulator(str(self.out / "tensorboard"), size_guidance={"images": 0, "scalars": 0, "tensors": 0})
        events.Reload()
        loss = events.Scalars("train/loss")
        self.assertEqual([point.step for point in loss], list(range(4, 33, 4)))
        tags = set(events.Tags()["scalars"])
        self.assertLessEqual({"train/grad_norm", "train/mse", "train/mse_weighted", "train/vb", "perf/images_per_second",
                              "perf/step_seconds", "ema/distance_0.9999", "ema/distance_s0.05"}, tags)
        self.assertTrue(any(tag.startswith("train/loss_q") for tag in tags), tags)
        self.assertTrue(any(tag.startswith("snr/loss_") for tag in tags), tags)
        grids = events.Images("samples/grid")
        self.assertEqual([grid.step for grid in grids], [8, 16, 24, 32])
        png = self.out / "samples-000000032.png"
        self.assertEqual(grids[-1].encoded_image_string, png.read_bytes())
        with Image.open(png) as image:
            self.assertEqual((grids[-1].width, grids[-1].height), image.size)
        self.assertEqual(events.SummaryMetadata("spec").plugin_data.plugin_name, "text")
        text = events.Tensors("spec")[-1].tensor_proto.string_val[0].decode()
        spec = json.loads(text.removeprefix("```json\n").removesuffix("\n```"))
        self.assertEqual(spec["training"]["images"], "32")

        with open(self.out / "progress.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual([int(row["samples"]) for row in rows], list(range(4, 33, 4)))
        self.assertEqual([int(row["step"]) for row in rows], list(range(8)))
        for row, point in zip(rows, loss, strict=True):
            self.assertAlmostEqual(float(row["loss"]), point.value, delta=1e-6 * abs(point.value))
        by_name = {tag: [point.value for point in events.Scalars(tag)] for tag in ("train/mse_weighted", "ema/distance_s0.1")}
        for row, weighted, distance in zip(rows, *by_name.values(), strict=True):
            self.assertAlmostEqual(float(row["mse"]), weighted, delta=1e-6 * weighted)
            self.assertAlmostEqual(float(row["ema_distance_s0.1"]), distance, delta=1e-6)
        self.assertGreater(by_name["ema/distance_s0.1"][-1], 0)

        # Averages of another width, of the run's own directory.
        out = self.dir / "ema.safetensors"
        told = self.run_p2("p2-trainer", "ema", "--snapshots", self.out, "--at", "0.02k", "--sigma-rel", 0.07, "--out", out).stdout
        self.assertIn("sigma_rel 0.07 at 20 images (5 updates), from 8 snapshots of s0.05, s0.1", told)
        self.assertIn("residual ", told)
        with safe_open(out, "np") as file, safe_open(self.out / "checkpoints/000000000032-e2/model.safetensors", "np") as model:
            self.assertEqual(set(file.keys()), set(model.keys()))
            self.assertEqual(file.metadata()["images_seen"], "20")
        self.assertIn("\"1x\"", self.run_p2("p2-trainer", "ema", "--snapshots", self.out, "--at", "1x", "--sigma-rel", 0.07, "--out", out,
                                            code=1).stderr)

    def test_random_crops_need_larger_images(self):
        crop = ("--set", "data.random_crop=true")
        refused = self.train(self.prepare(16), *crop, code=64)
        self.assertIn("holds 16 px images; data.random_crop cuts 16 px out of up to 20: prepare the images at 20 px or more", refused.stderr)
        self.train(self.prepare(20), *crop)
        self.assertTrue((self.out / "checkpoints/000000000024-e1").is_dir())


if __name__ == "__main__":
    unittest.main()
