"""Tests the tree of errors."""

from __future__ import annotations

from streamav import errors


def test_every_error_is_ours_and_its_status_is_the_documented_one() -> None:
    """Names and exit statuses match the tree in the module's docstring."""
    drawn = {}
    for line in (errors.__doc__ or "").splitlines():
        words = line.replace("+--", "").replace("|", "").split()
        if len(words) > 1 and words[0].endswith("Error") and words[1].isdigit():
            drawn[words[0]] = int(words[1])
    assert drawn == {
        name: getattr(errors, name).exit_code
        for name in errors.__all__
        if name != "MissingExtraError"  # a SettingsError that is not in the tree
    }
    assert all(issubclass(getattr(errors, name), errors.StreamavError) for name in errors.__all__)


def test_a_missing_extra_names_the_command_that_installs_it() -> None:
    """The error holds the command, so that the user can copy it."""
    error = errors.MissingExtraError("matplotlib", "train")
    assert isinstance(error, errors.SettingsError)
    assert "pip install 'streamav[train]'" in str(error)
