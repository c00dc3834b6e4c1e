"""The FID network: torch-fidelity's own, from files read without running their code."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from gendiff.errors import UserError
from gendiff.extractors import make_extractor
from gendiff.extractors.base import to_uint8


@pytest.fixture(scope="module")
def state():
    """Random weights of the network's shapes, small enough for activations to stay finite."""
    with pytest.MonkeyPatch.context() as patch:  # the constructor must load something
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        patch.setattr(torch, "load", lambda *_, **__: {})
        fresh = FeatureExtractorInceptionV3("inception", ["2048"], "none")
    torch.manual_seed(2)
    return {
        name: torch.rand_like(t) * 0.1 if "bn" in name and t.is_floating_point() else t.clone()
        for name, t in fresh.state_dict().items()
    }


@pytest.fixture(scope="module", params=["weights.pth", "weights.safetensors"])
def weights(request, state, tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / request.param
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    yield path
    path.unlink()  # 90 MB


def test_it_is_torch_fidelitys(weights, state, images, tmp_path):
    extractor = make_extractor("inception", str(weights))
    features, logits = extractor(images.requires_grad_())
    assert features.shape == (3, 1, 2048)
    assert logits.shape == (3, 1, 1008)
    assert not features.requires_grad
    assert features.dtype == logits.dtype == torch.float32

    path = weights
    if weights.suffix == ".safetensors":
        path = tmp_path / "weights.pth"
        torch.save(state, path)
    reference = FeatureExtractorInceptionV3("theirs", ["2048", "logits_unbiased"], str(path))
    path.unlink() if path != weights else None
    expected = reference(to_uint8(images))
    assert torch.equal(features[:, 0], expected[0])
    assert torch.equal(logits[:, 0], expected[1])
    assert features.std() > 0
    assert logits.std() > 0
    assert extractor.to("meta")(images.to("meta"))[1].device.type == "meta"


def test_weights_must_fit(state, save):
    path = save({n: t for n, t in state.items() if n != "fc.bias"}, "less.pth")
    with pytest.raises(UserError, match=r"^evaluation\.weights: .*does not fit.*fc\.bias.*$") as it:
        make_extractor("inception", str(path))
    assert "\n" not in str(it.value)
