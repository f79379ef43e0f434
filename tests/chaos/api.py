"""p2's public API from Python: messages by name, calls by name, no generated code."""
import functools
import os
import pathlib
import subprocess
import tempfile

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SOURCE = pathlib.Path(__file__).resolve().parents[2]
# A call that ends with one of these may or may not have had its effect.
UNKNOWN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN,
           grpc.StatusCode.INTERNAL}


@functools.cache
def pool() -> descriptor_pool.DescriptorPool:
    with tempfile.NamedTemporaryFile() as file:
        protos = sorted((SOURCE / "proto/p2/v1").glob("*.proto"))
        subprocess.run([os.environ.get("P2_PROTOC", "protoc"), f"-I{SOURCE / 'proto'}", "--include_imports",
                        f"--descriptor_set_out={file.name}", *map(str, protos)], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(file.name).read_bytes())
    made = descriptor_pool.DescriptorPool()
    for file in files.file:
        made.Add(file)
    return made


@functools.cache
def message(name: str):
    """The class of `Job`, or of `p2.trainer.v1.TrainerEvent`."""
    full = name if "." in name else f"p2.v1.{name}"
    return message_factory.GetMessageClass(pool().FindMessageTypeByName(full))


def state_name(job) -> str:
    return job.DESCRIPTOR.fields_by_name["state"].enum_type.values_by_number[job.state].name


class Api:
    """Thread-safe. A call without an answer raises grpc.RpcError."""

    def __init__(self, address: str, options=()):
        """`options`: more of the channel's."""
        self.address = address
        self.channel = grpc.insecure_channel(address, options=[
            ("grpc.initial_reconnect_backoff_ms", 20), ("grpc.min_reconnect_backoff_ms", 20), ("grpc.max_reconnect_backoff_ms", 100),
            ("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 64 << 20), *options])

    def close(self):
        self.channel.close()

    @functools.cache
    def _stub(self, service: str, method: str):
        descriptor = pool().FindServiceByName(f"p2.v1.{service}").methods_by_name[method]
        answer = message_factory.GetMessageClass(descriptor.output_type)
        kind = self.channel.unary_stream if descriptor.server_streaming else self.channel.unary_unary
        stub = kind(f"/p2.v1.{service}/{method}", request_serializer=lambda m: m.SerializeToString(), response_deserializer=answer.FromString)
        return stub, message_factory.GetMessageClass(descriptor.input_type)

    def call(self, path: str, timeout: float = 10, wait: bool = False, **fields):
        """`JobService/CreateJob`: the answer, or for a stream its iterator. `wait`: until the server is there, within `timeout`."""
        stub, request = self._stub(*path.split("/"))
        return stub(request(**fields), timeout=timeout, wait_for_ready=wait)

    def pages(self, path: str, field: str, **fields):
        """All items of a list."""
        items, token = [], ""
        while True:
            page = self.call(path, timeout=30, wait=True, page_token=token, page_size=1000, **fields)
            items += getattr(page, field)
            token = page.next_page_token
            if not token:
                return items
