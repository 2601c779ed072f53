"""The processor of a region: folds its events logs, and answers who waits for a ranking while the gate is open."""
