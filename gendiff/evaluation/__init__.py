"""Quality against number of function evaluations, on one protocol for every model.

Each point (whose weights, sampler, steps, guidance): as many samples as real ones are held out,
with their labels, drawn several times anew; every figure is the mean over draws with a 95 %
interval. The floor is the same figure between random halves of the real data.
"""
