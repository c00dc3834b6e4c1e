"""What a method declares of itself, read while configs are checked: no tensor exists yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from gendiff.denoiser import Denoiser
from gendiff.methods.reading import check_reading, reading_of
from gendiff.paths import Path
from gendiff.sampling import ANY_DENOISER, Sampling
from gendiff.training_times import check_even_times


class Declared:
    """The class attributes of a method, the whole of what a simple one declares:

    - ``roles``: names of its networks; ``frozen``: those among them that never learn, of which
      ``teacher`` is one that `teaches`.
    - ``averages``: average -> role that it follows.
    - ``samplers``: names it can be sampled with, the default first; empty for an evaluator.
    - ``even_times``: trained at evenly spaced times, so these are its only grid and path.
    - ``speaker``: role (or average) that samples unless another is asked for.
    - ``companions``: role -> another whose weights its sampling needs.
    - ``trains_on``: a product of another stage whose rows are the batches, instead of the data.
    - ``products``: what it makes instead of training (see `Method.produce`).
    - ``extracts``: an evaluator, with ``features(x) -> (features, logits)``.
    - ``shards``: its networks may be shared out over processes (``hardware.strategy: fsdp``): they
      are called equally often on all ranks, and none but autograd looks into their weights.
    - ``version``: raised when a change here makes finished stages stale.
    """

    roles: ClassVar[tuple[str, ...]] = ("student",)
    frozen: ClassVar[tuple[str, ...]] = ()
    averages: ClassVar[dict[str, str]] = {"ema": "student"}
    samplers: ClassVar[tuple[str, ...]] = ANY_DENOISER
    even_times: ClassVar[bool] = False
    speaker: ClassVar[str] = "ema"
    companions: ClassVar[dict[str, str]] = {}
    trains_on: ClassVar[str | None] = None
    products: ClassVar[tuple[str, ...]] = ()
    extracts: ClassVar[bool] = False
    shards: ClassVar[bool] = False
    version: ClassVar[int] = 1

    @classmethod
    def variant(cls, config: Any) -> type[Any]:
        """The class that trains a config: this one, or one with further networks."""
        return cls

    @classmethod
    def wrap(cls, role: str, network: nn.Module, path: Path, config: Any) -> Any:
        """What a role's network becomes: a Denoiser, unless the method says otherwise."""
        return Denoiser(network, path, reading_of(config))

    @classmethod
    def channels(cls, role: str, shape: Sequence[int], config: Any) -> tuple[int, int]:
        """Input and output channels of a role's network, for samples of this shape."""
        return shape[0], shape[0]

    @classmethod
    def tells(cls, role: str, config: Any) -> dict[str, int]:
        """What a role's network is told besides the label: its ``conditions`` with their sizes.

        It takes exactly these, and the label where the data have classes and it likes to.
        """
        return {}

    @classmethod
    def teaches(cls, role: str) -> bool:
        """Whether a role may be the ``teacher`` of another stage.

        A teacher has learned to denoise at every time, so that its probability flow can be
        followed: by default the role that samples, where all samplers of denoisers fit it.
        """
        mine, speaks = (cls.averages.get(name, name) for name in (role, cls.speaker))
        return mine == speaks and set(cls.samplers) == set(ANY_DENOISER)

    @classmethod
    def check(cls, config: Any, path: Path) -> None:
        """Refuse impossible choices while the config loads; methods add their own.

        Raises:
            ValueError: the message begins with the key.
        """
        if not 0 <= getattr(config, "label_dropout", 0) <= 1:
            raise ValueError(f"label_dropout: {config.label_dropout} must be in [0, 1]")
        if hasattr(config, "prediction"):
            check_reading(config, path)
        if cls.even_times:
            check_even_times(config.name, path)

    @classmethod
    def sampling(cls, config: Any, path: Path, text: str | None, steps: int | None) -> Sampling:
        """The sampler asked for, or the default; checked for so many steps if they are given.

        Raises:
            ValueError: the method cannot be sampled so; the message says what it can.
        """
        if not cls.samplers:
            raise ValueError(f"{config.name} cannot be sampled")
        sampling = Sampling.parse(text or cls.samplers[0], cls.samplers)
        if steps is not None:
            sampling.check(path, steps, cls.even_times)
        return sampling

    @classmethod
    def check_networks(cls, config: Any, networks: Mapping[str, Any]) -> None:
        """Refuse network configs, by role, that the method cannot use; methods say which.

        Raises:
            ValueError: the message begins with the role and key.
        """

    @classmethod
    def settle(cls, config: Any, path: Path, rows: Callable[[], Any]) -> Any:
        """The config with what it leaves to the data, fields that are none, decided.

        Args:
            rows: opens the rows that are trained on; methods that leave nothing open never call it.

        Raises:
            UserError: the data allow no choice.
        """
        return config

    @classmethod
    def steps_range(cls, config: Any) -> tuple[int, int] | None:
        """Fewest and most sampling steps that the training covers; None for any number."""
        return None
