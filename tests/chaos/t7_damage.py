"""T7: bytes flipped, zeroed, doubled or cut off in p2d's directory, in checkpoints and in datasets: detected, or harmless."""
import collections
import hashlib
import pathlib
import random
import shutil
import subprocess

import grpc

from api import message
from checker import settle
from world import BIN, STUB, ChaosCluster, ProcessEnded, Run, spec


def damage(dice: random.Random, path: pathlib.Path) -> str:
    """Changes the file's bytes somehow; says how."""
    data = bytearray(path.read_bytes())
    while True:
        at = dice.randrange(len(data)) if data else 0
        length = min(dice.choice([1, 4, 64, 512]), len(data) - at)
        kind = dice.choice(["flip", "zero", "cut", "double"]) if data else "add"
        changed = bytearray(data)
        if kind == "flip":
            changed[at] ^= 1 << dice.randrange(8)
        elif kind == "zero":
            changed[at:at + length] = bytes(length)
        elif kind == "cut":
            del changed[at:]
        else:
            changed[at:at] = changed[at:at + length] or b"x"
        if changed != data:
            path.write_bytes(changed)
            return f"{kind} of {path.name} at byte {at} of {len(data)}"


def everything(p2) -> dict:
    """What p2d serves, less what every start changes."""
    jobs = {}
    for job in p2.api.pages("JobService/ListJobs", "jobs"):
        for field in ("etag", "update_time"):
            job.ClearField(field)
        jobs[job.name] = job.SerializeToString(deterministic=True)
    metrics = {name: p2.api.call("MetricService/QueryMetrics", wait=True, job=name, metrics=["loss"], include_superseded=True).SerializeToString(
        deterministic=True) for name in jobs}
    checkpoints = {c.name: c.SerializeToString(deterministic=True) for name in jobs
                   for c in p2.api.pages("CheckpointService/ListCheckpoints", "checkpoints", parent=name)}
    events = [e.SerializeToString(deterministic=True) for e in p2.api.pages("EventService/ListEvents", "events")]
    return {"jobs": jobs, "metrics": metrics, "checkpoints": checkpoints, "events": events}


def database(r: Run):
    trials = r.volume(60, 2000)
    dice = r.dice("database")
    found: collections.Counter = collections.Counter()
    with ChaosCluster(workers=1, slots=2) as p2:
        for part in range(3):  # A kill between leaves a table file; the last part stays in the log.
            for i in range(6):
                p2.create(spec(seed=10 * part + i + 1), paused=i % 3 == 0, request_id=f"{part}-{i}")
            settle(p2)
            p2.end("w0") if part == 2 else None
            p2.kill("p2d")
            if part < 2:
                p2.start_p2d()
        whole = p2.dir / "whole"
        shutil.copytree(p2.d_data, whole, ignore=shutil.ignore_patterns("ballast", "LOCK"))
        p2.d_data = p2.dir / "trial"
        shutil.copytree(whole, p2.d_data)
        p2.start_p2d()
        reference = everything(p2)
        p2.kill("p2d")
        for _ in range(trials):
            shutil.rmtree(p2.d_data)
            shutil.copytree(whole, p2.d_data)
            files = sorted(f for f in [*p2.d_data.glob("db/*"), p2.d_data / "commits"] if f.is_file() and f.name not in ("LOCK", "LOG", "IDENTITY")
                           and not f.name.startswith("LOG.old"))
            what = damage(dice, dice.choice(files))
            try:
                p2.start_p2d()
                served = everything(p2)
                for part, content in reference.items():
                    now = served[part][:len(content)] if part == "events" else served[part]
                    assert now == content, f"{what}: p2d serves other {part}"
                found["harmless"] += 1
            except ProcessEnded as ended:
                assert ended.code == 70, f"{what}: p2d ended with {ended.code}\n{ended.log}"
                found["refused"] += 1
            except grpc.RpcError as error:
                alive = p2.alive("p2d")
                assert error.code() == grpc.StatusCode.DATA_LOSS or (not alive and p2.processes["p2d"].returncode == 70), \
                    f"{what}: {error.code()} {error.details()}; alive {alive}"
                found["seen when read"] += 1
            p2.kill_if_alive("p2d")
    r.note(n=trials, database=dict(found))


class Trainer:
    """The stub trainer by hand: the real reader and writer of checkpoints, without a service."""

    def __init__(self, directory: pathlib.Path, training_spec, images: int):
        self.dir, self.spec, self.runs = directory, training_spec, 0
        self.spec.training.images = images

    def run(self, checkpoints: pathlib.Path, candidates: list[str], epoch: int):
        """(exit code, its events)."""
        self.runs += 1
        launch = message("Launch")(job_id="t7", attempt=epoch, epoch=epoch, spec=self.spec, checkpoint_dir=str(checkpoints), checkpoint_root=str(self.dir),
                                   resume_candidates=candidates, work_dir=str(self.dir))
        file, log = self.dir / "launch", self.dir / "events"
        file.write_bytes(launch.SerializeToString())
        log.unlink(missing_ok=True)
        result = subprocess.run([str(STUB), "--launch", str(file)], capture_output=True, timeout=60,
                                env={"RANK": "0", "WORLD_SIZE": "1", "P2_EVENT_LOG": str(log), "P2_TRAINER_STUB_STEP_US": "0"})
        events, data, at = [], log.read_bytes(), 0
        while at < len(data):
            length, shift = 0, 0
            while True:
                byte = data[at]
                at += 1
                length |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            events.append(message("p2.trainer.v1.TrainerEvent").FromString(data[at:at + length]))
            at += length
        return result.returncode, events


def digests(directory: pathlib.Path) -> dict[str, str]:
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in directory.glob("*.safetensors")}


def checkpoints(r: Run, training_spec, base: pathlib.Path):
    trials = r.volume(150, 3000)
    dice = r.dice("checkpoints")
    found: collections.Counter = collections.Counter()
    trainer = Trainer(base, training_spec, images=400)
    code, _ = trainer.run(base / "whole", [], epoch=1)
    assert code == 0
    names = sorted((d.name for d in (base / "whole").iterdir()), reverse=True)
    expected = digests(base / "whole" / names[0])
    candidates = names[1:4]
    trainer.spec.checkpoint.every_images = trainer.spec.training.images  # One more, at the end.
    for _ in range(trials):
        work = base / "work"
        shutil.rmtree(work, ignore_errors=True)
        for name in candidates:
            shutil.copytree(base / "whole" / name, work / name)
        harmed = dice.choice([1, 1, 2, 3])
        what = [(name, damage(dice, dice.choice(sorted((work / name).iterdir())))) for name in candidates[:harmed]]
        must = [how for name, how in what if "manifest.json" not in how]
        code, events = trainer.run(work, candidates, epoch=2)
        notices = [e.notice.reason for e in events if e.HasField("notice")]
        if code == 55:
            assert harmed == 3 and not any(e.HasField("started") for e in events), f"{what}: gave up"
            found["refused: none is good"] += 1
            continue
        assert code == 0, f"{what}: ended with {code}"
        started = next(e.started for e in events if e.HasField("started"))
        resumed = candidates.index(pathlib.Path(started.resumed_from).name)
        # A manifest may differ where nothing follows from it (the attempt's number): then the bits are equal all the same.
        assert resumed >= (len(must) if len(must) == harmed else 0), f"{what}: resumed from {started.resumed_from}"
        assert notices.count("CHECKPOINT_CORRUPT") == resumed, f"{what}: {notices}"
        newest = max((d for d in work.iterdir()), key=lambda d: d.name)
        assert digests(newest) == expected, f"{what}: other weights"
        found[f"fell back by {resumed}"] += 1
    r.note(checkpoints=dict(found))
    r.figures["n"] = r.figures.get("n", 0) + trials


def dataset(r: Run, directory: pathlib.Path, base: pathlib.Path):
    trials = r.volume(40, 1000)
    dice = r.dice("dataset")
    found: collections.Counter = collections.Counter()

    def validate(path):
        return subprocess.run([str(BIN / "p2ctl"), "dataset", "validate", str(path), "-o", "json"], capture_output=True, text=True, timeout=60)

    good = validate(directory)
    assert good.returncode == 0, good.stderr
    for _ in range(trials):
        work = base / "dataset"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(directory, work)
        what = damage(dice, dice.choice(sorted(work.iterdir())))
        result = validate(work)
        if result.returncode == 0:
            # dataset.json holds words for people, too; images are never other ones unnoticed.
            assert "dataset.json" in what, f"{what}: not noticed"
            found["harmless"] += 1
        else:
            assert result.returncode > 0, f"{what}: p2ctl crashed with {result.returncode}"
            found["refused"] += 1
    r.note(dataset=dict(found))
    r.figures["n"] = r.figures.get("n", 0) + trials


def run(r: Run):
    database(r)
    with ChaosCluster(workers=1) as p2:
        training_spec = p2.create(spec(images=400, checkpoint=80), paused=True).spec
        base = p2.dir / "t7"
        base.mkdir()
        checkpoints(r, training_spec, base)
        p2.add_dataset("images")
        dataset(r, p2.root / "datasets" / "images", base)
