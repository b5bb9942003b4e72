"""Source files and their scopes: reading, `import`, `extends`, the project root, and the names of each file."""

from __future__ import annotations

import re
from pathlib import Path

from segdsl.diagnostics import Diagnostic, Label, Sink, Span, fail, find_closest_name, suggest_name
from segdsl.diagnostics.aliases import describe_difference
from segdsl.ir.word import REGISTRY
from segdsl.lang.elaborate.scopes import BlockDef, FileScope
from segdsl.lang.elaborate.values import EvalStop, eval_error
from segdsl.syntax import tree
from segdsl.syntax.parser import parse

STD = Path(__file__).resolve().parents[2] / "std"
"""The folder of the library that ships with the package."""
MAX_FILE_BYTES = 4 << 20
"""The maximum size of a program file in bytes."""


class FileLoader:
    """Reads each file once, follows `import` and `extends`, and reports what cannot be read."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.files: dict[Path, FileScope] = {}
        self._loading_stack: list[Path] = []

    def load_file(self, path: Path, name: str, root: Path, use_span: Span | None = None) -> FileScope:
        """Return the scope of a file, which diagnostics call ``name``. Imports must stay inside the folder ``root``."""
        real = path.resolve()
        if real in self._loading_stack:
            raise self._import_cycle_error(real, use_span)
        if real in self.files:
            return self.files[real]
        return self.load_text(read_source(path, name, use_span), path, name, root)

    def load_text(self, text: str, path: Path, name: str, root: Path) -> FileScope:
        """Return the scope of a file with this text, which need not be on the disk; see :meth:`load_file`."""
        real = path.resolve()
        self.sink.sources[name] = text
        parsed = parse(text, name)
        for diagnostic in parsed.diagnostics:
            self.sink.add(diagnostic)
        # A file with errors still gets a scope: what did parse is checked too.
        scope = FileScope(name, real, parsed.file)
        scope.has_syntax_errors = scope.is_incomplete = any(d.severity == "error" for d in parsed.diagnostics)
        self.files[real] = scope
        self._loading_stack.append(real)
        try:
            self._declare_names(scope)
            for statement in parsed.file.body:
                self._follow_statement(scope, statement, root)
        finally:
            self._loading_stack.pop()
        return scope

    def _declare_names(self, scope: FileScope) -> None:
        seen: dict[str, Span] = {}
        for statement in scope.tree.body:
            if not isinstance(statement, (tree.Let, tree.Block)):
                continue
            ident = statement.name
            if ident.name in seen:
                self.sink.add(rebinding_error(ident, seen[ident.name]))
                continue
            seen[ident.name] = ident.span
            if isinstance(statement, tree.Let):
                scope.lets[ident.name] = statement
            elif ident.name in REGISTRY:
                self.sink.add(
                    Diagnostic(
                        "word-redefined",
                        f"`{ident.name}` is the name of a built-in component",
                        f"rename this {statement.kind}",
                        span=ident.span,
                    )
                )
            else:
                scope.blocks[ident.name] = BlockDef(statement, scope)

    def _follow_statement(self, scope: FileScope, statement: tree.Statement, root: Path) -> None:
        if not isinstance(statement, (tree.Import, tree.Extends)):
            return
        try:
            self._import_names(scope, statement, root)
        except EvalStop as signal:
            scope.is_incomplete = True
            if signal.diagnostic:
                self.sink.add(signal.diagnostic)

    def _import_names(self, scope: FileScope, statement: tree.Import | tree.Extends, root: Path) -> None:
        target, name, inner = self._locate_import(scope, statement, root)
        other = self.load_file(target, name, inner, statement.path.span)
        scope.is_incomplete = scope.is_incomplete or other.is_incomplete
        # Without an alias, an import and a parent both add their blocks to the names of this file.
        if isinstance(statement, tree.Extends):
            if scope.parent is not None:
                raise eval_error(
                    "second-parent",
                    statement.span,
                    "a file can extend only one other file",
                    "keep one `extends`, and use `import` for the blocks of the other file",
                )
            scope.parent = other
        elif statement.alias is not None:
            if statement.alias.name in scope.namespaces:
                raise EvalStop(rebinding_error(statement.alias, _find_first_alias(scope, statement.alias)))
            scope.namespaces[statement.alias.name] = other
            return
        for block_name, block in other.blocks.items():
            known = scope.find_component(block_name)
            # The same block may arrive twice, by two imports of one file.
            if known is not None and known is not block:
                raise eval_error(
                    "import-ambiguous",
                    statement.span,
                    f"`{block_name}` is defined in both {other.name} and {known.file.name}",
                    'import one of the files under an alias: `import "…" as name`, then `name.' + block_name + "(…)`",
                    labels=[Label(known.tree.name.span, "the other definition")],
                )
            scope.imports[block_name] = block

    def _locate_import(
        self, scope: FileScope, statement: tree.Import | tree.Extends, root: Path
    ) -> tuple[Path, str, Path]:
        text, span = str(statement.path.value), statement.path.span
        try:
            return self._find_import(scope, text, span, root)
        except (OSError, ValueError, RuntimeError):
            raise eval_error("import-missing", span, "this is not a valid path", "check the path") from None

    def _find_import(self, scope: FileScope, text: str, span: Span, root: Path) -> tuple[Path, str, Path]:
        if text.startswith(("timm:", "py:")):
            raise eval_error(
                "reserved-feature",
                span,
                f"`{text.split(':')[0]}:` imports are reserved for a later version",
                "define the module as a block; see `segdsl show std/lite_hrnet.seg` for an example",
            )
        if text.startswith("std/"):
            path = STD / text[4:]
            if not path.is_file() or not path.resolve().is_relative_to(STD):
                known = sorted(f"std/{p.name}" for p in STD.glob("*.seg"))
                message = f"the library has no file `{text}`"
                raise eval_error("import-missing", span, message, suggest_name(text, known, "files"))
            return path, text, STD
        path = scope.path.parent / text
        if Path(text).is_absolute() or not path.resolve().is_relative_to(root):
            raise eval_error(
                "import-outside-root",
                span,
                f"`{text}` is outside the project root {root.name or root}",
                "copy the file into the project, or add a `pyproject.toml` to a common parent folder",
            )
        if not path.is_file():
            beside = [p.name for p in path.parent.glob("*.seg") if p.is_file()] if path.parent.is_dir() else []
            near = find_closest_name(Path(text).name, beside)
            raise eval_error(
                "import-missing",
                span,
                f"file not found: `{text}` (relative to {scope.name})",
                f"did you mean `{Path(text).with_name(near).as_posix()}`?"
                if near
                else "check the path, or create the file",
            )
        return path, (Path(scope.name).parent / text).as_posix(), root

    def _import_cycle_error(self, real: Path, use_span: Span | None) -> Exception:
        names = [self.files[p].name for p in self._loading_stack[self._loading_stack.index(real) :]]
        assert use_span is not None
        return eval_error(
            "import-cycle",
            use_span,
            "import cycle: " + " -> ".join([*names, names[0]]),
            "move the shared definitions into a third file and import it",
        )


def _find_first_alias(scope: FileScope, alias: tree.Ident) -> Span:
    aliases = [s.alias for s in scope.tree.body if isinstance(s, tree.Import) and s.alias is not None]
    return next(a.span for a in aliases if a.name == alias.name)


def rebinding_error(ident: tree.Ident, first: Span) -> Diagnostic:
    """Return the error for a name that is defined a second time."""
    return Diagnostic(
        "rebinding",
        f"`{ident.name}` is already defined",
        "choose another name; a name is defined only once",
        span=ident.span,
        label="defined again here",
        labels=(Label(first, "first defined here"),),
    )


def find_library_defining(name: str) -> str | None:
    """Return the import path of the library file that defines a block or model of this name, or None."""
    # By pattern and not by parser: a suggestion should not cost parsing the whole library.
    head = re.compile(rf"^(block|model) {re.escape(name)}\(", re.MULTILINE)
    found = (file for file in sorted(STD.glob("*.seg")) if head.search(file.read_text(encoding="utf-8")))
    return next((f"std/{file.name}" for file in found), None)


def suggest_definition(name: str, similar_name: str | None, *, wants_model: bool = False) -> str:
    """Return the help for a component that is not defined in scope.

    ``similar_name`` is a component in scope with a similar name, and ``wants_model`` restricts the help to models.
    """
    library = find_library_defining(name)
    if library is not None:
        return f'import it: `import "{library}"`'
    if similar_name:
        return (
            suggest_name(name, [similar_name], "components")
            if describe_difference(name)
            else f"did you mean `{similar_name}`?"
        )
    if not wants_model:
        return "define it with `block`, or import the file that defines it"
    found = (
        (m[1], file.name) for file in sorted(STD.glob("*.seg")) for m in _MODEL_HEADER.finditer(file.read_text("utf-8"))
    )
    listing = ", ".join(f'`{name}` ("std/{file}")' for name, file in found)
    return f"define it with `model`, or import one: {listing}"


_MODEL_HEADER = re.compile(r"^model (\w+)\(", re.MULTILINE)


def find_project_root(path: Path) -> Path:
    """Return the nearest parent folder with `.git` or `pyproject.toml`, otherwise the file's own folder."""
    folder = path.resolve().parent
    for candidate in (folder, *folder.parents):
        if (candidate / ".git").exists() or (candidate / "pyproject.toml").exists():
            return candidate
    return folder


def read_source(path: Path, name: str, span: Span | None = None) -> str:
    """Read a program file and return its text with `\\n` line ends.

    Raises SegError if the file is missing, unreadable, too large or not UTF-8.
    """
    try:
        if path.is_dir():
            run_help = f"resume this run with `segdsl train {name} --resume`"
            run_help += f", or use its program `{Path(name) / 'program.seg'}`"
            help = run_help if (path / "program.seg").is_file() else "name a `.seg` file"
            raise fail("file-unreadable", f"{name} is a folder", help, path=name, span=span)
        # A pipe that nobody writes to would be waited for without end, and a device may have no end.
        if not path.is_file() and path.exists():
            message = f"{name} is a pipe or a device"
            raise fail("file-unreadable", message, "name a `.seg` file", path=name, span=span)
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        # The name may be that of a checkpoint of several gigabytes.
        if len(content) > MAX_FILE_BYTES:
            message = f"{name} is larger than 4 MiB"
            raise fail("file-unreadable", message, "name a `.seg` file, or split this one", path=name, span=span)
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        message = f"{name} is not valid UTF-8 at byte {error.start}"
        raise fail("file-unreadable", message, "save the file as UTF-8", path=name, span=span) from None
    except FileNotFoundError:
        if path.is_symlink():
            message = f"{name} is a symbolic link to a file that does not exist"
            raise fail("file-missing", message, "fix or remove the link", path=name, span=span) from None
        near = find_closest_name(path.name, [p.name for p in path.parent.glob("*.seg")] if path.parent.is_dir() else [])
        help = f"did you mean `{Path(name).with_name(near)}`?" if near else "check the path"
        raise fail("file-missing", f"file not found: {name}", help, path=name, span=span) from None
    except OSError as error:
        message = f"cannot read {name}: {(error.strerror or 'input/output error').lower()}"
        raise fail("file-unreadable", message, "check the permissions", path=name, span=span) from None
