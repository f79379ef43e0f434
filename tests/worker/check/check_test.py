#!/usr/bin/env python3
"""Runs `p2-trainer check` as a person does.

  check_test.py P2_TRAINER GOLDEN_DIR

1. The golden set passes, every section of it.
2. In a copy with one number changed in each section's file, exactly what was changed is found: exit 12 and the case
   named, in every section.
3. A file that is missing is a failure that is named; a directory that is not there, an error.
"""
import json
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

TRAINER, GOLDEN = sys.argv[1], pathlib.Path(sys.argv[2])
SECTIONS = ["schedules", "respacing", "models", "tiny", "trajectory", "sampling", "bpd", "preprocess", "metrics", "checkpoint"]


def check(fixtures, *flags):
    return subprocess.run([TRAINER, "check", "--fixtures", str(fixtures), *flags], capture_output=True, text=True)


def failed(result):
    return {(case["section"], case["case"]) for case in json.loads(result.stdout)["cases"] if not case["pass"]}


def edit_json(path, *keys, value):
    """Sets file[keys[0]][keys[1]]… = value(old)."""
    document = json.loads(path.read_text())
    place = document
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value(place[keys[-1]])
    path.write_text(json.dumps(document))


def edit_tensor(path, name, value):
    """Changes the first element of a float32 tensor."""
    raw = bytearray(path.read_bytes())
    header_bytes = struct.unpack("<Q", raw[:8])[0]
    begin = 8 + header_bytes + json.loads(raw[8:8 + header_bytes])[name]["data_offsets"][0]
    raw[begin:begin + 4] = struct.pack("<f", value(struct.unpack("<f", raw[begin:begin + 4])[0]))
    path.write_bytes(raw)


class CheckTest(unittest.TestCase):
    def test_the_golden_set_passes(self):
        result = check(GOLDEN, "-o", "json")
        self.assertEqual(failed(result), set())
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(result.stdout)
        self.assertTrue(report["pass"])
        self.assertEqual(set(report["sections"]), set(SECTIONS))

    def test_one_changed_number_in_each_section_is_found_and_named(self):
        with tempfile.TemporaryDirectory() as scratch:
            copy = pathlib.Path(scratch) / "golden"
            shutil.copytree(GOLDEN, copy)
            more = lambda x: x * 1.01 if isinstance(x, float) else x + 1
            edit_json(copy / "schedules.json", "schedules", "linear_1000", "arrays", "snr", "at", "250", value=more)
            edit_json(copy / "respacing.json", "cases", 0, "timesteps", 1, value=more)
            edit_json(copy / "models.json", "configs", 6, "num_parameters", value=more)
            edit_json(copy / "tiny.json", "losses", 4, "vb", 2, value=more)
            edit_json(copy / "trajectory.json", "runs", "resume", "steps", 1, "loss", value=more)
            edit_tensor(copy / "sampling.safetensors", "ddim10_eta1.final", more)
            edit_json(copy / "bpd.json", "cases", 0, "vb", 1, 3, value=more)
            edit_json(copy / "preprocess.json", "images", 0, "expected", 0, "sum", value=more)
            edit_json(copy / "metrics.json", "kid", "main", "mmd2_biased_full", value=more)
            edit_json(copy / "checkpoint.json", "files", "model000001.pt", "stats", "out.2.bias", "l2", value=more)
            result = check(copy, "-o", "json")
            self.assertEqual(result.returncode, 12, result.stderr)
            names = json.loads((copy / "models.json").read_text())["configs"][6]["name"]
            spec = json.loads((copy / "respacing.json").read_text())["cases"][0]
            self.assertEqual(failed(result), {
                ("schedules", "linear_1000.snr"),
                ("respacing", f'cases/{spec["num_timesteps"]}/"{spec["spec"]}"'),
                ("models", f"{names}/counts"),
                ("tiny", "losses/case4/loss"),
                ("trajectory", "resume/step2/loss"),
                ("sampling", "ddim10_eta1/values"),
                ("bpd", "respaced10/vb"),
                ("preprocess", "rgb_300x200.png.res64"),
                ("metrics", "kid/main"),
                ("checkpoint", "model000001.pt/values")})

    def test_what_is_missing_is_a_failure_that_is_named(self):
        with tempfile.TemporaryDirectory() as scratch:
            copy = pathlib.Path(scratch) / "golden"
            copy.mkdir()
            for name in ("respacing.json", "bpd.json", "bpd.safetensors", "sampling.safetensors"):
                shutil.copy(GOLDEN / name, copy)
            result = check(copy, "--only", "bpd")
            self.assertEqual(result.returncode, 12)
            self.assertIn("tiny.json cannot be read", result.stdout)
            self.assertEqual(check(copy, "--only", "respacing").returncode, 0)
            self.assertEqual(check(copy, "--only", "2").returncode, 0)
            edit_json(copy / "respacing.json", "cases", value=lambda cases: [])
            edit_json(copy / "respacing.json", "errors", value=lambda cases: [])
            edit_json(copy / "respacing.json", "spaced", value=lambda cases: [])
            result = check(copy, "--only", "respacing")
            self.assertEqual(result.returncode, 12)
            self.assertIn("no case of this section", result.stdout)

    def test_bad_use_is_an_error(self):
        self.assertEqual(check("/nonexistent").returncode, 3)
        self.assertIn("/nonexistent", check("/nonexistent").stderr)
        self.assertEqual(check(GOLDEN, "--only", "no-such").returncode, 2)
        self.assertEqual(check(GOLDEN, "-o", "xml").returncode, 2)
        nowhere = check(GOLDEN, "--device", "abacus")
        self.assertEqual(nowhere.returncode, 1)
        self.assertIn("device \"abacus\" cannot be used", nowhere.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
