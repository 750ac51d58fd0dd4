"""The live table, the plain lines elsewhere, and the summary."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tests.runtimes.display.made_predictions import ALWAYS_ON, prediction, stream, summary
from vidprism_edge.runtimes.display.table import LiveTable, summary_table
from vidprism_edge.runtimes.streaming.prediction import StreamCounts


def lines(predictions, **changes) -> list[str]:
    """What is printed where stderr is no terminal."""
    console = Console(file=io.StringIO(), force_terminal=False)
    with LiveTable("bikes.mp4", always_on_macs=ALWAYS_ON, console=console) as table:
        for made in predictions:
            table.update(
                made, **{"fps": 25.0, "read": 300, "dropped": {"overrun": 2}, "latency_ms": 12.0, **changes}
            )
    return console.file.getvalue().splitlines()


def shown(renderable, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width, no_color=True)
    console.print(renderable)
    return console.file.getvalue()


def test_one_plain_line_a_decision_where_there_is_no_terminal():
    found = lines(stream(6))
    assert len(found) == 12
    assert not any("\x1b" in line or "\r" in line for line in found)


def test_a_line_says_everything():
    (line,) = lines([prediction(trained=False)])
    for part in (
        "12.50 s", "wave 62 % (untrained)", "temporal 8", "spatial 0 (still picture)", "512 MMAC (68 % of always-on)",
        "25.0 fps", "read 300, dropped 2", "latency 12 ms",
    ):  # fmt: skip
        assert part in line


def test_a_line_is_not_wrapped_and_markup_in_names_is_text():
    (line,) = lines([prediction(label="[bold]" + "w" * 300)], latency_ms=None)
    assert "[bold]www" in line
    assert "latency" not in line


def test_warming_up_and_short_clips_are_marked():
    (first, last) = lines([prediction(ready=False), prediction(partial=True)])
    assert "(warming up)" in first
    assert "(short clip)" in last


def test_in_a_terminal_the_table_changes_in_place(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    console = Console(file=io.StringIO(), force_terminal=True, width=120, height=40, no_color=False)
    with LiveTable("[red]cam[/red]", always_on_macs=ALWAYS_ON, console=console) as table:
        table.update(prediction(), fps=25.0, read=300, dropped=2)
        found = shown(table._picture(prediction(t_ns=13_000_000_000), 25.0, 300, {"overrun": 2}, 12.0))
    assert "\x1b" in console.file.getvalue()
    for part in (
        "[red]cam[/red]",
        "12 ms",
        "overrun 2",
        "still picture",
        "closed",
        "68 % of always-on",
        "62 %",
    ):
        assert part in found
    row = next(line for line in found.splitlines() if "temporal" in line)
    assert row.split()[3:5] == ["8", "16"]  # runs since the last decision, and within a second


def test_the_last_second_forgets_what_is_older_and_a_clock_that_ran_back():
    table = LiveTable("x", console=Console(file=io.StringIO()))
    for t_ns, expected in ((0, 8), (500, 16), (1000, 16), (9000, 8), (100, 8)):
        made = prediction(t_ns=t_ns * 1_000_000)
        assert table._last_second(made)["temporal"] == expected


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    console = Console(file=io.StringIO(), force_terminal=True)
    with LiveTable("x", console=console) as table:
        table.update(prediction(), fps=25.0, read=1, dropped=0)
    assert console.file.getvalue().count("\n") == 1


def test_the_summary_prints_the_sums():
    found = shown(summary_table(summary()))
    for part in (
        "375 read = 372 delivered + 3 dropped", "corrupt 2, overrun 1",
        "372 delivered = 20 sampled + 352 skipped", "23 grid points = 20 sampled + 2 repeated + 1 reset",
        "25, of them 21 on a full window", "temporal 204", "34 of the temporal runs are replayed",
        "15.9 GMAC, 85 % of the 18.8 GMAC of always-on", "decode 900 ms, sampler 310 ms", "untrained",
    ):  # fmt: skip
        assert part in found
    assert "does not add up" not in found


@pytest.mark.parametrize(
    "changes",
    [
        {"frames": {"read": 9, "delivered": 3, "dropped": {"overrun": 5}}},
        {"streams": {"spatial": StreamCounts(delivered=4, sampled=1, skipped={"rate": 2})}},
    ],
)
def test_a_sum_that_is_wrong_is_told(changes):
    assert "does not add up" in shown(summary_table(summary(**changes)))


def test_a_trained_network_has_no_warning_and_random_weights_have():
    assert "untrained" not in shown(summary_table(summary(trained=True)))
    assert "random" in shown(summary_table(summary(random_weights=True)))


def test_an_empty_run_has_a_summary():
    nothing = dict.fromkeys(
        ("decisions", "ready", "replayed", "macs", "macs_always_on", "video_s", "wall_s"), 0
    )
    nothing |= {name: {} for name in ("streams", "resets", "experts_fired", "stages_ms")}
    empty = summary(frames={"read": 0, "delivered": 0, "dropped": {}}, **nothing)
    assert "0 read = 0 delivered + 0 dropped" in shown(summary_table(empty))


def test_the_table_goes_to_stderr(capsys):
    with LiveTable("x") as table:
        table.update(prediction(), fps=25.0, read=1, dropped=0)
    found = capsys.readouterr()
    assert found.out == ""
    assert "wave" in found.err
