"""Writes docs/hyperfile-api.md from the docstrings: `python docs/api_page.py`.

A test holds the page to what this makes, so it cannot fall behind the source.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

PAGE = Path(__file__).with_name("hyperfile-api.md")

_HEAD = """# API of Hyperfile files

What `hf_agent.hyperfile` and the modules beside it offer, as their docstrings say. Made by
`docs/api_page.py`; change the docstrings, not this page. [hyperfile.md](hyperfile.md) is the
tutorial. Sizes and offsets are bytes; content is `bytes`, one byte an element.
"""

_SECTIONS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "Blocking files",
        "hf_agent.hyperfile",
        ("open", "blocking.raw_file.HyperfileIO", "cache.CacheOptions"),
    ),
    (
        "Files for asyncio",
        "hf_agent.hyperfile",
        ("HyperFile", "FileOptions", "FileStat", "ByteRange", "CommitResult"),
    ),
    (
        "Containers and their versions",
        "hf_agent.hyperfile",
        (
            *("list_checkpoints", "checkpoint_at", "Checkpoint", "diff", "rollback", "copy"),
            *("remove", "list_containers", "stat_container", "ContainerStat"),
        ),
    ),
    ("fsspec", "hf_agent.fs", ("HyperfileFileSystem", "s3_options.s3_options", "errors.os_errors")),
    ("Stores", "hf_agent.store", ("url.open_store", "url.split_uri", "options.S3Options")),
    ("Errors of containers", "hf_agent.hyperfile.errors", ()),
    (
        "Errors of stores",
        "hf_agent.store.base",
        ("StoreError", "StoreRetry", "StoreConflict", "StoreRefused", "StoreNotFound"),
    ),
)
"""Title, package, and names in it; no names: all of its `__all__`."""


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for title, package, names in _SECTIONS:
        parts.append(f"## {title}\n")
        for name in names or importlib.import_module(package).__all__:
            parts.extend(_describe(package, name))
    return "\n".join(parts)


def _describe(package: str, name: str) -> list[str]:
    inner, _, last = name.rpartition(".")
    module = importlib.import_module(f"{package}.{inner}" if inner else package)
    found = getattr(module, last)
    tree = _definition(found, last)
    where = f"{module.__name__}.{last}"
    if not isinstance(tree, ast.ClassDef):
        return [f"### `{where}`\n", _signature(tree), _text(ast.get_docstring(tree))]
    bases = ", ".join(ast.unparse(base) for base in tree.bases)
    parts = [f"### `{where}`\n", f"A kind of `{bases}`.\n" if bases else ""]
    parts.append(_text(ast.get_docstring(tree)))
    parts.extend(_fields(tree))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and (not node.name.startswith("_") or node.name == "__init__"):
                parts.extend((f"#### `{last}.{node.name}`\n", _signature(node), _text(text)))
    return [part for part in parts if part]


def _definition(found: object, name: str) -> ast.AST:
    module = inspect.getmodule(inspect.unwrap(found))  # type: ignore[arg-type]
    assert module is not None
    for node in ast.parse(inspect.getsource(module)).body:
        if getattr(node, "name", None) == name:
            return node
    raise LookupError(f"{name} is not defined in {module.__name__}")


def _fields(tree: ast.ClassDef) -> list[str]:
    """Annotated attributes of a class as a list, with the strings that stand below them."""
    lines = []
    for index, node in enumerate(tree.body):
        if not isinstance(node, ast.AnnAssign) or ast.unparse(node.target).startswith("_"):
            continue
        line = f"- `{ast.unparse(node)}`"
        after = tree.body[index + 1] if index + 1 < len(tree.body) else None
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            line += ": " + " ".join(str(after.value.value).split())
        lines.append(line)
    return ["\n".join(lines) + "\n"] if lines else []


def _signature(node: ast.AST) -> str:
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    head = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    kinds = {ast.unparse(each) for each in node.decorator_list}
    decorators = "".join(f"@{each}\n" for each in sorted(kinds & {"property", "classmethod"}))
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"{head} {node.name}({ast.unparse(node.args)}){returns}"
    if len(line) > 100:
        arguments = ",\n    ".join(_arguments(node.args))
        line = f"{head} {node.name}(\n    {arguments},\n){returns}"
    return f"```text\n{decorators}{line}\n```\n"


def _arguments(args: ast.arguments) -> list[str]:
    """Each argument by itself, as in the source."""
    found = []
    plain = [*args.posonlyargs, *args.args]
    missing = len(plain) - len(args.defaults)
    for index, each in enumerate(plain):
        found.append(_argument(each, args.defaults[index - missing] if index >= missing else None))
    if args.vararg:
        found.append("*" + ast.unparse(args.vararg))
    elif args.kwonlyargs:
        found.append("*")
    for each, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        found.append(_argument(each, default))
    if args.kwarg:
        found.append("**" + ast.unparse(args.kwarg))
    return found


def _argument(name: ast.arg, default: ast.expr | None) -> str:
    text = ast.unparse(name)
    return text if default is None else f"{text} = {ast.unparse(default)}"


def _text(docstring: str | None) -> str:
    assert docstring, "what is on this page has a docstring"
    return docstring + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
