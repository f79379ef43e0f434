#!/usr/bin/env python3
"""Proves the direction of dependencies (docs/architecture.md) of the sources and of what was built.

  layering.py SOURCE_DIR BUILD_DIR

1. Every #include "dir/..." of p2's own files points down, never up.
2. No object was compiled from torch headers together with protobuf, gRPC or spdlog headers (they clash: old protobuf and
   fmt headers lie in torch's include folder). Read from ninja's own record of what each object included.
3. What the client's header needs of proto/ is the public API, p2.v1, alone: neither the pipes nor the store's records.
4. p2-trainer's link closure holds no gRPC, spdlog, fmt or HTTP server; p2-worker's, p2d's and p2ctl's hold no LibTorch.
"""
import pathlib
import re
import subprocess
import sys

# Directory -> directories that its files may include, besides itself. `common` may be included by all.
WORKER_CORE = {"worker/random", "worker/model", "worker/diffusion", "worker/optim", "worker/dist", "worker/data",
               "worker/checkpoint", "worker/sampling", "worker/metrics", "worker/analysis"}
COMMON = {"common", "common/spec", "common/image", "common/safetensors"}
ALLOWED = {
    "common": set(),
    "common/spec": {"common", "proto"},
    "common/image": {"common"},
    "common/safetensors": {"common"},
    "common/rpc": {"common", "proto"},
    "common/http": {"common"},
    "server/scheduler": {"common"},
    "server/store": {"common", "proto", "server/scheduler"},
    "server/coordinator": {"common", "common/spec", "proto", "server/scheduler", "server/store"},
    "server/metrics": {"common", "common/http", "proto", "server/scheduler", "server/store", "server/coordinator"},
    "server/rpc": {"common", "common/spec", "common/rpc", "proto", "server/scheduler", "server/store", "server/coordinator",
                   "server/metrics"},
    "server": {"common", "common/spec", "common/rpc", "common/http", "proto", "server/scheduler", "server/store",
               "server/coordinator", "server/metrics", "server/rpc"},
    "worker/agent": {"common", "common/spec", "common/image", "common/rpc", "common/http", "proto"},
    "worker/check": COMMON | WORKER_CORE,
    "worker/trainer": COMMON | WORKER_CORE | {"worker/check", "proto"},
    "client": {"common", "common/rpc", "proto"},
    "client/p2ctl": COMMON | {"common/rpc", "proto", "client"},
    **{d: COMMON | WORKER_CORE for d in WORKER_CORE},
}
# The pure core: the standard library, abseil and three headers of common/ that need no more, nothing else.
PURE = "server/scheduler"

problems = []


def own_directory(path: pathlib.PurePosixPath) -> str:
    """The longest key of ALLOWED that holds `path`; '' if none does."""
    for parent in path.parents:
        if str(parent) in ALLOWED:
            return str(parent)
    return ""


def included_directory(include: str) -> str:
    if include.startswith(("p2/v1/", "p2/trainer/", "p2/storage/", "google/")):
        return "proto"
    if include == "p2/client.h":
        return "client"
    return own_directory(pathlib.PurePosixPath(include))


def check_includes(source: pathlib.Path) -> int:
    count = 0
    for top in ("common", "server", "worker", "client"):
        for file in sorted((source / top).rglob("*")):
            if file.suffix not in (".h", ".cc", ".cu", ".cuh"):
                continue
            relative = pathlib.PurePosixPath(file.relative_to(source).as_posix())
            home = own_directory(relative)
            if not home:
                problems.append(f"{relative}: its directory is not in the table of {sys.argv[0]}; add it with its rule")
                continue
            count += 1
            for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
                match = re.match(r'\s*#\s*include\s+["<]([^">]+)[">]', line)
                if not match:
                    continue
                target = included_directory(match[1])
                if target and target != home and target not in ALLOWED[home]:
                    problems.append(f"{relative}:{number}: {home} must not include {match[1]} ({target})")
                if home == PURE and "/" in match[1] and not match[1].startswith(("absl/", PURE, "common/error_reason.h", "common/status_macros.h", "common/storage_layout.h")):
                    problems.append(f"{relative}:{number}: the pure core includes {match[1]}")
    return count


def check_public_protos(source: pathlib.Path) -> int:
    header = (source / "client/include/p2/client.h").read_text()
    waiting = {name + ".proto" for name in re.findall(r'#include "(p2/[^"]+)\.pb\.h"', header)}
    seen = set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        for imported in re.findall(r'^import "(p2/[^"]+)";', (source / "proto" / name).read_text(), re.MULTILINE):
            if not imported.startswith("p2/v1/"):
                problems.append(f"proto/{name}: part of the public API, must not import {imported}")
            elif imported not in seen:
                waiting.add(imported)
    return len(seen)


def check_objects(build: pathlib.Path) -> int:
    deps = subprocess.run(["ninja", "-C", str(build), "-t", "deps"], check=True, capture_output=True, text=True).stdout
    count = 0
    for block in deps.split("\n\n"):
        lines = block.strip().splitlines()
        if not lines or ".o:" not in lines[0]:
            continue
        name, headers = lines[0].split(":")[0], [line.strip() for line in lines[1:]]
        torch = any("/site-packages/torch/include/" in h or "p2_torch_pch" in h for h in headers)
        clash = [h for h in headers if h.startswith(("/usr/include/google/protobuf/", "/usr/include/grpc", "/usr/include/spdlog/",
                                                     "/usr/include/fmt/")) or h.endswith(".pb.h")]
        count += torch
        if torch and clash:
            problems.append(f"{name}: compiled from torch headers together with {clash[0]}")
    return count


def libraries(binary: pathlib.Path) -> set[str]:
    out = subprocess.run(["ldd", str(binary)], check=True, capture_output=True, text=True).stdout
    return {line.split()[0] for line in out.splitlines() if line.strip()}


def check_links(build: pathlib.Path) -> None:
    rules = {"p2-trainer": r"libgrpc|libspdlog|libfmt|libmicrohttpd|libuv|librocksdb|libprometheus",
             "p2d": r"libtorch|libc10", "p2-worker": r"libtorch|libc10", "p2ctl": r"libtorch|libc10|librocksdb"}
    for name, forbidden in rules.items():
        for library in sorted(libraries(build / "bin" / name)):
            if re.match(forbidden, library):
                problems.append(f"{name} links {library}")
    # What is linked statically or header-only leaves symbols instead of a library's name.
    symbols = subprocess.run(["nm", "-C", str(build / "bin" / "p2-trainer")], check=True, capture_output=True, text=True).stdout
    for forbidden in (" grpc::", " spdlog::", " fmt::", " httplib::"):
        if forbidden in symbols:
            problems.append(f"p2-trainer holds symbols of{forbidden}")


def main() -> int:
    source, build = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    files = check_includes(source)
    protos = check_public_protos(source)
    objects = check_objects(build)
    check_links(build)
    for problem in problems:
        print(problem)
    print(f"{files} files, {protos} public protos, {objects} objects with torch headers, {len(problems)} problems")
    # A check that looked at nothing proves nothing.
    return 1 if problems or not files or not protos or not objects else 0


if __name__ == "__main__":
    sys.exit(main())
