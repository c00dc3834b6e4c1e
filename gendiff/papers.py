"""The papers that things come from, said where the things are defined, and cited by `gendiff cite`.

A registered class or function has `@cites(...)` above it. What only one place cites is written
there; what several places cite, or a key of a config asks for, is written here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

SMALL = {"a", "an", "the", "on", "of", "how", "for", "in", "and", "is", "are"}
"""Words that no title is known by."""

ENTRIES = {
    "arXiv": ("misc", "howpublished"),
    "U": ("misc", "howpublished"),  # of a university
    "Journal": ("article", "journal"),
    "TMLR": ("article", "journal"),
}
"""How a venue begins that is no conference's."""


@dataclass(frozen=True)
class Paper:
    authors: str
    """Full names with commas between; ``others`` at the end for the rest."""
    title: str
    venue: str
    year: int

    @property
    def names(self) -> list[str]:
        return self.authors.split(", ")

    @property
    def key(self) -> str:
        """As most bibliographies have it: first author, year, first word of the title."""
        words = plain(self.title).lower().replace("++", "pp").split()
        word = next(re.sub(r"\W", "", w) for w in words if w not in SMALL)
        surname = re.sub(r"\W", "", plain(self.names[0].split()[-1]).lower())
        return f"{surname}{self.year}{word}"

    @property
    def text(self) -> str:
        """A line of a list of references."""
        shown = [name for name in self.names if name != "others"]
        whole = len(shown) == len(self.names) and len(shown) < 6
        people = f"{', '.join(shown)}." if whole else f"{shown[0]} et al."
        stop = "" if self.title.endswith("?") else "."
        return f"{people} {self.title}{stop} {self.venue}, {self.year}."

    @property
    def bibtex(self) -> str:
        """An entry; words with two capitals keep them."""
        entry, where = next(
            (kind for word, kind in ENTRIES.items() if self.venue.startswith(word)),
            ("inproceedings", "booktitle"),
        )
        kept = re.sub(r"\b(\w*[A-Z]\w*[A-Z]\w*)\b", r"{\1}", self.title)
        return (
            f"@{entry}{{{self.key},\n"
            f"  author = {{{' and '.join(self.names)}}},\n"
            f"  title = {{{kept}}},\n"
            f"  {where} = {{{self.venue}}},\n"
            f"  year = {{{self.year}}},\n"
            "}"
        )


def plain(text: str) -> str:
    """Without accents."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def cites(*papers: Paper) -> Callable[[T], T]:
    """A class or function comes from these; a subclass with none of its own, from its base's."""

    def mark(thing: T) -> T:
        setattr(thing, "papers", papers)  # noqa: B010  # of classes and functions alike
        return thing

    return mark


DDPM = Paper(
    "Jonathan Ho, Ajay Jain, Pieter Abbeel",
    "Denoising Diffusion Probabilistic Models",
    "NeurIPS",
    2020,
)
SCORE_SDE = Paper(
    "Yang Song, Jascha Sohl-Dickstein, Diederik P. Kingma, Abhishek Kumar, Stefano Ermon, "
    "Ben Poole",
    "Score-Based Generative Modeling through Stochastic Differential Equations",
    "ICLR",
    2021,
)
DDIM = Paper(
    "Jiaming Song, Chenlin Meng, Stefano Ermon",
    "Denoising Diffusion Implicit Models",
    "ICLR",
    2021,
)
IDDPM = Paper(
    "Alex Nichol, Prafulla Dhariwal",
    "Improved Denoising Diffusion Probabilistic Models",
    "ICML",
    2021,
)
PROGRESSIVE = Paper(
    "Tim Salimans, Jonathan Ho",
    "Progressive Distillation for Fast Sampling of Diffusion Models",
    "ICLR",
    2022,
)
EDM_PAPER = Paper(
    "Tero Karras, Miika Aittala, Timo Aila, Samuli Laine",
    "Elucidating the Design Space of Diffusion-Based Generative Models",
    "NeurIPS",
    2022,
)
GUIDANCE = Paper(
    "Jonathan Ho, Tim Salimans",
    "Classifier-Free Diffusion Guidance",
    "NeurIPS Workshop on Deep Generative Models",
    2021,
)
DDGAN = Paper(
    "Zhisheng Xiao, Karsten Kreis, Arash Vahdat",
    "Tackling the Generative Learning Trilemma with Denoising Diffusion GANs",
    "ICLR",
    2022,
)
RECTIFIED_FLOW = Paper(
    "Xingchao Liu, Chengyue Gong, Qiang Liu",
    "Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow",
    "ICLR",
    2023,
)
FLOW_MATCHING = Paper(
    "Yaron Lipman, Ricky T. Q. Chen, Heli Ben-Hamu, Maximilian Nickel, Matt Le",
    "Flow Matching for Generative Modeling",
    "ICLR",
    2023,
)
CONSISTENCY = Paper(
    "Yang Song, Prafulla Dhariwal, Mark Chen, Ilya Sutskever",
    "Consistency Models",
    "ICML",
    2023,
)
ICT = Paper(
    "Yang Song, Prafulla Dhariwal",
    "Improved Techniques for Training Consistency Models",
    "ICLR",
    2024,
)
SCM = Paper(
    "Cheng Lu, Yang Song",
    "Simplifying, Stabilizing and Scaling Continuous-Time Consistency Models",
    "ICLR",
    2025,
)
MEAN_FLOW = Paper(
    "Zhengyang Geng, Mingyang Deng, Xingjian Bai, J. Zico Kolter, Kaiming He",
    "Mean Flows for One-step Generative Modeling",
    "NeurIPS",
    2025,
)
STYLEGAN2 = Paper(
    "Tero Karras, Samuli Laine, Miika Aittala, Janne Hellsten, Jaakko Lehtinen, Timo Aila",
    "Analyzing and Improving the Image Quality of StyleGAN",
    "CVPR",
    2020,
)
VEEGAN = Paper(
    "Akash Srivastava, Lazar Valkov, Chris Russell, Michael U. Gutmann, Charles Sutton",
    "VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational Learning",
    "NeurIPS",
    2017,
)
PACGAN = Paper(
    "Zinan Lin, Ashish Khetan, Giulia Fanti, Sewoong Oh",
    "PacGAN: The Power of Two Samples in Generative Adversarial Networks",
    "NeurIPS",
    2018,
)
UNROLLED = Paper(
    "Luke Metz, Ben Poole, David Pfau, Jascha Sohl-Dickstein",
    "Unrolled Generative Adversarial Networks",
    "ICLR",
    2017,
)
FID = Paper(
    "Martin Heusel, Hubert Ramsauer, Thomas Unterthiner, Bernhard Nessler, Sepp Hochreiter",
    "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium",
    "NeurIPS",
    2017,
)
INCEPTION_SCORE = Paper(
    "Tim Salimans, Ian Goodfellow, Wojciech Zaremba, Vicki Cheung, Alec Radford, Xi Chen",
    "Improved Techniques for Training GANs",
    "NeurIPS",
    2016,
)
