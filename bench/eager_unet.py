"""The published architecture in plain PyTorch, eager mode: what the benches compare p2 with. Parameters have the published names."""
import json
import math
import pathlib
import struct
import typing

import torch
from torch import nn
from torch.nn import functional as F

SOURCE = pathlib.Path(__file__).resolve().parents[1]


class Shape(typing.NamedTuple):
    image_size: int
    model_channels: int
    channel_mult: tuple
    attention_resolutions: tuple
    head_channels: int
    dropout: float = 0
    colors: int = 3


# As train_bench --model; "tiny" is the golden net, "light-256" the paper's.
MODELS = {
    "tiny": Shape(32, 32, (1, 2, 2), (8,), 16),
    "mnist-demo": Shape(16, 32, (1, 2, 2), (4,), 16, colors=1),
    "own-64": Shape(64, 64, (1, 2, 3, 4), (16,), 64, dropout=0.1),
    "light-128": Shape(128, 128, (1, 1, 2, 3, 4), (16,), 64),
    "light-256": Shape(256, 128, (1, 1, 2, 2, 4, 4), (16,), 64),
}


class Residual(nn.Module):
    def __init__(self, cin, cout, width, dropout, resample=None):
        super().__init__()
        self.resample, self.dropout = resample, dropout
        self.in_layers = nn.Sequential(nn.GroupNorm(32, cin), nn.SiLU(), nn.Conv2d(cin, cout, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * cout))
        self.out_layers = nn.Sequential(nn.GroupNorm(32, cout), nn.SiLU(), nn.Identity(), nn.Conv2d(cout, cout, 3, padding=1))
        if cin != cout:
            self.skip_connection = nn.Conv2d(cin, cout, 1)

    def resampled(self, x):
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2, mode="nearest") if self.resample == "up" else x

    def forward(self, x, emb):
        h = self.in_layers[2](self.resampled(self.in_layers[1](self.in_layers[0](x))))
        scale, shift = self.emb_layers(emb)[:, :, None, None].chunk(2, 1)
        h = self.out_layers[1](self.out_layers[0](h) * (1 + scale) + shift)
        h = self.out_layers[3](F.dropout(h, self.dropout, self.training))
        x = self.resampled(x)
        return h + (self.skip_connection(x) if hasattr(self, "skip_connection") else x)


class Attention(nn.Module):
    def __init__(self, channels, head_channels):
        super().__init__()
        self.heads = channels // head_channels
        self.norm, self.qkv = nn.GroupNorm(32, channels), nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x, emb):
        b, c, length = x.shape[0], x.shape[1], x.shape[2] * x.shape[3]
        flat = x.reshape(b, c, length)
        q, k, v = self.qkv(self.norm(flat)).reshape(b * self.heads, 3 * c // self.heads, length).chunk(3, 1)
        scale = 1 / math.sqrt(math.sqrt(c // self.heads))
        weights = torch.softmax(torch.einsum("bct,bcs->bts", q * scale, k * scale), -1)
        mixed = torch.einsum("bts,bcs->bct", weights, v).reshape(b, c, length)
        return (flat + self.proj_out(mixed)).reshape(x.shape)


class Stage(nn.Sequential):
    def forward(self, x, emb):
        for block in self:
            x = block(x, emb) if isinstance(block, (Residual, Attention)) else block(x)
        return x


class Unet(nn.Module):
    """The published architecture with one residual block a level, resampling in blocks, scale-shift norms, learned variance."""

    def __init__(self, shape):
        super().__init__()
        size, base, mult, attention, head_channels, dropout, colors = shape
        self.base, width, factors = base, 4 * base, {size // r for r in attention}
        self.time_embed = nn.Sequential(nn.Linear(base, width), nn.SiLU(), nn.Linear(width, width))
        channels, factor, skips = base * mult[0], 1, [base * mult[0]]
        self.input_blocks = nn.ModuleList([Stage(nn.Conv2d(colors, channels, 3, padding=1))])
        for level, m in enumerate(mult):
            stage = Stage(Residual(channels, base * m, width, dropout))
            channels = base * m
            if factor in factors:
                stage.append(Attention(channels, head_channels))
            self.input_blocks.append(stage)
            skips.append(channels)
            if level + 1 < len(mult):
                self.input_blocks.append(Stage(Residual(channels, channels, width, dropout, "down")))
                skips.append(channels)
                factor *= 2
        self.middle_block = Stage(Residual(channels, channels, width, dropout), Attention(channels, head_channels), Residual(channels, channels, width, dropout))
        self.output_blocks = nn.ModuleList()
        for level, m in reversed(list(enumerate(mult))):
            for i in range(2):
                stage = Stage(Residual(channels + skips.pop(), base * m, width, dropout))
                channels = base * m
                if factor in factors:
                    stage.append(Attention(channels, head_channels))
                if level and i == 1:
                    stage.append(Residual(channels, channels, width, dropout, "up"))
                    factor //= 2
                self.output_blocks.append(stage)
        self.out = nn.Sequential(nn.GroupNorm(32, channels), nn.SiLU(), nn.Conv2d(channels, 2 * colors, 3, padding=1))

    def forward(self, x, t):
        half = self.base // 2
        phases = t[:, None].float() * torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
        emb = self.time_embed(torch.cat([phases.cos(), phases.sin()], -1))
        skips, h = [], x
        for stage in self.input_blocks:
            h = stage(h, emb)
            skips.append(h)
        h = self.middle_block(h, emb)
        for stage in self.output_blocks:
            h = stage(torch.cat([h, skips.pop()], 1), emb)
        return self.out(h)


def write_safetensors(path, tensors):
    """fp32 tensors by name."""
    header, chunks, at = {}, [], 0
    for name, value in tensors.items():
        chunks.append(value.detach().contiguous().numpy().tobytes())
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [at, at + len(chunks[-1])]}
        at += len(chunks[-1])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(chunks))


def read_safetensors(path):
    data = path.read_bytes()
    begin = 8 + struct.unpack("<Q", data[:8])[0]
    types = {"F16": torch.float16, "F32": torch.float32, "I64": torch.int64}
    return {name: torch.frombuffer(bytearray(data[begin + e["data_offsets"][0]:begin + e["data_offsets"][1]]), dtype=types[e["dtype"]])
            .reshape(e["shape"]) for name, e in json.loads(data[8:begin]).items() if name != "__metadata__" and e["dtype"] in types}


def check_against_golden():
    model = Unet(MODELS["tiny"])
    model.load_state_dict({k: v.float() for k, v in read_safetensors(SOURCE / "tests/golden/tiny_weights.safetensors").items()})
    cases = read_safetensors(SOURCE / "tests/golden/tiny_cases.safetensors")
    with torch.no_grad():
        worst = (model(cases["fwd.x"], cases["fwd.t"]) - cases["fwd.out"]).abs().max().item()
    assert worst < 3e-5, f"the eager model is not the reference's: {worst}"
