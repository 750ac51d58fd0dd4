"""The timeline: its sizes, what it says, and what is left when it cannot be drawn."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import msgspec
import pytest

from tests.runtimes.display.made_predictions import ALWAYS_ON, EXPERTS, HOP_NS, prediction, stream
from vidprism_edge.errors import UsageError, VidPrismError
from vidprism_edge.runtimes.display import timeline
from vidprism_edge.runtimes.display.timeline import chosen_labels, closed_stretches, course, draw_timeline

matplotlib = pytest.importorskip("matplotlib")
WORDS = {"title": "VidPrism Edge on bikes.mp4", "subtitle": "preset nano, 25 fps"}


@pytest.fixture
def sheets(monkeypatch):
    """The figures that are drawn, so that their texts can be looked at."""
    found = []
    original = timeline._Sheet.draw

    def draw(self, *args):
        original(self, *args)
        found.append(self)

    monkeypatch.setattr(timeline._Sheet, "draw", draw)
    return found


def texts(sheet):
    """The texts of a drawn sheet with the pixels that they take."""
    from matplotlib.text import Text

    renderer = sheet.figure.canvas.get_renderer()
    for artist in sheet.figure.findobj(Text):
        if artist.get_visible() and artist.get_text().strip():
            yield artist.get_text(), artist.get_window_extent(renderer)


@pytest.mark.parametrize("seconds", [0.5, 10, 120])
@pytest.mark.parametrize("labels", [5, 27])
def test_no_text_lies_over_another_or_beyond_the_sheet(tmp_path, sheets, seconds, labels):
    path = tmp_path / "timeline.png"
    draw_timeline(stream(seconds, labels, trained=False), path, **WORDS, always_on_macs=ALWAYS_ON)
    (sheet,) = sheets
    height, width = cv2.imread(str(path)).shape[:2]
    assert width == 1540
    assert 900 < height < 1500
    assert os.listdir(tmp_path) == ["timeline.png"]
    found = list(texts(sheet))
    for words, box in found:
        assert box.x0 >= 0, words
        assert box.y0 >= 0, words
        assert box.x1 <= width, words
        assert box.y1 <= height, words
    for index, (words, box) in enumerate(found):
        for other, another in found[index + 1 :]:
            apart = (
                box.x1 <= another.x0 + 1
                or another.x1 <= box.x0 + 1
                or box.y1 <= another.y0 + 2
                or another.y1 <= box.y0 + 2
            )
            assert apart, f"{words!r} lies over {other!r}"


def test_it_says_in_words_what_it_shows(tmp_path, sheets):
    draw_timeline(stream(20, trained=False), tmp_path / "t.png", **WORDS, always_on_macs=ALWAYS_ON)
    told = " ".join(words for words, _ in texts(sheets[0]))
    for words in (
        "VidPrism Edge on bikes.mp4", "preset nano", "untrained network", "What it recognised", "Which expert ran",
        "How often", "What it cost", "time in the video, seconds", "gate closed", "still picture", "of always-on",
        "swipe_left", *EXPERTS,
    ):  # fmt: skip
        assert words in told


def test_a_trained_network_is_not_marked(tmp_path, sheets):
    draw_timeline(stream(5), tmp_path / "t.png", **WORDS)
    told = " ".join(words for words, _ in texts(sheets[0]))
    assert "untrained" not in told
    assert "always on" not in told


def test_without_predictions_the_picture_says_so(tmp_path, monkeypatch):
    told = []
    from matplotlib.figure import Figure

    original = Figure.text
    monkeypatch.setattr(
        Figure, "text", lambda self, x, y, s, **kw: told.append(s) or original(self, x, y, s, **kw)
    )
    draw_timeline([], tmp_path / "t.png", **WORDS)
    assert "No decision was made" in " ".join(told)
    assert cv2.imread(str(tmp_path / "t.png")).shape[1] == 1540


def test_odd_input_is_drawn(tmp_path):
    bare = prediction(
        scores={},
        gates={},
        rates_hz={},
        fired_ns={},
        experts_fired={},
        skipped={},
        macs=0,
        label="$x$",
        boxes={},
    )
    draw_timeline([bare], tmp_path / "bare.png", title="$a_b$ 漢字 " * 40, subtitle="\n")
    made = [prediction(scores={"$\\frac": 1.0}, label="$\\frac"), bare]
    draw_timeline(made, tmp_path / "two.svg", title="", subtitle="")
    assert sorted(os.listdir(tmp_path)) == ["bare.png", "two.svg"]


def test_the_axis_starts_where_the_first_sample_was_taken():
    run = course(stream(10))
    assert run.spans[0] == (0.0, 0.5)
    assert run.end == pytest.approx(10)
    assert not run.breaks
    assert run.hop == pytest.approx(0.5)


def test_the_axis_goes_on_when_the_clock_runs_back_or_pauses():
    made = stream(6)
    late = [msgspec.structs.replace(p, t_ns=p.t_ns + 20_000_000_000) for p in made[4:8]]
    run = course([*made[:4], *late, *made[:3]])
    assert run.breaks == [pytest.approx(2.0), pytest.approx(24.0)]
    assert run.spans[4].start == pytest.approx(21.5)
    assert run.spans[4].end == pytest.approx(22.5)
    assert run.end == pytest.approx(25.5)
    assert all(
        a.end <= b.start + 1e-9 and b.start < b.end for a, b in zip(run.spans, run.spans[1:], strict=False)
    )


def test_the_decision_at_the_end_of_a_short_stream_is_no_break():
    made = stream(1.0)
    last = msgspec.structs.replace(made[-1], partial=True, ready=True)
    run = course([*made, last])
    assert not run.breaks
    assert run.end == pytest.approx(1.125)
    alone = course([prediction(t_ns=300_000_000, partial=True, fired_ns={"spatial": (0,)})])
    assert alone.spans == [(pytest.approx(0.0), pytest.approx(0.3))]


def test_closed_stretches_with_the_same_reason_are_joined():
    def made(step, gate, reason=None):
        return prediction(
            t_ns=step * HOP_NS,
            gates={"spatial": gate},
            skipped={"spatial": reason} if reason else {},
            fired_ns={},
        )

    run = course([
        made(1, True), made(2, False), made(3, False, "still picture"), made(4, False, "still picture"),
        made(5, False, "dark"), made(6, True, "rate"), made(7, False, "dark"),
    ])  # fmt: skip
    assert closed_stretches(run, "spatial") == [
        (0.5, 2.0, "still picture"),
        (2.0, 2.5, "dark"),
        (3.0, 3.5, "dark"),
    ]
    assert closed_stretches(run, "temporal") == []


def test_a_gate_that_closes_between_two_decisions_is_shaded_from_the_last_run():
    first = prediction(t_ns=HOP_NS, gates={}, fired_ns={"temporal": (0, 400_000_000)})
    closing = prediction(
        t_ns=2 * HOP_NS, gates={"temporal": False}, fired_ns={"temporal": (700_000_000,)}, skipped={}
    )
    after = prediction(
        t_ns=3 * HOP_NS, gates={"temporal": False}, fired_ns={}, skipped={"temporal": "still picture"}
    )
    (stretch,) = closed_stretches(course([first, closing, after]), "temporal")
    assert stretch == (pytest.approx(0.7), pytest.approx(1.5), "still picture")


def test_runs_on_several_regions_are_told_apart_from_times(tmp_path, sheets):
    made = prediction(t_ns=HOP_NS, experts_fired={"spatial": 4}, fired_ns={"spatial": (0, 250_000_000)})
    draw_timeline([made], tmp_path / "t.png", **WORDS)
    assert "4 runs at 2 times (regions)" in [words for words, _ in texts(sheets[0])]


def test_many_labels_share_a_row():
    few, none = chosen_labels(stream(5, 9))
    assert (len(few), none) == (9, [])
    some, rest = chosen_labels(stream(30, 27))
    assert len(some) == timeline.MOST_LABELS - 1
    assert len(some) + len(rest) == 27
    wins = [p.label for p in stream(30, 27)]
    assert min(wins.count(name) for name in some) >= max(wins.count(name) for name in rest)


@pytest.mark.parametrize("name", ["missing/t.png", "t", "t.jpg", "folder.png"])
def test_a_path_that_cannot_be_written_is_refused(tmp_path, name):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UsageError, match="cannot draw a timeline"):
        draw_timeline(stream(1), tmp_path / name, **WORDS)
    assert os.listdir(tmp_path) == ["folder.png"]


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(VidPrismError, match=r"vidprism-edge\[demo\]"):
        draw_timeline(stream(1), tmp_path / "t.png", **WORDS)
    assert os.listdir(tmp_path) == []


def test_the_module_itself_does_not_import_matplotlib():
    code = (
        "import sys, vidprism_edge.runtimes.display.timeline; print({'matplotlib', 'cv2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
