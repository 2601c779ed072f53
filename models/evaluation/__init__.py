"""How good rankings are: the baselines, the metrics with their intervals, and `meridian models evaluate`."""
