"""The site: executed notebooks and a few pages of Markdown to a static blog in `_site/`, with one of two renderers.

    build.build(root())                    # execute what changed, render, check, swap `_site/` in
    check.check(root())                    # problems of a built site, by either renderer
    serve.serve(root() / "_site")

From source to page: `source` reads a notebook (front matter, cells, `#|` options) or a `.qmd` page; `compose` writes it
as one Markdown text; `render` sends that through pandoc and our filter (`floats`, `callouts`, `crossref`) to an HTML
fragment; `theme` and `listing` put the page around it; `embedded` makes all files of the site. `execute`, `search` and `build` do
the rest, `quarto` hands the same sources to Quarto instead, and `mirror` holds the result against the originals.
"""
