"""Shape rules without torch: results checked by counting, and every kind of operand that does not fit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import segdsl.ops  # noqa: F401 - registers the ops
from segdsl.ir.graph import Op, ShapeError
from segdsl.ir.shape import Shape, ceil_div, evaluate_extent, evaluate_shape, format_shape, make_symbol
from segdsl.ir.values import Size
from segdsl.ir.word import list_words, read_field_docs
from segdsl.ops.act import Softmax
from segdsl.ops.attention import Attention
from segdsl.ops.conv import Conv, Linear
from segdsl.ops.join import ChannelShuffle, Concat, Item, Split
from segdsl.ops.norm import BatchNorm, GroupNorm
from segdsl.ops.parameter import Full, Parameter
from segdsl.ops.pool import AdaptiveAvgPool
from segdsl.ops.resize import ResizeTo
from segdsl.ops.scalar import Add, Multiply
from segdsl.ops.tokens import Tokens, ToMap

B, H, W = make_symbol("B"), make_symbol("H"), make_symbol("W")
ENV = {"B": 1, "H": 520, "W": 518}


def feature_map(channels: int, stride: int = 1) -> Shape:
    return (B, channels, ceil_div(H, stride), ceil_div(W, stride))


def error_of(op: Op, *shapes: Shape, env: dict[str, int] = ENV) -> ShapeError:
    with pytest.raises(ShapeError) as caught:
        op.infer_shape(shapes, env)
    return caught.value


@pytest.mark.parametrize("op", list_words(Op).values(), ids=list_words(Op))
def test_every_op_has_documentation_for_itself_fields_and_operands(op: type[Op]) -> None:
    docs = read_field_docs(op)
    assert (op.__doc__ or "").strip().endswith(".")
    assert all(docs.get(name, "").endswith(".") for name in op.model_fields), docs
    assert all(operand.doc.endswith(".") for operand in op.takes)


@given(
    size=st.integers(1, 40), kernel=st.integers(1, 7), stride=st.integers(1, 4), padding=st.none() | st.integers(0, 3),
    dilation=st.integers(1, 3),
)  # fmt: skip
def test_conv_counts_the_windows(size: int, kernel: int, stride: int, padding: int | None, dilation: int) -> None:
    op = Conv(channels=4, kernel=Size(kernel, 1), stride=stride, padding=padding, dilation=dilation)
    pad = op.compute_paddings()[0]
    reach = dilation * (kernel - 1)
    windows = [first for first in range(-pad, size + pad, stride) if first + reach <= size + pad - 1]
    env = {"B": 1, "H": size, "W": 64}
    if padding is None and kernel % 2 == 0:
        assert error_of(op, feature_map(3), env=env).slug == "even-kernel-needs-padding"
    elif not windows:
        assert error_of(op, feature_map(3), env=env).slug == "kernel-too-large"
    else:
        assert evaluate_extent(op.infer_shape([feature_map(3)], env)[2], env) == len(windows)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("kernel", [Size(3, 3), Size(1, 7), Size(5, 1)])
def test_an_odd_kernel_preserves_the_size_and_a_stride_rounds_up(kernel: Size, dilation: int) -> None:
    same = Conv(channels=8, kernel=kernel, dilation=dilation).infer_shape([feature_map(3, 2)], ENV)
    halved = Conv(channels=8, kernel=kernel, dilation=dilation, stride=2).infer_shape([feature_map(3, 2)], ENV)
    assert format_shape(same) == "[B, 8, H/2, W/2]"
    assert format_shape(halved) == "[B, 8, H/4, W/4]"


@given(
    height=st.integers(28, 300), width=st.integers(28, 300), stride=st.sampled_from([1, 2, 4]),
    patch=st.sampled_from([2, 4, 14]),
)  # fmt: skip
@settings(max_examples=60)
def test_suggested_sizes_are_the_closest_that_patches_divide(height: int, width: int, stride: int, patch: int) -> None:
    op = Conv(channels=8, kernel=Size(patch, patch), stride=patch, padding=0)
    env = {"B": 1, "H": height, "W": width}
    fits = [-(-extent // stride) % patch == 0 for extent in (height, width)]
    if all(fits):
        assert format_shape(op.infer_shape([feature_map(3, stride)], env)) == format_shape(
            feature_map(8, stride * patch)
        )
        return
    error = error_of(op, feature_map(3, stride), env=env)
    assert (error.slug, error.divisor) == ("size-not-divisible", stride * patch)
    sizes = [word.split("x") for word in error.help.split() if word[0].isdigit() and "x" in word]
    assert sizes
    for size in sizes:
        near = {"B": 1, "H": int(size[0]), "W": int(size[1])}
        op.infer_shape([feature_map(3, stride)], near)
        assert all(abs(near[name] - env[name]) < error.divisor or near[name] == error.divisor for name in "HW")


BROADCASTS = [
    (feature_map(8, 4), feature_map(8, 4), "[B, 8, H/4, W/4]"),
    ((), feature_map(8), "[B, 8, H, W]"),
    (feature_map(8), (8,), "[B, 8, H, W]"),
    ((8,), (B, 5, 8), "[B, 5, 8]"),
    (feature_map(8), (1,), "[B, 8, H, W]"),
    (feature_map(8), (B, 8, 1, 1), "[B, 8, H, W]"),
    ((1, 8, 1, 1), feature_map(8), "[B, 8, H, W]"),
    ((B, 1 + H * W, 8), (1, 1 + H * W, 8), "[B, 1 + H*W, 8]"),
    ((1, 1, 8), (B, 7, 8), "[B, 7, 8]"),
    ((B, 1, 8), (B, 7, 8), "[B, 7, 8]"),
    ((), (), "[]"),
    ((3,), (3,), "[3]"),
]


@pytest.mark.parametrize(("left", "right", "result"), BROADCASTS, ids=lambda value: str(value))
def test_arithmetic_broadcasts_scalars_vectors_and_gates(left: Shape, right: Shape, result: str) -> None:
    assert format_shape(Add().infer_shape([left, right], ENV)) == result
    assert format_shape(Add().infer_shape([right, left], ENV)) == result


MISFITS = [
    (Add(), [feature_map(48, 4), feature_map(96, 8)], "channel-mismatch", "48 and 96"),
    (Add(), [feature_map(8), (9,)], "channel-mismatch", "8 and 9"),
    (Add(), [(9,), feature_map(8)], "channel-mismatch", "9 and 8"),
    (Add(), [feature_map(8), (B, 1, H, W)], "channel-mismatch", "8 and 1"),
    (Add(), [feature_map(8, 4), feature_map(8, 8)], "size-mismatch", "(130x130 at 520x518)"),
    (Add(), [feature_map(8), (B, 8, 1, W)], "size-mismatch", "[B, 8, 1, W]"),
    (Add(), [(B, 5, 8), (B, 6, 8)], "size-mismatch", "[B, 6, 8]"),
    (Add(), [feature_map(8), (B, 5, 8)], "wrong-rank", "[B, 5, 8]"),
    (Add(), [feature_map(8)], "operand-count", "got 1"),
    (Add(left=1.0, right=2.0), [feature_map(8)], "operand-count", "got 3"),
    (Multiply(right=2.0), [feature_map(8), feature_map(8)], "operand-count", "got 3"),
    (BatchNorm(), [(B, 5, 8)], "wrong-rank", "[B, 5, 8]"),
    (Softmax(), [(8,)], "wrong-rank", "[8]"),
    (Attention(heads=2), [feature_map(12)], "wrong-rank", "tokens"),
    (Attention(heads=5), [(B, 7, 12)], "groups-do-not-divide", "4 query channels"),
    (Attention(heads=1), [(B, 7, 13)], "groups-do-not-divide", "13 channels"),
    (GroupNorm(groups=5), [feature_map(8)], "groups-do-not-divide", "8 channels into 5"),
    (Conv(channels=8, groups=3), [feature_map(8)], "groups-do-not-divide", "8 channels into 3"),
    (Conv(channels=8, groups=3), [feature_map(9)], "groups-do-not-divide", "8 output channels into 3"),
    (Conv(channels=8, kernel=Size(0, 3)), [feature_map(8)], "kernel-too-small", "0x3"),
    (Linear(channels=8), [feature_map(8)], "wrong-rank", "[B, 8, H, W]"),
    (ChannelShuffle(groups=3), [feature_map(8)], "groups-do-not-divide", "8 channels into 3"),
    (Split(sizes=(3, 4)), [feature_map(8)], "split-does-not-add-up", "3 + 4 = 7"),
    (Concat(), [], "nothing-to-join", "empty"),
    (Concat(), [feature_map(8), (B, 5, 8)], "wrong-rank", "[B, 5, 8]"),
    (Concat(), [feature_map(8), feature_map(8, 2)], "size-mismatch", "(260x259 at 520x518)"),
    (Concat(), [feature_map(8), (1, 8, H, W)], "size-mismatch", "[1, 8, H, W]"),
    (AdaptiveAvgPool(), [feature_map(8)], "target-size-unclear", "neither"),
    (AdaptiveAvgPool(size=Size(1, 1)), [feature_map(8), feature_map(8)], "target-size-unclear", "both"),
    (AdaptiveAvgPool(size=Size(0, 1)), [feature_map(8)], "target-size-unclear", "0x1"),
    (ResizeTo(), [feature_map(8), (B, 5, 8)], "wrong-rank", "[B, 5, 8]"),
    (ResizeTo(mode="nearest", align_corners=True), [feature_map(8), feature_map(8)], "nearest-has-no-corners", ""),
    (Tokens(), [feature_map(8), (1, 1, 9)], "channel-mismatch", "[1, 1, 9]"),
    (ToMap(), [(B, 1 + 130 * 130, 8), feature_map(8, 4)], "tokens-do-not-fit", "16901"),
    (ToMap(skip=1), [(B, 5, 8), feature_map(8, 4)], "tokens-do-not-fit", "got 5"),
    (Parameter(shape=(1, B, 8), init=Full(value=0)), [], "parameter-shape", "[1, B, 8]"),
    (Parameter(shape=(0, 8), init=Full(value=0)), [], "parameter-shape", "[0, 8]"),
]


@pytest.mark.parametrize(("op", "shapes", "slug", "fragment"), MISFITS, ids=lambda value: str(value)[:60])
def test_misfits_are_rejected_with_their_shapes(op, shapes, slug: str, fragment: str) -> None:
    error = error_of(op, *shapes)
    assert error.slug == slug
    assert fragment in error.message
    assert error.help


def test_wording_of_shape_errors(wording: Callable[[str], None]) -> None:
    errors = [error_of(op, *shapes) for op, shapes, _, _ in MISFITS]
    wording("\n".join(f"{error.slug}: {error.message}\n  help: {error.help}" for error in errors))


def test_sizes_that_differ_by_rounding_suggest_sizes_that_match() -> None:
    doubled = (B, 8, 2 * ceil_div(H, 8), 2 * ceil_div(W, 8))
    env = {"B": 1, "H": 516, "W": 512}
    error = error_of(Add(), feature_map(8, 4), doubled, env=env)
    assert (error.slug, error.divisor) == ("size-mismatch", 8)
    assert "512x512 or 520x512" in error.help
    assert Add().infer_shape([feature_map(8, 4), doubled], {"B": 1, "H": 520, "W": 512}) == feature_map(8, 4)


def test_a_map_survives_the_round_trip_through_tokens() -> None:
    tokens = Tokens().infer_shape([feature_map(8, 14), (1, 2, 8)], ENV)
    assert evaluate_shape(tokens, ENV) == (1, 2 + 38 * 37, 8)
    assert ToMap(skip=2).infer_shape([tokens, feature_map(3, 14)], ENV) == feature_map(8, 14)
    assert "skip" in error_of(ToMap(), tokens, feature_map(3, 14)).help


def test_split_preserves_its_operand_and_items_have_the_parts() -> None:
    whole = Split(sizes=(3, 5)).infer_shape([feature_map(8)], ENV)
    assert whole == feature_map(8)
    assert Item(index=1, channels=5).infer_shape([whole], ENV) == feature_map(5)
    assert Item(index=1, channels=5).infer_shape([(B, 7, 8)], ENV) == (B, 7, 5)


def test_only_convolutions_and_products_have_macs() -> None:
    shape = feature_map(8)
    out = Conv(channels=16, kernel=Size(3, 3), groups=4).infer_shape([shape], ENV)
    assert (
        evaluate_extent(Conv(channels=16, kernel=Size(3, 3), groups=4).count_macs([shape], out), ENV)
        == 520 * 518 * 16 * 2 * 9
    )
    assert evaluate_extent(Linear(channels=16).count_macs([(B, 7, 8)], (B, 7, 16)), ENV) == 7 * 8 * 16
    assert evaluate_extent(Attention(heads=2).count_macs([(B, 7, 12)], (B, 7, 4)), ENV) == 2 * 7 * 7 * 4
    assert BatchNorm().count_macs([shape], shape) == 0
