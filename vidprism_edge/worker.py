"""Work in a process of its own, which prints JSON lines: progress, then a result or an error that a user can mend."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from vidprism_edge.errors import VidPrismError

#: (what, done, total)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class WorkerEnd:
    """How a worker ended: its exit code (negative: the signal that killed it), its result, or what it said."""

    code: int
    result: Any
    error: str


def follow_worker(command: Sequence[str], progress: Progress) -> WorkerEnd:
    """Run a worker to its end. Its stderr is ours; what a library prints to its stdout is left out."""
    result, error = None, ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                message = _read_message(line)
                if "progress" in message:
                    progress(*message["progress"])
                result = message.get("result", result)
                error = str(message.get("error", error))
        except BaseException:
            process.kill()
            raise
    return WorkerEnd(process.returncode, result, error)


def _read_message(line: str) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return message if isinstance(message, dict) else {}


def serve(work: Callable[[], object]) -> int:
    """Do the work of a worker and print how it ended → the process's exit code."""
    try:
        result = work()
    except VidPrismError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return error.exit_code
    except KeyboardInterrupt:  # it goes to both processes, and the one that watches says so
        return 130
    print(msgspec.json.encode({"result": result}).decode(), flush=True)
    return 0


def tell_progress(what: str, done: int, total: int) -> None:
    """One line for the process that watches."""
    print(json.dumps({"progress": [what, done, total]}), flush=True)
