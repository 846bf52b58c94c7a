"""Builds: the same bytes each time, only what changed again, and the last good site whatever fails."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from lib.core import InputError
from lib.site import build as building
from lib.site import check, execute, quarto, render, serve
from lib.site.build import build
from tests.site import project
from tests.site.project import markdown, notebook


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.usefixtures("no_kernels")
def test_two_builds_are_byte_identical(tmp_path: Path) -> None:
    first = build(project.make(tmp_path / "one"), renderer="embedded", jobs=1)
    second = build(project.make(tmp_path / "a/longer/path"), renderer="embedded", jobs=4)
    assert contents(first.out) == contents(second.out)
    # And again from a cache that holds every page.
    shutil.rmtree(first.out)
    assert contents(build(tmp_path / "one", renderer="embedded").out) == contents(second.out)


@pytest.mark.usefixtures("no_kernels")
def test_nothing_changed_means_nothing_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project.make(tmp_path)
    assert not build(root, renderer="embedded").unchanged
    again = build(root, renderer="embedded")
    assert again.unchanged
    assert again.seconds < 2
    # A file that somebody changed or removed in the site is noticed.
    (root / "_site/about/index.html").unlink()
    assert not build(root, renderer="embedded").unchanged
    assert (root / "_site/about/index.html").is_file()


@pytest.mark.usefixtures("no_kernels")
def test_one_change_renders_one_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project.make(tmp_path)
    build(root, renderer="embedded")
    rendered = []
    real = render.render

    def counted(page, *args, **kwargs):  # type: ignore[no-untyped-def]
        rendered.append(page.path)
        return real(page, *args, **kwargs)

    monkeypatch.setattr("lib.site.embedded.render", counted)
    (root / "posts/other/index.ipynb").write_text(
        project.other().replace("Text.", "Changed text."), encoding="utf-8"
    )
    build(root, renderer="embedded")
    assert rendered == ["posts/other/index.ipynb"]
    assert "Changed text." in (root / "_site/posts/other/index.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("no_kernels")
def test_a_changed_image_is_seen(tmp_path: Path) -> None:
    root = project.make(tmp_path)
    build(root, renderer="embedded")
    (root / "posts/torture/images/dot.png").write_bytes(project.png(60, 60))
    build(root, renderer="embedded")
    assert (root / "_site/posts/torture/images/dot.png").read_bytes() == project.png(60, 60)
    assert 'width="60" height="60"' in (root / "_site/posts/torture/index.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("no_kernels")
@pytest.mark.parametrize("broken", ["{", notebook("title: x\ndate: 2024-01-01", markdown("See @fig-none."))])
def test_a_failed_build_leaves_the_last_good_site(tmp_path: Path, broken: str) -> None:
    root = project.make(tmp_path)
    build(root, renderer="embedded")
    before = contents(root / "_site")
    (root / "posts/other/index.ipynb").write_text(broken, encoding="utf-8")
    with pytest.raises(InputError, match="posts/other/index.ipynb"):
        build(root, renderer="embedded")
    assert contents(root / "_site") == before
    assert not (root / "_site.new").exists()


@pytest.mark.usefixtures("no_kernels")
def test_a_broken_anchor_fails_the_build_and_names_the_cell(tmp_path: Path) -> None:
    bad = notebook("title: x\ndate: 2024-01-01", markdown("Fine."), markdown("[there](#not-here)", id="bad"))
    root = project.make(tmp_path, {"a": bad})
    with pytest.raises(
        InputError, match=r"posts/a/index.ipynb, cell 3 \(bad\): the link to #not-here leads to no place"
    ):
        build(root, renderer="embedded")
    assert not (root / "_site").exists()


@pytest.mark.usefixtures("no_kernels")
def test_an_interrupted_swap_is_mended(tmp_path: Path) -> None:
    root = project.make(tmp_path)
    build(root, renderer="embedded")
    (root / "_site").rename(root / "_site.old")
    (root / "_site.new").mkdir()
    (root / "posts/other/index.ipynb").write_text("{", encoding="utf-8")
    with pytest.raises(InputError):
        build(root, renderer="embedded")
    assert (root / "_site/index.html").is_file()


@pytest.mark.usefixtures("no_kernels")
def test_one_build_at_a_time(tmp_path: Path) -> None:
    root = project.make(tmp_path)
    with building._lock(root / ".build"), pytest.raises(InputError, match="another build"):
        build(root, renderer="embedded")


def test_unknown_renderer(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no renderer 'hugo'; there are auto, quarto, embedded"):
        build(project.make(tmp_path), renderer="hugo")  # type: ignore[arg-type]


# --- execution -----------------------------------------------------------------------------------------------------


def test_what_makes_a_notebook_run_again(tmp_path: Path) -> None:
    root = project.make(tmp_path)
    name = "posts/other/index.ipynb"

    def key(profile: str = "published") -> str:
        return execute._key(root, name, execute._common(root), profile)

    first = key()
    assert key() == first
    (root / "posts/torture/index.ipynb").touch()
    assert key() == first, "another post's file"
    seen = {first, key("smoke")}
    for path, text in [
        ("posts/other/claims.yml", "[]"),
        ("posts/other/results/laptop/x.json", "{}"),
        ("posts/other/images/new.png", "x"),
        ("_quarto.yml", project.CONFIG + "\n# changed\n"),
        (name, project.other() + " "),
    ]:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        assert key() not in seen, path
        seen.add(key())


def test_notebooks_run_only_where_something_changed(tmp_path: Path) -> None:
    pytest.importorskip("papermill")
    plain = notebook("title: x\ndate: 2024-01-01", markdown("Text."), project.code("1 + 1"))
    root = project.make(tmp_path, {"a": plain, "b": plain})
    names = ["posts/a/index.ipynb", "posts/b/index.ipynb"]
    assert execute.executed(root, names, jobs=2).ran == tuple(names)
    assert execute.executed(root, names).ran == ()
    (root / "posts/b/claims.yml").write_text("[]")
    done = execute.executed(root, names)
    assert done.ran == ("posts/b/index.ipynb",)
    outputs = json.loads(done.paths["posts/a/index.ipynb"].read_text())["cells"][-1]["outputs"]
    assert outputs[0]["data"]["text/plain"] == ["2"]


# --- check ---------------------------------------------------------------------------------------------------------


def test_the_torture_site_has_no_problem(embedded: Path) -> None:
    assert check.check_site(embedded, "https://example.org/test") == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('id="sec-deep"', 'id="sec-intro"'), "the id 'sec-intro' is there 2 times"),
        (('href="#sec-intro"', 'href="#sec-gone"'), "leads to no place"),
        (('href="../../about/index.html"', 'href="../../gone/index.html"'), "leads nowhere"),
        (('alt="A rising line"', 'alt=""'), "has no alt text"),
        ((' width="80" height="40"', ""), "no width and height"),
        (("<p>The end", "<p>?@fig-x The end"), "'\\?@' shows on the page"),
        (("<p>The end", "<p>Text(0, 0.5, 'y') The end"), "Text\\(0"),
        (("<p>The end", "<p># code-summary: x The end"), "code-summary"),
        (
            ("<p>The end", '<img alt="x" width="1" height="1" src="https://cdn.example/x.png"><p>The end'),
            "asks cdn.example",
        ),
        (("<p>The end", '<script src="https://cdn.example/x.js"></script><p>The end'), "asks cdn.example"),
        (("<p>The end", "<p>" + "x " * 160_000), "kB without its figures"),
    ],
)
def test_each_problem_is_found(embedded: Path, tmp_path: Path, change: tuple[str, str], message: str) -> None:
    copy = tmp_path / "site"
    shutil.copytree(embedded, copy)
    path = copy / "posts/torture/index.html"
    text = path.read_text(encoding="utf-8")
    assert change[0] in text
    path.write_text(text.replace(*change), encoding="utf-8")
    found = check.check_site(copy, "https://example.org/test")
    import re

    assert any(re.search(message, problem.message) for problem in found), found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("Tue, 18 Jun 2024", "Sat, 18 Jun 2022"), "comes after an older post"),
        (("<guid>https", "<guid>http"), "they are to be equal"),
        (("</channel>", ""), "is not XML"),
        (("posts/other/</link>", "posts/gone/</link>"), "is no page of the site"),
    ],
)
def test_each_problem_of_the_feed_is_found(
    embedded: Path, tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    copy = tmp_path / "site"
    shutil.copytree(embedded, copy)
    path = copy / "posts/index.xml"
    path.write_text(path.read_text(encoding="utf-8").replace(*change), encoding="utf-8")
    assert any(message in problem.message for problem in check.check_site(copy, "https://example.org/test"))


# --- serve, search, quarto -----------------------------------------------------------------------------------------


def test_the_server_has_pages_the_public_path_and_a_404(embedded: Path) -> None:
    running = serve.server(embedded, 0, url="https://example.org/test")
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    base = f"http://127.0.0.1:{running.server_port}"
    try:
        for path in ("/", "/posts/torture/", "/test/assets/site.css"):
            with urllib.request.urlopen(base + path, timeout=10) as answer:
                assert answer.status == 200
        with pytest.raises(urllib.error.HTTPError) as missing:
            urllib.request.urlopen(base + "/posts/none/", timeout=10)
        assert missing.value.code == 404
        assert b"Page not found" in missing.value.read()
        missing.value.close()
        with pytest.raises(InputError, match="is taken"):
            serve.server(embedded, running.server_port)
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


def test_serving_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no site"):
        serve.server(tmp_path)


def test_the_search_index_is_there(embedded: Path) -> None:
    entry = json.loads((embedded / "pagefind/pagefind-entry.json").read_text())
    assert entry["languages"]["en"]["page_count"] >= 5
    assert not (embedded / "pagefind/pagefind-ui.js").exists()


def test_no_quarto_and_an_old_quarto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project.make(tmp_path)
    site = building.settings(root)
    monkeypatch.setattr(quarto, "version", lambda: None)
    assert not quarto.usable()
    with pytest.raises(InputError, match="quarto is not on the PATH"):
        quarto.render(site, tmp_path / "out", {}, {})
    monkeypatch.setattr(quarto, "version", lambda: (1, 3, 450))
    with pytest.raises(InputError, match=r"quarto 1\.3\.450 is too old"):
        quarto.render(site, tmp_path / "out", {}, {})


def test_what_quarto_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project.make(tmp_path / "project")
    program = tmp_path / "bin/quarto"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\nif [ "$1" = --version ]; then echo 1.10.3; exit; fi\n'
        "echo '[1/2] posts/other/index.ipynb'\nmkdir -p _site/posts/other _site/posts/torture\n"
        "echo $TZ > _site/zone; cp _quarto.yml posts/torture/index.ipynb _site/\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    quarto.version.cache_clear()
    try:
        assert quarto.usable()
        told: list[str] = []
        quarto.render(
            building.settings(root), tmp_path / "out", project.stored(root), {"x.md": "X"}, told.append
        )
        assert told == ["[1/2] posts/other/index.ipynb"]
        assert (tmp_path / "out/zone").read_text().strip() == "America/New_York"
        assert "enabled: false" in (tmp_path / "out/_quarto.yml").read_text()
        staged = (tmp_path / "out/index.ipynb").read_text()
        assert "injected-parameters" not in staged
        assert "mybinder.org" in staged
        assert "Executed notebook" in staged
        assert (root / ".build/quarto/.build/generated/x.md").read_text() == "X"
        program.write_text(
            "#!/bin/sh\necho '[1/2] posts/other/index.ipynb'; echo 'ERROR: Bad YAML in cell 3'; exit 1\n"
        )
        with pytest.raises(
            Exception, match=r"quarto failed at posts/other/index.ipynb: ERROR: Bad YAML in cell 3"
        ):
            quarto.render(building.settings(root), tmp_path / "out2", {}, {})
    finally:
        quarto.version.cache_clear()


def test_claims_are_judged_again_for_a_title_and_a_claim_and_not_for_a_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    post = tmp_path / "posts/one"
    post.mkdir(parents=True)
    (tmp_path / building.WORK).mkdir()
    (tmp_path / "_quarto.yml").write_text("project: {type: website}\n", encoding="utf-8")
    judged: list[Path] = []
    monkeypatch.setattr(building.generated, "write", lambda root: judged.append(root) or {})

    def times(title: str, text: str, claims: str) -> int:
        front = f"title: {title}\ndate: 2026-01-01"
        (post / "index.ipynb").write_text(notebook(front, markdown(text)), encoding="utf-8")
        (post / "claims.yml").write_text(claims, encoding="utf-8")
        building._generated(tmp_path)
        return len(judged)

    assert times("One", "A text.", "[]") == 1
    assert times("One", "Another text.", "[]") == 1
    assert times("Two", "Another text.", "[]") == 2
    assert times("Two", "Another text.", "[ ]") == 3
