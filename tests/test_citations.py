"""What a run cites: its parts, the choices of its keys, and nothing else."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import is_dataclass, replace
from typing import Literal, get_args, get_origin, get_type_hints

import pytest

from gendiff import citations, registry
from gendiff.citations import papers_of
from gendiff.cli import main
from gendiff.papers import Paper
from gendiff.pipeline.stages import load_pipeline

KINDS = ("methods", "networks", "paths", "samplers", "data", "metrics", "extractors")
THINGS = [registry.lookup(kind, name) for kind in KINDS for name in registry.names(kind)]
ALL = {
    *(
        p
        for k in KINDS
        for n in registry.names(k)
        for p in getattr(registry.lookup(k, n), "papers", ())
    ),
    *citations.KEYS.values(),
    *citations.WEIGHTS.values(),
}


def keys(config, *words):
    (stage, *_) = reversed(load_pipeline(config, list(words)).stages.values())
    return {paper.key for paper in papers_of(stage.run)}


def test_no_two_papers_share_a_key_and_none_is_written_twice():
    assert len({paper.key for paper in ALL}) == len({paper.title for paper in ALL}) == len(ALL)


@pytest.mark.parametrize(
    "paper", sorted(ALL, key=lambda paper: paper.key), ids=lambda paper: paper.key
)
def test_an_entry_is_whole(paper):
    first = paper.bibtex.split("\n")[0]
    assert paper.bibtex.count("{") == paper.bibtex.count("}")
    assert re.fullmatch(r"@(inproceedings|article|misc)\{[a-z]+(19|20)\d\d[a-z0-9]+,", first)
    assert all(name.strip() == name and name for name in paper.names)


def test_every_method_that_learns_to_sample_has_a_source():
    methods = {name: registry.lookup("methods", name) for name in registry.names("methods")}
    assert not [n for n, cls in methods.items() if cls.samplers and not cls.papers]


def choices(config, prefix=""):
    """Keys of a config with the words that each may be, those within by a dotted name."""
    for name, hint in get_type_hints(config).items():
        kinds = [hint, *get_args(hint)]
        words = {word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)}
        yield prefix + name, words
        for kind in filter(is_dataclass, kinds):
            yield from choices(kind, f"{prefix}{name}.")


def test_every_choice_is_one_of_a_method():
    found = defaultdict(set)
    for name in registry.names("methods"):
        for key, words in choices(registry.lookup("methods", name).Config):
            found[key] |= words
    assert not [key for key in citations.KEYS if key[1] not in found[key[0]]]
    assert not [key for key in citations.WEIGHTS if key not in found]


@pytest.mark.parametrize(
    ("config", "words", "there", "absent"),
    [
        ("mixture_diffusion", [], {"ho2020denoising"}, {"lipman2023flow", "ho2021classifierfree"}),
        (
            "mixture_diffusion",
            ["evaluation.samplers=[dpmpp_2m@log_snr]"],
            {"lu2022dpmsolverpp"},
            {"lu2022dpmsolver"},
        ),
        (
            "mixture_diffusion",
            ["evaluation.samplers=[ddim(eta=1)]"],
            {"song2021denoising"},
            set(),
        ),
        ("mixture_diffusion", [], {"tancik2020fourier", "bonneel2015sliced"}, {"shmelkov2018good"}),
        ("mixture_diffusion", ["evaluation.steps=[]"], set(), {"song2021denoising"}),
        (
            "mixture_diffusion",
            ["path.name=vp", "method.weight=elbo"],
            {"kingma2021variational"},
            set(),
        ),
        ("mixture_flow", [], {"lipman2023flow"}, {"ho2020denoising", "tong2024improving"}),
        ("mixture_flow", ["method.coupling=optimal"], {"tong2024improving"}, set()),
        ("digits_diffusion", [], {"ho2021classifierfree", "naeem2020reliable"}, {"lin2018pacgan"}),
        ("digits_diffusion", ["method.label_dropout=0"], set(), {"ho2021classifierfree"}),
        (
            "digits_diffusion",
            ["method.label_dropout=0", "evaluation.guidance=[0, 1]"],
            {"ho2021classifierfree", "alpaydin1998optical", "shmelkov2018good"},
            {"bonneel2015sliced"},
        ),
        (
            "digits_diffusion",
            ["method.label_dropout=0", "evaluation.guidance=[1]", "evaluation.steps=[]"],
            set(),
            {"ho2021classifierfree"},
        ),
        (
            "digits_diffusion",
            ["evaluation.metrics=[frechet_distance]"],
            {"heusel2017gans"},
            {"naeem2020reliable"},
        ),
        (
            "digits_diffusion",
            ["evaluation.extractor=dinov2", "evaluation.weights=a.pth"],
            {"stein2023exposing"},
            set(),
        ),
        (
            "digits_diffusion",
            ["evaluation.extractor=timm/resnet18", "evaluation.weights=a.pth"],
            set(),
            {"stein2023exposing"},
        ),
        (
            "digits_fewstep",
            [
                "stages.consistency.method.perceptual.weight=1",
                "stages.consistency.method.perceptual.extractor=timm/resnet18",
                "stages.consistency.method.perceptual.weights=a.pth",
            ],
            {"zhang2018unreasonable"},
            {"wang2023diffusiongan", "mescheder2018which"},
        ),
        (
            "gaussians25_denoising_gan",
            [],
            {"xiao2022tackling", "goodfellow2014generative", "mescheder2018which"},
            {"lim2017geometric", "gulrajani2017improved"},
        ),
        (
            "gaussians25_denoising_gan",
            ["method.objective=hinge"],
            {"lim2017geometric"},
            {"goodfellow2014generative"},
        ),
    ],
)
def test_a_run_cites_what_it_uses(config, words, there, absent):
    cited = keys(config, *words)
    assert there <= cited
    assert not absent & cited


def test_a_plain_student_has_no_game():
    assert "goodfellow2014generative" not in keys("digits_fewstep")


def test_the_command_names_each_paper_once_with_its_stages(capsys):
    assert main(["cite", "digits_fewstep"]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = next(i for i, line in enumerate(lines) if "Progressive Distillation for" in line)
    users = "teacher, halve-8, halve-4, halve-2, halve-1, consistency"
    assert lines[at + 1].strip() == users
    assert len(lines[::2]) == len(set(lines[::2]))
    assert main(["cite", "digits_fewstep", "--bibtex"]) == 0
    entries = re.findall(r"@\w+{(\D+(\d+)\w+),", capsys.readouterr().out)
    assert len(entries) == len(lines) // 2
    assert entries == sorted(entries, key=lambda entry: (entry[1], entry[0]))


def test_a_line_and_an_entry():
    paper = Paper("Ada B. Löve, Cy d'Or, others", "On the GAN++: What Is It?", "TMLR", 2020)
    assert paper.key == "love2020ganpp"
    assert paper.text == "Ada B. Löve et al. On the GAN++: What Is It? TMLR, 2020."
    assert "author = {Ada B. Löve and Cy d'Or and others}" in paper.bibtex
    assert "  title = {On the {GAN}++: What Is It?},\n" in paper.bibtex
    assert "  year = {2020},\n" in paper.bibtex
    assert "{StyleGAN}" in replace(paper, title="A StyleGAN").bibtex


@pytest.mark.parametrize(("count", "told"), [(5, "A B, A B, A B, A B, A B."), (6, "A B et al.")])
def test_five_authors_are_named(count, told):
    assert Paper(", ".join(["A B"] * count), "It", "ICML", 2020).text == f"{told} It. ICML, 2020."


@pytest.mark.parametrize(
    ("venue", "entry", "where"),
    [
        ("TMLR", "article", "journal"),
        ("Journal of It", "article", "journal"),
        ("arXiv:2001.00001", "misc", "howpublished"),
        ("ICML", "inproceedings", "booktitle"),
    ],
)
def test_an_entry_is_of_its_venues_kind(venue, entry, where):
    text = Paper("A B", "It", venue, 2020).bibtex
    assert text.startswith(f"@{entry}{{")
    assert f"  {where} = {{{venue}}},\n" in text
