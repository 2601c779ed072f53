"""Compiled inner loops of the fold and of its read index.

Plain functions over NumPy arrays, compiled by numba ahead of the first call (explicit signatures, so each has exactly
one specialisation) and cached beside their sources. `NUMBA_DISABLE_JIT=1` runs the same source as plain Python, which
is what a debugger wants. They run without bounds checks: `streams.frame` validates what comes from a log, and
`streams.state` keeps room in the tables.
"""
