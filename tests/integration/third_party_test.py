#!/usr/bin/env python3
"""Programs that others wrote talk to p2: grpcurl and Python's grpcio (through reflection), Prometheus and promtool."""
import json
import os
import pathlib
import re
import socket
import subprocess
import unittest
import urllib.parse
import urllib.request

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from p2_cluster import SOURCE, Cluster, tiny_spec, wait_for

PROMETHEUS = SOURCE / ".tools/prometheus/usr/bin"
GRPCURL = SOURCE / ".tools/venv/bin/grpcurl"


def http_get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()


class GrpcurlTest(unittest.TestCase):
    def test_grpcurl_lists_creates_and_watches(self):
        with Cluster() as p2:
            address = p2.env["P2_ADDR"]

            def call(*args: str) -> str:
                result = subprocess.run([GRPCURL, "-plaintext", *args], capture_output=True, text=True, timeout=60)
                self.assertEqual(result.returncode, 0, result.stderr)
                return result.stdout

            services = call(address, "list").split()
            for name in ("JobService", "PresetService", "DatasetService", "MetricService", "CheckpointService", "ArtifactService",
                         "LogService", "ClusterService", "EventService"):
                self.assertIn(f"p2.v1.{name}", services)
            self.assertIn("grpc.health.v1.Health", services)
            self.assertIn("rpc CreateJob", call(address, "describe", "p2.v1.JobService"))
            request = json.dumps({"specYaml": tiny_spec(images=128), "requestId": "grpcurl-1"})
            job = json.loads(call("-d", request, address, "p2.v1.JobService/CreateJob"))["job"]["name"]
            # The watch ends by its own deadline or by ours; what came before is what counts.
            watch = subprocess.Popen([GRPCURL, "-plaintext", "-max-time", "60", "-d", json.dumps({"names": [job]}), address,
                                      "p2.v1.JobService/WatchJobs"], stdout=subprocess.PIPE, text=True)
            try:
                seen = ""
                for line in watch.stdout:
                    seen += line
                    if '"SUCCEEDED"' in line:
                        break
                self.assertIn('"SUCCEEDED"', seen)
            finally:
                watch.kill()
                watch.communicate()
            self.assertEqual([j["name"] for j in json.loads(call(address, "p2.v1.JobService/ListJobs"))["jobs"]], [job])


class GrpcioTest(unittest.TestCase):
    def test_python_creates_lists_and_watches_a_job(self):
        with Cluster() as p2, grpc.insecure_channel(p2.env["P2_ADDR"]) as channel:
            pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))

            def message(name: str, **fields):
                return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"p2.v1.{name}"))(**fields)

            def method(name: str, reply: str, stream: bool = False):
                kind = channel.unary_stream if stream else channel.unary_unary
                parse = type(message(reply)).FromString
                return kind(f"/p2.v1.JobService/{name}", request_serializer=lambda m: m.SerializeToString(), response_deserializer=parse)

            create = method("CreateJob", "CreateJobResponse")
            created = create(message("CreateJobRequest", spec_yaml=tiny_spec(images=128), request_id="py-1"), timeout=30)
            again = create(message("CreateJobRequest", spec_yaml=tiny_spec(images=128), request_id="py-1"), timeout=30)
            self.assertEqual(created.job.name, again.job.name)
            states = []
            watch = method("WatchJobs", "WatchJobsResponse", stream=True)(message("WatchJobsRequest", names=[created.job.name]), timeout=90)
            for change in watch:
                if change.HasField("job"):
                    states.append(json_format.MessageToDict(change.job)["state"])
                if states and states[-1] == "SUCCEEDED":
                    watch.cancel()
                    break
            self.assertEqual(states[-1], "SUCCEEDED")
            listed = method("ListJobs", "ListJobsResponse")(message("ListJobsRequest"), timeout=30)
            self.assertEqual([j.name for j in listed.jobs], [created.job.name])
            # A bad spec names every bad field at once, in the standard details.
            with self.assertRaises(grpc.RpcError) as caught:
                create(message("CreateJobRequest", preset="mnist-demo", overrides=["objective.gamma=-1", "training.batch=0"]), timeout=30)
            self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
            details = dict(caught.exception.trailing_metadata())["grpc-status-details-bin"]
            for field in (b"objective.gamma", b"training.batch", b"google.rpc.BadRequest"):
                self.assertIn(field, details)


class HostileClientTest(unittest.TestCase):
    """What only a client that is not ours sends. Each gets an error that names the value and the limit; p2d goes on."""

    @classmethod
    def setUpClass(cls):
        cls.p2 = cls.enterClassContext(Cluster())
        cls.channel = cls.enterClassContext(grpc.insecure_channel(cls.p2.env["P2_ADDR"]))
        cls.pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(cls.channel))

    def tearDown(self):
        job = self.p2.submit(tiny_spec(images=64))
        self.p2.wait_state(job, "SUCCEEDED")

    def message(self, name: str):
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(f"p2.v1.{name}"))

    def refused(self, call) -> grpc.RpcError:
        with self.assertRaises(grpc.RpcError) as caught:
            call()
        return caught.exception

    def test_a_worker_of_another_protocol_version_is_refused(self):
        hello = self.message("ConnectRequest")()
        hello.hello.worker, hello.hello.instance, hello.hello.protocol_version = "old-worker", "i-1", 99
        connect = self.channel.stream_stream("/p2.v1.WorkerService/Connect", request_serializer=lambda m: m.SerializeToString(),
                                             response_deserializer=self.message("ConnectResponse").FromString)
        error = self.refused(lambda: next(connect(iter([hello]), timeout=30)))
        self.assertEqual(error.code(), grpc.StatusCode.FAILED_PRECONDITION)
        for word in ("old-worker", "99", "speaks 1", "same release"):
            self.assertIn(word, error.details())
        self.assertEqual([w["name"] for w in self.p2.json("node", "list")["items"]], ["workers/w0"])

    def test_a_message_that_is_too_big_is_refused(self):
        create = self.channel.unary_unary("/p2.v1.JobService/CreateJob", request_serializer=lambda m: m.SerializeToString(),
                                          response_deserializer=self.message("CreateJobResponse").FromString)
        # Beyond what p2d takes in one message, and beyond what it takes as a spec.
        for size, code, words in ((5 << 20, grpc.StatusCode.RESOURCE_EXHAUSTED, (str(4 << 20),)),
                                  (300000, grpc.StatusCode.INVALID_ARGUMENT, ("spec_yaml", "300000", "262144"))):
            error = self.refused(lambda: create(self.message("CreateJobRequest")(spec_yaml="#" * size), timeout=30))
            self.assertEqual(error.code(), code)
            for word in words:
                self.assertIn(word, error.details())


def documented_series() -> dict[str, dict[str, set[str]]]:
    """What docs/metrics.md says: by daemon, name -> labels."""
    series: dict[str, dict[str, set[str]]] = {"p2d": {}, "worker": {}}
    for line in (SOURCE / "docs/metrics.md").read_text().splitlines():
        if line.startswith("| `"):
            name, _, labels, by, *_ = [cell.strip(" `") for cell in line.strip("|").split("|")]
            for daemon in by.split(", "):
                series[daemon][name] = set(labels.split(", ")) - {""}
    return series


def exposed_series(text: str) -> dict[str, set[str]]:
    """What a daemon shows: name -> labels. A histogram has one name."""
    histograms = set(re.findall(r"^# TYPE (\S+) histogram$", text, re.M))
    series: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^([a-z_0-9]+)(?:\{(.*)\})? ", text, re.M):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        series.setdefault(base if base in histograms else name, set()).update(set(re.findall(r'(\w+)="', labels)) - {"le"})
    return series


class PrometheusTest(unittest.TestCase):
    def test_prometheus_scrapes_both_daemons_and_answers_for_the_loss(self):
        with Cluster() as p2:
            p2.p2ctl("quota", "set", "projects/default", "--devices", "100")  # Its series is there with a quota alone.
            job = p2.submit(tiny_spec(images=200000))
            p2.wait_images(job, 128)
            wait_for("a row of metrics", lambda: p2.points(job), 60)
            targets = [f"127.0.0.1:{p2.ports['http']}", f"127.0.0.1:{p2.ports['w0']}"]
            for target in targets:
                lint = subprocess.run([PROMETHEUS / "promtool", "check", "metrics"], input=http_get(f"http://{target}/metrics"),
                                      capture_output=True, text=True, timeout=30)
                self.assertEqual((lint.returncode, lint.stdout + lint.stderr), (0, ""), target)
            # No restart and no GPU here; times of a checkpoint come with a row after it.
            for daemon, target, absent in (("p2d", targets[0], {"p2_restarts_total"}), ("worker", targets[1], {"p2_gpu_seconds_total"})):
                documented = {name: labels for name, labels in documented_series()[daemon].items() if name not in absent}
                wait_for(f"{daemon}'s series", lambda: exposed_series(http_get(f"http://{target}/metrics")).keys() >= documented.keys(), 60)
                self.assertEqual(exposed_series(http_get(f"http://{target}/metrics")), documented)
            phases = re.findall(r'p2_step_seconds\{job_id="[^"]+",phase="(\w+)"\}', http_get(f"http://{targets[0]}/metrics"))
            self.assertEqual(sorted(phases), ["data", "ema", "forward_backward", "optimizer", "other"])
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            config = p2.dir / "prometheus.yml"
            config.write_text(json.dumps({"global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"}, "scrape_configs": [
                {"job_name": "p2", "static_configs": [{"targets": targets}]}]}))
            server = subprocess.Popen([PROMETHEUS / "prometheus", f"--config.file={config}", f"--storage.tsdb.path={p2.dir}/tsdb",
                                       f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"])
            try:
                def query(text: str):
                    try:
                        reply = json.loads(http_get(f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(text)}"))
                    except OSError:
                        return []
                    return reply["data"]["result"]

                loss = wait_for("Prometheus has the loss", lambda: query(f'p2_loss{{job_id="{job}",kind="loss"}}'), 30)
                self.assertGreater(float(loss[0]["value"][1]), 0)
                self.assertEqual(len(wait_for("both are up", lambda: len(query("up == 1")) == 2 and query("up == 1"), 30)), 2)
                self.assertEqual(wait_for("devices", lambda: query('sum(p2_devices{kind="cpu"})'), 30)[0]["value"][1], "2")
                p2.p2ctl("stop", job)
                p2.wait_state(job, "CANCELLED")
                # Series of ended jobs are removed.
                wait_for("its series to go", lambda: job not in http_get(f"http://{targets[0]}/metrics"), 30)
            finally:
                server.terminate()
                server.wait(30)


if __name__ == "__main__":
    unittest.main(verbosity=2)
