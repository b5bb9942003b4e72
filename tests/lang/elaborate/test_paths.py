"""Names are keys (LANGUAGE.md, "Names are keys"): the path of a node is the path of bindings that leads to it."""

from __future__ import annotations

from typing import Any

import pytest

TWO = """
block Two(channels: int, act: module = ReLU()) {
  in x

  conv = x -> Conv(channels, bias = false)
  out y = conv -> act
}
"""
BARE = """
block Bare(channels: int) {
  in x

  out y = x -> Conv(channels, bias = false)
}
"""
C = "Conv(48, bias = false)"


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        pytest.param(f"y = x -> {C}", ["y.weight"], id="a chain of one takes the binding's own path"),
        pytest.param(
            f"y = x -> {C} -> ReLU() -> {C}", ["y.0.weight", "y.2.weight"], id="a chain of several adds positions"
        ),
        pytest.param(f"y = x -> {C} * 3", [f"y.{i}.weight" for i in range(3)], id="copies add positions"),
        pytest.param(f"y = x -> {C} * 1", ["y.0.weight"], id="one copy adds a position too"),
        pytest.param(f"y = x -> {C} * 0 -> {C}", ["y.0.weight"], id="no copy counts nothing"),
        pytest.param(
            f"y = x -> {C} * 2 -> ReLU() -> {C}", ["y.0.weight", "y.1.weight", "y.3.weight"], id="copies count n times"
        ),
        pytest.param(f"x -> {C} as a -> {C} as b", ["a.weight", "b.weight"], id="a named step has its name as path"),
        pytest.param(f"y = x -> {C} as a -> {C}", ["a.weight", "y.weight"], id="a named step takes no position"),
        pytest.param(f"x -> {C} * 2 as a", ["a.0.weight", "a.1.weight"], id="copies of a named step"),
        pytest.param(f"y = [x -> {C}, x -> {C}]", ["y.0.weight", "y.1.weight"], id="list elements add their position"),
        pytest.param(
            f"y = [[x -> {C}], [x, x -> {C}]]", ["y.0.0.weight", "y.1.1.weight"], id="lists in lists add both"
        ),
        pytest.param(
            f"y = [x -> {C} -> {C} for i in range(2)]",
            ["y.0.0.weight", "y.0.1.weight", "y.1.0.weight", "y.1.1.weight"],
            id="comprehensions add positions",
        ),
        pytest.param(
            f"y = [t -> {C} for i in range(2) from t = x]", ["y.0.weight", "y.1.weight"], id="scans add positions"
        ),
        pytest.param(
            f"y = [x, x] -> each {C}", ["y.0.weight", "y.1.weight"], id="each adds the position of the element"
        ),
        pytest.param(
            f"y = [x, x] -> each {C} -> each {C}",
            ["y.0.0.weight", "y.0.1.weight", "y.1.0.weight", "y.1.1.weight"],
            id="a chain of eaches adds the step, then the element",
        ),
        pytest.param(
            f"y = [x, x] -> each {C} * 2",
            ["y.0.0.weight", "y.0.1.weight", "y.1.0.weight", "y.1.1.weight"],
            id="copies of each are such a chain",
        ),
        pytest.param(
            f"y = if 1 < 2 then x -> {C} else x", ["y.weight"], id="if adds no level"
        ),
        pytest.param(f"let y = [x -> Two(8)]\nz = x -> {C}", ["0.conv.weight", "z.weight"], id="let adds no level"),
        pytest.param("y = x -> Two(8)", ["y.conv.weight"], id="a block's bindings lie below it"),
        pytest.param("y = x -> Bare(8)", ["y.weight"], id="out adds no level"),
        pytest.param(
            "y = x -> Bare(8) -> Two(8)", ["y.0.weight", "y.1.conv.weight"], id="blocks in a chain have positions"
        ),
        pytest.param(f"y = x + (x -> {C})", ["y.weight"], id="operators add no level"),
        pytest.param(
            "y = x -> Two(8, act = LayerNorm())",
            ["y.conv.weight", "y.act.weight", "y.act.bias"],
            id="module parameters are bindings",
        ),
        pytest.param(
            "y = x -> Two(8, act = ReLU() -> Conv(4, bias = false))",
            ["y.conv.weight", "y.act.1.weight"],
            id="chains as module parameters",
        ),
    ],
)  # fmt: skip
def test_keys(bench: Any, body: str, keys: list[str]) -> None:
    assert bench.keys(body, TWO + BARE) == keys


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        pytest.param("p = LayerNorm()\na = x -> p\nb = a -> p", ["p.weight", "p.bias"], id="shared module"),
        pytest.param(f"p = {C} -> ReLU() -> {C}\ny = x -> p -> p", ["p.0.weight", "p.2.weight"], id="shared chain"),
        pytest.param(f"p = {C} * 2\ny = x -> p", ["p.0.weight", "p.1.weight"], id="copies as a module"),
        pytest.param(f"p = {C} * 1\ny = x -> p", ["p.0.weight"], id="one copy as a module"),
        pytest.param(
            f"p = {C} * 2 -> {C}\ny = x -> p", ["p.0.weight", "p.1.weight", "p.2.weight"], id="copies, then more"
        ),
        pytest.param(f"p = (ReLU() -> {C}) -> {C}\ny = x -> p", ["p.0.1.weight", "p.1.weight"], id="chains in chains"),
        pytest.param("n = LayerNorm()\np = n -> ReLU()\ny = x -> p -> n", ["n.weight", "n.bias"], id="shared in one"),
        pytest.param(
            f"f = [{C}, Identity(), {C}]\ny = x -> f[0] -> f[1] -> f[2]", ["f.0.weight", "f.2.weight"], id="from a list"
        ),
        pytest.param(
            f"f = [[if i == j then Identity() else {C} for j in range(2)] for i in range(2)]\n"
            "y = x -> f[0][0] -> f[0][1] -> f[1][0] -> f[1][1]",
            ["f.0.1.weight", "f.1.0.weight"],
            id="from a list of lists",
        ),
        pytest.param("y = [x, x] -> each Two(8)", ["y.0.conv.weight", "y.1.conv.weight"], id="each is a fresh copy"),
        pytest.param("n = LayerNorm()\ny = [x, x] -> each n", ["n.weight", "n.bias"], id="each of a shared one"),
        pytest.param(
            "n = LayerNorm()\ny = x -> Two(48, act = n) -> Two(48, act = n)",
            [f"y.{i}.{k}" for i in (0, 1) for k in ("conv.weight", "act.weight", "act.bias")],
            id="a module parameter is fresh for each copy",
        ),
        pytest.param("t = Two(48)\ny = x -> t -> t", ["t.conv.weight"], id="a shared block"),
        pytest.param("t = Two(48) -> ReLU()\ny = x -> t * 2", ["t.0.conv.weight"], id="copies of a shared one share"),
    ],
)  # fmt: skip
def test_modules_are_built_once_at_the_path_of_their_binding(bench: Any, body: str, keys: list[str]) -> None:
    assert bench.keys(body, TWO + BARE) == keys


def test_lists_of_modules_as_parameters(bench: Any) -> None:
    block = """
    block Apply(ms: list) {
      in x

      a = x -> ms[0]
      out y = a -> ms[1]
    }
    """
    assert bench.keys("y = x -> Apply([Conv(4, bias = false), Conv(5, bias = false) * 2])", block) == [
        "y.ms.0.weight", "y.ms.1.0.weight", "y.ms.1.1.weight",
    ]  # fmt: skip


def test_free_parameters_have_their_name_as_key(bench: Any) -> None:
    block = """
    block Scale() {
      in x: [B, C, H, W]

      param gamma: [C] = 1e-2
      param bias: [] = 0.0
      out y = gamma * x + bias
    }
    """
    assert bench.keys("y = x -> Scale()", block) == ["y.gamma", "y.bias"]
    assert bench.keys("s = Scale()\na = x -> s\nb = a -> s", block) == ["s.gamma", "s.bias"]


def test_the_same_block_on_one_tensor_twice_is_not_the_one_on_two(bench: Any) -> None:
    block = """
    block Join() {
      in xs: list

      out y = xs[0] + xs[1]
    }
    """
    graph = bench.model(
        "a = x -> ReLU()\np = [x, x] -> Join()\nq = [a, x] -> Join()\nr = [x, a] -> Join()", block
    ).graph
    operands = {n.path: n.operands for n in graph.nodes}
    assert [operands[p] for p in "pqr"] == [("x", "x"), ("a", "x"), ("x", "a")]


def test_tensors_among_the_arguments_are_inputs_too(bench: Any) -> None:
    block = """
    block Plus(others: list) {
      in x

      out y = x + others[0]
    }
    """
    body = "a = x -> ReLU()\np = x -> Plus([x])\nq = a -> Plus([x])\nr = a -> Plus([a])\ns = x -> Plus([a])"
    operands = {n.path: n.operands for n in bench.model(body, block).graph.nodes}
    assert [operands[p] for p in "pqrs"] == [("x", "x"), ("a", "x"), ("a", "a"), ("x", "a")]


def test_repeated_blocks_are_equal_up_to_their_paths(bench: Any) -> None:
    body = "y = x -> Two(48, act = LayerNorm()) * 3\nz = x -> Two(48, act = LayerNorm())"
    graph = bench.model(body, TWO).graph

    def below(path: str) -> list[tuple[Any, ...]]:
        found = [n for n in graph.nodes if n.path == path or n.path.startswith(path + ".")]
        return [(n.path[len(path) :], n.op, n.shape, n.module and n.module[len(path) :], n.span) for n in found]

    assert len(below("z")) == 2
    assert below("y.0") == below("y.1") == below("y.2")
    assert [row[:4] for row in below("y.0")] == [row[:4] for row in below("z")]
    assert [n.operands for n in graph.nodes if n.path in ("y.0.conv", "y.1.conv", "y.2.conv")] == [
        ("x",), (graph.names["y"].replace("y.2", "y.0"),), (graph.names["y"].replace("y.2", "y.1"),),
    ]  # fmt: skip


def test_names_lead_to_nodes(bench: Any) -> None:
    graph = bench.model(
        "halves = x -> Split([24, 24])\ny = halves[1] -> Two(8)\nx -> ReLU() as r -> ReLU() as s", TWO
    ).graph
    paths = {n.path for n in graph.nodes}
    assert {"halves.0", "halves.1", "y", "y.conv", "y.y", "r", "s", "logits"} <= set(graph.names)
    assert set(graph.names.values()) <= paths
    assert graph.names["y"] == graph.names["y.y"]
    assert len(paths) == len(graph.nodes)


@pytest.mark.parametrize(
    "body",
    [
        f"x -> {C} -> ReLU() as y",
        f"let y = x -> {C}",
        "out extra = x -> Conv(2)",
        f"y = x -> Pass(m = x -> {C})".replace("Pass(m = ", "ResizeTo("),
    ],
)
def test_parameters_without_a_path_ask_for_a_name(bench: Any, body: str) -> None:
    errors = bench.model_errors(body)
    assert [d.slug for d in errors] == ["unnamed-parameters"]
    assert "name" in errors[0].help


@pytest.mark.parametrize(
    "body",
    [
        f"y = (x -> {C}) + (x -> {C})",
        f"y = [x -> {C} as a for i in range(2)]",
        f"y = [x -> {C}, x -> {C}] -> Concat() -> {C} * 1",
    ],
)
def test_two_things_at_one_path_are_told_apart_by_names(bench: Any, body: str) -> None:
    assert [d.slug for d in bench.model_errors(body)] == ["duplicate-path"]


def test_a_name_that_a_built_module_needs_is_refused_when_it_holds_parameters(bench: Any) -> None:
    errors = bench.model_errors(f"half = x -> {C}")
    assert [d.slug for d in errors] == ["name-taken"]
    assert bench.model_errors("half = x -> ReLU()\nlet train = 3") == []
    errors = bench.model_errors("a = x -> Two(8)\nhalf = x -> Two(8)", TWO)
    assert [d.slug for d in errors] == ["name-taken"]


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        ("n = LayerNorm()\na = x -> n\nb = image -> n", "shared-module-mismatch"),
        ("n = LayerNorm()\ny = x + n", "wrong-type"),
        ("n = LayerNorm()\ny = [x, n] -> Concat()", "not-a-list"),
        ("p = Conv(3) -> Conv(4) as a", "named-in-module"),
        ("p = Conv(3) -> each Conv(4)", "named-in-module"),
        ("y = x -> x", "not-a-module"),
        ("y = x -> 3", "not-a-module"),
        ("y = 3 -> ReLU()", "not-a-tensor"),
        ("y = x -> each ReLU()", "not-a-list"),
        ("y = x -> ReLU() * -1", "repeat-count"),
        ("y = x -> ReLU() * 1.5", "wrong-type"),
    ],
)
def test_modules_that_are_used_wrongly(bench: Any, body: str, slug: str) -> None:
    assert [d.slug for d in bench.model_errors(body)] == [slug]


def test_modules_that_are_not_used(bench: Any) -> None:
    assert bench.model_warnings("n = LayerNorm()") == ["module-never-applied"]
    assert bench.model_warnings("n = [LayerNorm(), Identity()]\ny = x -> n[1]") == ["module-never-applied"]
    assert bench.model_warnings("let n = LayerNorm()\ny = x -> Two(48, act = n)", TWO) == []
    assert bench.model_warnings("n = [Identity(), LayerNorm()]\ny = x -> n[1]") == []
