from typing import NamedTuple
from segdsl.diagnostics import Diagnostic, Span
class Problem(NamedTuple):
    name: str; tokens: list; at: int; start: int; expected: frozenset; level: str
def explain(p):
    f=p.tokens[p.at]
    return Diagnostic("syntax-error",f"found {f.text!r}, expected {sorted(p.expected)}","x",span=Span(p.name,f.start,f.end))
