"""Tests the tree of errors."""

from __future__ import annotations

import errno
import os

import pytest

from streamav import errors


def test_every_error_is_ours_and_its_status_is_the_documented_one() -> None:
    """Names and exit statuses match the tree in the module's docstring."""
    drawn = {}
    for line in (errors.__doc__ or "").splitlines():
        words = line.replace("+--", "").replace("|", "").split()
        if len(words) > 1 and words[0].endswith("Error") and words[1].isdigit():
            drawn[words[0]] = int(words[1])
    classes = {name: getattr(errors, name) for name in errors.__all__ if name.endswith("Error")}
    assert drawn == {
        name: one.exit_code for name, one in classes.items() if name != "MissingExtraError"
    }  # a SettingsError, not in the tree
    assert all(issubclass(one, errors.StreamavError) for one in classes.values())


def test_a_missing_extra_names_the_command_that_installs_it() -> None:
    """The error holds the command, so that the user can copy it."""
    error = errors.MissingExtraError("matplotlib", "train")
    assert isinstance(error, errors.SettingsError)
    assert "pip install 'streamav[train]'" in str(error)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "a.npz"), "No such file or directory"),
        (OSError("the file signature was not found"), "the file signature was not found"),
        (ValueError("not a number"), "not a number"),
        (KeyError("lengths"), "'lengths' is missing"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_the_reason_of_an_error_is_words(error: Exception, words: str) -> None:
    """A reason has no number of the system and no path, and is never empty."""
    assert errors.reason_of(error) == words
