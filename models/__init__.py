"""What we predict: items, candidates, tensors, the small ranking model, and how its quality is measured.

Nothing here knows a service, a broker or a clock, and importing it loads no inference run-time: the same code
trains, serves and evaluates.
"""
