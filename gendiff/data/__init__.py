"""Data sets: real, toy and stored."""
