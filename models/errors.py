"""What can go wrong with a source of events or a model version, split by who can do something about it."""


class ModelError(Exception):
    """Root of everything that `models` raises on purpose."""


class SourceUnreadable(ModelError):
    """A file of events cannot be taken as it is. The message names the file, the place and the next step."""


class VersionDamaged(ModelError):
    """A model version is incomplete or differs from its manifest: ship it again, never load it."""


class GoldenMismatch(ModelError):
    """A model version loads but does not give the scores that it was shipped with."""


class EvaluationImpossible(ModelError):
    """There is too little to judge by, or what trains is not installed. The message says what to do."""


class CheckpointUnfit(ModelError):
    """A training cannot go on from a file: it is damaged, or of other data, settings or sizes."""


class ExportWrong(ModelError):
    """An exported graph does not score as the network that it was made from: nothing was written."""
