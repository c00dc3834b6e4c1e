"""Two pictures of a denoising GAN: its steps on the line against the truth, and what z does.

    python tools/denoising_gan_pictures.py [--digits runs/stackeddigits_ddgan/denoising_gan]
        [--dir runs/denoising_gan_pictures] [--docs docs]

The first trains ``mixture_denoising_gan`` on three Gaussians of the line, some minutes; the second
needs the finished stage of a denoising GAN on images. Writes ``denoising_gan_posterior.png`` and
``denoising_gan_latent.png`` into the docs folder.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from matplotlib.figure import Figure

import gendiff
from gendiff import cli, registry
from gendiff.data.toy import GaussianMixture
from gendiff.model import Model
from gendiff.paths import expand
from gendiff.report.grid import save_grid

LINE = {"weights": [0.3, 0.5, 0.2], "means": [[-0.8], [0.1], [0.9]], "stds": [0.1, 0.25, 0.05]}
DRAWS = 20_000


def train_on_the_line(folder: Path) -> Model:
    """The shipped config of the mixture, on three Gaussians of the line."""
    folder.mkdir(parents=True, exist_ok=True)
    stage = {
        "config": "mixture_denoising_gan",
        "data": LINE,
        "networks": {"generator": {"frequency": 1.0}, "critic": {"frequency": 0.3}},
        "optim": {"ema_decay": 0.999},
        "trainer": {"max_steps": 4000},
        "evaluation": {"watch_times": 0},
    }
    path = folder / "line.yaml"
    path.write_text(yaml.safe_dump({"stages": {"line": stage}}))
    code = cli.main(["run", str(path), "--dir", str(folder)])
    if code:
        sys.exit(code)
    return gendiff.load(folder / "line")


@torch.no_grad()
def draw_x0(model: Model, xt: torch.Tensor, k: int, seed: int = 0) -> torch.Tensor:
    """x0 of the generator at the k-th of its times, (n, ...), with a fresh z for each x_t."""
    config, path = model.run.method, model.method.path
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(len(xt), config.latent, generator=generator)
    t = torch.tensor(path.t_max * k / config.steps)
    return getattr(model.method, model.role)(xt, t, {"z": z}).x0


@torch.no_grad()
def draw_xs(model: Model, xt: torch.Tensor, k: int) -> torch.Tensor:
    """The cleaner x_s that the k-th step makes of x_t, (n, 1)."""
    path, steps = model.method.path, model.run.method.steps
    x0 = draw_x0(model, xt, k)
    s, t = (torch.full((len(xt),), path.t_max * i / steps) for i in (k - 1, k))
    weight_x0, weight_xt, variance = (expand(c, xt) for c in path.posterior(s, t))
    noise = torch.randn(xt.shape, generator=torch.Generator().manual_seed(1))
    return weight_x0 * x0 + weight_xt * xt + variance.sqrt() * noise


def exact_density(mixture: GaussianMixture, path: Any, xs: torch.Tensor, xt: float, k: int, n: int):
    """p(x_s | x_t) on a grid, by Bayes: q(x_t | x_s) p(x_s), normalised."""
    s, t = (torch.tensor(path.t_max * i / n, dtype=torch.float64) for i in (k - 1, k))
    scale, variance = path.transition(s, t)
    marginal = mixture.log_density(xs, path, s) if k > 1 else mixture.log_density(xs)
    joint = marginal - (xt - scale * xs[:, 0]) ** 2 / (2 * variance)
    density = (joint - joint.max()).exp()
    return density / (density.sum() * (xs[1] - xs[0]))


def plot_posteriors(model: Model, file: Path) -> None:
    """One row a time, one column an x_t: draws of x_s and their exact density."""
    mixture = GaussianMixture(**LINE)
    path, steps = model.method.path, model.run.method.steps
    figure = Figure(figsize=(10, 2.1 * steps), layout="constrained")
    panels = figure.subplots(steps, 3, sharex=True)
    grid = torch.linspace(-3.2, 3.2, 1601, dtype=torch.float64)[:, None]
    for row, k in zip(panels, range(steps, 0, -1), strict=True):
        t = torch.tensor(path.t_max * k / steps, dtype=torch.float64)
        xts, _ = mixture.sample(2000, torch.Generator().manual_seed(0), path, t.expand(2000))
        chosen = xts.flatten().quantile(torch.tensor([0.1, 0.5, 0.85], dtype=torch.float64))
        for panel, xt in zip(row, chosen, strict=True):
            drawn = draw_xs(model, xt.float().expand(DRAWS, 1), k).flatten()
            truth = exact_density(mixture, path, grid, float(xt), k, steps)
            panel.hist(drawn, bins=200, range=(-3.2, 3.2), density=True, color="#9ecae1")
            panel.plot(grid, truth, color="#cb181d", linewidth=1.2)
            panel.set_title(f"t = {t:g}, x_t = {xt:.2f}", fontsize=9)
            panel.set_ylim(0, 1.3 * float(truth.max()))
            panel.set_yticks([])
    for panel in panels[-1]:
        panel.set_xlabel("x_s")
    panels[0][0].legend(["exact p(x_s | x_t)", "generated, 20,000 latents"], fontsize=8)
    figure.savefig(file, dpi=110)


def show_latents(model: Model, file: Path, rows: int = 2, columns: int = 12) -> None:
    """For each time a few x_t of one row each: x0 of the generator for different z."""
    data = registry.lookup("data", model.run.data.name)(model.run.data).held_out
    x0 = torch.stack([data[i]["x0"] for i in range(rows)])
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    pictures, steps, path = [], model.run.method.steps, model.method.path
    for k in range(steps, 0, -1):
        t = torch.full((rows,), path.t_max * k / steps)
        for xt, here, clean in zip(path.add_noise(x0, eps, t), t, x0, strict=True):
            drawn = draw_x0(model, xt.expand(columns, *xt.shape), k)
            shown = xt / expand(path.size(here[None]), xt[None])[0]
            pictures += [clean, shown, *drawn]
    save_grid(torch.stack(pictures), file, columns + 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--digits", type=Path)
    parser.add_argument("--dir", type=Path, default=Path("runs/denoising_gan_pictures"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args()
    if args.digits:
        show_latents(gendiff.load(args.digits), args.docs / "denoising_gan_latent.png")
    plot_posteriors(train_on_the_line(args.dir), args.docs / "denoising_gan_posterior.png")


if __name__ == "__main__":
    main()
