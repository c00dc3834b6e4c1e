"""Networks: the functions of (x, noise level, conditions) that the methods train."""

MOST_LAYERS = 1000
"""Of a kind in one network; each is built, if only to compare shapes."""
