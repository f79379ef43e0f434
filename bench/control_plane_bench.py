#!/usr/bin/env python3
"""What p2d carries, beside gRPC alone, RocksDB alone and etcd (Debian: etcd-server) under the same load on the same core and disk.

  P2_BIN_DIR=build/release/bin python3 bench/control_plane_bench.py [--rounds 3] [--seconds 5] [--dir DIR] [--only submits]

Each round measures durable submits of p2d, then every comparator, so that what else the machine does meets all of them alike; then each
other scenario of p2_loadgen runs once a round. Prints one JSON object: every result, medians, and p2's ratio to each comparator by round.
Exit code 1: something was measured with errors, or not at all.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

BIN = pathlib.Path(os.environ.get("P2_BIN_DIR", "build/release/bin"))
CLIENTS = 64
NOT_INSTALLED = 3  # p2_baseline's exit code.

# Name -> arguments of p2_loadgen.
SCENARIOS = {
    "submits at 2000/s beside 10 watches and scrapes": ["submits", "--rate", "2000", "--with-load"],
    "batches of 100": ["batch", "--clients", "8"],
    "metrics": ["metrics"],
    "1000 watches": ["watch"],
    "schedule, 64 devices": ["schedule"],
    "schedule, 1 device": ["schedule", "--clients", "1", "--live", "5000"],
    "scrape": ["scrape"],
    "status at 2000/s of 1000 jobs": ["status", "--rate", "2000", "--live", "1000"],
    "status at 2000/s of 10000 jobs": ["status", "--rate", "2000", "--live", "10000"],
    "status at 2000/s of 100000 jobs": ["status", "--rate", "2000", "--live", "100000"],
    "restart, 10000 ended and 10000 live jobs": ["restart"],
}


def run(args: list) -> dict:
    """The JSON that a program printed; {"skipped": why} if what it measures is not installed, {"failed": why} if it did not measure."""
    result = subprocess.run([str(a) for a in args], capture_output=True, text=True)
    if result.stdout.startswith("{"):
        return json.loads(result.stdout)
    return {"skipped" if result.returncode == NOT_INSTALLED else "failed": result.stderr.strip() or f"exit code {result.returncode}"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--dir", default="/tmp", help="where data lie; on the disk that is meant")
    parser.add_argument("--only", choices=["submits", "scenarios"], help="half of it")
    options = parser.parse_args()
    common = ["--seconds", options.seconds, "--dir", options.dir]

    results: dict[str, list[dict]] = {}

    def keep(name: str, result: dict) -> dict:
        results.setdefault(name, []).append(result | {"load_average": os.getloadavg()[0]})
        print(f"{name}: {result.get('rate_per_s', result)}", file=sys.stderr)
        return result

    for number in range(options.rounds):
        if options.only != "scenarios":
            p2 = keep("p2", run([BIN / "p2_loadgen", "submits", "--spawn", "--clients", CLIENTS, "--seed", number + 1, "-o", "json", *common]))
            sizes = ["--request-bytes", p2.get("request_bytes", 100), "--response-bytes", p2.get("response_bytes", 3000),
                     "--stored-bytes", round(p2.get("stored_bytes_per_job", 1000))]
            for baseline in ("etcd", "rocksdb", "echo"):
                keep(baseline, run([BIN / "p2_baseline", baseline, "--clients", CLIENTS, "--seed", number + 1, *sizes, *common]))
        if options.only != "submits":
            for name, arguments in SCENARIOS.items():
                keep(name, run([BIN / "p2_loadgen", *arguments, "--spawn", "--seed", number + 1, "-o", "json", *common]))

    medians = {}
    for name, rounds in results.items():
        measured = [r for r in rounds if "rate_per_s" in r]
        keys = [k for k, v in measured[0].items() if isinstance(v, (int, float)) and not isinstance(v, bool)] if measured else []
        medians[name] = {k: statistics.median(r[k] for r in measured) for k in keys}
    ratios = {name: [round(a["rate_per_s"] / b["rate_per_s"], 3) for a, b in zip(results["p2"], results[name]) if "rate_per_s" in a and b.get("rate_per_s")]
              for name in ("etcd", "rocksdb", "echo") if name in results}
    print(json.dumps({"ratios_of_p2": ratios, "medians": medians, "results": results}, indent=1))
    return 1 if any("failed" in r or r.get("errors") for rounds in results.values() for r in rounds) else 0


if __name__ == "__main__":
    sys.exit(main())
