"""``targets`` lists every target with what it can do, without anything heavy."""

from __future__ import annotations

import json


def test_the_table_names_every_target_and_its_state(cli):
    done = cli("targets")
    assert done.returncode == 0
    for name in ("onnx", "openvino", "jetson", "jetson-orin-nano", "jetson-agx-orin", "jetson-thor"):
        assert name in done.stdout


def test_json_says_why_a_target_does_not_work_yet(cli):
    targets = {row["name"]: row for row in json.loads(cli("targets", "--json").stdout)["targets"]}
    assert {"onnx", "openvino", "jetson"} <= set(targets)
    assert targets["onnx"]["available"] is True
    for row in targets.values():
        assert row["summary"]
        assert row["available"] or row["reason"], f"{row['name']} does not say why it does not work"
