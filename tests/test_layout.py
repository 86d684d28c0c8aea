"""The arrows of docs/architecture.md: who may import whom."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SERVERS = {"lavise_service", "lavise_handler", "ts", "grpc", "httpx"}
MAY_SERVE = ("lavise/cli", "lavise/client", "lavise/demo")
TEACHING = {"torch", "torchvision", "onnx", "onnxscript", "gensim", "safetensors"}
# Who is below whom: a module imports nothing of a line after its own.
LAYERS = (
    ("errors", "progress", "prefetch", "graph_terms", "manifest", "attention", "quantiles", "v1"),
    ("signature", "wordnet"),
    ("mapper", "masking", "options", "explanation", "tensors", "runtime", "kin"),
    ("bundle", "catalog_table", "word_scores"),
    ("explainer", "filter_words"),
    ("catalog", "messages", "teach"),
    ("evaluate",),
    ("cli",),
)


def imports(file: Path, *, at_run_time: bool = False) -> Iterator[str]:
    """Full names of the modules that a file imports; type-checking blocks left out if asked."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if (
            at_run_time
            and isinstance(node, ast.If)
            and isinstance(node.test, ast.Name)
            and node.test.id == "TYPE_CHECKING"
        ):
            skipped.update(*map(ast.walk, node.body))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def library() -> list[Path]:
    return sorted(p for p in (ROOT / "lavise").rglob("*.py") if not p.stem.endswith("_grpc"))


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def test_the_walk_sees_imports() -> None:
    assert "lavise.errors" in set(imports(ROOT / "lavise" / "bundle.py"))
    assert "lavise.manifest.LayerEntry" not in set(
        imports(ROOT / "lavise" / "explainer.py", at_run_time=True)
    )


@pytest.mark.parametrize("file", library(), ids=name_of)
def test_the_library_imports_no_server(file: Path) -> None:
    if name_of(file).startswith(MAY_SERVE):
        return
    assert not {name.split(".")[0] for name in imports(file)} & SERVERS


@pytest.mark.parametrize("file", library(), ids=name_of)
def test_arrows_point_down(file: Path) -> None:
    rank = {name: i for i, row in enumerate(LAYERS) for name in row}
    own = rank.get(file.relative_to(ROOT / "lavise").parts[0].removesuffix(".py"))
    if own is None:
        return
    for name in imports(file, at_run_time=True):
        parts = name.split(".")
        if parts[0] == "lavise" and len(parts) > 1 and parts[1] in rank:
            assert rank[parts[1]] <= own, f"{name_of(file)} imports {name}"


def test_there_are_no_circles() -> None:
    files = {name_of(f).removesuffix(".py").removesuffix("/__init__"): f for f in library()}
    graph = {
        own: {
            other
            for name in imports(file, at_run_time=True)
            if (other := name.replace(".", "/")) in files and not f"{own}/".startswith(f"{other}/")
        }
        for own, file in files.items()
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above[above.index(name) :], name])
        if name not in done:
            for other in graph[name]:
                visit(other, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def loaded_by(*modules: str) -> set[str]:
    """Top-level packages in a fresh interpreter after importing some modules."""
    code = f"import json, sys, {', '.join(modules)}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    return {name.split(".")[0] for name in json.loads(done.stdout)}


def test_serving_loads_nothing_of_teaching() -> None:
    loaded = loaded_by("lavise.explainer", "lavise.messages", "lavise.images")
    assert not loaded & TEACHING
    assert not loaded & SERVERS


def test_no_generic_package_names() -> None:
    """Installed packages called ``service`` or ``handlers`` clash with everyone's."""
    for folder in ("service", "handlers"):
        assert not (ROOT / folder / "__init__.py").exists()
    assert not list(ROOT.glob("tests/**/__init__.py"))
