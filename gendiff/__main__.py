"""``python -m gendiff``, as torchrun starts it."""

from gendiff.cli import entry

entry()
