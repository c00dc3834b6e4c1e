"""Time a sampler spends outside the network, beside a hand-written loop and diffusers' scheduler.

The network is a stub that returns a tensor it holds: the time left is the sampler's. The three take
turns, round by round, so that a slow moment of the machine hits all alike; the median round
counts. Nothing is subtracted. Coefficients are computed in every run by gendiff and diffusers
(``set_timesteps`` included) and before the clock starts in the hand-written loops.

    python tools/sampler_overhead.py [--rounds 15] [--steps 50] [--device cpu]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gendiff.denoiser import Denoiser
from gendiff.paths import EDM, VP, DiscreteLinear, Path
from gendiff.samplers import ancestral, ddim, dpmpp_2m, euler, heun, time_grid

SHAPES = ((4, 1, 8, 8), (64, 3, 32, 32))
Run = Callable[[Tensor], Tensor]


class Stub(nn.Module):
    """Costs next to nothing."""

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.output = torch.randn_like(like)

    def forward(self, x: Tensor, level: Tensor, cond: Any) -> Tensor:
        return self.output


class Plan:
    """The numbers of a hand-written loop: levels, v as x0 = a x - b v, and the path."""

    def __init__(self, path: Path, times: Tensor) -> None:
        self.levels = path.noise_level(times).float().tolist()
        alphas, sigmas = path.alpha(times), path.sigma(times)
        size = (alphas**2 + sigmas**2).sqrt()
        self.a, self.b = (alphas / size**2).tolist(), (sigmas / size).tolist()
        self.alphas, self.sigmas = alphas.tolist(), sigmas.tolist()
        scale = path.input_scale(times)
        self.scales = None if scale is None else scale.tolist()
        self.steps = range(len(times) - 1)

    def x0(self, network: nn.Module, i: int, x: Tensor) -> Tensor:
        level = torch.full((len(x),), self.levels[i], device=x.device)
        scaled = x if self.scales is None else x * self.scales[i]
        return self.a[i] * x - self.b[i] * network(scaled, level, None)


def hand_ddim(network: nn.Module, path: Path, times: Tensor) -> Run:
    plan = Plan(path, times)
    kept = [plan.sigmas[i + 1] / plan.sigmas[i] for i in plan.steps]
    gain = [plan.alphas[i + 1] - kept[i] * plan.alphas[i] for i in plan.steps]

    def run(x: Tensor) -> Tensor:
        for i in plan.steps:
            x = kept[i] * x + gain[i] * plan.x0(network, i, x)
        return x

    return run


def hand_ancestral(network: nn.Module, path: Path, times: Tensor) -> Run:
    plan = Plan(path, times)
    on_x0, on_x, variances = path.posterior(times[1:], times[:-1])
    ps, qs, stds = on_x0.tolist(), on_x.tolist(), variances.sqrt().tolist()

    def run(x: Tensor) -> Tensor:
        for i in plan.steps:
            x = qs[i] * x + ps[i] * plan.x0(network, i, x)
            if stds[i] > 0:
                x = x + stds[i] * torch.randn_like(x)
        return x

    return run


def hand_euler(network: nn.Module, path: Path, times: Tensor) -> Run:
    plan, sigmas = Plan(path, times), times.tolist()  # on EDM the time is sigma

    def run(x: Tensor) -> Tensor:
        for i in plan.steps:
            slope = (x - plan.x0(network, i, x)) / sigmas[i]
            x = x + (sigmas[i + 1] - sigmas[i]) * slope
        return x

    return run


def hand_heun(network: nn.Module, path: Path, times: Tensor) -> Run:
    plan, sigmas = Plan(path, times), times.tolist()

    def run(x: Tensor) -> Tensor:
        for i in plan.steps:
            dt = sigmas[i + 1] - sigmas[i]
            slope = (x - plan.x0(network, i, x)) / sigmas[i]
            guess = x + dt * slope
            if sigmas[i + 1] == 0:
                return guess
            other = (guess - plan.x0(network, i + 1, guess)) / sigmas[i + 1]
            x = x + dt / 2 * (slope + other)
        return x

    return run


def hand_2m(network: nn.Module, path: Path, times: Tensor) -> Run:
    plan, log_snr = Plan(path, times), path.log_snr(times)
    h = (log_snr.diff() / 2).tolist()
    kept = [plan.sigmas[i + 1] / plan.sigmas[i] for i in plan.steps]
    gain = [plan.alphas[i + 1] - kept[i] * plan.alphas[i] for i in plan.steps]

    def run(x: Tensor) -> Tensor:
        before = None
        for i in plan.steps:
            x0 = mean = plan.x0(network, i, x)
            if before is not None and i < plan.steps[-1]:
                r = h[i] / h[i - 1] / 2
                mean = (1 + r) * x0 - r * before
            x = kept[i] * x + gain[i] * mean
            before = x0
        return x

    return run


def theirs(scheduler: Any, network: nn.Module, steps: int, x: Tensor) -> Tensor:
    """diffusers' loop as its documentation writes it."""
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x = scheduler.step(network(scheduler.scale_model_input(x, t), t, None), t, x).prev_sample
    return x


def cases() -> list[tuple[str, Any, Any, Path, str, dict[str, Any]]]:
    """Sampler, hand-written loop, path and diffusers' scheduler with its settings."""
    chain = {"prediction_type": "v_prediction", "clip_sample": False}
    v = {"prediction_type": "v_prediction"}
    return [
        ("ddim", ddim, hand_ddim, DiscreteLinear(1000), "DDIM", chain),
        ("ancestral", ancestral, hand_ancestral, DiscreteLinear(1000), "DDPM", chain),
        ("euler", euler, hand_euler, EDM(), "EulerDiscrete", {**v, "use_karras_sigmas": True}),
        ("heun", heun, hand_heun, EDM(), "HeunDiscrete", {**v, "use_karras_sigmas": True}),
        ("dpmpp_2m", dpmpp_2m, hand_2m, VP(), "DPMSolverMultistep", v),
    ]


def microseconds(run: Run, x: Tensor, steps: int) -> float:
    """Time of a step."""
    wait = torch.cuda.synchronize if x.is_cuda else (lambda: None)
    wait()
    begun = time.perf_counter()
    run(x)
    wait()
    return (time.perf_counter() - begun) / steps * 1e6


@torch.no_grad()
def bench(rounds: int, steps: int, device: str) -> None:
    """Print the table."""
    try:
        import diffusers  # type: ignore[import-not-found]
    except ImportError:
        diffusers = None
    print("| sampler | shape | gendiff, us | by hand | diffusers | to hand | to diffusers |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, sampler, by_hand, path, scheduler, settings in cases():
        times = time_grid(path, steps)
        for shape in SHAPES:
            network = Stub(torch.empty(shape, device=device))
            x = torch.randn(shape, device=device) * float(path.sigma(times[0]))
            ours = partial(sampler, Denoiser(network, path, "v"), times=times)
            runs: list[Run] = [ours, by_hand(network, path, times)]
            if name != "ancestral":  # the same arithmetic
                torch.testing.assert_close(runs[0](x), runs[1](x), rtol=1e-3, atol=1e-3)
            if diffusers is not None:
                other = getattr(diffusers, f"{scheduler}Scheduler")(**settings)
                runs.append(partial(theirs, other, network, steps))
            for run in runs:
                run(x)
            spent = [[microseconds(run, x, steps) for run in runs] for _ in range(rounds)]
            medians = [statistics.median(column) for column in zip(*spent, strict=True)]
            ratios = [f"{medians[0] / other:.2f}" for other in medians[1:]]
            cells = [f"{value:.0f}" for value in medians]
            missing = [] if len(runs) == 3 else ["-"]
            row = [name, "x".join(map(str, shape)), *cells, *missing, *ratios, *missing]
            print("| " + " | ".join(row) + " |")


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15, help="turns of each")
    parser.add_argument("--steps", type=int, default=50, help="steps of a run")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args()
    torch.set_num_threads(1)
    bench(args.rounds, args.steps, args.device)


if __name__ == "__main__":
    main()
