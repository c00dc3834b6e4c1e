"""A user's own metric: one number needs a name."""

from __future__ import annotations

import pytest
import torch
from torchmetrics import Metric

from gendiff import registry
from gendiff.errors import UserError
from gendiff.evaluation.sight import Sight, measure
from gendiff.metrics.base import Known


class Mine(Metric):
    """What a package of the user's brings."""

    least, sees = 1, "features"

    @classmethod
    def of(cls, known):
        return cls()

    def update(self, x, real):
        pass

    def compute(self):
        return torch.tensor(2.0)


@pytest.mark.parametrize("figures", [None, (), ("mine",)])
def test_a_metric_says_what_its_one_number_is(monkeypatch, figures):
    if figures is not None:
        monkeypatch.setattr(Mine, "figures", figures, raising=False)
    monkeypatch.setattr(registry, "lookup", lambda kind, name: Mine)
    seen = Sight(torch.zeros(4, 1, 2), None, torch.zeros(4))
    if figures:
        assert measure(["own"], Known(2, samples=4), seen, seen, "cpu") == {"mine": 2.0}
        return
    with pytest.raises(UserError, match=r"^evaluation.metrics: own: its class lacks figures"):
        measure(["own"], Known(2, samples=4), seen, seen, "cpu")
