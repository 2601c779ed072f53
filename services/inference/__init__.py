"""The inference worker: one process that answers `Open Inference Protocol v2` with ONNX Runtime, and its client.

Other processes of the region import `services.inference.client` and nothing else of this package.
"""
