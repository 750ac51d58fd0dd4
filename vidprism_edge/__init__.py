"""VidPrism Edge: video networks of several experts on small devices, each expert run only when needed.

    from vidprism_edge import Bundle, Feed, Session, open_source, stream

Importing this module loads nothing heavy; a name loads what it needs when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidprism_edge.bundle import Bundle
    from vidprism_edge.runtimes.streaming.events import Event, EventDetector, detect_events
    from vidprism_edge.runtimes.streaming.feed import Feed
    from vidprism_edge.runtimes.streaming.prediction import Prediction
    from vidprism_edge.runtimes.streaming.session import Session, stream
    from vidprism_edge.runtimes.streaming.source import Frame, open_source

_HOME = {
    "Bundle": "vidprism_edge.bundle",
    "Event": "vidprism_edge.runtimes.streaming.events",
    "EventDetector": "vidprism_edge.runtimes.streaming.events",
    "Feed": "vidprism_edge.runtimes.streaming.feed",
    "Frame": "vidprism_edge.runtimes.streaming.source",
    "Prediction": "vidprism_edge.runtimes.streaming.prediction",
    "Session": "vidprism_edge.runtimes.streaming.session",
    "detect_events": "vidprism_edge.runtimes.streaming.events",
    "open_source": "vidprism_edge.runtimes.streaming.source",
    "stream": "vidprism_edge.runtimes.streaming.session",
}

__all__ = [
    "Bundle",
    "Event",
    "EventDetector",
    "Feed",
    "Frame",
    "Prediction",
    "Session",
    "detect_events",
    "open_source",
    "stream",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
