"""A user's own defaults: the configuration file, below the environment, below the flags.

The file is JSON, by command and flag, and may be absent: ``{"run": {"source": "rtsp://camera/1", "gates": "auto"}}``.
In the environment, ``--source`` of ``run`` is ``VIDPRISM_EDGE_RUN_SOURCE``.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

from vidprism_edge.errors import UsageError, known

ENVIRONMENT = "VIDPRISM_EDGE"


def find_settings() -> Path:
    """Return where the file is: ``VIDPRISM_EDGE_CONFIG``, else ``config.json`` in the user's configuration folder."""
    import platformdirs

    named = os.environ.get(f"{ENVIRONMENT}_CONFIG")
    return Path(named) if named else platformdirs.user_config_path("vidprism-edge") / "config.json"


def read_settings(commands: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return the defaults by command and parameter; :class:`UsageError` for a file that is not of this form."""
    path = find_settings()
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        if f"{ENVIRONMENT}_CONFIG" in os.environ:
            raise UsageError(
                f"{ENVIRONMENT}_CONFIG names {path}, which does not exist; unset it or make it"
            ) from None
        return {}
    try:
        settings = msgspec.json.decode(data, type=dict[str, dict[str, str | int | float | bool]])
    except msgspec.MsgspecError as error:
        raise UsageError(
            f'{path} is not a configuration: {error}; expected JSON as in {{"run": {{"source": "0"}}}}'
        ) from None
    for name in settings:
        if name not in commands:
            raise known(f"command in {path}", name, commands)
    return {
        name: {flag.lstrip("-").replace("-", "_"): value for flag, value in flags.items()}
        for name, flags in settings.items()
    }
