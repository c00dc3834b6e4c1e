"""Sweeps over a pipeline's keys: W&B's own files, on its server or without one."""
