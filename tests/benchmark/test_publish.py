"""The report folder and the comparison, from made results."""

from __future__ import annotations

import json

import msgspec
import pytest

from tests.benchmark.made_results import make_result
from vidprism_edge.benchmark import publish as publishing
from vidprism_edge.benchmark.compare import compare, tell_incomparable
from vidprism_edge.benchmark.publish import publish
from vidprism_edge.benchmark.results import read_result
from vidprism_edge.cli.main import main
from vidprism_edge.errors import UsageError


def write(path, result):
    path.write_bytes(msgspec.json.encode(result))
    return str(path)


@pytest.mark.parametrize("scenario", ["single-stream", "streaming"])
def test_a_folder_has_the_samples_the_text_and_pictures(tmp_path, scenario):
    cv2 = pytest.importorskip("cv2")
    pytest.importorskip("matplotlib")
    result = make_result(scenario, throttled_s=12)
    names = publish(msgspec.json.encode(result), tmp_path / "r")
    assert sorted(names) == sorted(path.name for path in (tmp_path / "r").iterdir())
    pictures = [name for name in names if name.endswith(".png")]
    assert len(pictures) == (4 if scenario == "streaming" else 3)
    for name in pictures:
        picture = cv2.imread(str(tmp_path / "r" / name))
        assert picture.shape[1] == 1100
        assert picture.std() > 10
    text = (tmp_path / "r" / "report.md").read_text()
    assert all(f"]({name})" in text for name in pictures)
    assert "**This run is not valid.**\n- the machine throttled from 12 s on: cooling by cpufreq-cpu0" in text
    assert f"--scenario {scenario} --profile quick" in text
    assert "energy: 0.4 J a query, 6.5 W on average (INA rail VDD_IN, whole board)" in text
    assert "random weights: for latency only" in text
    assert "| jetpack | 6.1 or 6.2 |" in text
    assert "| driver | not known |" in text
    assert "insufficient" in text
    assert read_result(tmp_path / "r") == result


def test_without_matplotlib_the_text_says_how_to_draw(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(publishing, "can_draw", lambda: False)
    folder = tmp_path / "r"
    assert publish(msgspec.json.encode(make_result()), folder) == ["result.json", "report.md"]
    assert "benchmark --draw FOLDER" in (folder / "report.md").read_text()
    monkeypatch.undo()
    pytest.importorskip("matplotlib")
    assert main(["benchmark", "--draw", str(folder)]) == 0
    assert "distribution.png" in capsys.readouterr().err
    assert "![Distribution](distribution.png)" in (folder / "report.md").read_text()


def test_a_faster_second_run_is_seen_with_its_interval(tmp_path, capsys):
    first = write(tmp_path / "a.json", make_result(level=20))
    second = write(tmp_path / "b.json", make_result(level=16, seed=1))
    assert main(["benchmark", "--compare", first, second, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for name in ("mean", "p50", "p90"):
        row = found["ratios"][name]
        assert row["low"] <= row["ratio"] <= row["high"] < 1
        assert row["verdict"] == "faster"
    assert found["stages"]["temporal"] == {"first_ms": 10.0, "second_ms": 8.0}
    assert main(["benchmark", "--compare", first, second]) == 0
    out = capsys.readouterr().out
    assert "faster" in out
    assert "flags that differ: none: a repetition" in out


def test_a_repetition_differs_in_nothing():
    found = [compare(make_result(), make_result(seed=seed))["ratios"] for seed in range(1, 10)]
    verdicts = [row["verdict"] for ratios in found for row in ratios.values()]
    # an interval of 99 % is missed now and then
    assert sum(verdict != "no difference seen" for verdict in verdicts) <= 1
    assert "p99" not in found[0], "the samples carry no p99"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r["device"].update(power_mode="0 15W"), "device, power_mode: 1 25W and 0 15W"),
        (lambda r: r["bundle"]["graphs"].update(head="11"), "bundle, the graphs differ"),
        (lambda r: r["request"].update(scenario="offline"), "scenario: single-stream and offline"),
        (lambda r: r["request"].update(source="other.mp4"), "source: "),
        (lambda r: r.update(valid=False, reasons=["a hog"]), "the second run is not valid: a hog"),
    ],
)
def test_what_may_not_be_compared_is_refused_unless_told(tmp_path, capsys, change, says):
    second = make_result()
    change(second)
    assert any(reason.startswith(says) for reason in tell_incomparable(make_result(), second))
    files = [write(tmp_path / "a.json", make_result()), write(tmp_path / "b.json", second)]
    assert main(["benchmark", "--compare", *files]) == 2
    assert says in capsys.readouterr().err
    assert main(["benchmark", "--compare", *files, "--allow-different"]) == 0
    assert f"NOT COMPARABLE: {says}" in capsys.readouterr().out


def test_another_engine_is_what_one_compares():
    second = make_result()
    second["request"]["engine"] = "openvino"
    assert tell_incomparable(make_result(), second) == []
    assert compare(make_result(), second)["different"] == ["engine: onnxruntime and openvino"]


@pytest.mark.parametrize("content", [None, b"not json", b"[]", b'{"request": {}}'])
def test_what_is_no_result_is_a_usage_error(tmp_path, content):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"expected a result|is not a result"):
        read_result(path)
