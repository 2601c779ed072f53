"""`meridian models`: the registry of model versions as operators and engineers use it."""
