"""A result as a file, and the limits that a user's CI holds it to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from vidprism_edge.benchmark.samples import Samples
from vidprism_edge.errors import UsageError

_LIMIT = re.compile(r"(p\d+(?:\.\d+)?|mean|max)=(\d+(?:\.\d+)?)(us|ms|s)")
_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def encode_result(result: dict[str, Any], samples: Samples) -> bytes:
    """A result with its raw samples as indented JSON."""
    return msgspec.json.format(msgspec.json.encode({**result, "samples": samples.raw()}), indent=2) + b"\n"


def read_result(path: Path) -> dict[str, Any]:
    """Read a result: a JSON file, or the report folder that holds one as ``result.json``.

    Raises :class:`UsageError` for anything else.
    """
    file = path / "result.json" if path.is_dir() else path
    try:
        result = msgspec.json.decode(file.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{file} does not exist; expected a result that benchmark --report wrote") from None
    except msgspec.DecodeError as error:
        raise UsageError(
            f"{file} is not JSON: {error}; expected a result that benchmark --report wrote"
        ) from None
    if not isinstance(result, dict) or not {"request", "latency_ms", "device"} <= result.keys():
        raise UsageError(f"{file} is not a result; write one with benchmark --report FILE.json")
    if "samples" not in result:
        raise UsageError(
            f"{file} is what --json prints, which leaves the samples out; give the file or the folder that --report "
            "wrote, or measure again with --report FILE.json"
        )
    # results before schema 3 are of one process
    result["samples"].setdefault("parts", [len(result["samples"]["latency_ms"])])
    return result


@dataclass(frozen=True, slots=True)
class Limit:
    """A statistic of the latency and the milliseconds that it may not exceed."""

    name: str
    ms: float


def parse_limits(text: str | None) -> list[Limit]:
    """Parse ``p90=30ms,max=1s``; raises :class:`UsageError` for any other form."""
    limits = []
    for part in (text or "").split(",") if text else []:
        match = _LIMIT.fullmatch(part.strip())
        if match is None:
            raise UsageError(
                f"--fail-above is {text!r}; expected a statistic and a time, as in p90=30ms,max=1s"
            )
        if match[1].startswith("p") and not 0 < float(match[1][1:]) < 100:
            raise UsageError(f"--fail-above is {text!r}; expected a percentile between 0 and 100")
        limits.append(Limit(match[1], float(match[2]) * _MS[match[3]]))
    return limits


def limit_percentiles(limits: Sequence[Limit]) -> list[float]:
    """The percentiles that the limits speak of."""
    return [float(limit.name[1:]) for limit in limits if limit.name.startswith("p")]


def check_limits(limits: Sequence[Limit], latency_ms: dict[str, Any]) -> list[str]:
    """What is above its limit, or cannot be said: a percentile is held to its early-stopping estimate."""
    broken = []
    for limit in limits:
        percentile = limit.name.startswith("p")
        value = latency_ms["early_stopping"].get(limit.name) if percentile else latency_ms.get(limit.name)
        if value is None:
            needs = latency_ms.get("insufficient", {}).get(limit.name)
            broken.append(
                f"{limit.name} is insufficient: {latency_ms['count']} samples of {needs}; take a longer --profile"
            )
        elif value > limit.ms:
            broken.append(f"{limit.name} is {value:.2f} ms, above {limit.ms:g} ms")
    return broken
