"""Pairs against the exact flow of a mixture: both ways, by any sampler, row by row."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from gendiff import registry
from gendiff.config import compose
from gendiff.couplings import invert, solve
from gendiff.data.pairs import PairStore
from gendiff.errors import UserError
from gendiff.methods.pairs import Pairs, PairsConfig
from gendiff.paths import VP, Cosine, DiscreteLinear, Linear
from gendiff.predictions import Prediction
from gendiff.products import make_product
from gendiff.sampling import ANY_DENOISER, Sampling

ROWS = torch.arange(200)


def couple(teacher, shape=(1,), classes=0, seed=0, **settings):
    """The method with any denoiser as its teacher."""
    method = Pairs(PairsConfig(**settings), {}, shape=shape, classes=classes, seed=seed, stage="p")
    method.teacher = teacher
    return method


def errors(distance, counts):
    """Mean distances at so many steps, and their ratios from each to the next."""
    found = [float(distance(steps)) for steps in counts]
    return found, [before / after for before, after in pairwise(found)]


# what an order promises when steps double: an error of 2 to the order less
FORTH = [(Cosine(), "ddim", 1), (VP(), "ddim", 1), (Linear(), "heun", 2), (Cosine(), "heun", 2)]
FORTH += [(VP(), "dpmpp_2m@log_snr", 2), (Linear(), "heun@vp.log_snr", 2)]
BACK = [*FORTH[:4], (VP(), "heun", 2), FORTH[5]]


@pytest.mark.parametrize(("path", "sampler", "order"), FORTH)
def test_noise_goes_where_the_exact_flow_takes_it(gm1, exact_flow, path, sampler, order):
    def distance(steps):
        rows = couple(gm1.denoiser(path), sampler=sampler, solver_steps=steps).produce(ROWS)
        start = float(path.sigma(torch.tensor(path.t_max))) * rows["eps"].double()
        return (rows["x0"] - exact_flow(path, start, path.t_max, 0.0)).abs().mean()

    found, ratios = errors(distance, (48, 96))
    assert found[-1] < (0.015 if order == 1 else 0.001)
    assert min(ratios) > 0.8 * 2**order


@pytest.mark.parametrize(("path", "sampler", "order"), BACK)
def test_data_go_to_where_the_exact_flow_takes_them_from(gm1, exact_flow, path, sampler, order):
    x0, sampling = gm1.sample(200)[0].double(), Sampling.parse(sampler, ANY_DENOISER)
    sigma = float(path.sigma(torch.tensor(path.t_max)))
    truth = exact_flow(path, x0, 0.0, path.t_max) / sigma

    def distance(steps):
        return (invert(sampling, gm1.denoiser(path), x0, steps) - truth).abs().mean()

    found, ratios = errors(distance, (64, 128))
    assert found[-1] < (0.025 if order == 1 else 0.005)
    assert min(ratios) > 0.8 * 2**order


@pytest.mark.parametrize(
    ("sampler", "steps", "most"), [("ddim", 200, 0.02), ("heun", 100, 6e-3), ("rk45", 1000, 1e-4)]
)
def test_data_to_noise_to_data(path, gm2, sampler, steps, most):
    x0, sampling = gm2.sample(40)[0].double(), Sampling.parse(sampler, ANY_DENOISER)
    eps = invert(sampling, gm2.denoiser(path), x0, steps)
    assert eps.square().mean() == pytest.approx(1, abs=0.3)
    back = solve(sampling, gm2.denoiser(path), eps, steps)
    assert (back - x0).abs().mean() < most


@pytest.mark.parametrize("sampler", ["ddim", "ddim(eta=1)", "predictor_corrector"])
def test_a_row_is_a_function_of_seed_and_index(gm1, sampler):
    def rows(first, last, seed=0):
        method = couple(gm1.denoiser(VP()), seed=seed, sampler=sampler, solver_steps=6)
        return method.produce(torch.arange(first, last))

    every, other = rows(0, 60), rows(0, 60, seed=1)
    for first, last in ((0, 1), (17, 40), (59, 60)):
        part = rows(first, last)
        assert part["eps"].equal(every["eps"][first:last])
        torch.testing.assert_close(part["x0"], every["x0"][first:last], rtol=0, atol=1e-5)
    assert not (other["eps"] == every["eps"]).any()
    assert every["eps"].unique().numel() == 60


class Labelled:
    """Says that x0 is the label, or -1 without one."""

    path, nfe = Linear(), 0

    def __call__(self, xt, t, cond=None):
        label = (cond or {}).get("label")
        x0 = torch.full_like(xt, -1) if label is None else label[:, None].to(xt).expand_as(xt)
        return Prediction(x0, "x0", xt, t.expand(len(xt)), self.path)


@pytest.mark.parametrize("weight", [0.0, 1.5])
def test_labels_go_round_and_guide(weight):
    rows = couple(Labelled(), (2,), classes=3, guidance=weight, solver_steps=3).produce(ROWS[4:9])
    assert rows["label"].tolist() == [1, 2, 0, 1, 2]
    wanted = (1 + weight) * rows["label"][:, None] + weight
    torch.testing.assert_close(rows["x0"], wanted.expand(-1, 2).float())
    assert couple(Labelled(), (2,), solver_steps=3).produce(ROWS[4:9])["x0"].eq(-1).all()


def test_images_keep_their_place_and_label(tmp_path, gm2):
    raw = {"method": {"name": "pairs", "count": 300, "solver_steps": 20, "inverse": True}}
    run = compose({"data": {"name": "mixture", "samples": 300}, **raw}, "couples")
    data = registry.lookup("data", "mixture")(run.data).train.__getitems__([*range(300)])
    method = Pairs(run.method, {}, shape=(2,), classes=run.data.classes, stage="couples")
    method.teacher = gm2.denoiser(Cosine())
    told = []
    digests = make_product(method, run, tmp_path, {"teacher": "f" * 64}, told.append)
    assert {*digests} == {"products/pairs/00000.npy", "products/pairs/stamp.json"}
    assert told == [0, 300]
    store = PairStore(tmp_path / "products/pairs")
    assert store.origin["direction"] == "data to noise"
    assert store.origin["teacher"] == {"teacher": "f" * 64}
    rows = store.__getitems__([*range(300)])
    for name in ("x0", "label", "index"):
        assert rows[name].equal(data[name])
    assert rows["eps"].square().mean() == pytest.approx(1, abs=0.3)
    object.__setattr__(run.method, "count", 301)
    with pytest.raises(UserError, match=r"method.count: 301, .* 300 to train on"):
        make_product(method, run, tmp_path, {}, told.append)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampler": "dim"}, r"sampler: no sampler 'dim'. Did you mean 'ddim'$"),
        ({"sampler": "heun(order=2)"}, "sampler: heun has no setting 'order'"),
        ({"sampler": "posterior"}, "sampler: 'posterior' does not fit"),
        ({"sampler": "dpmpp_2m", "inverse": True}, "sampler: 'dpmpp_2m' does not fit"),
        ({"sampler": "ddim(eta=0.5)", "inverse": True}, "sampler: eta adds noise"),
        ({"sampler": "heun(churn=10)", "inverse": True}, "sampler: churn adds noise"),
        ({"solver_steps": 0}, "solver_steps: 0 must be at least 1$"),
        ({"solver_steps": 1, "inverse": True}, "solver_steps: 1 must be at least 2$"),
        ({"guidance": math.nan}, "guidance: nan must be finite"),
    ],
)
def test_impossible_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Pairs.check(PairsConfig(**settings), Cosine())


@pytest.mark.parametrize("settings", [{"sampler": "ddim(eta=0)"}, {"sampler": "rk45"}, {}])
def test_samplers_without_noise_can_be_inverted(settings):
    Pairs.check(PairsConfig(inverse=True, **settings), Cosine())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampler": "heun"}, "method.sampler: 'heun' needs a path continuous in time"),
        ({"solver_steps": 1001}, "method.solver_steps: steps is 1001"),
        ({"sampler": "heun(churn=9)@vp.ddim10"}, "method.solver_steps: grid 'ddim10' is a subset"),
    ],
)
def test_a_teacher_that_cannot_be_sampled_so_is_named(gm1, settings, message):
    with pytest.raises(UserError, match=message):
        couple(gm1.denoiser(DiscreteLinear()), **settings).produce(ROWS[:3])


def test_pairs_that_are_not_finite_are_not_stored():
    class Wild(Labelled):
        def __call__(self, xt, t, cond=None):
            return Prediction(xt / 0, "x0", xt, t.expand(len(xt)), self.path)

    with pytest.raises(UserError, match="p: rows 4 to 8 are not finite"):
        couple(Wild(), (2,)).produce(ROWS[4:9])
