"""Long-running processes, one package each; `common` and `coordination` are the floor they stand on."""
