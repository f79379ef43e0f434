#!/usr/bin/env python3
"""Fails on C++ and CUDA sources that clang-format would change, and says how to mend them.

  format.py SOURCE_DIR
"""
import pathlib
import subprocess
import sys

source = pathlib.Path(sys.argv[1])
files = sorted(path for top in ("bench", "client", "common", "docs", "server", "tests", "worker")
               for path in (source / top).rglob("*") if path.suffix in {".cc", ".h", ".cu", ".cuh"})
assert len(files) > 300, f"found only {len(files)} sources below {source}"
said = subprocess.run(["clang-format", "--dry-run", "-Werror", *files], capture_output=True, text=True)
if said.returncode != 0:
    changed = sorted({line.split(":")[0] for line in said.stderr.splitlines() if "[-Wclang-format-violations]" in line})
    sys.exit(said.stderr + "mend with: clang-format -i " + " ".join(changed))
print(f"{len(files)} files are as .clang-format says")
