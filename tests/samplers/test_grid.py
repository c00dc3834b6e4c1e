"""Time grids: what they are even in, where they begin and end, and what is refused."""

from __future__ import annotations

import pytest
import torch

from gendiff.paths import EDM, VE, VP, DiscreteLinear
from gendiff.samplers import time_grid

EVEN = {
    "uniform": lambda path, t: t,
    "quadratic": lambda path, t: t.sqrt(),
    "log_snr": lambda path, t: path.log_snr(t),
    "karras": lambda path, t: (path.sigma(t) / path.alpha(t)) ** (1 / 7),
}


@pytest.mark.parametrize("kind", EVEN)
def test_grids_are_even_in_what_they_say(path, kind):
    end = 0.02 * path.t_max
    times = time_grid(path, 10, kind, t_end=end)
    steps = EVEN[kind](path, times).diff()
    torch.testing.assert_close(steps, steps[:1].expand(10))
    assert times[0] == pytest.approx(path.t_max, rel=0.01)
    assert times[-1] == end


@pytest.mark.parametrize("kind", EVEN)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_grids_reach_the_data(path, kind, steps):
    times = time_grid(path, steps, kind)
    assert len(times) == steps + 1
    assert times[-1] == 0
    assert (times.diff() < 0).all()
    if kind in ("log_snr", "karras") and steps > 1:  # these never get there: they jump
        assert times[-2] == pytest.approx(path.t_min)


@pytest.mark.parametrize("kind", ["log_snr", "karras"])
def test_much_noise_is_not_cut_short(kind):
    """Only where alpha vanishes is log-SNR -12 taken for the start."""
    path = VE(0.01, 1348.0)
    ratios = torch.log(time_grid(path, 30, kind)[:-1]).diff()
    assert ratios[0] / ratios[1] == pytest.approx(1, abs=0.1)


def test_a_grid_may_begin_later(path):
    times = time_grid(path, 4, "uniform", t_start=path.t_max / 2)
    torch.testing.assert_close(times, path.t_max / 2 * torch.linspace(1, 0, 5).double())


def test_each_path_has_a_grid_of_its_own(path):
    assert time_grid(path, 6).equal(time_grid(path, 6, path.grid))


def test_a_chain_is_visited_at_its_own_steps():
    assert time_grid(DiscreteLinear(100), 4).tolist() == [100, 75, 50, 25, 0]
    assert time_grid(DiscreteLinear(100), 100).diff().eq(-1).all()


@pytest.mark.parametrize(
    ("path", "settings", "message"),
    [
        (VP(), {"steps": 0}, "steps is 0"),
        (VP(), {"steps": 2, "kind": "even"}, "'even' is unknown; there are uniform"),
        (VP(), {"steps": 2, "t_end": 1.0}, "times must have"),
        (EDM(), {"steps": 2, "t_start": 81.0}, "times must have"),
        (EDM(), {"steps": 2, "t_start": 0.001}, "needs to start above 0.002"),
        (DiscreteLinear(100), {"steps": 101}, "visits a step of the chain of 100 twice"),
    ],
)
def test_impossible_grids_are_refused(path, settings, message):
    with pytest.raises(ValueError, match=message):
        time_grid(path, **settings)
