"""A user's own defaults: the configuration file, below the environment, below the flags.

The file is JSON, by command and flag, and may be absent: ``{"run": {"source": "rtsp://camera/1", "max-skip": 10}}``.
In the environment, ``--max-skip`` of ``run`` is ``VIDPRISM_EDGE_RUN_MAX_SKIP``.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from vidprism_edge.errors import UsageError, known

ENVIRONMENT = "VIDPRISM_EDGE"

#: What the file holds: command → flag → value.
Settings = dict[str, dict[str, str | int | float | bool | list[str]]]


def find_settings() -> Path:
    """Return where the file is: ``VIDPRISM_EDGE_CONFIG``, else ``config.json`` in the user's configuration folder."""
    import platformdirs

    named = os.environ.get(f"{ENVIRONMENT}_CONFIG")
    return Path(named) if named else platformdirs.user_config_path("vidprism-edge") / "config.json"


def read_settings(commands: Collection[str]) -> Settings:
    """Return what the file holds; :class:`UsageError` for one that is not of this form."""
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
        settings = msgspec.json.decode(data, type=Settings)
    except msgspec.MsgspecError as error:
        raise UsageError(
            f'{path} is not a configuration: {error}; expected JSON as in {{"run": {{"source": "0"}}}}'
        ) from None
    for name in settings:
        if name not in commands:
            raise known(f"command in {path}", name, commands)
    return settings


def bind_settings(commands: Mapping[str, Any], settings: Settings) -> dict[str, dict[str, Any]]:
    """Give every flag of ``commands`` its environment variable; return the file's defaults by command and parameter.

    Both go by the flag's name, as a user knows it. A flag in the file that its command lacks is a
    :class:`UsageError`.
    """
    defaults: dict[str, dict[str, Any]] = {}
    for name, command in commands.items():
        flags = {max(p.opts, key=len).lstrip("-"): p for p in command.params if p.param_type_name == "option"}
        for flag, parameter in flags.items():
            parameter.envvar = f"{ENVIRONMENT}_{name}_{flag}".upper().replace("-", "_")
            # one line at the end of the help says it for all of them
            parameter.show_envvar = False
        if not command.params:  # it could not be imported, and will say so
            continue
        defaults[name] = {}
        for given, value in settings.get(name, {}).items():
            flag = given.lstrip("-").replace("_", "-")
            if flag not in flags:
                raise known(f"flag of {name} in {find_settings()}", given, flags)
            listed = flags[flag].multiple and not isinstance(value, list)
            defaults[name][flags[flag].name] = [value] if listed else value
    return defaults
