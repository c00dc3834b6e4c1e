"""Networks: the functions of (x, noise level, conditions) that the methods train."""
