"""Documents that are wrong in ways nobody thought of: each is read, or refused in one line that names it. Nothing else."""

from __future__ import annotations

import copy
import gzip
import io
import json
import os
import random
import resource
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from lib import bench, claims, notebooks
from lib.core import InputError, PostsError
from lib.site import embedded, mirror, settings, source
from tests.site import project

ROOT = Path(__file__).resolve().parents[1]
HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**70, 1e308, float("nan"), float("inf")),
    *("", " ", "\x00", "\ud7ff\u202e", "a" * 5000, "../../etc/passwd", "/etc/passwd", "{{< x >}}", "'\"]]>"),
    *(
        "<script>alert(1)</script>",
        "$\\notacommand$",
        "@fig-none",
        "[@none]",
        "::: {.x}",
        "#| label: fig-x\n1",
        "---",
    ),
    *(
        [],
        {},
        [[]],
        [{}],
        {"": ""},
        {"a": {"a": {"a": []}}},
        ["a", 1, None],
        "2024-13-45",
        "=1+1",
        "%s%n",
        "\u2028",
    ),
)
"""What is put in place of a value."""


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each value in a document of lists and dictionaries."""
    yield path
    entries: Any = ()
    if isinstance(document, dict):
        entries = document.items()
    elif isinstance(document, list):
        entries = enumerate(document)
    for key, value in entries:
        yield from places(value, (*path, key))


def hostile(rng: random.Random) -> Any:
    """A new copy of one of them."""
    return copy.deepcopy(rng.choice(HOSTILE))


def spoilt(document: Any, rng: random.Random) -> Any:
    """A copy with one to three values replaced, removed, doubled, or wrapped."""
    document = copy.deepcopy(document)
    for _ in range(rng.randint(1, 3)):
        *path, last = rng.choice([place for place in places(document) if place] or [(None,)])
        if last is None:
            return hostile(rng)
        inside = document
        for key in path:
            inside = inside[key]
        match rng.randrange(5):
            case 0 | 1:
                inside[last] = hostile(rng)
            case 2:
                del inside[last]
            case 3:
                inside[last] = [inside[last], copy.deepcopy(inside[last])]
            case 4 if isinstance(inside, dict):
                inside[str(hostile(rng))] = inside.pop(last)
            case _:
                inside.insert(last, hostile(rng)) if isinstance(inside, list) else inside.clear()
    return document


def garbled(text: bytes, rng: random.Random) -> bytes:
    """The text with some bytes changed, cut out, or added."""
    content = bytearray(text)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(content) + 1)
        match rng.randrange(3):
            case 0:
                content[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del content[at : at + rng.randrange(1, 40)]
            case _:
                content[at:at] = rng.choice(
                    [b"\n", b"\x00", b"\xff", b": ", b"{", b"]", b'"', b"- ", b"&a *a", b"\t"]
                )
    return bytes(content)


def told(reading: Callable[[], object]) -> bool:
    """Whether what cannot be read is refused in words; True where it was."""
    try:
        reading()
    except PostsError as error:
        said = str(error)
    else:
        return False
    assert said and len(said) < 20_000
    return True


def attempts(text: str, document: Any, count: int, dump: Callable[[Any], str]) -> Iterator[bytes]:
    """Spoilt documents and garbled texts, the same each time; others with another FUZZ_SEED."""
    rng = random.Random(int(os.environ.get("FUZZ_SEED", "0")))
    for number in range(count):
        if number % 2:
            yield garbled(text.encode(), rng)
        else:
            yield dump(spoilt(document, rng)).encode(errors="surrogatepass")


COUNT = pytest.mark.parametrize("count", [40, pytest.param(1500, marks=pytest.mark.long)])


def a_notebook() -> Any:
    """The smallest of our notebooks."""
    path = min(ROOT.glob("posts/*/index.ipynb"), key=lambda path: path.stat().st_size)
    return json.loads(path.read_text(encoding="utf-8"))


@COUNT
def test_notebooks(tmp_path, count):
    """The site's reader and the reader of parameters."""
    path, document = tmp_path / "index.ipynb", a_notebook()
    refused = 0
    for content in attempts(json.dumps(document), document, count, json.dumps):
        path.write_bytes(content)
        refused += told(lambda: source.read(path, tmp_path))
        told(lambda: notebooks.check(path, {"profile": "smoke"}))
    assert refused > count / 10


@pytest.mark.long
def test_pages_are_rendered_or_refused(tmp_path):
    """The whole way to HTML, for a page with every construct."""
    root = project.make(tmp_path)
    path = root / "posts/torture/index.ipynb"
    text = path.read_text(encoding="utf-8")
    refused = 0
    for content in attempts(text, json.loads(text), 60, json.dumps):
        path.write_bytes(content)
        refused += told(
            lambda: embedded.render_site(
                settings.settings(root), project.stored(root), {}, root / ".build/pages", jobs=2
            )
        )
    assert refused


@COUNT
def test_claims(tmp_path, count):
    place = tmp_path / "posts/lsh/claims.yml"
    place.parent.mkdir(parents=True)
    text = (ROOT / "posts/lsh/claims.yml").read_text(encoding="utf-8")
    document = yaml.safe_load(text)[:4]
    text = yaml.safe_dump(document)
    refused = 0
    for content in attempts(text, document, count, yaml.safe_dump):
        place.write_bytes(content)
        refused += told(lambda: claims.load(tmp_path, "lsh"))
    assert refused > count / 10


@COUNT
def test_settings_of_the_site(tmp_path, count):
    root = project.make(tmp_path)
    place = root / "_quarto.yml"
    text = place.read_text(encoding="utf-8")
    refused = 0
    for content in attempts(text, yaml.safe_load(text), count, yaml.safe_dump):
        place.write_bytes(content)
        refused += told(lambda: settings.settings(root))
    assert refused > count / 20


@COUNT
def test_exceptions_of_a_post(tmp_path, count):
    """`mirror.yml`, as `posts check --mirror` reads it."""
    shutil.copytree(ROOT / "posts/lsh", tmp_path / "posts/lsh", ignore=shutil.ignore_patterns("results"))
    place = tmp_path / "posts/lsh/mirror.yml"
    text = place.read_text(encoding="utf-8")
    refused = 0
    for content in attempts(text, yaml.safe_load(text), count, yaml.safe_dump):
        place.write_bytes(content)
        refused += told(lambda: mirror._yaml(place, mirror.FIELDS))
    assert refused


@COUNT
def test_results_of_benchmarks(tmp_path, count):
    place = tmp_path / "benchmarks/results/training_throughput.json"
    place.parent.mkdir(parents=True)
    text = (ROOT / "benchmarks/results/training_throughput.json").read_text(encoding="utf-8")
    refused = 0
    for content in attempts(text, json.loads(text), count, json.dumps):
        place.write_bytes(content)
        refused += told(lambda: bench.results(tmp_path))
    assert refused > count / 10


# --- data sets that somebody has lying about ---------------------------------------------------------------------------


def bytes_spoilt(content: bytes, count: int) -> Iterator[bytes]:
    """The content with some bytes changed, cut out or added, or cut short."""
    rng = random.Random(int(os.environ.get("FUZZ_SEED", "0")))
    for number in range(count):
        yield content[: rng.randrange(len(content))] if number % 8 == 0 else garbled(content, rng)


@COUNT
def test_images_of_folders(tmp_path, monkeypatch, count):
    from lib.data import folders
    from tests.test_data_files import write_folders

    monkeypatch.setenv("POSTS_CACHE", str(tmp_path / "cache"))
    write_folders(tmp_path, "pets", ("cat", "dog"), (1, 1))
    spec = folders.Folders("pets", "Pets", ("cat", "dog"), (1, 1), 32)
    image = tmp_path / "pets/train/cat/0000.jpg"
    refused = 0
    for form in ("jpeg", "png", "bmp"):
        whole = io.BytesIO()
        Image.open(image).save(whole, form)
        for content in bytes_spoilt(whole.getvalue(), count):
            image.write_bytes(content)
            refused += told(lambda: folders.read_folders(tmp_path, spec))
        image.write_bytes(whole.getvalue())
    assert refused > count / 4


@pytest.mark.filterwarnings("ignore:Reading:UserWarning")  # NumPy, of a header as Python 2 wrote them
@COUNT
def test_tables_lists_and_arrays(tmp_path, count):
    from lib.data import cifar10c, sudoku, tables
    from lib.data.sudoku import sets

    rng = np.random.default_rng(0)
    head = ",".join(["Date", "Time", *tables.AIR_COLUMNS])
    rows = "\n".join(",".join(["1/1/2004", f"{i}:00:00", *map(str, rng.normal(size=8))]) for i in range(20))
    air = f"{head}\n{rows}\n".encode()
    puzzle = "".join(map(str, rng.integers(0, 2, 81)))
    extreme = f"source,question,answer,rating\na,{puzzle},{puzzle},3\n".encode()
    array = io.BytesIO()
    np.save(array, np.zeros((50, 4), np.uint8))
    path = tmp_path / "file"

    def from_file(reading):
        return lambda content: (path.write_bytes(content), reading(path))

    for content, reading in (
        (air, lambda content: tables.parse_air_quality(content.decode("latin-1"))),
        (extreme, from_file(lambda path: sets._extreme("x", "X", path))),
        (
            puzzle.encode(),
            lambda content: sudoku.parse(content.decode("latin-1").splitlines(), sudoku.SHAPES["9x9"]),
        ),
        (array.getvalue(), from_file(cifar10c._mapped)),
    ):
        refused = sum(told(partial(reading, spoilt)) for spoilt in bytes_spoilt(content, count))
        assert refused > count / 10


@COUNT
def test_parameters(tmp_path, count):
    """Cells of parameters, and what a notebook is given."""
    text = 'profile: str = "published"  # which records\nn: int = 3\nrate: float = 0.1\nloud: bool = False'
    document, path = a_notebook(), tmp_path / "x.ipynb"
    (cell,) = [c for c in document["cells"] if "parameters" in c["metadata"].get("tags", ())]
    rng, refused = random.Random(0), 0
    for content in attempts(text, {}, count, lambda _: text):
        cell["source"] = content.decode("latin-1")
        path.write_text(json.dumps(document))
        refused += told(lambda: notebooks.parameters(path))
    assert refused > count / 10
    cell["source"] = text
    path.write_text(json.dumps(document))
    for _ in range(count):
        given = {rng.choice(["profile", "n", "rate", "loud", "x"]): hostile(rng)}
        refused += told(partial(notebooks.check, path, given))
    assert refused > count / 2


def test_a_small_file_that_holds_too_much_is_not_unpacked(tmp_path, monkeypatch):
    """4 GiB of zeros in 4 MB: read up to what the file should hold."""
    from lib.data import files

    whole = gzip.compress(bytes(2**24))
    (tmp_path / "set.gz").write_bytes(whole * 256)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=r"set\.gz is too long: 1,001 bytes, 1,000 are expected"):
        files.read_checked(tmp_path, files.Known("set", "0" * 32, 1000), "")
    monkeypatch.setattr(files, "UNPACKED", 2**20)
    with pytest.raises(InputError, match="is damaged"):
        files.read_checked(tmp_path, files.Known("set", "0" * 32), "")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident < 64 * 1024


def test_an_image_of_another_size_is_not_decoded(tmp_path, monkeypatch):
    """A PNG of a few kB that claims 8,000 × 8,000."""
    from lib.data import folders
    from tests.test_data_files import write_folders

    monkeypatch.setenv("POSTS_CACHE", str(tmp_path / "cache"))
    write_folders(tmp_path, "pets", ("cat", "dog"), (1, 1))
    Image.new("1", (8000, 8000)).save(tmp_path / "pets/train/cat/0000.jpg", "png")
    monkeypatch.setattr(
        Image.Image, "convert", lambda self, mode: pytest.fail("decoded") if self.size[0] > 32 else self
    )
    with pytest.raises(InputError, match="is 8000 × 8000; 32 × 32 is expected"):
        folders.read_folders(tmp_path, folders.Folders("pets", "Pets", ("cat", "dog"), (1, 1), 32))
