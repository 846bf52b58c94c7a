"""What is mended in Quarto's pages."""

from __future__ import annotations

import json
from pathlib import Path

from lib.site.quarto import _options_in_lines
from lib.site.tidy import tidy
from tests.site.project import png

PAGE = """<html><head><script src="https://cdn.example.org/require.min.js" integrity="x"></script>
<script src="site_libs/own.js"></script>
<script type="application/javascript">define('jquery', [],function() {return window.jQuery;})</script></head>
<body><img src="dot.png" alt="d"><img src="dot.png" width="40" alt="d"><img src="none.png" alt="n">
<figure><img src="dot.png" data-ref-parent="fig-x"><figcaption id="c">(a) Left &amp; <em>more</em></figcaption></figure>
</body></html>"""


def test_scripts_of_other_hosts_go_and_images_get_sizes(tmp_path: Path) -> None:
    (tmp_path / "dot.png").write_bytes(png(80, 40))
    page = tmp_path / "index.html"
    page.write_text(PAGE, encoding="utf-8")
    assert tidy(tmp_path) == [page]
    text = page.read_text(encoding="utf-8")
    assert "https:" not in text
    assert "define(" not in text
    assert "site_libs/own.js" in text
    assert '<img width="80" height="40" src="dot.png" alt="d">' in text
    assert '<img height="20" src="dot.png" width="40" alt="d">' in text
    assert '<img src="none.png" alt="n">' in text
    assert '<img width="80" height="40" alt="Left &amp; more" src="dot.png" data-ref-parent="fig-x">' in text
    assert tidy(tmp_path) == []


def test_a_table_leaves_its_id_to_the_float_around_it(tmp_path: Path) -> None:
    around = '<div id="tbl-a" class="quarto-float anchored">\n<figure><figcaption>A</figcaption>'
    page = tmp_path / "index.html"
    page.write_text(f'{around}<table id="tbl-a" class="table"></table></div><table id="other"></table>')
    assert tidy(tmp_path) == [page]
    assert page.read_text() == f'{around}<table class="table"></table></div><table id="other"></table>'
    assert tidy(tmp_path) == []


def test_code_and_shared_scripts_weigh_less(tmp_path: Path) -> None:
    script = (
        '<script id="quarto-html-after-body" type="application/javascript">\n  let x = "</a>";\n</script>'
    )
    line = '<span id="cb1-{0}"><a href="#cb1-{0}" aria-hidden="true" tabindex="-1"></a>{1}</span>'
    code = [line.format(1, 'x <span class="op">=</span> <span class="dv">1</span>'), line.format(2, "")]
    block = f'<pre class="sourceCode python code-with-copy"><code>{chr(10).join(code)}</code></pre>'
    (tmp_path / "posts/one").mkdir(parents=True)
    for name in ("404.html", "posts/one/index.html"):
        (tmp_path / name).write_text(f"<html><body>{block}{script}</body></html>", encoding="utf-8")
    tidy(tmp_path)
    page = (tmp_path / "posts/one/index.html").read_text(encoding="utf-8")
    assert '<code><span>x = <span class="dv">1</span></span>\n<span></span></code></pre>' in page
    (shared,) = (tmp_path / "site_libs/quarto-html").iterdir()
    assert shared.read_text(encoding="utf-8") == 'let x = "</a>";\n'
    assert (
        f'<script id="quarto-html-after-body" src="../../site_libs/quarto-html/{shared.name}"></script>'
        in page
    )
    assert script in (tmp_path / "404.html").read_text(encoding="utf-8")
    assert tidy(tmp_path) == []


def test_options_come_in_one_line() -> None:
    source = "#| label: fig-x\n#| fig-alt: >-\n#|   One \"line\"\n#|   more\n#| renderings: [light, dark]\nx = '#| y'\n"
    first = _options_in_lines(source).split("\n")
    assert first[:3] == [
        '#| label: "fig-x"',
        "#| fig-alt: " + json.dumps('One "line" more'),
        '#| renderings: ["light", "dark"]',
    ]
    assert first[3:] == ["x = '#| y'", ""]
    assert _options_in_lines("x = 1\n") == "x = 1\n"
