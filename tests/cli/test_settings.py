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
