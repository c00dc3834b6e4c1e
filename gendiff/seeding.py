"""Randomness as a pure function of (seed, stage, batch, sample): nothing to save, nothing lost.

A batch of consecutive samples is cut into blocks; each block has one generator, keyed by what it
is for and by the block's place in the *global* batch. So the numbers do not depend on the rank,
the number of workers, how often the run was stopped, or how the batch is split for accumulation.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

MAX_BLOCKS = 64


def key(*parts: int | str) -> int:
    """A 63-bit seed from any mix of words and integers."""
    return number(hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8))


def number(digest: Any) -> int:
    """The 63-bit seed of what was hashed."""
    return int.from_bytes(digest.digest(), "big") >> 1


def keys(parts: Sequence[int | str], last: Iterable[int]) -> Iterator[int]:
    """`key` of the parts with each of these integers after them; parts are hashed once."""
    begun = hashlib.blake2b("".join(f"{part}\x1f" for part in parts).encode(), digest_size=8)
    for place in last:
        digest = begun.copy()
        digest.update(b"%d" % place)
        yield number(digest)


def block_size(batch_size: int) -> int:
    """Samples that share a generator: the least divisor of the batch that leaves 64 blocks."""
    least = math.ceil(batch_size / MAX_BLOCKS)
    return next(size for size in range(least, batch_size + 1) if batch_size % size == 0)


def reseed(seed: int, device: torch.device) -> None:
    """Set PyTorch's global generators, which dropout uses, for this process and device.

    ``torch.manual_seed`` costs a millisecond where a GPU library is present but no GPU is.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


class Draws:
    """The random numbers of a run of consecutive samples.

    Args:
        parts: what the numbers are for, e.g. ``(seed, stage, batch number, role)``.
        first: place of the first sample in the global batch; a multiple of ``block``.
        count: samples; the last block may be cut short.
        block: samples per generator.
        total: samples in the global batch, for what is drawn for all of it at once; by default
            these samples are all.
    """

    def __init__(
        self,
        parts: Sequence[int | str],
        first: int,
        count: int,
        block: int,
        device: torch.device | str = "cpu",
        total: int | None = None,
    ) -> None:
        if first % block:
            raise ValueError(f"first sample {first} is not a multiple of the block {block}")
        self.count, self.block, self.device = count, block, torch.device(device)
        self.parts, self.first, self.total = parts, first, total or first + count
        blocks = range(first // block, -(-(first + count) // block))
        self.generators = []
        for seed in keys(parts, blocks):
            generator = torch.Generator(self.device)
            generator.manual_seed(seed)
            self.generators.append(generator)

    def _blocks(self, draw: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        out = torch.empty((self.count, *shape), dtype=dtype, device=self.device)
        fill, whole = getattr(Tensor, draw), self.count // self.block
        first, last = out.tensor_split([whole * self.block])
        parts = first.view(whole, self.block, *shape).unbind()
        for generator, part in zip(self.generators, parts, strict=False):
            fill(part, generator=generator)
        if len(last):  # a whole block is drawn, so that a short one sees the same numbers
            block = last.new_empty((self.block, *shape))
            fill(block, generator=self.generators[-1])
            last.copy_(block[: len(last)])
        return out

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal numbers, (count, *shape)."""
        return self._blocks("normal_", shape, dtype)

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Numbers in [0, 1), (count, *shape)."""
        return self._blocks("uniform_", shape, dtype)

    def integers(self, low: int, high: int) -> Tensor:
        """Integers in [low, high), (count,)."""
        u = self._blocks("uniform_", (), torch.float64)
        return (low + (u * (high - low)).long()).clamp_(max=high - 1)

    def antithetic(self) -> Tensor:
        """Numbers in [0, 1), (count,), that come in pairs u, 1 - u over the global batch."""
        generator = torch.Generator(self.device)
        generator.manual_seed(key(*self.parts, "antithetic"))
        half = torch.empty(-(-self.total // 2), device=self.device)
        pairs = mirrored(half.uniform_(generator=generator), self.total)
        return pairs[self.first : self.first + self.count]


def mirrored(half: Tensor, total: int) -> Tensor:
    """(ceil(total / 2),) numbers u followed by their 1 - u, (total,)."""
    return torch.cat([half, 1 - half])[:total]


def sample_noise(
    seed: int, first: int, n: int, shape: Sequence[int], device: torch.device
) -> Callable[..., Tensor]:
    """What samplers call ``noise``: sample i's numbers depend on (seed, first + i, step) alone."""

    def noise(step: int, *size: int) -> Tensor:
        return Draws([seed, "sample", step, *size], first, n, 1, device).normal(*(size or shape))

    return noise
