"""The one table of what the shared tests need to know of each method, and of what it is built.

They walk the registry: a method without a line here is taken with its default config. A case is a
method's name, or that and a word for a variation of it. `golden` holds the losses of each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gendiff import registry


@dataclass(frozen=True)
class Entry:
    """Settings for a few batches, and those on top where there are labels."""

    settings: dict[str, Any]
    labelled: dict[str, Any] = field(default_factory=dict)


def entry(labelled=None, **settings):
    return Entry(settings, labelled or {})


GUIDED = {"guidance": 0.5}
TABLE = {
    "classifier": entry(noise=0.1, label_smoothing=0.1),
    "consistency": entry(intervals=8, first_intervals=2, solver="heun_x0"),
    "consistency lagging": entry(
        intervals=8, first_intervals=2, solver="heun", curriculum="cm", target_decay=0.7
    ),
    "consistency_training": entry(intervals=16, first_intervals=4, weight="uniform"),
    "continuous_consistency": entry(GUIDED, tangent_warmup=4),
    "continuous_consistency_training": entry(tangent_warmup=4),
    "denoising_gan": entry(latent=2, penalty_every=2),
    "distribution_matching": entry(fake_batches=2),
    "distribution_matching judged": entry(fake_batches=2, student_steps=2, adversarial_weight=0.3),
    "easy_consistency": entry(stages=3, times_mean=1.0, times_std=0.5),
    "flow": entry(
        {"loss": "pseudo_huber"}, coupling="optimal", coupling_size=4, straightness_every=3
    ),
    "mean_flow": entry({"omega": 2.0, "kappa": 0.5}),
    "mean_flow judged": entry(adversarial_weight=0.3),
    "mean_flow_distillation": entry({"omega": 1.5}),
    "online_reflow": entry({"times": "u_shaped"}, solver_steps=3),
    "progressive": entry(GUIDED, student_steps=4),
    "reflow": entry(times="u_shaped", loss="pseudo_huber"),
    "score_identity": entry({"alpha": 1.2, "guidance": 0.5}),
    "truncated": entry(truncation=0.3, penalty_every=2),
    "truncated_plus": entry(truncation=0.3, latent=2, penalty_every=2),
}


def class_of(case, config=None):
    """The class behind a case; with a config, the one that trains it."""
    cls = registry.lookup("methods", case.split()[0])
    return cls.variant(config) if config else cls


def config_of(case, labelled=False):
    """A small config; ``labelled`` where labels are there, to be guided by for example."""
    known = TABLE.get(case, entry())
    more = known.labelled if labelled else {}
    return class_of(case).Config(**known.settings, **more)


def conditions_of(cls, role, config, classes=0):
    """What a role's network must be told."""
    told = {"label": classes} if classes else {}
    if role == "generator":
        told["z"] = config.latent
    maps = "flow_map" in cls.samplers and role not in (*cls.frozen, "critic")
    if maps or (role == "fake" and config.student_steps > 1):
        told["second_time"] = 1
    return told


CASES = sorted({*registry.names("methods"), *TABLE})
TRAINED = [case for case in CASES if set(class_of(case).roles) - set(class_of(case).frozen)]
"""All but those that only make a product."""
