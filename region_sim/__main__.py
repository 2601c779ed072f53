"""`python -m region_sim` is `region-sim`."""

from region_sim.cli import main

main()
