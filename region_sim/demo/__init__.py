"""A drill as a demonstration: a shop's log instead of made-up calls, and a second proof that knows no drill.

`make demo` is `region-sim run wipe-active` with `load.source=replay`. Besides the drill's checkers, which read only its
history, the ledger counts the raw logs, all logs are replayed from zero by another process, and the rankings are held
against two baselines. What they found is `summary.json`, and the promises are pure functions of it.
"""
