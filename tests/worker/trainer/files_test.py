#!/usr/bin/env python3
"""p2-trainer's import, export and inspect, proved by the Python packages that own the formats: torch, safetensors, diffusers."""
import collections
import importlib.util
import json
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile

import torch

BIN = pathlib.Path(os.environ["P2_BIN_DIR"])
GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "golden"
MODEL, EMA, OPT = (GOLDEN / "checkpoint" / name for name in ("model000001.pt", "ema_0.9999_000001.pt", "opt000001.pt"))

PICO = """
data: {dataset: dots, random_flip: false}
model: {image_size: 16, model_channels: 32, channel_mult: [1], attention_resolutions: [16], num_head_channels: 16}
training: {images: 20, batch: 4, learning_rate: 1e-3, log_every_images: 4}
ema: [{rate: 0.9999}]
preview: {every_images: -1}
resources: {threads: 1}
"""
TINY = """
data: {dataset: dots}
model: {image_size: 32, model_channels: 32, channel_mult: [1, 2, 2], attention_resolutions: [8], num_head_channels: 16}
training: {images: 100}
ema: []
"""


def missing(*packages: str) -> bool:
    return any(importlib.util.find_spec(package) is None for package in packages)


class FilesTest(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="p2-files-"))
        self.addCleanup(shutil.rmtree, self.dir)

    def run_p2(self, program: str, *args, code: int = 0) -> subprocess.CompletedProcess:
        result = subprocess.run([BIN / program, *map(str, args)], capture_output=True, text=True, timeout=120)
        self.assertEqual(result.returncode, code, result.stdout + result.stderr)
        return result

    def write(self, name: str, text: str) -> pathlib.Path:
        path = self.dir / name
        path.write_text(text)
        return path

    def import_pico(self) -> pathlib.Path:
        """The published run of tests/golden as a checkpoint."""
        self.run_p2("p2-trainer", "import", "--model", MODEL, "--ema", EMA, "--opt", OPT, "--spec", self.write("pico.yaml", PICO),
                    "--out", self.dir / "run")
        return self.dir / "run/checkpoints/000000000008-e1"

    def export(self, checkpoint: pathlib.Path, *args) -> pathlib.Path:
        out = self.dir / f"out{len(list(self.dir.iterdir()))}"
        self.run_p2("p2-trainer", "export", checkpoint, "--out", out, *args)
        return out

    def assert_same(self, state: dict, published: pathlib.Path):
        expected = torch.load(published, weights_only=True)
        self.assertEqual(list(state), list(expected))
        for name, tensor in expected.items():
            self.assertTrue(torch.equal(state[name], tensor), name)

    def test_exported_pt_loads_with_weights_only(self):
        out = self.export(self.import_pico(), "--format", "pt")
        self.assertEqual(sorted(p.name for p in out.iterdir()), [EMA.name, MODEL.name, OPT.name])
        model = torch.load(out / MODEL.name, weights_only=True)
        self.assertIsInstance(model, collections.OrderedDict)
        self.assert_same(model, MODEL)
        self.assert_same(torch.load(out / EMA.name, weights_only=True), EMA)
        with zipfile.ZipFile(out / MODEL.name) as archive:
            self.assertIsNone(archive.testzip())

        # The published code hands it to AdamW.load_state_dict; a step from it equals a step from the original file.
        steps = []
        for file in (OPT, out / OPT.name):
            parameters = [torch.nn.Parameter(tensor.clone()) for tensor in model.values()]
            adamw = torch.optim.AdamW(parameters, lr=1e-3)
            adamw.load_state_dict(torch.load(file, weights_only=True))
            for parameter in parameters:
                parameter.grad = torch.full_like(parameter, 0.01)
            adamw.step()
            steps.append(parameters)
        for ours, theirs in zip(*steps):
            self.assertTrue(torch.equal(ours, theirs))

    def test_one_net_alone_is_exported(self):
        checkpoint = self.import_pico()
        self.assertEqual([p.name for p in self.export(checkpoint, "--format", "pt", "--raw").iterdir()], [MODEL.name])
        self.assertEqual([p.name for p in self.export(checkpoint, "--format", "pt", "--ema", "0.9999").iterdir()], [EMA.name])
        result = self.run_p2("p2-trainer", "export", checkpoint, "--format", "pt", "--out", self.dir / "x", "--ema", "0.5", code=1)
        self.assertIn('no EMA "0.5"; it has 0.9999', result.stderr)

    @unittest.skipIf(missing("safetensors"), "the safetensors package is not installed")
    def test_exported_safetensors_load(self):
        import safetensors
        import safetensors.torch
        out = self.export(self.import_pico(), "--format", "safetensors")
        expected = torch.load(EMA, weights_only=True)
        path = out / "ema_0.9999_000001.safetensors"
        loaded = safetensors.torch.load_file(path)
        self.assertEqual(set(loaded), set(expected))
        for name, tensor in expected.items():
            self.assertTrue(torch.equal(loaded[name], tensor), name)
        with safetensors.safe_open(path, "pt") as file:
            self.assertEqual(file.metadata(), {"format": "pt"})

    @unittest.skipIf(missing("safetensors", "diffusers"), "the diffusers package is not installed")
    def test_diffusers_computes_the_golden_output(self):
        import safetensors.torch
        from diffusers import DDPMScheduler, UNet2DModel
        weights = safetensors.torch.load_file(GOLDEN / "tiny_weights.safetensors")
        keys = next(c for c in self.golden_models() if c["name"] == "tiny32")["state_dict"]
        torch.save(collections.OrderedDict((key, weights[key].float()) for key, _ in keys), self.dir / "model000000.pt")
        self.run_p2("p2-trainer", "import", "--model", self.dir / "model000000.pt", "--spec", self.write("tiny.yaml", TINY),
                    "--set", "ema=[{rate: 0.5}]", "--out", self.dir / "tiny")
        out = self.export(next((self.dir / "tiny/checkpoints").iterdir()), "--format", "diffusers", "--raw")
        unet, report = UNet2DModel.from_pretrained(out / "unet", output_loading_info=True)
        self.assertEqual((report["missing_keys"], report["unexpected_keys"]), ([], []))
        cases = safetensors.torch.load_file(GOLDEN / "tiny_cases.safetensors")
        with torch.no_grad():
            output = unet.eval()(cases["fwd.x"], cases["fwd.t"]).sample
        self.assertLess((output - cases["fwd.out"]).abs().max().item(), 1e-5)
        scheduler = DDPMScheduler.from_pretrained(out / "scheduler")
        self.assertEqual(scheduler.config.variance_type, "learned_range")
        schedules = safetensors.torch.load_file(GOLDEN / "schedules.safetensors")
        self.assertLess((scheduler.betas.double() - schedules["linear_1000.betas"]).abs().max().item(), 1e-8)

    def golden_models(self) -> list:
        models = json.loads((GOLDEN / "models.json").read_text())
        configs = models.get("configs", models)
        return [dict(value, name=name) for name, value in configs.items()] if isinstance(configs, dict) else configs

    def test_training_goes_on_from_an_import(self):
        self.import_pico()
        images = self.dir / "images"
        images.mkdir()
        from PIL import Image
        for i in range(6):
            Image.new("RGB", (16, 16), (40 * i, 255 - 40 * i, 7 * i)).save(images / f"{i}.png")
        root = self.dir / "root"
        self.run_p2("p2ctl", "root", "init", root)
        self.run_p2("p2ctl", "dataset", "prepare", images, "dots", "--resolution", 16, "--root", root)
        data = next(root.rglob("dataset.json")).parent
        result = self.run_p2("p2-trainer", "--standalone", self.dir / "pico.yaml", "--data", data, "--out", self.dir / "run", "--resume")
        self.assertIn("resumes from", result.stderr)
        self.assertIn("at 8 of 20 images", result.stderr)
        out = self.export(self.dir / "run/checkpoints/000000000020-e2", "--format", "pt")
        optimizer = torch.load(out / "opt000004.pt", weights_only=True)
        self.assertEqual(optimizer["state"][0]["step"].item(), 5)
        self.assertFalse(torch.equal(torch.load(out / "model000004.pt")["out.2.bias"], torch.load(MODEL)["out.2.bias"]))

        dataset = json.loads(self.run_p2("p2-trainer", "inspect", data, "-o", "json").stdout)
        self.assertEqual((dataset["kind"], dataset["metadata"]["count"]), ("dataset", 6))
        shard = data / dataset["files"][0]["path"]
        self.assertIn("count: 6", self.run_p2("p2-trainer", "inspect", shard).stdout)
        for length in (0, 63, 64, shard.stat().st_size - 1):
            cut = self.dir / "cut.p2s"
            cut.write_bytes(shard.read_bytes()[:length])
            self.assertIn("cut.p2s", self.run_p2("p2-trainer", "inspect", cut, code=1).stderr)

    def test_an_import_that_does_not_fit_is_refused_and_reported(self):
        spec = self.write("wide.yaml", PICO.replace("attention_resolutions: [16]", "attention_resolutions: []"))
        args = ("import", "--model", MODEL, "--spec", spec, "--out", self.dir / "run")
        result = self.run_p2("p2-trainer", *args, code=1)
        self.assertIn("unexpected: input_blocks.1.1.norm.weight", result.stderr)
        self.assertFalse((self.dir / "run").exists())
        result = self.run_p2("p2-trainer", *args, "--partial")
        self.assertIn("18 unexpected", result.stdout)
        # The spec's empty list of resolutions stays empty in the checkpoint: the preset's default does not come back.
        self.export(self.dir / "run/checkpoints/000000000008-e1", "--format", "pt", "--raw")
        result = self.run_p2("p2-trainer", *args, code=1)
        self.assertIn("already holds checkpoints", result.stderr)
        result = self.run_p2("p2-trainer", "import", "--model", MODEL, "--spec", self.write("p.yaml", PICO), "--ema",
                             self.dir / "ema_0.5_000001.pt", "--out", self.dir / "other", code=1)
        self.assertIn("no average of rate 0.5", result.stderr)

    def test_inspect_shows_what_torch_saved(self):
        shown = json.loads(self.run_p2("p2-trainer", "inspect", MODEL, "-o", "json").stdout)
        expected = torch.load(MODEL, weights_only=True)
        self.assertEqual([(t["name"], t["shape"]) for t in shown["tensors"]], [(k, list(v.shape)) for k, v in expected.items()])
        table = self.run_p2("p2-trainer", "inspect", OPT).stdout
        self.assertIn("param_groups.0.lr: 0.001", table)
        self.assertIn("state.0.exp_avg", table)
        checkpoint = self.import_pico()
        shown = json.loads(self.run_p2("p2-trainer", "inspect", checkpoint, "-o", "json").stdout)
        self.assertEqual((shown["kind"], shown["metadata"]["images_seen"]), ("checkpoint", 8))
        flipped = bytearray((checkpoint / "model.safetensors").read_bytes())
        flipped[-1] ^= 1
        (checkpoint / "model.safetensors").write_bytes(flipped)
        self.assertIn("model.safetensors is damaged", self.run_p2("p2-trainer", "inspect", checkpoint, code=1).stderr)

    def test_other_types_and_views_read_as_torch_has_them(self):
        base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
        state = {"view": base.t()[1:3], "half": base.half(), "bfloat": base.bfloat16(), "double": base.double(), "long": base.long(),
                 "empty": torch.empty(0, 3), "bool": base > 3}
        path = self.dir / "x.pt"
        torch.save(state, path)
        import hashlib
        shown = json.loads(self.run_p2("p2-trainer", "inspect", path, "-o", "json").stdout)
        self.assertEqual([t["dtype"] for t in shown["tensors"]], ["F32", "F16", "BF16", "F64", "I64", "F32", "BOOL"])
        for tensor in shown["tensors"]:
            raw = bytes(state[tensor["name"]].contiguous().reshape(-1).view(torch.uint8).numpy())
            self.assertEqual(tensor["sha256"], hashlib.sha256(raw).hexdigest(), tensor["name"])

    def test_hostile_and_foreign_files_are_refused_by_name(self):
        class Hostile:
            def __reduce__(self):
                return os.system, (f"touch {marker}",)

        marker = self.dir / "executed"
        path = self.dir / "hostile.pt"
        torch.save({"a": torch.zeros(2), "b": Hostile()}, path)
        self.assertIn('refused: global "posix.system"', self.run_p2("p2-trainer", "inspect", path, code=1).stderr)
        self.assertFalse(marker.exists())
        torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
        self.assertIn("before 1.6", self.run_p2("p2-trainer", "inspect", path, code=1).stderr)
        path.write_bytes(pickle.dumps({"a": 1}))
        self.assertIn("hostile.pt is no zip", self.run_p2("p2-trainer", "inspect", path, code=1).stderr)
        self.assertIn("__torch__", self.run_p2("p2-trainer", "inspect", GOLDEN / "features.pt", code=1).stderr)
        path.write_bytes(MODEL.read_bytes()[:-1000])
        self.assertIn("hostile.pt", self.run_p2("p2-trainer", "inspect", path, code=1).stderr)
        self.run_p2("p2-trainer", "inspect", self.dir / "none.pt", code=3)
        self.assertIn("neither a dataset nor a checkpoint", self.run_p2("p2-trainer", "inspect", self.dir, code=1).stderr)


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    unittest.main(verbosity=2)
