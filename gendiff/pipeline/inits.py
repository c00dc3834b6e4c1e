"""Whether what a stage takes from others exists, fits and means the same; nothing is trained."""

from __future__ import annotations

from pathlib import Path

import torch

from gendiff.build import build_network, check_done, owner, read_run
from gendiff.denoiser import Denoiser, alike
from gendiff.errors import UserError, did_you_mean
from gendiff.pipeline.stages import Pipeline, Stage
from gendiff.weights import differences, explain


def check_init(stage: Stage, pipeline: Pipeline) -> None:
    """Whether what the stage takes exists, has the right shapes, and means the same.

    Networks are compared on the meta device: nothing is allocated.
    """
    cls = stage.run.method_class
    for role, ref in stage.init.items():
        where = f"{stage.name}: init.{role}"
        if ref.outside:
            check_done(Path(ref.stage))
        parent = read_run(Path(ref.stage)) if ref.outside else pipeline.stages[ref.stage].run
        theirs = parent.method_class
        if role == cls.trains_on:
            if ref.role not in theirs.products:
                hint = did_you_mean(ref.role, theirs.products)
                raise UserError(f"{where}: {ref.stage} makes no {ref.role!r}.{hint}")
            continue
        known = [*parent.networks, *(a for a, r in theirs.averages.items() if r in parent.networks)]
        if ref.role not in known:
            raise UserError(
                f"{where}: {ref.stage} has no role {ref.role!r}.{did_you_mean(ref.role, known)}"
            )
        if role in cls.frozen and role == "teacher" and not theirs.teaches(ref.role):
            raise UserError(
                f"{where}: {ref}, of {parent.method.name}, has not learned to denoise at every "
                f"time, as teachers have: the averages of diffusion, flow, reflow and progressive."
            )
        if parent.data.shape != stage.run.data.shape:
            raise UserError(
                f"{where}: {ref.stage} was trained on {parent.data.shape}, "
                f"this stage's data are {stage.run.data.shape}."
            )
        if role in cls.frozen:
            continue
        meanings = [getattr(r.method, "prediction", None) for r in (parent, stage.run)]
        if None not in meanings and meanings[0] != meanings[1]:
            raise UserError(
                f"{where}: {ref.stage} predicts {meanings[0]}, but method.prediction is "
                f"{meanings[1]}."
            )
        with torch.device("meta"):
            given_network = build_network(parent, owner(theirs, ref.role))
            network = build_network(stage.run, role)
        source = theirs.wrap(ref.role, given_network, parent.make_path(), parent.method)
        target = cls.wrap(role, network, stage.run.make_path(), stage.run.method)
        told = [getattr(side, "time_scale", 1.0) for side in (source, target)]
        if told[0] != told[1]:
            raise UserError(
                f"{where}: {ref.stage} was told noise levels times {told[0]:g}, which "
                f"method.time_scale: {told[0]:g} keeps, not {told[1]:g}."
            )
        read = isinstance(source, Denoiser) and isinstance(target, Denoiser)
        if read and not alike(source, target):
            native = getattr(parent.method, "native", None) or parent.path.name
            raise UserError(
                f"{where}: {ref.stage} knows another path than {stage.name}, where its weights "
                f"would mean something else; method.native: {native} reads them as meant."
            )
        given, wanted = given_network.state_dict(), network.state_dict()
        lines = differences(wanted, given, ref.new)
        if lines:
            raise UserError(f"{where}: {ref} does not fit: {explain(lines)}.")
