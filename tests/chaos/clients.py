"""Clients that submit, cancel and pause at random, and everything they were told: the history that checker.py judges.

An operation ends `ok`, `fail` (the server said no) or `unknown` (no answer: it may or may not have happened). Many of the
unknown ones are asked again with the same request ID, as p2's own client does.
"""
import dataclasses
import random
import threading
import time

import grpc

from api import UNKNOWN, Api
from world import pause, spec


@dataclasses.dataclass
class Op:
    kind: str
    begin: float  # Monotonic, before the call and after its answer.
    request_id: str
    job: str = ""
    seed: int = 0  # Of the spec that was sent.
    tries: int = 0
    end: float = 0
    outcome: str = "unknown"
    code: str = ""
    answer: object = None  # A Job.


class History:
    """Thread-safe. What the clients and watchers saw."""

    def __init__(self):
        self._lock = threading.Lock()
        self.ops: list[Op] = []
        self.events: list = []  # Of FollowEvents, across reconnects.
        self.watches: list[list] = []  # One list of WatchJobsResponse a stream.

    def add(self, op: Op):
        with self._lock:
            self.ops.append(op)

    def acked(self, *kinds: str) -> list[Op]:
        with self._lock:
            return [op for op in self.ops if op.outcome == "ok" and op.kind in kinds]


class Client(threading.Thread):
    """Thinks for up to `think` seconds between operations, until stop() or `limit` operations."""

    WEIGHTS = {"submit": 12, "again": 2, "other": 1, "stop": 3, "kill": 3, "pause": 3, "resume": 3, "delete": 2, "get": 4}
    METHODS = {"stop": "StopJob", "kill": "KillJob", "pause": "PauseJob", "resume": "ResumeJob", "delete": "DeleteJob"}

    def __init__(self, history: History, address: str, number: int, dice: random.Random, think: float = 0.06, patience: float = 8, images: int = 160,
                 limit: int = 1 << 30, weights=None):
        super().__init__(name=f"client-{number}", daemon=True)
        self.history, self.address, self.number, self.dice = history, address, number, dice
        self.think, self.patience, self.images, self.limit = think, patience, images, limit
        self.weights = weights or self.WEIGHTS
        self.stopping = threading.Event()
        self.submits: list[Op] = []
        self.count = 0
        self.crash: Exception | None = None

    def stop(self):
        self.stopping.set()

    def run(self):
        api = Api(self.address)
        try:
            while not self.stopping.is_set() and self.count < self.limit:
                self.count += 1
                kind = self.dice.choices(list(self.weights), list(self.weights.values()))[0]
                self.do(api, kind)
                if self.think:
                    self.stopping.wait(self.dice.random() * self.think)
        except Exception as error:  # What is no answer of the API is a failure of the harness, never lost.
            self.crash = error
        finally:
            api.close()

    def do(self, api: Api, kind: str):
        request_id = f"c{self.number}-{self.count}"
        if kind == "submit" or not self.submits:
            seed = self.dice.randrange(1, 1 << 20)
            op = Op("submit", 0, request_id, seed=seed)
            self.submits.append(op)
            paused = self.dice.random() < 0.1
            self.ask(api, op, "JobService/CreateJob", spec_yaml=spec(images=self.images, checkpoint=80, seed=seed), request_id=request_id, paused=paused,
                     owner=f"client-{self.number}", labels={"rid": request_id})
            op.paused = paused
            return
        past = self.dice.choice(self.submits)
        if kind in ("again", "other"):
            if past.outcome == "fail":
                return
            seed = past.seed if kind == "again" else past.seed + 1
            op = Op(kind, 0, past.request_id, seed=seed, job=past.job)
            self.ask(api, op, "JobService/CreateJob", spec_yaml=spec(images=self.images, checkpoint=80, seed=seed), request_id=past.request_id,
                     paused=getattr(past, "paused", False), owner=f"client-{self.number}", labels={"rid": past.request_id})
            if kind == "again" and op.outcome == "ok" and past.outcome == "unknown":
                past.job = op.job  # Now it is known.
            return
        if past.outcome != "ok":
            return
        op = Op(kind, 0, request_id, job=past.job)
        if kind == "get":
            self.ask(api, op, "JobService/GetJob", name=past.job)
        else:
            self.ask(api, op, f"JobService/{self.METHODS[kind]}", name=past.job, request_id=request_id)

    def ask(self, api: Api, op: Op, path: str, **fields):
        op.begin = time.monotonic()
        give_up = op.begin + self.patience
        insists = self.dice.random() < 0.7
        while True:
            op.tries += 1
            try:
                answer = api.call(path, timeout=5, **fields)
                op.outcome = "ok"
                op.answer = getattr(answer, "job", answer)
                if op.kind in ("submit", "again"):
                    op.job = op.answer.name
                break
            except grpc.RpcError as error:
                op.code = error.code().name
                if error.code() not in UNKNOWN:
                    op.outcome = "fail"
                    break
                if not insists or time.monotonic() > give_up or self.stopping.is_set():
                    break
                pause(0.02)
        op.end = time.monotonic()
        self.history.add(op)


class Watcher(threading.Thread):
    """Follows every event, and every job, for as long as it runs; takes each stream up again where it broke."""

    def __init__(self, history: History, address: str, kind: str):
        super().__init__(name=f"watcher-{kind}", daemon=True)
        self.history, self.address, self.kind = history, address, kind
        self.stopping = threading.Event()
        self.stream = None
        self.crash: Exception | None = None

    def stop(self):
        self.stopping.set()
        if self.stream is not None:
            self.stream.cancel()

    def run(self):
        api = Api(self.address)
        try:
            while not self.stopping.is_set():
                try:
                    self.follow_events(api) if self.kind == "events" else self.watch_jobs(api)
                except grpc.RpcError as error:
                    if error.code() not in UNKNOWN and error.code() != grpc.StatusCode.OUT_OF_RANGE:
                        raise
                    if error.code() == grpc.StatusCode.OUT_OF_RANGE and self.history.watches:
                        self.history.watches[-1].append(None)  # The next stream begins with the present state.
                    self.stopping.wait(0.02)
        except Exception as error:
            self.crash = error
        finally:
            api.close()

    def follow_events(self, api: Api):
        next_one = self.history.events[-1].revision + 1 if self.history.events else 1
        self.stream = api.call("EventService/FollowEvents", timeout=None, start_revision=next_one)
        for answer in self.stream:
            self.history.events.append(answer.event)

    def watch_jobs(self, api: Api):
        last = self.history.watches[-1][-1] if self.history.watches and self.history.watches[-1] else None
        seen: list = []
        if last is None:
            self.history.watches.append(seen)
        else:
            seen = self.history.watches[-1]
        self.stream = api.call("JobService/WatchJobs", timeout=None, start_revision=0 if last is None else last.revision + 1)
        for answer in self.stream:
            seen.append(answer)


class Load:
    """`clients` clients and both watchers, against whatever p2d serves at `address`. A context manager."""

    def __init__(self, run, address: str, clients: int = 8, **options):
        self.history = History()
        self.clients = [Client(self.history, address, i, run.dice(f"client {i}"), **options) for i in range(clients)]
        self.watchers = [Watcher(self.history, address, kind) for kind in ("events", "jobs")]

    def __enter__(self):
        for thread in self.watchers + self.clients:
            thread.start()
        return self

    def stop_clients(self):
        for client in self.clients:
            client.stop()
        for client in self.clients:
            client.join(30)
            assert not client.is_alive(), f"{client.name} hangs"
            if client.crash is not None:
                raise client.crash

    def __exit__(self, kind, *_):
        for thread in self.clients + self.watchers:
            thread.stop()
        for thread in self.clients + self.watchers:
            thread.join(30)
            if kind is None and thread.crash is not None:
                raise thread.crash
