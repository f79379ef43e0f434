#!/usr/bin/env python3
"""scripts/gpu-check --pack: the folder holds what another machine needs besides python3 and its torch, and its parts run.

What needs a GPU is not run here; the parts that a CPU can do are, through the same code.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ["P2_BIN_DIR"])
SITE = pathlib.Path(os.environ["P2_SITE_PACKAGES"])
# A C library's and a compiler's, which every target has.
BASE = re.compile(r"^(linux-vdso|ld-linux|libc|libm|libdl|libpthread|librt|libutil|libstdc\+\+|libgcc_s)\.so")


class GpuCheckTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        work = pathlib.Path(cls.scratch.name)
        cls.folder = work / "pack"
        done = subprocess.run([SOURCE / "scripts/gpu-check", "--pack", cls.folder, "--build", BIN.parent], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        # Another machine: the wheel lies elsewhere, and python3 is the one that has it.
        cls.site = work / "elsewhere"
        cls.site.symlink_to(SITE)
        (work / "path").mkdir()
        python = work / "path/python3"
        python.write_text(f'#!/bin/sh\nPYTHONPATH={cls.site} exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        nvidia = sorted(str(p) for p in (cls.site / "nvidia").glob("*/lib"))
        cls.environment = {"PATH": f"{work / 'path'}:/usr/bin:/bin", "HOME": str(work),
                           "LD_LIBRARY_PATH": ":".join([str(cls.folder / "lib"), str(cls.site / "torch/lib"), *nvidia])}

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def foreign(self):
        """Libraries that the loader takes from neither the folder nor the wheel nor the base system."""
        found = []
        for program in sorted((self.folder / "bin").iterdir()):
            text = subprocess.run(["ldd", program], check=True, capture_output=True, text=True, env=self.environment).stdout
            for name, path in re.findall(r"^\s*(\S+) => (\S+)", text, re.M):
                if not BASE.match(name) and not path.startswith((f"{self.folder}/", f"{self.site}/")):
                    found.append(f"{program.name}: {name} => {path}")
        return found

    def test_the_folder_is_small_and_whole(self):
        self.assertLessEqual(sum(p.stat().st_size for p in self.folder.rglob("*") if p.is_file()), 30 << 20)
        self.assertEqual(self.foreign(), [])
        lacking = self.folder / "lib/libyaml-cpp.so.0.7"
        lacking = lacking if lacking.exists() else sorted((self.folder / "lib").iterdir())[-1]
        aside = lacking.rename(self.folder / "aside")
        try:
            self.assertIn(lacking.name, " ".join(self.foreign()), "this test would not see a library that is not packed")
        finally:
            aside.rename(lacking)

    def test_the_packed_trainer_says_its_version(self):
        text = subprocess.run([self.folder / "bin/p2-trainer", "--version"], check=True, capture_output=True, text=True,
                              env=self.environment).stdout
        self.assertEqual(text.split()[1], json.loads((self.folder / "pack.json").read_text())["p2"])

    def test_its_parts_run_where_they_can(self):
        """check, exact, nccl (here: Gloo with one rank) and resume, on the CPU."""
        script = ("import pathlib, sys, tempfile\nsys.path.insert(0, sys.argv[1])\nimport gpu_check_run as g\n"
                  "folder, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])\nout.mkdir()\n"
                  "with tempfile.TemporaryDirectory() as work:\n"
                  "    runner = g.Runner(folder, out, pathlib.Path(work), 1, device='cpu')\n"
                  "    for part in ('check', 'exact', 'nccl', 'resume'):\n"
                  "        g.PARTS[part](runner, {'gpu': ''})\n")
        done = subprocess.run(["python3", "-c", script, self.folder, pathlib.Path(self.scratch.name) / "out"], capture_output=True, text=True,
                              env=self.environment)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_loop_that_is_compared_with_has_the_papers_model(self):
        if pathlib.Path("/proc/driver/nvidia/version").exists():
            self.skipTest("there is a GPU here: run scripts/gpu-check")
        done = subprocess.run(["python3", self.folder / "gpu_train_loop.py", "--precision", "bf16", "--channels-last"], capture_output=True,
                              text=True, env=self.environment)
        self.assertEqual((done.returncode, done.stderr), (77, "gpu_train_loop.py: no CUDA device here\n"))

    def test_without_a_gpu_it_says_what_did_not_run(self):
        if pathlib.Path("/proc/driver/nvidia/version").exists():
            self.skipTest("there is a GPU here: run scripts/gpu-check")
        done = subprocess.run([self.folder / "gpu-check", "--only", "train", "nccl"], capture_output=True, text=True, env=self.environment)
        self.assertEqual(done.returncode, 77, done.stderr)
        self.assertEqual([line.split()[:2] for line in done.stdout.splitlines()], [["train", "skipped:"], ["nccl", "skipped:"]])
        wrong = subprocess.run([self.folder / "gpu-check", "--only", "trian"], capture_output=True, text=True, env=self.environment)
        self.assertEqual(wrong.returncode, 2)
        self.assertIn("no part trian", wrong.stderr)


if __name__ == "__main__":
    unittest.main()
