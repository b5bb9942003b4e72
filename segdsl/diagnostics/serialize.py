"""Machine-readable diagnostics: JSON objects, and SARIF 2.1.0 for code scanning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from segdsl.diagnostics import Diagnostic, Span, find_position

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"error": "error", "warning": "warning", "note": "note"}


def serialize_diagnostic(diagnostic: Diagnostic, sources: Mapping[str, str]) -> dict[str, Any]:
    """Return a diagnostic as a JSON object.

    Lines and columns count from 1; `end_line` and `end_column` are the position after the last character. A diagnostic
    about a file other than a program has a `file` but no line.
    """
    place = {"file": diagnostic.path} if diagnostic.span is None else _serialize_place(diagnostic.span, sources)
    return {
        "severity": diagnostic.severity,
        "slug": diagnostic.slug,
        "message": diagnostic.message,
        "help": diagnostic.help,
        **place,
        "label": diagnostic.label,
        "labels": [{**_serialize_place(span, sources), "text": text} for span, text in diagnostic.labels],
        "fix": {**_serialize_place(diagnostic.fix.span, sources), "text": diagnostic.fix.text}
        if diagnostic.fix
        else None,
    }


def build_sarif(
    diagnostics: Iterable[Diagnostic], sources: Mapping[str, str], version: str, explanations: Mapping[str, str]
) -> dict[str, Any]:
    """Return a SARIF log with one run. ``explanations`` maps slugs to the texts that become the rules' help."""
    found = list(diagnostics)
    slugs = sorted({d.slug for d in found})
    rules = [_build_rule(slug, explanations.get(slug, "")) for slug in slugs]
    driver = {"name": "segdsl", "version": version, "rules": rules}
    results = [_build_result(d, slugs.index(d.slug), sources) for d in found]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def _serialize_place(span: Span, sources: Mapping[str, str]) -> dict[str, Any]:
    text = sources.get(span.file)
    if text is None:
        return {"file": span.file}
    # `max` guards against a span that ends before it starts, which consumers of the formats reject.
    line, column = find_position(text, span.start)
    end_line, end_column = find_position(text, max(span.start, span.end))
    return {"file": span.file, "line": line, "column": column, "end_line": end_line, "end_column": end_column}


def _build_rule(slug: str, explanation: str) -> dict[str, Any]:
    return {"id": slug, "help": {"text": explanation}} if explanation else {"id": slug}


def _build_result(diagnostic: Diagnostic, rule: int, sources: Mapping[str, str]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": diagnostic.slug,
        "ruleIndex": rule,
        "level": _LEVELS[diagnostic.severity],
        "message": {"text": f"{diagnostic.message}. Help: {diagnostic.help}"},
    }
    if diagnostic.span is not None:
        result["locations"] = [{"physicalLocation": _build_location(diagnostic.span, sources)}]
    elif diagnostic.path is not None:
        result["locations"] = [{"physicalLocation": {"artifactLocation": {"uri": _make_uri(diagnostic.path)}}}]
    if diagnostic.labels:
        result["relatedLocations"] = [
            {"id": number, "physicalLocation": _build_location(span, sources), "message": {"text": text}}
            for number, (span, text) in enumerate(diagnostic.labels)
        ]
    if diagnostic.fix is not None:
        result["fixes"] = [_build_fix(diagnostic.fix.span, diagnostic.fix.text, sources)]
    return result


def _build_location(span: Span, sources: Mapping[str, str]) -> dict[str, Any]:
    location: dict[str, Any] = {"artifactLocation": {"uri": _make_uri(span.file)}}
    region = _build_region(span, sources)
    return {**location, "region": region} if region else location


def _build_region(span: Span, sources: Mapping[str, str]) -> dict[str, int]:
    place = _serialize_place(span, sources)
    names = {"line": "startLine", "column": "startColumn", "end_line": "endLine", "end_column": "endColumn"}
    return {new: place[old] for old, new in names.items() if old in place}


def _build_fix(span: Span, text: str, sources: Mapping[str, str]) -> dict[str, Any]:
    replacement = {"deletedRegion": _build_region(span, sources), "insertedContent": {"text": text}}
    change = {"artifactLocation": {"uri": _make_uri(span.file)}, "replacements": [replacement]}
    return {"description": {"text": f"replace it with `{text}`"}, "artifactChanges": [change]}


def _make_uri(name: str) -> str:
    # SARIF requires URIs: backslashes of Windows paths become slashes, and a drive's colon stays.
    return quote(name.replace("\\", "/"), safe="/:")
