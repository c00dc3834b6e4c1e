"""Names, their one-line summaries, and what installed packages may add."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from gendiff import registry
from gendiff.errors import UserError

NAMED = [(kind, name) for kind in registry.TABLE for name in registry.TABLE[kind]]


@pytest.mark.parametrize(("kind", "name"), NAMED)
def test_every_name_resolves_and_says_what_it_is(kind, name):
    found = registry.lookup(kind, name)
    assert callable(found)
    text = registry.summary(kind, name)
    assert 10 < len(text) <= 100
    assert text.endswith(".")
    if kind not in ("samplers", "extractors", "metrics"):
        assert found.Config().name == name


@pytest.fixture
def installed(monkeypatch):
    """A package that adds a method ``extra`` and tries to take over ``diffusion``."""
    entries = [
        SimpleNamespace(name="extra", value="gendiff.methods.reflow:Reflow"),
        SimpleNamespace(name="diffusion", value="gendiff.methods.reflow:Reflow"),
    ]
    monkeypatch.setattr(
        registry, "entry_points", lambda group: entries if group == "gendiff.methods" else []
    )
    registry._installed.cache_clear()
    yield
    registry._installed.cache_clear()


def test_installed_packages_add_names(installed):
    from gendiff.methods.reflow import Reflow

    assert registry.lookup("methods", "extra") is Reflow
    assert registry.names("methods") == sorted([*registry.TABLE["methods"], "extra"])
    assert registry.summary("methods", "extra") == registry.summary("methods", "reflow")
    assert registry.names("paths") == sorted(registry.TABLE["paths"])


def test_own_names_cannot_be_taken_over(installed):
    assert registry.lookup("methods", "diffusion").__name__ == "Diffusion"


@pytest.mark.parametrize(
    ("name", "hint"), [("difusion", "Did you mean 'diffusion'"), ("zzz", "Allowed: classifier, ")]
)
def test_unknown_name(name, hint):
    with pytest.raises(UserError, match=hint) as error:
        registry.lookup("methods", name, "a: method.name")
    assert str(error.value).startswith("a: method.name: ")
