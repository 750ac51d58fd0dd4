"""``doctor`` reports, advises and never breaks."""

from __future__ import annotations

import json
import os

import pytest

from vidprism_edge.cli import doctor
from vidprism_edge.cli.main import main


@pytest.fixture(scope="module")
def findings():
    return doctor.examine()


def test_this_machine_is_fit(cli):
    done = cli("doctor", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0, [f for f in report["findings"] if f["state"] == "fail"]
    assert report["ok"] is True


def test_every_finding_that_is_not_ok_says_what_to_do(findings):
    for finding in findings:
        assert finding.state in ("ok", "warn", "fail")
        assert finding.detail
        assert finding.state == "ok" or finding.advice, finding


def test_it_covers_what_the_runtime_needs(findings):
    names = {finding.name for finding in findings}
    assert {"machine", "python", "native core", "opencv", "video", "display", "cache"} <= names
    assert "engine onnxruntime" in names


def test_a_check_that_breaks_is_a_finding_and_stops_no_other():
    def broken():
        raise OSError("no such bus")
        yield

    result = doctor.examine((broken, doctor.display))
    assert result[0] == doctor.Finding("broken", "warn", "the check broke: no such bus", "please report it")
    assert result[1].name == "display"


def test_something_essential_broken_is_exit_1(monkeypatch, capsys):
    monkeypatch.setattr(
        doctor, "examine", lambda: [doctor.Finding("native core", "fail", "gone", "build it")]
    )
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "fail" in out
    assert "build it" in out


def test_a_machine_without_an_engine_is_broken(monkeypatch):
    monkeypatch.setattr(doctor, "ENGINES", {})
    (finding,) = doctor.engines()
    assert finding.state == "fail"
    assert "vidprism-edge[onnxruntime]" in finding.advice


def test_an_engine_whose_library_is_broken_is_named(monkeypatch):
    def describe():
        raise ImportError("libengine.so.1: cannot open shared object file")

    monkeypatch.setattr(doctor, "ENGINES", {"onnxruntime": describe})
    assert [finding.state for finding in doctor.engines()] == ["fail", "fail"]


#: Says that it has every element but those that FAKE_MISSING names.
INSPECT = """#!/bin/sh
case " $FAKE_MISSING " in *" $2 "*) exit 1 ;; esac
"""


@pytest.fixture
def fake_gstreamer(tmp_path, monkeypatch):
    for name in ("gst-launch-1.0", "gst-inspect-1.0"):
        (tmp_path / name).write_text(INSPECT)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return monkeypatch


@pytest.mark.usefixtures("fake_gstreamer")
def test_a_whole_gstreamer_has_every_pipeline():
    found = {finding.name: finding.state for finding in doctor.gstreamer()}
    assert found == dict.fromkeys(("gstreamer", "pipeline csi", "pipeline nvdec", "pipeline gsttest"), "ok")


@pytest.mark.parametrize(
    ("element", "lacking", "package"),
    [
        ("nvarguscamerasrc", {"csi"}, "nvidia-l4t-gstreamer"),
        ("nvvidconv", {"csi", "nvdec"}, "nvidia-l4t-gstreamer"),
        ("h264parse", {"nvdec"}, "gstreamer1.0-plugins-bad"),
        ("rtspsrc", {"nvdec"}, "gstreamer1.0-plugins-good"),
        ("videoconvert", {"gsttest"}, "gstreamer1.0-plugins-base"),
    ],
)
def test_a_missing_plugin_is_named_with_its_pipeline_and_package(fake_gstreamer, element, lacking, package):
    fake_gstreamer.setenv("FAKE_MISSING", element)
    warned = [finding for finding in doctor.gstreamer() if finding.state == "warn"]
    assert {finding.name for finding in warned} == {f"pipeline {name}" for name in lacking}
    for finding in warned:
        assert finding.detail.endswith(f"no {element}")
        assert f"apt-get install {package}" in finding.advice


def test_without_gstreamer_only_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = doctor.gstreamer()
    assert finding.state == "warn"
    assert "gstreamer1.0-tools" in finding.advice


def test_cameras_are_sorted_by_number(tmp_path):
    for name in ("video10", "video2"):
        (tmp_path / name).touch()
    assert [finding.detail.split("/")[-1] for finding in doctor.cameras(tmp_path)] == ["video2", "video10"]


def test_no_camera_is_a_warning(tmp_path):
    (finding,) = doctor.cameras(tmp_path)
    assert finding.state == "warn"


@pytest.mark.parametrize(("available", "reason", "state"), [(True, "", "ok"), (False, "no display", "warn")])
def test_the_display_is_what_run_finds(monkeypatch, available, reason, state):
    window = pytest.importorskip("vidprism_edge.runtimes.display.window").Window
    monkeypatch.setattr(window, "available", staticmethod(lambda: (available, reason)))
    (finding,) = doctor.display()
    assert finding.state == state
    assert available or finding.detail == reason
