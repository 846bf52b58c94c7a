"""lib.data: the catalogue, where sets are looked for, and what is said when one is missing or damaged."""

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from lib import data
from lib.core import InputError
from lib.data import files, registry
from tests.test_data_files import write_mnist

torch = pytest.importorskip("torch")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, so that the sets of the machine play no part."""
    home = tmp_path / "project"
    (home / "posts").mkdir(parents=True)
    (home / "_quarto.yml").write_text("project: {}\n")
    monkeypatch.setenv("POSTS_ROOT", str(home))
    monkeypatch.delenv("POSTS_DATA", raising=False)
    monkeypatch.delenv("POSTS_CACHE", raising=False)
    return home


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, lib.data; lib.data.catalogue(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "torchvision", "sklearn", "PIL", "scipy"} & set(done.stdout.split())


def test_every_entry_is_complete() -> None:
    names = [source.name for source in data.catalogue()]
    assert len(set(names)) == len(names)
    for source in data.catalogue():
        assert source.title and source.kind and source.origin
        assert source.embedded == (not source.paths) == (source.size_mb == 0)
        assert source.embedded or source.check
        for reference in filter(None, (source.read, source.check, source.download)):
            module, _, function = reference.partition(":")
            assert callable(getattr(__import__(module, fromlist=[function]), function))


def test_jpeg_is_never_called_cifar10() -> None:
    assert data.find("cifar10-jpeg").title == "CIFAR-10 (JPEG)"


def test_unknown_name_lists_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'mnits'.*cifar10-jpeg.*did you mean 'mnist'"):
        data.load("mnits")


def test_places_follow_the_environment(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert data.places() == (project / "data",)
    monkeypatch.setenv("POSTS_DATA", f"~/sets{os.pathsep}{project / 'other'}{os.pathsep}")
    assert data.places() == (Path.home() / "sets", project / "other", project / "data")
    assert data.places(project / "one") == (project / "one",)


def test_cache_follows_the_environment(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert files.cache_folder() == project / ".store" / "data"
    monkeypatch.setenv("POSTS_CACHE", str(project / "cache"))
    assert files.cache_folder() == project / "cache"


def test_missing_set_names_the_places_and_the_command(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTS_DATA", str(project / "nowhere"))
    with pytest.raises(InputError) as caught:
        data.load("svhn")
    for words in (
        str(project / "nowhere"),
        "no such folder",
        str(project / "data"),
        "posts data fetch svhn",
        "POSTS_DATA",
    ):
        assert words in str(caught.value)
    assert data.status("svhn").state == "missing"


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar10-jpeg", "svhn"])
def test_empty_folder_is_as_good_as_none(project: Path, name: str) -> None:
    (project / "data" / data.find(name).paths[0]).mkdir(parents=True)
    assert data.status(name).state == "missing"
    with pytest.raises(InputError, match="is not here"):
        data.load(name)


def test_load_never_downloads(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr("socket.socket.connect", refuse)
    for source in data.catalogue():
        if not source.embedded:
            with pytest.raises(InputError):
                data.load(source.name)


def test_first_place_that_has_the_set_wins(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = project / "first", project / "second"
    write_mnist(second, monkeypatch, seed=1)
    (first / "MNIST" / "raw").mkdir(parents=True)
    monkeypatch.setenv("POSTS_DATA", os.pathsep.join([str(first), str(second)]))
    assert data.status("mnist").where == second
    write_mnist(project / "data", monkeypatch, seed=2)
    with pytest.raises(
        InputError, match="damaged"
    ):  # the second folder's files have other sums than seed 2's
        data.load("mnist")
    assert len(data.load("mnist", root=project / "data").train) == 60


def test_device_argument(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(project / "data", monkeypatch)
    on_cpu, on_meta = data.load("mnist", device=torch.device("cpu")), data.load("mnist", device="meta")
    assert (on_cpu.device.type, on_meta.device.type) == ("cpu", "meta")
    assert on_cpu.fingerprint == on_meta.fingerprint
    with pytest.raises(InputError, match="'abacus' is not a device"):
        data.load("mnist", device="abacus")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="'cuda' cannot be used here"):
            data.load("mnist", device="cuda")


def test_sets_of_another_kind_fit(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Table:
        name, title, fingerprint = "table", "A table", "0" * 16

    module = type(sys)("a_table")
    module.read = lambda place: Table()  # type: ignore[attr-defined]
    module.check = lambda place: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_table", module)
    source = data.Source(
        "table", "A table", "table", "a_table:read", "nowhere", ("table.csv",), "a_table:check"
    )
    monkeypatch.setattr(registry, "SOURCES", (*registry.SOURCES, source))
    (project / "data").mkdir()
    (project / "data" / "table.csv").touch()
    assert isinstance(data.load("table", device="meta"), Table)
    assert data.status("table") == data.Status("table", "whole", project / "data")


def test_missing_dependency_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(
        InputError, match=r"'digits' needs the package sklearn.datasets: install the extra `compute`"
    ):
        data.load("digits")


# --- fetching, from a server on this machine --------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str, list[str]]]:
    """A folder, the address under which it is served, and the log of requests."""
    served, log = tmp_path / "served", []
    served.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            log.append(format % args)

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(served))) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield served, f"http://127.0.0.1:{http.server_port}/", log
        http.shutdown()
        thread.join()


@pytest.fixture
def remote_mnist(
    server: tuple[Path, str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, list[str]]:
    """A tiny MNIST that torchvision downloads from the server: the folder served and the log of requests."""
    from lib.data.vision import torchvision

    served, address, log = server
    resources = write_mnist(served, monkeypatch, packed=True, flat=True)
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [address])
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
    return served, log


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


def test_fetch_announces_then_downloads_whole_files(
    project: Path, remote_mnist: tuple[Path, list[str]]
) -> None:
    _, log = remote_mnist
    said: list[str] = []

    def announce(text: str) -> None:
        assert not log, "a request was made before it was announced"
        said.append(text)

    assert data.fetch("mnist", announce=announce) == project / "data"
    assert "MNIST" in said[0] and "12 MB" in said[0] and "torchvision" in said[0]
    assert log
    assert data.status("mnist").state == "whole"
    assert len(data.load("mnist").test) == 20
    requests = len(log)
    data.fetch("mnist")
    assert len(log) == requests, "a whole set was downloaded again"


def test_fetch_replaces_a_damaged_file(project: Path, remote_mnist: tuple[Path, list[str]]) -> None:
    data.fetch("mnist")
    labels = project / "data" / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1])
    assert data.status("mnist").state == "damaged"
    data.fetch("mnist")
    assert data.status("mnist").state == "whole"


@pytest.mark.parametrize("fault", ["altered", "absent"])
def test_failed_fetch_leaves_nothing_behind(
    project: Path, remote_mnist: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    served, _ = remote_mnist
    last = served / "t10k-labels-idx1-ubyte.gz"
    if fault == "altered":
        content = last.read_bytes()
        last.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        last.unlink()
    with pytest.raises(InputError) as caught:
        data.fetch("mnist")
    said = str(caught.value)
    assert "copy MNIST/raw from another machine" in said and "POSTS_DATA" in said
    assert "\n" not in said
    # torchvision leaves the answer of a server that has no such file open; collecting it warns
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    del caught
    gc.collect()
    assert leftovers(project / "data") == []


def test_fetch_without_a_connection_says_what_to_do(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr("socket.create_connection", refuse)
    for name in ("mnist", "cifar10", "svhn"):
        with pytest.raises(
            InputError, match=rf"'{name}' could not be downloaded .*refused.*another machine.*POSTS_DATA"
        ):
            data.fetch(name)
    assert leftovers(project / "data") == []


def test_fetch_of_a_set_without_download_says_what_it_is(project: Path) -> None:
    with pytest.raises(InputError, match=r"'cifar10-jpeg' has no download.*JPEG files.*POSTS_DATA"):
        data.fetch("cifar10-jpeg")


def test_fetch_of_an_embedded_set_is_nothing_to_do(project: Path) -> None:
    said: list[str] = []
    assert data.fetch("digits", announce=said.append) is None
    assert "nothing to fetch" in said[0]


def test_fetch_into_a_place_that_is_no_folder(project: Path) -> None:
    (project / "data").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        data.fetch("mnist")


def test_places_without_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise InputError("no project here")

    monkeypatch.setattr("lib.project.root", none)
    monkeypatch.delenv("POSTS_DATA", raising=False)
    monkeypatch.delenv("POSTS_CACHE", raising=False)
    assert data.places() == () and files.cache_folder() is None
    with pytest.raises(InputError, match="POSTS_DATA is not set"):
        data.load("mnist")
    with pytest.raises(InputError, match="set POSTS_DATA"):
        data.fetch("mnist")
    assert np.array_equal(data.load("shapes", root=tmp_path).train.labels.bincount(), np.full(10, 500))
