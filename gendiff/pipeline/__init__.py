"""Staged pipelines: which runs follow from which, what is done, what is to do."""
