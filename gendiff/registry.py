"""Names to classes: one static table, imported only when a name is asked for.

Installed packages add their own through the entry point groups ``gendiff.methods``,
``gendiff.networks``, ``gendiff.data``, ``gendiff.paths``, ``gendiff.samplers`` and
``gendiff.metrics``; a name of gendiff's own cannot be overridden.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from gendiff.errors import UserError, did_you_mean

TABLE: dict[str, dict[str, str]] = {
    "methods": {
        "classifier": "gendiff.methods.classifier:ClassifierMethod",
        "consistency": "gendiff.methods.consistency:Consistency",
        "consistency_training": "gendiff.methods.consistency_training:ConsistencyTraining",
        "continuous_consistency": "gendiff.methods.continuous_consistency:ContinuousConsistency",
        "continuous_consistency_training": (
            "gendiff.methods.continuous_consistency:ContinuousConsistencyTraining"
        ),
        "denoising_gan": "gendiff.methods.denoising_gan:DenoisingGAN",
        "diffusion": "gendiff.methods.diffusion:Diffusion",
        "distribution_matching": "gendiff.methods.distribution_matching:DistributionMatching",
        "mean_flow": "gendiff.methods.mean_flow:MeanFlow",
        "mean_flow_distillation": "gendiff.methods.mean_flow:MeanFlowDistillation",
        "easy_consistency": "gendiff.methods.easy_consistency:EasyConsistency",
        "flow": "gendiff.methods.flow:Flow",
        "online_reflow": "gendiff.methods.online_reflow:OnlineReflow",
        "pair_distillation": "gendiff.methods.pair_distillation:PairDistillation",
        "pairs": "gendiff.methods.pairs:Pairs",
        "progressive": "gendiff.methods.progressive:Progressive",
        "reflow": "gendiff.methods.reflow:Reflow",
        "score_identity": "gendiff.methods.score_identity:ScoreIdentity",
        "shortcut": "gendiff.methods.shortcut:Shortcut",
        "truncated": "gendiff.methods.truncated:Truncated",
        "truncated_plus": "gendiff.methods.truncated:TruncatedPlus",
    },
    "networks": {
        "classifier": "gendiff.networks.classifier:Classifier",
        "discriminator": "gendiff.networks.discriminator:Discriminator",
        "dit": "gendiff.networks.dit:DiT",
        "mlp": "gendiff.networks.mlp:MLP",
        "stacked_classifier": "gendiff.networks.stacked_classifier:StackedClassifier",
        "stylegan2": "gendiff.networks.stylegan2:StyleGAN2",
        "unet": "gendiff.networks.unet:UNet",
        "uvit": "gendiff.networks.uvit:UViT",
    },
    "paths": {
        "cosine": "gendiff.paths.continuous:Cosine",
        "discrete_cosine": "gendiff.paths.discrete:DiscreteCosine",
        "discrete_linear": "gendiff.paths.discrete:DiscreteLinear",
        "edm": "gendiff.paths.exploding:EDM",
        "linear": "gendiff.paths.continuous:Linear",
        "trig": "gendiff.paths.continuous:Trig",
        "ve": "gendiff.paths.exploding:VE",
        "vp": "gendiff.paths.continuous:VP",
    },
    "samplers": {
        "ancestral": "gendiff.samplers.ancestral:ancestral",
        "consistency": "gendiff.samplers.consistency:consistency",
        "ddim": "gendiff.samplers.ddim:ddim",
        "dpm_solver": "gendiff.samplers.dpm:dpm_solver",
        "dpmpp_2m": "gendiff.samplers.dpm:dpmpp_2m",
        "dpmpp_2m_sde": "gendiff.samplers.dpm:dpmpp_2m_sde",
        "dpmpp_2s": "gendiff.samplers.dpm:dpmpp_2s",
        "euler": "gendiff.samplers.flow:euler",
        "flow_map": "gendiff.samplers.flow_map:flow_map",
        "heun": "gendiff.samplers.flow:heun",
        "langevin": "gendiff.samplers.langevin:langevin",
        "midpoint": "gendiff.samplers.flow:midpoint",
        "posterior": "gendiff.samplers.posterior:posterior",
        "predictor_corrector": "gendiff.samplers.langevin:predictor_corrector",
        "rk45": "gendiff.samplers.adaptive:rk45",
    },
    "data": {
        "checkerboard": "gendiff.data.toy.sets:Checkerboard",
        "cifar10": "gendiff.data.cifar:CIFAR10",
        "digits": "gendiff.data.digits:Digits",
        "gaussians25": "gendiff.data.toy.sets:Gaussians25",
        "images": "gendiff.data.images:Images",
        "mixture": "gendiff.data.toy.sets:Mixture",
        "moons": "gendiff.data.toy.sets:Moons",
        "stackeddigits": "gendiff.data.stacked:StackedDigits",
        "stackedmnist": "gendiff.data.stacked:StackedMNIST",
        "swiss_roll": "gendiff.data.toy.sets:SwissRoll",
    },
    "extractors": {
        "dinov2": "gendiff.extractors.dinov2:DINOv2",
        "inception": "gendiff.extractors.inception:Inception",
        "timm/NAME": "gendiff.extractors.vision:Vision",
    },
    "metrics": {
        "class_accuracy": "gendiff.metrics.class_accuracy:ClassAccuracy",
        "class_modes": "gendiff.metrics.class_modes:ClassModes",
        "copying": "gendiff.metrics.copying:Copying",
        "density_coverage": "gendiff.metrics.density_coverage:DensityCoverage",
        "energy_distance": "gendiff.metrics.energy:EnergyDistance",
        "frechet_distance": "gendiff.metrics.frechet:FrechetDistance",
        "frechet_infinity": "gendiff.metrics.infinity:FrechetInfinity",
        "inception_score": "gendiff.metrics.inception_score:InceptionScore",
        "kernel_distance": "gendiff.metrics.kernel:KernelDistance",
        "modes": "gendiff.metrics.modes:ModeCoverage",
        "precision_recall": "gendiff.metrics.precision_recall:PrecisionRecall",
        "sliced_wasserstein": "gendiff.metrics.sliced:SlicedWasserstein",
        "wasserstein2": "gendiff.metrics.wasserstein:Wasserstein2",
    },
}


@cache
def _installed(kind: str) -> dict[str, str]:
    return {e.name: e.value for e in entry_points(group=f"gendiff.{kind}")}


def names(kind: str) -> list[str]:
    """All registered names of a kind, sorted."""
    return sorted({**_installed(kind), **TABLE[kind]})


def lookup(kind: str, name: str, where: str = "") -> Any:
    """The class or function behind a name.

    Raises:
        UserError: the name is not registered; ``where`` is the key it was read from.
    """
    target = TABLE[kind].get(name) or _installed(kind).get(name)
    if target is None:
        place = f"{where}: " if where else ""
        raise UserError(f"{place}unknown {kind} name {name!r}.{did_you_mean(name, names(kind))}")
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def summary(kind: str, name: str) -> str:
    """First line of the docstring behind a name, read from the source without importing it."""
    module, _, attribute = (TABLE[kind].get(name) or _installed(kind)[name]).partition(":")
    package, *inner = module.split(".")
    spec = importlib.util.find_spec(package)  # of the top alone: finding inner ones imports
    if spec is None or not spec.submodule_search_locations:
        return ""
    file = Path(spec.submodule_search_locations[0], *inner)
    file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    tree = ast.parse(file.read_text())
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == attribute:
            return (ast.get_docstring(node) or "").split("\n")[0]
    return ""
