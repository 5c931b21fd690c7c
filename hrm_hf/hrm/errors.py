"""The exceptions that hrm_hf raises for bad input: each message names the offending value and what is allowed.

All derive from `ValueError`, so code that knows nothing of this package still catches them.
"""


class HrmError(ValueError):
    """Base of every exception that hrm_hf raises on purpose."""


class PuzzleError(HrmError):
    """A puzzle that cannot be read, breaks its own rules or does not fit the model."""


class DataError(HrmError):
    """A data file (CSV, HDF5) that is missing, damaged, of another version or of another task."""


class CheckpointError(HrmError):
    """A checkpoint whose tensors and configuration do not fit each other or the model."""


class ArgumentError(HrmError):
    """An argument or recipe entry that does not exist or whose value is not allowed."""
