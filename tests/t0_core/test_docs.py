"""The documentation agrees with the code: modules, settings, searches, messages, links."""

import ast
import importlib.util
import re
import runpy
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from up42fs import __version__
from up42fs.model.query import FIELDS, Field, parse_query

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
NAMES = [page.name for page in PAGES]
#: Said by the system or by other programs, not by us.
NOT_OURS = {
    "/bin/sh: 1: up42fs: not found",
    "pip could not install up42fs, and nothing was changed; …",  # of contrib/install, and tested
    "option allow_other only allowed if 'user_allow_other' is set in /etc/fuse.conf",
    "Transport endpoint is not connected",
    "Software caused connection abort",
    "Read-only file system",
    "Permission denied",
}


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def doc_tables() -> ModuleType:
    return contrib("doc_tables")


@cache
def contrib(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "contrib" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def packages() -> set[str]:
    """Dotted names below up42fs of all packages, and of the modules beside them."""
    package = ROOT / "up42fs"
    below = {
        ".".join(path.relative_to(package).parent.parts)
        for path in package.rglob("__init__.py")
        if path.parent != package
    }
    return below | {path.stem for path in package.glob("*.py")} - {"__init__", "__main__"}


def listed_packages() -> list[str]:
    section = read(DOCS / "architecture.md").partition("## Packages")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+) \| \S", section, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([\w.]+)`", row)]


def test_architecture_lists_every_package_once() -> None:
    listed = listed_packages()
    assert len(listed) == len(set(listed))
    assert set(listed) == packages()


@cache
def members() -> dict[str, set[str]]:
    """Of each class and dotted module below up42fs, the names that are defined in it.

    Classes of one name share an entry: a page says which one it means by its module.
    """
    package = ROOT / "up42fs"
    found: dict[str, set[str]] = {}
    for path in package.rglob("*.py"):
        tree = ast.parse(read(path))
        parts = path.relative_to(package).with_suffix("").parts
        module = ".".join(part for part in parts if part != "__init__")
        found.setdefault(module, set()).update(_names_in(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, set()).update(_names_in(node))
    return found


def _names_in(node: ast.AST) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {child.name for child in ast.walk(node) if isinstance(child, kinds)}


def is_defined(name: str) -> bool:
    """Whether a dotted name is a module, a class, or a member of one of these."""
    owner, _, member = name.rpartition(".")
    return name in members() or member in members().get(owner, ())


def named_parts() -> list[str]:
    """Dotted names of the program, and names of classes, in the prose of the architecture page."""
    prose = re.sub(r"```.*?```", "", read(DOCS / "architecture.md"), flags=re.DOTALL)
    spans = re.findall(r"`([A-Za-z]\w*(?:\.\w+)*)`", prose)
    files = re.compile(r".*\.(?:md|toml|py|xml|tif|zip|json|geojson)$")
    classes = re.compile(r"(?:[A-Z][a-z0-9]+)+(?:\.\w+)?$")
    dotted = {span for span in spans if "." in span and not files.match(span)}
    return sorted(dotted | {span for span in spans if classes.match(span)})


@pytest.mark.parametrize("name", named_parts())
def test_architecture_names_what_exists(name: str) -> None:
    assert is_defined(name.removeprefix("up42fs."))


def drawn_paths() -> list[str]:
    """Files and folders below up42fs in figures and tables of the architecture page."""
    page = read(DOCS / "architecture.md")
    figures = "\n".join(re.findall(r"```\n(.*?)```", page, re.DOTALL))
    drawn = re.findall(r"(?<![\w./])([a-z]\w*(?:/\w+)*/(?:\w+\.py)?)(?=\s)", figures)
    cells = re.findall(r"`(?!docs/|tests/|contrib/)((?:\w+/)*\w+\.py|(?:\w+/)+)`", page)
    top = {path.name for path in (ROOT / "up42fs").iterdir()}
    return sorted({path for path in [*drawn, *cells] if path.partition("/")[0] in top})


@pytest.mark.parametrize("path", drawn_paths())
def test_figures_of_the_architecture_show_what_exists(path: str) -> None:
    assert (ROOT / "up42fs" / path).exists()


def test_there_are_names_and_figures_to_check() -> None:
    assert len(named_parts()) > 40
    assert len(drawn_paths()) > 40


def test_settings_page_is_what_the_option_table_says() -> None:
    assert read(doc_tables().SETTINGS) == doc_tables().settings_page(), (
        "run: python contrib/doc_tables.py"
    )


def test_emulator_page_has_every_switch() -> None:
    page = read(doc_tables().EMULATOR)
    assert doc_tables().BEGIN in page
    assert doc_tables().END in page
    assert page == doc_tables().with_switches(page), "run: python contrib/doc_tables.py"


def test_fault_page_has_the_matrix() -> None:
    page = read(doc_tables().FAULTS)
    assert doc_tables().MATRIX_BEGIN in page
    assert doc_tables().MATRIX_END in page
    assert page == doc_tables().with_matrix(page), "run: python contrib/doc_tables.py"


def test_emulator_page_names_every_operation() -> None:
    from up42fs.emulator.control import OPERATIONS

    named = re.search(
        r"^Operations: (.*?)\.$", read(DOCS / "emulator.md"), re.MULTILINE | re.DOTALL
    )
    assert named is not None
    assert set(re.findall(r"`(\w+)`", named[1])) == set(OPERATIONS)


def test_search_page_has_every_field() -> None:
    page = read(doc_tables().SEARCH)
    assert doc_tables().FIELDS_BEGIN in page
    assert doc_tables().FIELDS_END in page
    assert page == doc_tables().with_fields(page), "run: python contrib/doc_tables.py"


@pytest.mark.parametrize("field", FIELDS, ids=[field.name for field in FIELDS])
def test_examples_of_search_fields_are_queries_about_them(field: Field) -> None:
    query = parse_query(field.example)
    assert query is not None
    assert [term.field for term in query.terms] == [field.name]


def search_names(section: str) -> list[str]:
    """What stands in code spans of a section of the page about searches."""
    page = read(DOCS / "search.md").partition(f"## {section}\n")[2].partition("\n## ")[0]
    spans = re.findall(r"`([^`\n]+)`", page)
    return [span for span in spans if re.match(r"\w+\s*[<>=]", span)]


@pytest.mark.parametrize("name", search_names("Values"))
def test_searches_that_the_page_explains_are_queries(name: str) -> None:
    assert parse_query(name) is not None


@pytest.mark.parametrize("name", search_names("No queries"))
def test_names_that_the_page_calls_no_queries_are_none(name: str) -> None:
    assert parse_query(name) is None


def test_there_are_searches_to_check() -> None:
    assert min(len(search_names("Values")), len(search_names("No queries"))) > 5


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_searches_in_sessions_are_queries(page: Path) -> None:
    text = re.sub("^up42fs: .*", "", read(page), flags=re.MULTILINE)  # errors about others
    for name in re.findall(r"search/([^/<'\"`\n][^/'\"`\n]*[<>=][^'\"`\n]*)['\"`]", text):
        assert parse_query(name) is not None, name


@cache
def our_words() -> str:
    """Every string constant of the program, implicit concatenations joined."""
    trees = (ast.parse(read(path)) for path in (ROOT / "up42fs").rglob("*.py"))
    nodes = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    words = (node.value for node in nodes if isinstance(node.value, str))
    return "\n".join(re.sub(r"%(?:\.\d)?[sdf]", "\n", word) for word in words)


def quoted_messages() -> list[str]:
    """Code spans of the troubleshooting page that read like a sentence of the program."""
    page = read(DOCS / "troubleshooting.md")
    spans = {span for span in re.findall(r"`([^`\n]+)`", page) if is_message(span)}
    return sorted(spans - NOT_OURS)


def is_message(span: str) -> bool:
    programs = (
        "up42fs|journalctl|systemctl|echo|cat|kill|ps|fuser|file|export|sudo|gdal\\w+|--?\\w+"
    )
    command = re.match(f"({programs}) ", span)
    words = re.findall(r"[a-z']{2,}", span)
    return command is None and " " in span and "<" not in span and len(words) >= 4


def test_there_are_messages_to_check() -> None:
    assert len(quoted_messages()) > 20


@pytest.mark.parametrize("message", quoted_messages())
def test_quoted_messages_are_the_programs_own(message: str) -> None:
    for piece in re.split("…|; ", message):
        piece = piece.strip(" .:;,'\"{}")
        assert piece in our_words(), piece


#: argparse words its usage differently in later versions.
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="made by Python 3.11 or 3.12")
def test_manual_pages_and_completions_are_those_of_the_commands() -> None:
    pages, shells = contrib("manpages"), contrib("completions")
    for name, text in pages.pages().items():
        assert read(pages.SHARE / name) == text, "run: python contrib/manpages.py"
    for shell in shells.SHELLS:
        made = shells.completions(shell) + "\n"
        assert read(shells.SHARE / f"up42fs.{shell}") == made, "run: python contrib/completions.py"


def test_the_manual_page_names_tree_searches_and_attributes() -> None:
    """All that the pages of docs/ list, so that neither is forgotten."""
    bold = re.findall(r"^\\fB(.+)\\fR$", contrib("manpages").pages()["up42fs.1"], re.MULTILINE)
    heads = "\n".join(bold).replace("\\-", "-")
    tree = re.search(r"```\n~/up42/\n(.*?)```", read(ROOT / "README.md"), re.DOTALL)
    assert tree is not None
    top = re.findall(r"^[├└]── ([\w.]+)", tree[1], re.MULTILINE)
    assert len(top) > 8
    files = re.findall(r"^ {4}([\w.]+\.(?:geojson|json))", tree[1], re.MULTILINE)
    for name in [*top, *files, "layers.qlr", "visual.vrt"]:
        assert re.search(rf"(?:^|[ /]){re.escape(name)}(?:[/,]|$)", heads, re.MULTILINE), name
    for field in FIELDS:
        assert f"{field.name} {' '.join(field.operators)}" in heads, field.name
    section = read(DOCS / "semantics.md").partition("## Extended attributes")[2]
    section = section.partition("\n## ")[0]
    whole = contrib("manpages").pages()["up42fs.1"].replace("\\-", "-")
    words = whole.partition(".SH EXTENDED ATTRIBUTES")[2].partition("\n.SH ")[0]
    for keys in re.findall(r"`user\.up42\.(?:stac|member)?\.?` \+ `([^`]+)`", section):
        for key in keys.split():
            assert re.search(rf"\b{key}\b", words), key
    listed = re.findall(r"^\| `(user\.up42\.[\w.]+)` \|", section, re.MULTILINE)
    assert len(listed) > 5
    # What only up42fs's own commands read need not be known.
    own = {"user.up42.explain.history"}
    assert {name for name in listed if name not in words} <= own


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", read(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path) if path else page
        assert linked.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", read(linked), re.MULTILINE)
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_files_that_pages_name_exist(page: Path) -> None:
    named = re.findall(r"`((?:contrib|tests|docs|up42fs)/[\w./]+\.\w+|contrib/\w+)`", read(page))
    for path in named:
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_pages_name_no_path_of_a_developers_machine(page: Path) -> None:
    assert not re.search(r"/(?:work|root|home/\w+)/", read(page))


def test_changelog_has_this_version() -> None:
    assert f"## [{__version__}]" in read(ROOT / "CHANGELOG.md")


def test_the_picture_of_the_peers_shows_rows_that_the_table_has() -> None:
    page = read(DOCS / "performance-peers.md")
    script = runpy.run_path(str(ROOT / "contrib" / "pictures.py"))
    seconds = script["table_of_peers"](page)
    assert list(seconds) == list(script["ROWS"].values())
    assert all(times[0] for times in seconds.values())
    drawn = read(DOCS / "pictures" / "peers.svg")
    assert [name for name in seconds if name not in drawn] == []


def test_the_site_has_every_page() -> None:
    text = read(ROOT / "contrib" / "site" / "mkdocs.yml")
    listed = re.findall(r"[\w-]+\.md", text.partition("\nnav:")[2])
    outside = {"benchmarks.md", "changelog.md"}  # see contrib/site/outside.py
    assert sorted(listed) == sorted({page.name for page in DOCS.glob("*.md")} | outside)
