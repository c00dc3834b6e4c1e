"""The papers that a run uses: those of its parts, and those that single keys come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gendiff import registry
from gendiff.extractors import is_pretrained
from gendiff.metrics.base import Known
from gendiff.papers import DDIM, EDM_PAPER, GUIDANCE, ICT, IDDPM, Paper
from gendiff.sections import RunConfig

STRAIGHTER = Paper(
    "Sangyun Lee, Zinan Lin, Giulia Fanti",
    "Improving the Training of Rectified Flows",
    "NeurIPS",
    2024,
)
KEYS: dict[tuple[str, str], Paper] = {
    ("times", "log_normal"): EDM_PAPER,
    ("times", "antithetic"): DDIM,
    ("times", "importance"): IDDPM,
    ("times", "u_shaped"): STRAIGHTER,
    ("times", "logit_normal"): Paper(
        "Patrick Esser, others",
        "Scaling Rectified Flow Transformers for High-Resolution Image Synthesis",
        "ICML",
        2024,
    ),
    ("loss", "pseudo_huber"): STRAIGHTER,
    ("weight", "edm"): EDM_PAPER,
    ("weight", "min_snr"): Paper(
        "Tiankai Hang, Shuyang Gu, Chen Li, Jianmin Bao, Dong Chen, Han Hu, Xin Geng, Baining Guo",
        "Efficient Diffusion Training via Min-SNR Weighting Strategy",
        "ICCV",
        2023,
    ),
    ("weight", "elbo"): Paper(
        "Diederik P. Kingma, Tim Salimans, Ben Poole, Jonathan Ho",
        "Variational Diffusion Models",
        "NeurIPS",
        2021,
    ),
    ("curriculum", "ict"): ICT,
    ("distance", "pseudo_huber"): ICT,
    ("coupling", "optimal"): Paper(
        "Alexander Tong, Kilian Fatras, Nikolay Malkin, Guillaume Huguet, Yanlei Zhang, "
        "Jarrid Rector-Brooks, Guy Wolf, Yoshua Bengio",
        "Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal Transport",
        "TMLR",
        2024,
    ),
    ("objective", "non_saturating"): Paper(
        "Ian J. Goodfellow, Jean Pouget-Abadie, Mehdi Mirza, Bing Xu, David Warde-Farley, "
        "Sherjil Ozair, Aaron Courville, Yoshua Bengio",
        "Generative Adversarial Nets",
        "NeurIPS",
        2014,
    ),
    ("objective", "hinge"): Paper(
        "Jae Hyun Lim, Jong Chul Ye", "Geometric GAN", "arXiv:1705.02894", 2017
    ),
    ("objective", "least_squares"): Paper(
        "Xudong Mao, Qing Li, Haoran Xie, Raymond Y. K. Lau, Zhen Wang, Stephen Paul Smolley",
        "Least Squares Generative Adversarial Networks",
        "ICCV",
        2017,
    ),
    ("objective", "wasserstein"): Paper(
        "Martin Arjovsky, Soumith Chintala, Léon Bottou",
        "Wasserstein Generative Adversarial Networks",
        "ICML",
        2017,
    ),
}
"""Key and value of a method -> where that choice comes from."""
WEIGHTS: dict[str, Paper] = {
    "guidance": GUIDANCE,
    "guidance_max": Paper(
        "Chenlin Meng, Robin Rombach, Ruiqi Gao, Diederik P. Kingma, Stefano Ermon, Jonathan Ho, "
        "Tim Salimans",
        "On Distillation of Guided Diffusion Models",
        "CVPR",
        2023,
    ),
    "adversarial_weight": Paper(
        "Zhendong Wang, Huangjie Zheng, Pengcheng He, Weizhu Chen, Mingyuan Zhou",
        "Diffusion-GAN: Training GANs with Diffusion",
        "ICLR",
        2023,
    ),
    "r1_gamma": Paper(
        "Lars Mescheder, Andreas Geiger, Sebastian Nowozin",
        "Which Training Methods for GANs Do Actually Converge?",
        "ICML",
        2018,
    ),
    "gradient_penalty": Paper(
        "Ishaan Gulrajani, Faruk Ahmed, Martin Arjovsky, Vincent Dumoulin, Aaron Courville",
        "Improved Training of Wasserstein GANs",
        "NeurIPS",
        2017,
    ),
    "control": Paper(
        "Kun Xu, Chongxuan Li, Jun Zhu, Bo Zhang",
        "Understanding and Stabilizing GANs' Training Dynamics Using Control Theory",
        "ICML",
        2020,
    ),
    "perceptual.weight": Paper(
        "Richard Zhang, Phillip Isola, Alexei A. Efros, Eli Shechtman, Oliver Wang",
        "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
        "CVPR",
        2018,
    ),
}
"""Keys of a method that bring something in where they are not 0."""


def papers_of(run: RunConfig) -> list[Paper]:
    """What a run comes from, each paper once: method first, then data, network, path, the rest."""
    asked, cls = run.evaluation, run.method_class
    judged = cls.samplers and asked.steps
    parts: list[Any] = [cls, registry.lookup("data", run.data.name)]
    parts += [registry.lookup("networks", network.name) for network in run.networks.values()]
    if run.path is not None and cls.samplers:
        parts.append(registry.lookup("paths", run.path.name))
    if judged:
        names = asked.samplers or cls.samplers[:1]
        parts += [registry.lookup("samplers", name.split("@")[0].split("(")[0]) for name in names]
        parts += metrics_used(run)
        if asked.extractor and is_pretrained(asked.extractor):
            kind = "timm/NAME" if asked.extractor.startswith("timm/") else asked.extractor
            parts.append(registry.lookup("extractors", kind))
    found = [paper for part in parts for paper in getattr(part, "papers", ())]
    guided = (judged and any(asked.guidance)) or (run.conditional and value(run, "label_dropout"))
    return unique([*found, *keys_used(run), *([GUIDANCE] if guided else [])])


def users_of(runs: Mapping[str, RunConfig]) -> list[tuple[Paper, list[str]]]:
    """The papers of stages by name, oldest first, each with the stages that use it."""
    users: dict[Paper, list[str]] = {}
    for name, run in runs.items():
        for paper in papers_of(run):
            users.setdefault(paper, []).append(name)
    return sorted(users.items(), key=lambda item: (item[0].year, item[0].key))


def keys_used(run: RunConfig) -> list[Paper]:
    """What the method's keys come from; the game's only where there is a critic."""
    playing = "critic" in run.method_class.roles
    chosen = [
        paper
        for (key, choice), paper in KEYS.items()
        if value(run, key) == choice and (key != "objective" or playing)
    ]
    return chosen + [paper for key, paper in WEIGHTS.items() if value(run, key)]


def value(run: RunConfig, key: str) -> Any:
    """Of a key of the method, with dots for what is within; None where it has no such key."""
    at = run.method
    for word in key.split("."):
        at = getattr(at, word, None)
    return at


def metrics_used(run: RunConfig) -> list[Any]:
    """The metrics that an evaluation asks for; by default those that say something of its data."""
    asked = run.evaluation
    known = Known(
        num_features=64,
        classes=run.data.classes if asked.extractor else 0,
        asked=run.conditional,
        samples=asked.samples or 1000,
        points=asked.extractor is None,
    )
    every = {name: registry.lookup("metrics", name) for name in registry.names("metrics")}
    if asked.metrics:
        return [every[name] for name in asked.metrics]
    return [metric for metric in every.values() if metric.of(known) is not None]


def unique(papers: Iterable[Paper]) -> list[Paper]:
    """Each once, in order."""
    return list(dict.fromkeys(papers))
