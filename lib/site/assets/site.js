// What the pages do beyond reading: light or dark, search, enlarged figures, filter, copy. Without it they still read.

const root = document.documentElement;
const base = new URL(root.dataset.root, location.href).href;

// --- light or dark: the system's choice until the reader makes one, which is then remembered ------------------------

const system = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
const toggle = document.getElementById("theme-toggle");
const showMode = () => toggle.setAttribute("aria-pressed", String(isDark()));
toggle.hidden = false;
toggle.addEventListener("click", () => {
  const next = isDark() ? "light" : "dark";
  // Choosing what the system has is to follow it again.
  if ((next === "dark") === system.matches) {
    delete root.dataset.theme;
    remember(null);
  } else {
    root.dataset.theme = next;
    remember(next);
  }
  showMode();
});
system.addEventListener("change", showMode);
showMode();

function remember(value) {
  try {
    if (value === null) localStorage.removeItem("theme");
    else localStorage.setItem("theme", value);
  } catch {
    // A browser that keeps nothing still switches.
  }
}

// --- code: a button that copies ---------------------------------------------------------------------------------------

for (const block of document.querySelectorAll("div.sourceCode")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "code-copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(block.querySelector("code").innerText);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Copying failed";
    }
    setTimeout(() => (button.textContent = "Copy"), 1600);
  });
  block.append(button);
}

// --- what scrolls sideways can be reached with the keyboard -----------------------------------------------------------

const scrollers = "pre, .table-scroll, .cell-output-display, .quarto-float > figure > div, math[display=block]";
function reachable() {
  for (const box of document.querySelectorAll(scrollers)) {
    const scrolls = box.scrollWidth > box.clientWidth + 1 && getComputedStyle(box).overflowX !== "visible";
    if (scrolls && !box.hasAttribute("tabindex")) {
      box.tabIndex = 0;
      if (!box.hasAttribute("role") && box.matches("div")) {
        box.setAttribute("role", "region");
        box.setAttribute("aria-label", "Scrolls sideways");
      }
    }
  }
}
reachable();
addEventListener("resize", reachable);
document.addEventListener("toggle", reachable, true);

// --- a link to something inside a folded box opens the box -------------------------------------------------------------

function reveal() {
  const id = decodeURIComponent(location.hash.slice(1));
  const target = id && document.getElementById(id);
  for (let box = target?.parentElement?.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
  target?.scrollIntoView();
}
if (location.hash && !location.hash.includes("=")) reveal();
addEventListener("hashchange", () => location.hash.includes("=") || reveal());

// --- the table of contents shows where the reader is ------------------------------------------------------------------

const links = new Map([...document.querySelectorAll("#TOC .nav-link")].map((a) => [a.hash.slice(1), a]));
if (links.size) {
  const sections = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
  let queued = false;
  const follow = () => {
    queued = false;
    let current = null;
    for (const section of sections) if (section.getBoundingClientRect().top < 120) current = section.id;
    for (const [id, link] of links) {
      link.classList.toggle("active", id === current);
      if (id === current) link.setAttribute("aria-current", "location");
      else link.removeAttribute("aria-current");
    }
  };
  addEventListener("scroll", () => { if (!queued) { queued = true; requestAnimationFrame(follow); } }, { passive: true });
  follow();
}

// --- enlarged figures --------------------------------------------------------------------------------------------------

const pictures = [...document.querySelectorAll("a.lightbox")];
if (pictures.length) {
  const box = document.createElement("dialog");
  box.className = "lightbox-dialog";
  box.setAttribute("aria-label", "Enlarged figure");
  box.innerHTML = '<div class="bar"><button type="button" data-step="-1">Previous</button>' +
    '<button type="button" data-step="1">Next</button><button type="button" data-close>Close</button></div>' +
    '<img alt=""><p></p>';
  document.body.append(box);
  const image = box.querySelector("img");
  let shown = 0;
  const visible = () => pictures.filter((link) => link.offsetParent !== null || link === pictures[shown]);
  const show = (index) => {
    shown = index;
    const link = pictures[index];
    const source = link.querySelector("img");
    const caption = link.closest("figure")?.querySelector("figcaption");
    image.src = link.href;
    image.alt = source.alt;
    // A drawing at 1x grows to the window; the browser keeps a photograph at its own size.
    image.style.width = `${Math.min(innerWidth * 0.92, source.width * 1.6)}px`;
    box.querySelector("p").textContent = caption ? caption.innerText : "";
  };
  const step = (by) => {
    const seen = visible();
    const at = seen.indexOf(pictures[shown]);
    show(pictures.indexOf(seen[(at + by + seen.length) % seen.length]));
  };
  pictures.forEach((link, index) => {
    link.setAttribute("aria-label", `Enlarge: ${link.querySelector("img").alt}`);
    link.addEventListener("click", (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      show(index);
      const several = visible().length > 1;
      for (const button of box.querySelectorAll("[data-step]")) button.hidden = !several;
      box.showModal();
      box.querySelector("[data-close]").focus();
    });
  });
  box.addEventListener("click", (event) => {
    const by = event.target.dataset?.step;
    if (by) step(Number(by));
    else if (event.target === box || event.target === image || "close" in (event.target.dataset ?? {})) box.close();
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") step(1);
    if (event.key === "ArrowLeft") step(-1);
  });
  box.addEventListener("close", () => pictures[shown].focus());
}

// --- the listing's filter, kept in the address so that it can be linked and gone back to --------------------------------

const filter = document.querySelector(".quarto-listing-category");
if (filter) {
  filter.hidden = false;
  const status = document.querySelector(".listing-status");
  const apply = (announce) => {
    const wanted = new URLSearchParams(location.hash.slice(1)).get("category") ?? "";
    let count = 0;
    for (const post of document.querySelectorAll(".quarto-post")) {
      post.hidden = wanted !== "" && !post.dataset.categories.split(",").includes(wanted);
      count += !post.hidden;
    }
    for (const button of filter.children) button.setAttribute("aria-pressed", String(button.dataset.category === wanted));
    if (announce) status.textContent = `${count} ${count === 1 ? "post" : "posts"}${wanted ? ` in ${wanted}` : ""}`;
  };
  filter.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const name = button.dataset.category;
    history.pushState(null, "", name ? `#${new URLSearchParams({ category: name })}` : location.pathname);
    apply(true);
  });
  addEventListener("hashchange", () => apply(true));
  addEventListener("popstate", () => apply(true));
  apply(false);
}

// --- search: pagefind's index, loaded when it is first asked for ---------------------------------------------------------

const opener = document.getElementById("search-open");
opener.hidden = false;
let dialog = null;
let engine = null;
let asked = 0;

function searchDialog() {
  if (dialog) return dialog;
  dialog = document.createElement("dialog");
  dialog.className = "search-dialog";
  dialog.setAttribute("aria-label", "Search");
  dialog.innerHTML = '<form role="search"><input type="text" role="searchbox" enterkeyhint="search" aria-label="Search the posts" placeholder="Search the posts" ' +
    'autocomplete="off" spellcheck="false"><button type="button">Close</button></form>' +
    '<div class="search-results"><p class="search-status" role="status"></p><ol></ol></div>';
  document.body.append(dialog);
  const input = dialog.querySelector("input");
  dialog.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.querySelector("ol a")?.click();
  });
  dialog.querySelector("button").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog || event.target.closest("ol a")) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    const all = [input, ...dialog.querySelectorAll("ol a")];
    const at = all.indexOf(document.activeElement);
    const by = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (by && at >= 0) {
      event.preventDefault();
      all[Math.max(0, Math.min(all.length - 1, at + by))].focus();
    }
  });
  input.addEventListener("input", () => find(input.value));
  return dialog;
}

async function find(words) {
  const turn = ++asked;
  const status = dialog.querySelector(".search-status");
  const list = dialog.querySelector("ol");
  if (!words.trim()) {
    status.textContent = "";
    list.replaceChildren();
    return;
  }
  try {
    engine ??= await import(`${base}pagefind/pagefind.js`);
    const found = await engine.search(words);
    const pages = await Promise.all(found.results.slice(0, 8).map((result) => result.data()));
    if (turn !== asked) return;
    const rows = pages.flatMap((page) => {
      const inside = page.sub_results.filter((part) => part.anchor).slice(0, 2);
      return [{ title: page.meta.title, url: page.url, excerpt: page.excerpt }, ...inside.map((part) =>
        ({ title: `${page.meta.title}: ${part.title}`, url: part.url, excerpt: part.excerpt }))];
    });
    list.replaceChildren(...rows.map((row) => {
      const item = document.createElement("li");
      const link = document.createElement("a");
      const title = document.createElement("strong");
      const excerpt = document.createElement("span");
      link.href = new URL(row.url.replace(/^\//, ""), base).href;
      title.textContent = row.title;
      excerpt.innerHTML = row.excerpt; // pagefind escapes the text and adds <mark> only
      link.append(title, excerpt);
      item.append(link);
      return item;
    }));
    status.textContent = rows.length ? "" : "Nothing found.";
  } catch {
    if (turn === asked) status.textContent = "The search index could not be loaded.";
  }
}

const openSearch = () => {
  searchDialog().showModal();
  dialog.querySelector("input").select();
};
opener.addEventListener("click", openSearch);
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
  if (event.key === "/" && !typing && !event.metaKey && !event.ctrlKey && !document.querySelector("dialog[open]")) {
    event.preventDefault();
    openSearch();
  }
});
