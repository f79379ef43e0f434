"""Judges a history against what p2d holds at the end (the invariants of docs/reliability.md)."""
import collections
import hashlib
import json
import pathlib
import re

from api import Api, state_name
from clients import History
from world import expected_losses, quick_wait

ENDED = {"CANCELLED", "SUCCEEDED", "FAILED"}
# job_lifecycle.h.
MOVES = {("QUEUED", "STARTING"), ("QUEUED", "PAUSED"), ("QUEUED", "CANCELLING"), ("QUEUED", "FAILED"), ("STARTING", "QUEUED"),
         ("STARTING", "RUNNING"), ("STARTING", "PAUSING"), ("STARTING", "CANCELLING"), ("STARTING", "FAILED"), ("RUNNING", "QUEUED"),
         ("RUNNING", "PAUSING"), ("RUNNING", "CANCELLING"), ("RUNNING", "SUCCEEDED"), ("RUNNING", "FAILED"), ("PAUSING", "QUEUED"),
         ("PAUSING", "PAUSED"), ("PAUSING", "CANCELLING"), ("PAUSING", "SUCCEEDED"), ("PAUSING", "FAILED"), ("PAUSED", "QUEUED"),
         ("PAUSED", "CANCELLING"), ("CANCELLING", "CANCELLED")}


def may_move(before: str, after: str) -> bool:
    """Also in one step through a state that nothing held up: CANCELLING or PAUSING, where no rank was left."""
    return before == after or (before, after) in MOVES or any(
        (before, between) in MOVES and (between, after) in MOVES for between in ("CANCELLING", "PAUSING"))


class Judgement:
    """Collects what is wrong, so that one run shows all of it."""

    def __init__(self):
        self.wrong: list[str] = []
        self.counts: collections.Counter = collections.Counter()

    def that(self, holds: bool, what: str):
        if not holds:
            self.wrong.append(what)

    def conclude(self):
        assert not self.wrong, f"{len(self.wrong)} violations:\n  " + "\n  ".join(self.wrong[:30])


def read_jobs(api: Api) -> dict:
    return {job.name: job for job in api.pages("JobService/ListJobs", "jobs")}


def check_requests(judge: Judgement, history: History, jobs: dict, api: Api):
    """I1, I2: every acknowledged submit is there as it was sent; one job a request ID."""
    by_request = collections.defaultdict(set)
    for job in jobs.values():
        by_request[job.labels["rid"]].add(job.name)
    for request_id, names in by_request.items():
        judge.that(len(names) == 1, f"I2: request {request_id} made {sorted(names)}")
    maybe_deleted = {op.job for op in history.ops if op.kind == "delete" and op.outcome != "fail"}
    deleted = {op.job for op in history.acked("delete")}
    answers = collections.defaultdict(set)
    for op in history.acked("submit", "again"):
        judge.counts["acked submits"] += 1
        answers[op.request_id].add(op.job)
        if op.job in deleted:
            judge.that(op.job not in jobs, f"a deleted job is back: {op.job}")
            continue
        job = jobs.get(op.job)
        if job is None:
            judge.that(op.job in maybe_deleted, f"I1: acknowledged submit {op.request_id} ({op.job}) is lost")
            continue
        judge.that(job.spec.training.seed == op.seed, f"I1: {op.job} has seed {job.spec.training.seed}, sent was {op.seed}")
        judge.that(op.answer is None or (job.spec == op.answer.spec and job.spec_sha256 == op.answer.spec_sha256 and
                                         job.owner == op.answer.owner and job.labels == op.answer.labels and
                                         job.create_time == op.answer.create_time),
                   f"I1: {op.job} is not what was acknowledged")
    for request_id, names in answers.items():
        judge.that(len(names) == 1, f"I2: request {request_id} was answered with {sorted(names)}")
    for op in history.ops:
        if op.kind == "other":
            # Refused if the first submit happened; else it is the first itself.
            acked = any(first.request_id == op.request_id for first in history.acked("submit", "again") if first.end < op.begin)
            judge.that(not acked or op.outcome != "ok", f"I2: request {op.request_id} took a second payload")
            if op.outcome == "fail":
                judge.that(op.code == "ALREADY_EXISTS", f"another payload of {op.request_id} met {op.code}")


def check_cancels(judge: Judgement, history: History, jobs: dict, events: list):
    """I7: nothing starts behind an acknowledged cancel."""
    starts = collections.defaultdict(list)
    for event in events:
        if event.reason == "JOB_STATE" and event.message.startswith("QUEUED -> STARTING"):
            starts[event.resource].append(event.revision)
    cancelled = {}
    for event in events:
        if event.reason == "JOB_STATE" and " -> CANCELLING" in event.message:
            cancelled[event.resource] = event.revision
    for op in history.acked("stop", "kill"):
        judge.counts["acked cancels"] += 1
        job = jobs.get(op.job)
        if job is not None:
            judge.that(state_name(job) in ("CANCELLED", "CANCELLING"), f"I7: {op.job} was cancelled and is {state_name(job)}")
        if op.job in cancelled:
            judge.that(all(r < cancelled[op.job] for r in starts[op.job]), f"I7: {op.job} started after its cancel")


def check_epochs(judge: Judgement, jobs: dict):
    """I3: epochs strictly rise."""
    for job in jobs.values():
        epochs = [attempt.epoch for attempt in job.attempts]
        judge.that(epochs == sorted(set(epochs)), f"I3: {job.name} has epochs {epochs}")
        judge.that(not epochs or epochs[-1] == job.epoch, f"I3: {job.name} stands at epoch {job.epoch}, its last attempt at {epochs[-1:]}")
        live = [a for a in job.attempts if a.outcome == 1]
        judge.that(len(live) <= 1 and (not live or live[0] is job.attempts[-1] or live[0].number == job.attempts[-1].number),
                   f"{job.name} has {len(live)} live attempts")


def check_reads(judge: Judgement, history: History):
    """I13: who reads later sees no older record."""
    reads = collections.defaultdict(list)
    for op in history.ops:
        if op.outcome == "ok" and op.answer is not None and op.kind != "delete" and op.kind != "again" and getattr(op.answer, "etag", ""):
            # An answer to a repeated request ID is the first one's, so only first answers count as reads.
            if op.kind == "get" or op.tries == 1:
                reads[op.answer.name].append((op.begin, op.end, int(op.answer.etag)))
    for name, list_of_reads in reads.items():
        list_of_reads.sort()
        for i, (_, end, revision) in enumerate(list_of_reads):
            for begin, _, later in list_of_reads[i + 1:]:
                if begin > end:
                    judge.that(later >= revision, f"I13: {name} was read at revision {revision}, and later at {later}")
        judge.counts["reads"] += len(list_of_reads)


def check_watches(judge: Judgement, history: History, events: list, jobs: dict):
    """I11: streams are ordered, without gap or repetition."""
    seen = [event.revision for event in history.events]
    judge.that(seen == sorted(set(seen)), "I11: events came out of order or twice")
    stored = {event.revision: event for event in events}
    judge.that(seen == [r for r in sorted(stored) if not seen or r <= seen[-1]], "I11: the stream of events misses some, or has more than the log")
    for event in history.events:
        judge.that(event.revision not in stored or stored[event.revision] == event, f"I11: event {event.revision} differs from the log")
    judge.counts["events"] += len(seen)
    for stream in history.watches:
        messages = [m for m in stream if m is not None]
        present = next((i for i, m in enumerate(messages) if m.type == 3), len(messages))
        # Behind the present state every revision comes; what the present state already showed is left out.
        shown = max((int(m.job.etag or 0) for m in messages[:present]), default=0)
        last, state = 0, {}
        for i, m in enumerate(messages):
            if m.type == 3:
                last = max(last, m.revision)
                continue
            if i > present:
                judge.that(m.revision > last, f"I11: revision {m.revision} came after {last}")
                judge.that(m.revision == last + 1 or last < shown, f"I11: a watch went from revision {last} to {m.revision}")
                if m.type == 1 and m.job.name in state:
                    move = (state[m.job.name], state_name(m.job))
                    judge.that(may_move(*move), f"I11: {m.job.name} went {move[0]} -> {move[1]} in a watch")
                last = m.revision
            state[m.job.name] = state_name(m.job) if m.type == 1 else "DELETED"
        judge.counts["watch messages"] += len(messages)
    if history.watches and history.watches[-1]:
        final = {}
        for m in (m for m in history.watches[-1] if m is not None and m.type != 3):
            final[m.job.name] = state_name(m.job) if m.type == 1 else "DELETED"
        for name, job in jobs.items():
            judge.that(name in final or state_name(job) in ENDED, f"I11: the last watch never showed {name}")
            if name in final:
                judge.that(final[name] == state_name(job), f"I11: the last watch shows {name} {final[name]}, it is {state_name(job)}")


def metric_rows(api: Api, job) -> list:
    """All rows of `loss`, in parts that are too small to be thinned."""
    rows, part = [], 64 * 500
    last = job.progress.images_seen + part
    for begin in range(0, last, part):
        answer = api.call("MetricService/QueryMetrics", wait=True, timeout=30, job=job.name, metrics=["loss"], from_images=begin, to_images=begin + part - 1,
                          max_points=1000)
        rows += [p for series in answer.series for p in series.points]
    return rows


def check_metrics(judge: Judgement, api: Api, jobs: dict, ends: set[str] = frozenset({"SUCCEEDED"})):
    """Every row once, and as the run computes it."""
    for job in jobs.values():
        if not job.attempts or state_name(job) not in ends:
            continue
        points = [(p.images_seen, p.value) for p in metric_rows(api, job)]
        images = job.spec.training.images if state_name(job) == "SUCCEEDED" else points[-1][0] if points else 0
        expected = expected_losses(job.spec.training.seed, images)
        judge.that(points == expected, f"metrics of {job.name} are {points[:4]}… ({len(points)}), expected {expected[:4]}… ({len(expected)})")
        judge.counts["metric rows"] += len(points)


def check_checkpoints(judge: Judgement, api: Api, jobs: dict, root: pathlib.Path):
    """I4, I8: committed ones are of an epoch that was granted, rise within it, and are on disk byte for byte."""
    for job in jobs.values():
        if not job.attempts:
            continue
        granted = {attempt.epoch for attempt in job.attempts}
        committed = [c for c in api.pages("CheckpointService/ListCheckpoints", "checkpoints", parent=job.name) if c.state == 2]
        for checkpoint in committed:
            judge.counts["checkpoints"] += 1
            judge.that(checkpoint.epoch in granted, f"I4: {checkpoint.name} is of epoch {checkpoint.epoch}, granted were {sorted(granted)}")
            directory = root / checkpoint.path
            try:
                manifest = (directory / "manifest.json").read_bytes()
                judge.that(hashlib.sha256(manifest).hexdigest() == checkpoint.manifest_sha256, f"I8: the manifest of {checkpoint.name} changed")
                for file in json.loads(manifest)["files"]:
                    data = (directory / file["path"]).read_bytes()
                    judge.that(len(data) == int(file["size_bytes"]) and hashlib.sha256(data).hexdigest() == file["sha256"],
                               f"I8: {checkpoint.name}/{file['path']} is damaged")
            except FileNotFoundError as error:
                judge.that(False, f"I8: committed {checkpoint.name} is not on disk: {error.filename}")
        for epoch in granted:
            images = [c.images_seen for c in sorted(committed, key=lambda c: c.create_time.ToNanoseconds()) if c.epoch == epoch]
            judge.that(images == sorted(set(images)), f"I8: {job.name} epoch {epoch} committed {images}")


def check_commit_epochs(judge: Judgement, events: list, jobs: dict):
    """I4: a checkpoint is committed only while its epoch is the newest that was granted."""
    attempt_now = {}
    for event in events:
        if event.reason == "JOB_STATE" and (started := re.search(r"-> STARTING .*attempt (\d+) forms", event.message)):
            attempt_now[event.resource] = int(started[1])
        if event.reason == "CHECKPOINT_COMMITTED" and event.resource in jobs:
            epoch = int(re.search(r"\d{12}-e(\d+)", event.message)[1])
            granted = {a.number: a.epoch for a in jobs[event.resource].attempts}.get(attempt_now.get(event.resource))
            judge.counts["commits"] += 1
            judge.that(granted in (epoch, None), f"I4: {event.resource} committed {event.message} while epoch {granted} was granted")


def check_orphans(judge: Judgement, p2):
    try:
        quick_wait("no trainer is left", lambda: not p2.trainers(), 10, every=0.1)
    except AssertionError:
        judge.that(False, f"orphans: processes {p2.trainers()}")


def settle(p2, timeout: float = 60):
    """Until every job has ended or waits for a person."""
    resting = ENDED | {"PAUSED"}
    quick_wait("every job rests", lambda: all(state_name(j) in resting for j in p2.api.pages("JobService/ListJobs", "jobs")), timeout, every=0.1)


def caught_up(p2, history: History):
    """Until the watchers have all there is."""
    events = p2.api.pages("EventService/ListEvents", "events")
    assert events, "I1: p2d holds no event at all"
    last = events[-1].revision
    quick_wait("the events' watcher has all", lambda: history.events and history.events[-1].revision >= last, 20)

    def shown():
        final = {}
        for m in list(history.watches[-1]) if history.watches else []:
            if m is not None and m.type != 3:
                final[m.job.name] = state_name(m.job) if m.type == 1 else "DELETED"
        return all(final.get(job.name, "CANCELLED" if state_name(job) in ENDED else "") in (state_name(job), "CANCELLED")
                   for job in read_jobs(p2.api).values())

    quick_wait("the jobs' watcher has all", shown, 20, every=0.1)


def check_all(p2, history: History) -> Judgement:
    judge = Judgement()
    jobs = read_jobs(p2.api)
    events = p2.api.pages("EventService/ListEvents", "events")
    check_requests(judge, history, jobs, p2.api)
    check_cancels(judge, history, jobs, events)
    check_epochs(judge, jobs)
    check_commit_epochs(judge, events, jobs)
    check_reads(judge, history)
    check_watches(judge, history, events, jobs)
    check_metrics(judge, p2.api, jobs)
    check_checkpoints(judge, p2.api, jobs, p2.root)
    judge.counts["jobs"] = len(jobs)
    judge.that(judge.counts["acked submits"] >= 20, f"only {judge.counts['acked submits']} submits were acknowledged: nothing was tested")
    return judge
