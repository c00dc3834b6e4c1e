"""Toy truth: closed forms of mixtures and of finite data sets, against other routes to them."""

from __future__ import annotations

from decimal import Decimal, getcontext

import pytest
import torch

from gendiff.data.toy import GaussianMixture, IdealDenoiser, ideal
from gendiff.paths import VP, Cosine, Linear, Path
from gendiff.predictions import Prediction


class VE(Path):
    """x_t = x0 + t eps, times up to 100."""

    t_max = 100.0
    alpha = staticmethod(torch.ones_like)
    sigma = staticmethod(torch.clone)
    d_alpha = staticmethod(torch.zeros_like)
    d_sigma = staticmethod(torch.ones_like)

    def inverse_log_snr(self, log_snr):
        return torch.exp(-log_snr / 2)


def random_mixture(d, k=4):
    return GaussianMixture(torch.rand(k) + 0.2, torch.randn(k, d), torch.rand(k) * 0.3 + 0.05)


# ---- mixtures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("d", [1, 2, 7])
def test_mixture_score_is_the_gradient_of_its_density(path, d, noisy):
    mixture = random_mixture(d)
    x = torch.randn(9, d, dtype=torch.float64, requires_grad=True)
    t = torch.linspace(0, 1, 9, dtype=torch.float64) if noisy else None
    (slope,) = torch.autograd.grad(mixture.log_density(x, path, t).sum(), x)
    torch.testing.assert_close(mixture.score(x.detach(), path, t), slope)


def exact_line(mixture, sigma, x):
    """Log-density, score and posterior mean of x0 + sigma eps on the line, in 50 digits."""
    getcontext().prec = 50
    two_pi = Decimal("6.28318530717958647692528676655900576839433879875021")
    x, noise = Decimal(x), Decimal(sigma) ** 2
    mass = slope = mean = Decimal(0)
    columns = (mixture.weights, mixture.means[:, 0], mixture.stds)
    for w, m, s in zip(*(map(Decimal, column.tolist()) for column in columns), strict=True):
        v = s * s + noise
        p = w * (-((x - m) ** 2) / (2 * v)).exp() / (two_pi * v).sqrt()
        mass, slope = mass + p, slope - p * (x - m) / v
        mean += p * (m + s * s / v * (x - m))
    return [float(value) for value in (mass.ln(), slope / mass, mean / mass)]


@pytest.mark.parametrize("sigma", [1e-4, 1e-2, 1.0, 80.0, 100.0])
def test_closed_forms_keep_their_digits(gm1, sigma):
    path, t = VE(), torch.tensor(sigma, dtype=torch.float64)
    x = torch.tensor([-0.81, 0.3, 2.0], dtype=torch.float64)[:, None] * max(1, sigma)
    x0, score = gm1.denoiser(path)(x, t).x0, gm1.score(x, path, t)
    own = gm1.log_density(x, path, t), score[:, 0], x0[:, 0]
    truth = torch.tensor(
        [exact_line(gm1, sigma, value) for value in x[:, 0].tolist()], dtype=torch.float64
    )
    torch.testing.assert_close(torch.stack(own, 1), truth, rtol=1e-12, atol=1e-14)


def test_mixture_samples_on_a_path(path, gm2):
    n = 20_000
    t = torch.tensor([0.2, 0.8], dtype=torch.float64).repeat(n // 2)
    xt, label = gm2.sample(n, torch.Generator().manual_seed(0), path, t)
    assert xt.dtype == torch.float64
    a, s = path.alpha(t), path.sigma(t)
    variance = (a * gm2.stds[label]) ** 2 + s**2
    z = (xt - a[:, None] * gm2.means[label]) / variance.sqrt()[:, None]
    for own in (z[label == k] for k in range(3)):
        torch.testing.assert_close(own.mean(0), torch.zeros(2).double(), rtol=0, atol=0.06)
        torch.testing.assert_close(own.T.cov(), torch.eye(2).double(), rtol=0, atol=0.08)


def test_mixture_posterior_is_bayes_rule(path, gm2):
    """p(x0 | x_t) is p(x0) N(x_t; alpha x0, sigma^2) / p(x_t), and its mean is the denoiser's."""
    xt, t = torch.tensor([0.3, -0.2], dtype=torch.float64), torch.tensor(0.6, dtype=torch.float64)
    posterior = gm2.posterior(xt, path, t)
    x0 = torch.randn(5, 2, dtype=torch.float64)
    a, s = path.alpha(t), path.sigma(t)
    noise = torch.distributions.Normal(a * x0, s).log_prob(xt).sum(1)
    wanted = gm2.log_density(x0) + noise - gm2.log_density(xt[None], path, t)
    torch.testing.assert_close(posterior.log_density(x0), wanted)
    mean = (posterior.weights[:, None] * posterior.means).sum(0)
    torch.testing.assert_close(mean, gm2.denoiser(path)(xt[None], t).x0[0])
    far = gm2.posterior(xt, path, torch.tensor(1e-4))  # all but one weight underflow
    assert far.log_density(x0).isfinite().all()


def test_noised_samples_are_those_of_the_data(path, gm2):
    x0, label = gm2.sample(50, torch.Generator().manual_seed(0))
    start = gm2.sample(50, torch.Generator().manual_seed(0), path, torch.tensor(0.0))
    torch.testing.assert_close((x0, label), start)


@pytest.mark.parametrize("name", ["sample", "score", "log_density"])
def test_a_time_needs_a_path(gm2, name):
    what = 3 if name == "sample" else torch.zeros(3, 2)
    with pytest.raises(ValueError, match="path"):
        getattr(gm2, name)(what, t=torch.tensor(0.5))


# ---- finite data ---------------------------------------------------------------------------------


@pytest.mark.parametrize("elements", [2**22, 100])
@pytest.mark.parametrize("shape", [(2,), (1, 4, 4)])
def test_ideal_denoiser_is_a_softmax_over_the_data(path, monkeypatch, shape, elements):
    monkeypatch.setattr(ideal, "ELEMENTS", elements)  # 100: in chunks of 6 or 14 points
    data, xt = torch.randn(37, *shape), torch.randn(7, *shape, dtype=torch.float64)
    t = torch.linspace(0.02, 1, 7, dtype=torch.float64)
    a, s = (scale.view(-1, *[1] * (len(shape) + 1)) for scale in (path.alpha(t), path.sigma(t)))
    logits = -((xt[:, None] - a * data) / s).square().flatten(2).sum(2) / 2
    expected = torch.einsum("bn,n...->b...", logits.softmax(1), data.double())
    denoiser = IdealDenoiser(data, path)
    torch.testing.assert_close(denoiser(xt, t).x0, expected, rtol=1e-9, atol=1e-9)
    assert denoiser(xt.float(), t[0].float()).x0.dtype == torch.float32
    assert denoiser.nfe == 2


@pytest.mark.parametrize("path", [VP(), Cosine(), Linear(), VE()], ids=lambda p: type(p).__name__)
def test_ideal_denoiser_is_a_mixture_of_points(path, gm2):
    # pairs of close points, far from the origin: distances that cancel if not formed by differences
    data = gm2.sample(50)[0].double().repeat(2, 1) + 100
    data[50:] += 1e-4
    points = GaussianMixture(torch.ones(100), data, torch.full((100,), 1e-9))
    for share in (1e-6, 1e-4, 1e-2, 0.3, 0.9, 1.0):
        t = torch.tensor(share * path.t_max, dtype=torch.float64)
        xt = path.add_noise(data[:20], torch.randn(20, 2, dtype=torch.float64), t)
        ideal_x0 = IdealDenoiser(data, path)(xt, t).x0
        torch.testing.assert_close(ideal_x0, points.denoiser(path)(xt, t).x0, rtol=0, atol=1e-9)


def test_ideal_denoiser_without_noise_is_the_nearest_point(path):
    data = torch.randn(30, 3)
    out = IdealDenoiser(data, path)(data[4:9] + 1e-3, torch.tensor(0.0))
    assert isinstance(out, Prediction)
    assert out.x0.equal(data[4:9])


@pytest.mark.parametrize(
    ("data", "message"), [(torch.zeros(0, 2), "at least 1"), (torch.zeros(4, 3), "the data are")]
)
def test_ideal_denoiser_refuses_other_shapes(data, message):
    with pytest.raises(ValueError, match=message):
        IdealDenoiser(data, VE())(torch.zeros(5, 2), torch.tensor(0.5))
