"""One graph as OpenVINO IR in any precision; integers by NNCF."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidprism_edge.bundle import Arrays
from vidprism_edge.calibration.quantise_onnx import correct_biases
from vidprism_edge.calibration.recipes import ALL_OPS, GraphRecipe
from vidprism_edge.errors import UsageError
from vidprism_edge.runtimes.engines.openvino import core

#: What an ONNX operator becomes.
_TYPES = {"Conv": {"Convolution", "GroupConvolution"}, "MatMul": {"MatMul"}, "Gemm": {"MatMul"}}
#: What hands values on; a rounding behind one of them is moved up to what computed the values.
_PASSES = {"Clamp", "Concat", "Maximum", "Minimum", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}


def _behind_maximum(model: Any) -> set[str]:
    """Products that read what a ReduceMax gives. OpenVINO's processor plugin rounds that inside the ReduceMax, wrongly:
    2026.4 gives 2 dB of signal to error for a layer that has 41 dB as the graph says it."""

    def reads_maximum(op: Any) -> bool:
        kind = op.get_type_name()
        return kind == "ReduceMax" or (
            kind in _PASSES and any(reads_maximum(value.get_node()) for value in op.input_values())
        )

    products = set().union(*_TYPES.values())
    return {
        op.get_friendly_name()
        for op in model.get_ops()
        if op.get_type_name() in products and reads_maximum(op.input_value(0).get_node())
    }


def _ignored(model: Any, recipe: GraphRecipe) -> dict[str, list[str]]:
    """What NNCF leaves alone: the kept nodes, what the plugin gets wrong, and every type that is not in the recipe."""
    types = {op.get_type_name() for op in model.get_ops()}
    names = {op.get_friendly_name() for op in model.get_ops()}
    if unknown := sorted(set(recipe.keep) - names):
        raise UsageError(f"the recipe keeps {', '.join(unknown)}, of which the graph has no node")
    ignored = set()
    if recipe.ops != ALL_OPS:
        ignored = types - set().union(*(_TYPES.get(op, {op}) for op in recipe.ops))
    ignored -= {"Constant", "Parameter", "Result"}
    if recipe.precision == "int8+bf16":
        ignored |= types & {"GroupConvolution"}  # with int8 inputs it does not compile at bf16
    return {"types": sorted(ignored), "names": sorted({*recipe.keep, *_behind_maximum(model)})}


def quantise(model: Any, recipe: GraphRecipe, samples: Sequence[Arrays]) -> Any:
    """Return the model with integer operators, as NNCF makes them."""
    import nncf
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        OverflowFix,
        QuantizationParameters,
    )
    from nncf.quantization.range_estimator import AggregatorType, RangeEstimatorParameters, StatisticsType
    from nncf.quantization.range_estimator import StatisticsCollectorParameters as Collector

    if not samples:
        raise UsageError("int8 needs calibration samples; give --calib-data")
    if recipe.observer not in ("minmax", "percentile"):
        raise UsageError(f"target openvino has no observer {recipe.observer}; expected minmax or percentile")
    if not any(op.get_type_name() in _TYPES["Conv"] | _TYPES["MatMul"] for op in model.get_ops()):
        return model
    outside = 1 - recipe.percentile / 100
    estimator = RangeEstimatorParameters(
        min=Collector(StatisticsType.MIN, AggregatorType.MIN),
        max=Collector(StatisticsType.MAX, AggregatorType.MAX),
    )
    if recipe.observer == "percentile":
        estimator = RangeEstimatorParameters(
            min=Collector(StatisticsType.QUANTILE, AggregatorType.MIN, quantile_outlier_prob=outside / 2),
            max=Collector(StatisticsType.QUANTILE, AggregatorType.MAX, quantile_outlier_prob=outside / 2),
        )
    logging.getLogger("nncf").setLevel(logging.ERROR)
    advanced = AdvancedQuantizationParameters(
        activations_range_estimator_params=estimator,
        weights_quantization_params=QuantizationParameters(per_channel=recipe.per_channel),
        disable_bias_correction=True,
        # halving the first layer's weights, for processors without VNNI, cost 3 dB; `verify` tells on those
        overflow_fix=OverflowFix.DISABLE,
    )
    return nncf.quantize(
        model,
        nncf.Dataset(list(samples)),
        preset=nncf.QuantizationPreset.PERFORMANCE if recipe.symmetric else nncf.QuantizationPreset.MIXED,
        subset_size=len(samples),
        ignored_scope=nncf.IgnoredScope(**_ignored(model, recipe), validate=False),
        advanced_parameters=advanced,
    )


def _name_by_order(model: Any) -> None:
    """Give nodes without a name of their own one by their place: OpenVINO numbers them by what the process has made."""
    for number, op in enumerate(model.get_ordered_ops()):
        kind, _, last = op.get_friendly_name().rpartition("_")
        if last.isdigit() and kind == op.get_type_name():
            op.set_friendly_name(f"{kind}.{number}")


def _read_corrected(reference: Path, recipe: GraphRecipe, samples: Sequence[Arrays]) -> Any:
    """Read the reference, its biases corrected first: NNCF corrects none beside an ``Add`` that it leaves alone."""
    if not (recipe.correct_bias and samples and {"Conv", *ALL_OPS} & set(recipe.ops)):
        return core().read_model(reference)
    import onnx

    model = onnx.load(reference)
    nodes = [n for n in model.graph.node if n.op_type == "Conv" and n.name not in recipe.keep]
    return core().read_model(correct_biases(model, nodes, recipe, samples).SerializeToString())


def write(reference: Path, recipe: GraphRecipe, samples: Sequence[Arrays], path: Path) -> None:
    """Write ``path`` (.xml) and its weights (.bin) beside it from the reference graph."""
    import openvino

    if recipe.is_int8:
        model = quantise(_read_corrected(reference, recipe, samples), recipe, samples)
    else:
        model = core().read_model(reference)
    _name_by_order(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(model, path, compress_to_fp16=recipe.precision not in ("fp32", "int8"))
