"""QHRank, the full ranker: a small transformer over query and history beside the counters' features.

The only package that knows torch, and only inside functions: a process that serves never imports it. A trained version
is an ONNX graph like any other, with the weights beside it as plain arrays for whoever goes on from it.
"""
