"""Errors that a user can mend, each with the exit code of the command line.

A message says what was given, what was expected and what to do. Everything that is not a
:class:`VidPrismError` is a bug and keeps its traceback.
"""

from __future__ import annotations


class VidPrismError(Exception):
    """Base of every error that a user can mend (exit code 1)."""

    exit_code = 1


class UsageError(VidPrismError):
    """An argument is wrong: an unknown target, preset, flag value (exit code 2)."""

    exit_code = 2


class EngineError(VidPrismError):
    """An engine was asked for that cannot be built or loaded on this machine (exit code 3)."""

    exit_code = 3


class ParityError(VidPrismError):
    """A parity or accuracy gate failed (exit code 4)."""

    exit_code = 4


class BenchmarkError(VidPrismError):
    """A benchmark run is unstable or invalid (exit code 5)."""

    exit_code = 5


class BundleError(VidPrismError):
    """A bundle is incompatible, incomplete or corrupt (exit code 6)."""

    exit_code = 6


class SourceError(VidPrismError):
    """A camera, file or network stream cannot be read (exit code 1)."""


def find_error(exit_code: int) -> type[VidPrismError]:
    """The class of an error that another process of ours ended with, by its exit code."""
    kinds = {kind.exit_code: kind for kind in VidPrismError.__subclasses__()}
    return kinds.get(exit_code, VidPrismError) if exit_code != VidPrismError.exit_code else VidPrismError


def known(kind: str, name: str, names: object) -> UsageError:
    """Return the error for an unknown ``name`` of a ``kind``, listing the known ``names``."""
    listed = ", ".join(sorted(str(n) for n in names))  # type: ignore[attr-defined]
    return UsageError(f"unknown {kind} {name!r}; known: {listed}")
