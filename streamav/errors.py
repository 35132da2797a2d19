"""Defines the tree of errors. Each class names where the fault lies and the exit code of the command line.

    StreamavError                 1   any error of streamav
    +-- SettingsError             2   a setting, an argument or a config file is wrong
    +-- CaptureError              3   a file, stream or device cannot be opened or is lost for good
    |   +-- MissingModalityError  3   the source has no sound, or no picture
    +-- ModelError                4   a bundle, a checkpoint or weights cannot be used
    +-- BrokerError               5   the MQTT broker refuses the connection for good
    +-- EngineError               6   no engine can run the networks
    +-- DataError                 7   training or evaluation data are wrong
    +-- ShapeError                1   an array has the wrong shape or type (a bug of the caller)

Every message states what must be, what was got and what to do.
"""

from __future__ import annotations

from typing import ClassVar, Final

__all__ = [
    "INTERRUPTED",
    "BrokerError",
    "CaptureError",
    "DataError",
    "EngineError",
    "MissingExtraError",
    "MissingModalityError",
    "ModelError",
    "SettingsError",
    "ShapeError",
    "StreamavError",
    "reason_of",
]


INTERRUPTED: Final = 130
"""Exit status after Ctrl-C: 128 + SIGINT, as in shells."""


class StreamavError(Exception):
    """Any error that streamav raises on purpose."""

    exit_code: ClassVar[int] = 1
    """Exit status of the command line when this error ends it."""


class SettingsError(StreamavError):
    """A setting, a command line argument or a configuration file is wrong."""

    exit_code = 2


class MissingExtraError(SettingsError):
    """An optional package is needed but not installed."""

    def __init__(self, package: str, extra: str) -> None:
        """Build a message with the package and the command that installs it with its extra."""
        super().__init__(f"this needs the package {package}, which is not installed; run: pip install 'streamav[{extra}]'")


class CaptureError(StreamavError):
    """A file, stream or device cannot be opened, cannot be read, or was lost for good."""

    exit_code = 3


class MissingModalityError(CaptureError):
    """The source has no sound or no picture, and streamav needs both."""


class ModelError(StreamavError):
    """A model bundle, a checkpoint or weights are missing, damaged, hostile or of another kind."""

    exit_code = 4


class BrokerError(StreamavError):
    """The MQTT broker cannot be used, and another attempt will not help."""

    exit_code = 5


class EngineError(StreamavError):
    """No engine can run the networks as asked."""

    exit_code = 6


class DataError(StreamavError):
    """Training or evaluation data are wrong; the message names the file and the row."""

    exit_code = 7


class ShapeError(StreamavError):
    """An array does not have the required shape, type or range."""


def reason_of(error: BaseException) -> str:
    """Return why something failed, in words, for the sentence of an error that names the file or address itself.

    Of an error of the system this is its text without number and path: "No such file or directory", not "[Errno 2] No such file or
    directory: 'a.npz'". Of a KeyError it is the name that is missing.
    """
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
