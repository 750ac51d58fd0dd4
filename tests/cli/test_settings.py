"""Flag beats environment beats configuration file."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def config(tmp_path):
    def write(value):
        path = tmp_path / "config.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return {"VIDPRISM_EDGE_CONFIG": str(path)}

    return write


def asked_for(cli, tmp_path, *flags, env):
    """Which preset an export would take: it names it when it does not know it."""
    done = cli("export", "--target", "onnx", "--dry-run", *flags, cwd=tmp_path, env=env)
    assert done.returncode == 2
    return done.stderr.split("unknown preset ")[1].split(";")[0].strip("'")


def test_flag_beats_environment_beats_file(cli, tmp_path, config):
    env = config({"export": {"preset": "from-file"}})
    assert asked_for(cli, tmp_path, env=env) == "from-file"
    env["VIDPRISM_EDGE_EXPORT_PRESET"] = "from-environment"
    assert asked_for(cli, tmp_path, env=env) == "from-environment"
    assert asked_for(cli, tmp_path, "--preset", "from-flag", env=env) == "from-flag"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not a configuration"),
        ('{"run": 3}', "is not a configuration"),
        ('{"rum": {}}', "unknown command"),
        ('{"targets": {"jason": true}}', "unknown flag of targets"),
    ],
)
def test_a_wrong_file_is_one_line(cli, tmp_path, config, text, said):
    done = cli("targets", cwd=tmp_path, env=config(text))
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_file_that_is_named_must_be_there(cli, tmp_path):
    done = cli("targets", cwd=tmp_path, env={"VIDPRISM_EDGE_CONFIG": str(tmp_path / "no.json")})
    assert done.returncode == 2
    assert "does not exist" in done.stderr


@pytest.mark.parametrize("flag", ["json", "--json"])
def test_flags_go_by_the_names_that_users_know(cli, tmp_path, config, flag):
    """``--json`` fills a parameter that is called something else."""
    assert cli("targets", cwd=tmp_path, env=config({"targets": {flag: True}})).stdout.startswith("{")
    assert cli("targets", cwd=tmp_path, env={"VIDPRISM_EDGE_TARGETS_JSON": "1"}).stdout.startswith("{")


@pytest.mark.parametrize("target", ["onnx", ["onnx"], ["onnx", "onyx"]])
def test_a_flag_that_may_be_repeated_takes_a_list(cli, tmp_path, config, target):
    env = config({"export": {"target": target, "dry-run": True}})
    done = cli("export", cwd=tmp_path, env=env)
    assert done.returncode == (2 if "onyx" in target else 0), done.stderr
    assert ("unknown target 'onyx'" if "onyx" in target else "for onnx") in done.stderr


def test_a_file_does_not_hide_why_a_command_cannot_be_imported(tmp_path, monkeypatch, capsys):
    """Its flags are not known then, and none of them is called unknown."""
    from vidprism_edge.cli import main as frame

    path = tmp_path / "config.json"
    path.write_text('{"export": {"preset": "nano"}}')
    monkeypatch.setenv("VIDPRISM_EDGE_CONFIG", str(path))
    real = frame.importlib.import_module

    def refuse(name, package=None):
        if name == "vidprism_edge.cli.export":
            raise ModuleNotFoundError("No module named 'onnx'", name="onnx")
        return real(name, package)

    monkeypatch.setattr(frame.importlib, "import_module", refuse)
    assert frame.main(["export", "--target", "onnx"]) == 1
    assert "vidprism-edge[export]" in capsys.readouterr().err
