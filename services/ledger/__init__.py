"""Counting what was lost and what was counted twice, from the apps' acknowledgements and the raw log alone.

Nothing here imports the fold, its state or its index: a counter that shared their code would share their
mistakes."""
