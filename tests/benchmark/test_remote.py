"""Measuring elsewhere: the packed folder runs by itself, and a real sshd on the loopback carries it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from vidprism_edge.benchmark.remote import PLACE, SSH, Address, archive_checkout, pack
from vidprism_edge.benchmark.request import Request, make_flags
from vidprism_edge.bundle import Bundle
from vidprism_edge.cli.main import main
from vidprism_edge.errors import UsageError

QUICK = Request(profile="rapid", source="synthetic:3:160x120@15", start=False, percentiles=(50.0,))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ssh://orin", Address("orin", None)),
        ("ssh://me@10.0.0.7:2222", Address("me@10.0.0.7", 2222)),
        ("ssh://me@[fe80::1]:22", Address("me@[fe80::1]", 22)),
        ("ssh://me@orin/", Address("me@orin", None)),
    ],
)
def test_addresses(text, address):
    assert Address.parse(text) == address
    assert address.command("true")[-2:] == [address.host, "true"]


@pytest.mark.parametrize(
    "text",
    ["ssh://", "http://orin", "ssh://orin/tmp", "ssh://a:b@orin", "ssh://orin:x", "ssh://-oProxyCommand=x"],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(UsageError, match="expected ssh://user@host"):
        Address.parse(text)


def test_flags_are_the_request(tmp_path):
    flags = make_flags(QUICK)
    assert "--profile rapid" in flags
    assert "--percentiles 50" in flags
    assert flags.endswith("--no-start")
    assert "'a b.mp4'" in make_flags(Request(source="a b.mp4"))


@pytest.fixture
def wheel(tmp_path):
    """A file that stands for a wheel: where the version is there already, nothing is installed."""
    path = tmp_path / "made-1-py3-none-any.whl"
    path.write_bytes(b"")
    return path


def test_the_folder_runs_by_itself_and_takes_a_video_along(tiny_bundle, tmp_path, wheel, real_clip):
    folder = tmp_path / "carry it"
    pack(
        Bundle.open(tiny_bundle), Request(profile="rapid", source=str(real_clip), start=False), folder, wheel
    )
    assert sorted(p.name for p in folder.iterdir()) == ["bundle", "dist", "run.sh", "source"]
    assert f"--source source/{real_clip.name}" in (folder / "run.sh").read_text()
    with pytest.raises(UsageError, match="not an empty folder"):
        pack(Bundle.open(tiny_bundle), QUICK, folder, wheel)
    environment = os.environ | {"VIDPRISM_EDGE_PYTHON": sys.executable}
    done = subprocess.run(
        ["sh", str(folder / "run.sh")], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 5), done.stderr  # 5: this machine is busy
    result = json.loads((folder / "result" / "result.json").read_text())
    assert result["request"]["source"] == f"source/{real_clip.name}"
    assert result["queries"] == 16
    assert not (folder / "env").exists(), "the version was there: nothing was installed"


def test_the_command_packs_and_says_what_to_do(tiny_bundle, tmp_path, wheel, capsys):
    arguments = [
        "benchmark",
        str(tiny_bundle),
        "--pack",
        str(tmp_path / "p"),
        "--wheel",
        str(wheel),
        "--threads",
        "2",
    ]
    assert main(arguments) == 0
    assert "run sh run.sh in it" in capsys.readouterr().err
    assert "--threads 2" in (tmp_path / "p" / "run.sh").read_text()
    assert [path.name for path in (tmp_path / "p" / "dist").iterdir()] == [wheel.name]
    assert main([*arguments[:-3], "missing.whl"]) == 2
    assert "expected a wheel or a source archive" in capsys.readouterr().err


def test_a_checkout_is_archived_with_its_sources(tmp_path):
    assert archive_checkout(tmp_path)
    (archive,) = tmp_path.iterdir()
    with tarfile.open(archive) as opened:
        names = [name.partition("/")[2] for name in opened.getnames()]
    assert "setup.py" in names
    assert "runtimes/native/include/vpe/vpe.h" in names
    assert "vidprism_edge/benchmark/remote.py" in names


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    """An OpenSSH server on the loopback with keys of its own; its home is a folder of the test's."""
    server = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if server is None or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        pytest.skip("needs sshd and ssh: apt-get install openssh-server openssh-client")
    folder = tmp_path_factory.mktemp("sshd")
    (folder / "home").mkdir()
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    # the user's real home stays untouched: every command starts by leaving it
    enter = f'cd {folder}/home && VIDPRISM_EDGE_PYTHON={sys.executable} sh -c "$SSH_ORIGINAL_COMMAND"'
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
        f"ForceCommand {enter}\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where the server locks itself in as root
    log = (folder / "log").open("w")
    process = subprocess.Popen([server, "-D", "-e", "-f", str(folder / "config")], stderr=log)
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        if process.poll() is not None:
            pytest.skip(f"sshd does not start here: {(folder / 'log').read_text().strip()}")
        time.sleep(0.1)
    ssh = (
        f"ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile={folder}/known "
        f"-o LogLevel=ERROR -o IdentitiesOnly=yes -i {folder}/user"
    )
    yield f"ssh://127.0.0.1:{port}", ssh, folder / "home"
    process.terminate()
    process.wait(10)
    log.close()


def test_a_device_measures_and_its_report_comes_back(sshd, tiny_bundle, tmp_path, monkeypatch, capfd, wheel):
    address, ssh, home = sshd
    monkeypatch.setenv(SSH, ssh)
    arguments = [
        "benchmark", str(tiny_bundle), "--device", address, "--wheel", str(wheel), "--profile", "rapid",
        "--source", "synthetic:3:160x120@15", "--no-start", "--json", "--report", str(tmp_path / "back.json"),
    ]  # fmt: skip
    for _ in range(2):  # the second time finds what the first left there
        assert main(arguments) in (0, 5)  # 5: this machine is busy
        out, err = capfd.readouterr()
        result = json.loads(out.strip().splitlines()[-1])
        assert result["queries"] == 16
        assert result["request"]["device"] == "CPU"
        assert len(json.loads((tmp_path / "back.json").read_text())["samples"]["latency_ms"]) == 16
        assert "Traceback" not in err
    there = sorted(path.name for path in (home / PLACE).iterdir())
    assert there == ["bundle", "dist", "result", "run.sh"]
    assert (home / PLACE / "result" / "report.md").is_file()


def test_a_device_that_fails_is_one_line(sshd, tiny_bundle, monkeypatch, capfd, wheel):
    address, ssh, home = sshd
    monkeypatch.setenv(SSH, ssh)
    arguments = [
        "benchmark",
        str(tiny_bundle),
        "--device",
        address,
        "--wheel",
        str(wheel),
        "--profile",
        "rapid",
    ]
    assert main([*arguments, "--source", "missing.mp4", "--no-start"]) == 1
    err = capfd.readouterr().err
    assert "missing.mp4" in err, "what the device says is shown"
    assert "made no result: the benchmark there exited with 1" in err
    monkeypatch.setenv(SSH, f"{ssh} -i {home}/none -o PreferredAuthentications=none")
    assert main(arguments) == 1
    assert "Permission denied" in capfd.readouterr().err.splitlines()[-1]
    monkeypatch.setenv(SSH, "no-such-ssh")
    assert main(arguments) == 1
    assert "install an ssh client" in capfd.readouterr().err
