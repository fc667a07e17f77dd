// How a person moves through the picture: by pointer and by keyboard.

/** The box that lies below (`way` 1) or above (-1) another, in its column or the nearest one to the left. */
function neighbour(places, from, way) {
  const edge = (one) => (way > 0 ? one.top : one.top + one.height);
  const start = way > 0 ? from.top + from.height : from.top;
  const beyond = places.filter((one) => one.depth <= from.depth && (edge(one) - start) * way > -0.01 && one !== from);
  const nearest = Math.min(...beyond.map((one) => (edge(one) - start) * way));
  const there = beyond.filter((one) => (edge(one) - start) * way < nearest + 0.01);
  return there.reduce((best, one) => (best && best.depth >= one.depth ? best : one), null);
}

function step(icicle, key) {
  const { places, model } = icicle;
  const from = places.find((one) => one.box === icicle.current) ?? places[0];
  const drawn = (box) => places.find((one) => one.box === box) ?? null;
  switch (key) {
    case "ArrowDown": return neighbour(places, from, 1);
    case "ArrowUp": return neighbour(places, from, -1);
    case "ArrowRight": return from.row ? null : drawn(model.boxes[from.box].children[0]);
    case "ArrowLeft": return from.box === icicle.root ? null : drawn(model.boxes[from.box].parent);
    case "Home": return places[0];
    case "End": return places[places.length - 1];
    default: return undefined;
  }
}

function onKey(icicle, event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const to = step(icicle, event.key);
  if (to) icicle.focus(to.box);
  else if (event.key === "Enter") {
    icicle.zoom(icicle.current);
    icicle.focus(icicle.current);
  } else if (event.key === " ") icicle.choose(icicle.current);
  else if (to === undefined) return;
  event.preventDefault();
}

const boxUnder = (event) => {
  const made = event.target.closest("[data-box]");
  return made ? Number(made.dataset.box) : null;
};

Icicle.prototype.listen = function listen() {
  this.tree.addEventListener("keydown", (event) => onKey(this, event));
  this.tree.addEventListener("focusin", (event) => {
    const index = boxUnder(event);
    if (index === null) return;
    this.makeCurrent(index);
    if (!event.target.matches(":focus-visible")) return;
    const { left, bottom, width } = event.target.getBoundingClientRect();
    this.showTip(index, { x: left + width / 2, y: Math.min(bottom, window.innerHeight - 40) - 8 });
  });
  this.tree.addEventListener("focusout", () => this.hideTip());
  this.drawing.addEventListener("pointermove", (event) => {
    const index = boxUnder(event);
    if (index === null) this.hideTip();
    else this.showTip(index, event);
  });
  this.drawing.addEventListener("pointerleave", () => this.hideTip());
  this.drawing.addEventListener("click", (event) => {
    const index = boxUnder(event);
    if (index === null || event.detail > 1) return;
    this.choose(index);
    this.focus(index);
    if (event.pointerType === "touch") this.showTip(index, event);
  });
  this.drawing.addEventListener("dblclick", (event) => {
    const index = boxUnder(event);
    if (index === null) return;
    this.choice.clear();
    this.zoom(index);
    this.focus(index);
  });
  this.section.querySelector(".out").addEventListener("click", () => this.zoomOut());
  this.section.querySelector(".in").addEventListener("click", () => {
    const index = this.choice.box;
    this.zoom(index);
    this.focus(index);
  });
};
