"""What happened, and what is known from it: events, frames, the fold, its snapshots and replay.

Nothing here knows a model or a service, and only `streams.app` and `streams.agents` know Faust.
"""
