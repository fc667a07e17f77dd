// Puts the parts of the page together.

const THEMES = ["automatic", "light", "dark"];

function mountTheme(button) {
  const kept = () => { try { return localStorage.getItem("freezecheck-colours"); } catch { return null; } };
  const keep = (theme) => { try { localStorage.setItem("freezecheck-colours", theme); } catch { /* a page opened from disk may not store */ } };
  const show = (theme) => {
    document.documentElement.dataset.theme = theme;
    button.textContent = `colours: ${theme}`;
  };
  show(THEMES.includes(kept()) ? kept() : "automatic");
  button.hidden = false;
  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
    keep(next);
    show(next);
  });
}

function mountReport(article) {
  const data = article.querySelector("script.data");
  if (!data) return;
  const model = readModel(data.textContent);
  const choice = new Choice();
  const icicle = new Icicle(article.querySelector(".picture"), model, choice);
  new Findings(article.querySelector(".findings"), model, choice, icicle);
  const table = new Table(article.querySelector(".tensors"), model, choice, icicle);
  article.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.target.matches("input")) return;
    if (!choice.empty) choice.clear();
    else if (icicle.root) icicle.zoomOut();
  });
  let width = icicle.drawing.clientWidth;
  new ResizeObserver(() => {
    if (icicle.drawing.clientWidth === width) return;
    width = icicle.drawing.clientWidth;
    icicle.draw();
    table.draw();
  }).observe(icicle.drawing);
  window.addEventListener("beforeprint", () => table.forPaper());
  window.addEventListener("afterprint", () => table.draw());
}

/** Where there are several reports, a way to each, with how it ended. */
function mountJumps(articles, jumps) {
  if (articles.length < 2) return;
  articles.forEach((article, n) => {
    article.id = `report-${n + 1}`;
    const sign = article.querySelector(".sign").textContent;
    const what = article.querySelector(".what")?.textContent.trim() ?? "could not check";
    jumps.append(element("a", { href: `#${article.id}`, text: `${sign} ${what}` }));
  });
}

const articles = [...document.querySelectorAll("article.report")];
mountTheme(document.querySelector("button.theme"));
mountJumps(articles, document.querySelector(".jumps"));
articles.forEach(mountReport);
