"""The frame of the command line: exit codes, one line an error, a broken command leaves the others alone."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Annotated

import pytest
import typer

from vidprism_edge import errors
from vidprism_edge.cli import main as frame
from vidprism_edge.cli.main import COMMANDS, main


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., object]], None]:
    """Install a function as the command ``planted``."""

    def install(function: Callable[..., object]) -> None:
        module = ModuleType("vidprism_edge.cli.planted")
        module.command = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "vidprism_edge.cli.planted", module)
        monkeypatch.setitem(COMMANDS, "planted", "A command of this test.")

    return install


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.VidPrismError("a"), 1),
        (errors.UsageError("a"), 2),
        (errors.EngineError("a"), 3),
        (errors.ParityError("a"), 4),
        (errors.BenchmarkError("a"), 5),
        (errors.BundleError("a"), 6),
        (errors.SourceError("a"), 1),
        (KeyboardInterrupt(), 130),
        (typer.Exit(4), 4),
        (typer.BadParameter("a"), 2),
        (PermissionError(errno.EACCES, "Permission denied", "x.vpbundle"), 1),
        (OSError(errno.ENOSPC, "No space left on device"), 1),
        (ModuleNotFoundError("No module named 'torch'", name="torch.nn"), 1),
    ],
    ids=lambda value: value if isinstance(value, int) else type(value).__name__,
)
def test_each_error_has_its_exit_code_and_at_most_one_line(plant, capsys, error, code):
    plant(raising(error))
    assert main(["planted"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") <= 1
    assert not err or err.startswith("error: ")


def test_a_message_of_several_lines_becomes_one(plant, capsys):
    plant(raising(errors.VidPrismError("first\n   second\n")))
    assert main(["planted"]) == 1
    assert capsys.readouterr().err == "error: first second\n"


@pytest.mark.parametrize(
    "bug", [ValueError("x"), KeyError("x"), FileNotFoundError(errno.ENOENT, "x"), AssertionError()]
)
def test_a_bug_keeps_its_traceback(plant, bug):
    plant(raising(bug))
    with pytest.raises(type(bug)):
        main(["planted"])


def test_a_missing_package_names_the_extra_that_installs_it(plant, capsys):
    plant(raising(ModuleNotFoundError("No module named 'torch'", name="torch")))
    main(["planted"])
    assert "pip install 'vidprism-edge[export]'" in capsys.readouterr().err


def test_a_missing_module_of_our_own_is_a_bug(plant):
    plant(raising(ModuleNotFoundError("no", name="vidprism_edge.nothing")))
    with pytest.raises(ModuleNotFoundError):
        main(["planted"])


def test_a_command_that_returns_is_a_success(plant):
    plant(lambda: None)
    assert main(["planted"]) == 0


def test_the_value_of_a_flag_reaches_the_command(plant, capsys):
    def command(name: Annotated[str, typer.Option("--name")]) -> None:
        print(name)

    plant(command)
    assert main(["planted", "--name", "x"]) == 0
    assert capsys.readouterr().out == "x\n"
    assert main(["planted"]) == 2
    assert "--name" in capsys.readouterr().err


def test_an_unknown_command_lists_the_known_ones(capsys):
    assert main(["exprot"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "'exprot'" in err
    assert "export" in err


def test_an_unknown_flag_says_where_help_is(plant, capsys):
    plant(lambda: None)
    assert main(["planted", "--no-such-flag"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "--no-such-flag" in err
    assert "vidprism-edge planted --help" in err


def test_no_arguments_show_the_help_and_are_a_usage_error(capsys):
    assert main([]) == 2
    assert "Usage" in capsys.readouterr().out


def test_a_command_that_cannot_be_imported_leaves_the_others_alone(monkeypatch, capsys):
    def refuse(name: str) -> ModuleType:
        if name == "vidprism_edge.cli.export":
            raise ModuleNotFoundError("No module named 'onnx'", name="onnx")
        return real(name)

    real = frame.importlib.import_module
    monkeypatch.setattr(frame.importlib, "import_module", refuse)
    assert main(["--help"]) == 0
    assert "doctor" in capsys.readouterr().out
    for arguments in (["export"], ["export", "--help"], ["export", "--target", "onnx", "x"]):
        assert main(arguments) == 1
        assert "vidprism-edge[export]" in capsys.readouterr().err


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help(name, capsys):
    assert main([name, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_brackets_in_a_help_text_are_shown(plant, capsys):
    def command(
        _value: Annotated[str, typer.Option("--value", help="A value [of this kind].")] = "",
    ) -> None: ...

    plant(command)
    assert main(["planted", "--help"]) == 0
    assert "[of this kind]" in capsys.readouterr().out


def test_the_process_prints_its_version(cli):
    done = cli("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("vidprism-edge 0.")


def test_a_closed_pipe_is_quiet(cli):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "vidprism_edge.cli.main", "--help"],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == ""


def test_colour_codes_follow_no_color(cli):
    assert "\x1b[" in cli("--help", env={"FORCE_COLOR": "1", "NO_COLOR": ""}).stdout
    assert "\x1b[3" not in cli("--help", env={"FORCE_COLOR": "1", "NO_COLOR": "1"}).stdout
