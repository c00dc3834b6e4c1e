"""Training speed of the U-Net beside those of diffusers and torchcfm, at equal size.

Prints images/s of forward and backward, and of forward alone. The libraries take turns, round by
round, so that a slow moment of the machine hits all alike; the median round counts. A library
that is not installed is skipped.

    python tools/bench_unet.py [--rounds 5] [--seconds 1] [--threads 2] [--device cpu]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from gendiff.networks.unet import UNet, UNetConfig

BATCH = 64


@dataclass(frozen=True)
class Case:
    """An image size with the width that gives each library about as many parameters."""

    shape: tuple[int, int, int]
    multipliers: tuple[int, ...]
    attention: int
    channels: dict[str, int]


# torchcfm takes only widths divisible by 32.
CASES = (
    Case((1, 8, 8), (1, 3), 4, {"gendiff": 36, "diffusers": 32, "torchcfm": 32}),
    Case((3, 32, 32), (1, 2, 2), 8, {"gendiff": 40, "diffusers": 32, "torchcfm": 32}),
)

Model = tuple[nn.Module, Callable[[Tensor, Tensor], Tensor]]


def gendiff_model(case: Case, channels: int) -> Model:
    """Our U-Net, with heads as wide as the first level, as below for the others."""
    config = UNetConfig(
        channels=channels,
        multipliers=list(case.multipliers),
        attention=[case.attention],
        head_channels=channels,
    )
    model = UNet(config, case.shape, case.shape[0])
    return model, lambda x, t: model(x, t, {})


def diffusers_model(case: Case, channels: int) -> Model:
    """UNet2DModel of diffusers."""
    from diffusers import UNet2DModel  # type: ignore[import-not-found]

    sizes = [case.shape[1] >> level for level in range(len(case.multipliers))]
    attend = [size == case.attention for size in sizes]
    model = UNet2DModel(
        sample_size=case.shape[1],
        in_channels=case.shape[0],
        out_channels=case.shape[0],
        block_out_channels=tuple(channels * m for m in case.multipliers),
        layers_per_block=1,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attend),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attend)),
        attention_head_dim=channels,
        norm_num_groups=channels // 4,
        resnet_time_scale_shift="scale_shift",
    )
    return model, lambda x, t: model(x, 1000 * t).sample


def torchcfm_model(case: Case, channels: int) -> Model:
    """UNetModelWrapper of torchcfm; its norms have always 32 groups."""
    from torchcfm.models.unet.unet import UNetModelWrapper  # type: ignore[import-not-found]

    model = UNetModelWrapper(
        dim=case.shape,
        num_channels=channels,
        num_res_blocks=1,
        channel_mult=case.multipliers,
        attention_resolutions=str(case.attention),
        num_head_channels=channels,
        use_scale_shift_norm=True,
    )
    return model, lambda x, t: model(t, x)


BUILDERS = {"gendiff": gendiff_model, "diffusers": diffusers_model, "torchcfm": torchcfm_model}


def images_per_second(step: Callable[[], object], seconds: float, device: str) -> float:
    """Images/s of a step of BATCH images, repeated for at least so many seconds."""
    steps = 0
    start = time.perf_counter()
    while True:
        step()
        if device != "cpu":
            torch.cuda.synchronize()
        steps += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return steps * BATCH / elapsed


def training_step(model: nn.Module, call: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> None:
    """Forward and backward of a squared error; no optimizer, which is the same for all."""
    model.zero_grad(set_to_none=True)
    noise_level = torch.rand(BATCH, device=x.device)
    torch.autograd.backward((call(x, noise_level) - x).square().mean())


@torch.no_grad()
def forward_step(call: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> None:
    """Forward alone, as in sampling."""
    call(x, torch.rand(BATCH, device=x.device))


def bench(case: Case, rounds: int, seconds: float, device: str) -> None:
    """Measure all the libraries on one image size and print their rows."""
    models: dict[str, Model] = {}
    for name, build in BUILDERS.items():
        try:
            model, call = build(case, case.channels[name])
        except ImportError as error:
            print(f"{name}: skipped, {error}")
            continue
        models[name] = (model.to(device), call)
    x = torch.randn(BATCH, *case.shape, device=device)
    training: dict[str, list[float]] = {name: [] for name in models}
    forward: dict[str, list[float]] = {name: [] for name in models}
    for model, call in models.values():  # warm up
        training_step(model, call, x)
    for _ in range(rounds):
        for name, (model, call) in models.items():
            step = partial(training_step, model, call, x)
            training[name].append(images_per_second(step, seconds, device))
            sample = partial(forward_step, call, x)
            forward[name].append(images_per_second(sample, seconds / 4, device))
    print(
        f"{'x'.join(map(str, case.shape)):<10} {'parameters':>11} {'train/s':>9} {'forward/s':>9}"
    )
    ours = statistics.median(training["gendiff"])
    for name, (model, _) in models.items():
        count = sum(p.numel() for p in model.parameters())
        speed = statistics.median(training[name])
        ratio = f"  gendiff is {ours / speed:.2f}x as fast" if name != "gendiff" else ""
        print(
            f"{name:<10} {count:>11,} {speed:>9.0f} {statistics.median(forward[name]):>9.0f}{ratio}"
        )


def main() -> None:
    """Read the command line and run all cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each library")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one turn")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for case in CASES:
        bench(case, args.rounds, args.seconds, args.device)


if __name__ == "__main__":
    main()
