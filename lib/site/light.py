"""HTML of pandoc's with less of what nobody sees: both renderers' pages weigh a third less for it.

lighter(html, r"\\1")                    # lines of code without a span around each
lighter(html, r"<span>\\1</span>")   # with one, for a sheet that needs it
"""

from __future__ import annotations

import re

CODE = re.compile(r'<pre class="sourceCode.*?</pre>', re.S)
LINE = re.compile(
    r'<span id="cb\d+-\d+"><a href="#cb\d+-\d+" aria-hidden="true" tabindex="-1"></a>(.*)</span>(?=</code></pre>|$)',
    re.M,
)
UNCOLOURED = re.compile(r'<span class="(?:op|bu|va|pp|ex|ot|wa|in|re)">([^<]*)</span>')
ANNOTATION = re.compile(r"<semantics>(.*?)<annotation[^>]*>.*?</annotation></semantics>", re.S)
ACCENTS = {
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "\u00af",
    "\u0307": "\u02d9",
    "\u0308": "\u00a8",
    "\u20d7": "\u2192",
}
ACCENT = re.compile(rf'<mo accent="true">([{"".join(ACCENTS)}])</mo>')


def lighter(html: str, line: str) -> str:
    """HTML without links to lines of code, spans of kinds that have no colour, and the TeX behind MathML.

    line: what becomes of a line of code, with `\\1` for the code in it.
    """

    def code(found: re.Match[str]) -> str:
        text = UNCOLOURED.sub(r"\1", LINE.sub(line, found.group()))
        return text.replace("&quot;", '"').replace("&#39;", "'")

    # HTML knows what <math> is, and nothing here asks for the TeX behind it.
    html = ANNOTATION.sub(r"\1", CODE.sub(code, html))
    # A hat is an accent by itself; as a combining character it would want one before it.
    html = ACCENT.sub(lambda found: f'<mo accent="true">{ACCENTS[found[1]]}</mo>', html)
    return html.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")
