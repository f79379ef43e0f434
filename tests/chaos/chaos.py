#!/usr/bin/env python3
"""Runs one chaos test against the programs in P2_BIN_DIR.

  chaos.py T1 [--night] [--seed N]

Prints one line of JSON with what was run: test, seed, n, seconds, and the 95 % bound of the failure rate (3/n). Exit
codes: 0 passed, 1 failed, 77 skipped, with the reason. The seed repeats a run's choices, not what the machine did between.
"""
import argparse
import importlib
import json
import os
import pathlib
import random
import sys
import time
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from world import Run, Skip  # noqa: E402

TESTS = {"T1": "t1_kill", "T2": "t2_power", "T3": "t3_away", "T4": "t4_gang", "T5": "t5_partition", "T6": "t6_disk", "T7": "t7_damage", "T8": "t8_resume",
         "T13": "t13_clock"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("test", choices=TESTS)
    parser.add_argument("--night", action="store_true", help="the large volume")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("P2_TEST_SEED", "0")))
    arguments = parser.parse_args()
    # Namespaces are made by running this again; the seed must be the same one.
    seed = arguments.seed or int(os.environ.setdefault("P2_TEST_SEED", str(random.SystemRandom().randrange(1, 2**32))))
    run = Run(arguments.test, arguments.night, seed)
    begin = time.monotonic()
    print(f"{run.test}: seed {run.seed}", flush=True)
    try:
        importlib.import_module(TESTS[run.test]).run(run)
    except Skip as why:
        print(f"SKIP {run.test}: {why}")
        return 77
    except BaseException:
        traceback.print_exc()
        print(f"FAILED {run.test}; repeat with: scripts/chaos {run.test} --seed {run.seed}{' --night' if run.night else ''}; figures {run.figures}")
        return 1
    n = run.figures.pop("n")
    print(json.dumps({"test": run.test, "seed": run.seed, "n": n, "bound_95": float(f"{3 / n:.2g}"), "seconds": round(time.monotonic() - begin, 1),
                      **run.figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
