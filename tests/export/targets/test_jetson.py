"""Boards and JetPack versions: what is refused says why and what to do."""

from __future__ import annotations

import pytest

from vidprism_edge.errors import EngineError, UsageError
from vidprism_edge.export.targets import TARGETS, check_target
from vidprism_edge.export.targets.jetson import (
    find_board,
    find_jetpack,
    find_limits,
    list_boards,
    list_jetpacks,
    parse_version,
    read_ops,
)
from vidprism_edge.spec import COMPONENTS

OLD = {"4.6": "opset 13", "5.1": "3.8", "6.0": "8.6"}


def test_every_board_is_a_target_and_names_what_exists():
    assert set(list_boards()) == {"jetson", "jetson-agx-orin", "jetson-orin-nano", "jetson-thor"}
    for name, board in list_boards().items():
        assert check_target(name).summary == board.summary
        assert set(board.jetpacks) <= set(list_jetpacks())
        assert not any(list_jetpacks()[version].refused for version in board.jetpacks)
        assert set(board.int8) <= set(COMPONENTS)
    assert next(name for name in TARGETS if name.startswith("jetson")) == "jetson"


def test_the_compute_capabilities_are_those_of_orin_and_thor_and_none_is_skipped_by_the_gpu_test():
    from tests.gpu.test_device import skip_reason

    found = {name: board.compute_capability for name, board in list_boards().items()}
    assert found == {
        "jetson": None, "jetson-agx-orin": "8.7", "jetson-orin-nano": "8.7", "jetson-thor": "11.0"
    }  # fmt: skip
    assert not any(skip_reason(capability) for capability in found.values() if capability)


def test_plain_jetson_is_what_every_board_takes():
    common = find_limits("jetson")
    for name in list_boards():
        limits = find_limits(name)
        assert parse_version(common.tensorrt) <= parse_version(limits.tensorrt)
        assert common.opset <= limits.opset
        assert set(limits.jetpacks) <= set(common.jetpacks)
    assert (common.tensorrt, common.opset, common.dla) == ("10.3", 20, False)


@pytest.mark.parametrize(("version", "reason"), OLD.items())
def test_an_old_jetpack_is_refused_with_reason_and_way_out(version, reason):
    with pytest.raises(EngineError, match=rf"JetPack {version} is not supported.*{reason}.*; .+"):
        find_limits("jetson", version)


@pytest.mark.parametrize(
    ("board", "way_out"), [("jetson-nano", "--target onnx"), ("jetson-xavier-nx", "ONNX Runtime")]
)
def test_an_old_board_is_refused_with_a_way_out(board, way_out):
    with pytest.raises(EngineError, match=rf"{board} is not supported.*{way_out}"):
        check_target(board)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(UsageError, match=r"unknown JetPack '9.9'; known: 4.6"):
        find_limits("jetson", "9.9")
    with pytest.raises(EngineError, match=r"jetson-thor does not run JetPack 6.2; it runs 7.0"):
        find_limits("jetson-thor", "6.2")
    with pytest.raises(UsageError, match="unknown target 'jetson-orin'"):
        check_target("jetson-orin")


def test_one_jetpack_widens_what_a_board_can_do():
    assert find_limits("jetson-thor", "7.1").opset == 22
    # AGX Orin has DLA under JetPack 6 and again from TensorRT 11.4.1 on, not in between
    assert find_limits("jetson-agx-orin", "6.2").dla
    assert not find_limits("jetson-agx-orin", "7.2").dla
    assert find_limits("jetson-agx-orin", "7.2.2").dla
    assert not find_limits("jetson-orin-nano", "6.2").dla


@pytest.mark.parametrize(
    ("l4t", "version"),
    [("32.7.4", "4.6"), ("35.4.1", "5.1"), ("36.3.0", "6.0"), ("36.4.0", "6.1"), ("36.4.3", "6.2"), ("38.2.0", "7.0"),
     ("99.1", None), ("3", None), ("360.1", None)],
)  # fmt: skip
def test_the_jetpack_of_an_l4t_version(l4t, version):
    found = find_jetpack(l4t)
    assert (found.version if found else None) == version


def test_the_board_of_a_device_tree():
    named = {
        "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super": "jetson-orin-nano",
        "NVIDIA Jetson AGX Orin Developer Kit": "jetson-agx-orin",
        "NVIDIA Jetson AGX Thor Developer Kit": "jetson-thor",
    }
    for model, name in named.items():
        board = find_board(model)
        assert board is not None
        assert board.name == name
    assert find_board("Raspberry Pi 5 Model B") is None


def test_the_operator_table_holds_what_it_must():
    table = read_ops()
    assert {"Conv", "LayerNormalization", "Gelu", "QuantizeLinear"} <= set(table.types)
    assert "Attention" not in table.types
    assert table.dla <= set(table.types)
