// The picture: one column for each depth, rows as tall as their share of the parameters, bars beside the rows.

const WIDE = 560;
const SPINE = 26;

/** The part of a log scale from `low` to `high` that a value fills; the smallest still fills a little. */
function share(value, { low, high }) {
  if (!(value > 0)) return 0;
  if (high === low) return 1;
  const range = Math.log(high / low);
  return 0.12 + 0.88 * Math.min(Math.max(Math.log(value / low) / range, 0), 1);
}

function scaleOf(values) {
  const positive = values.filter((value) => value > 0);
  const high = positive.reduce((most, value) => Math.max(most, value), 0);
  const low = positive.reduce((least, value) => Math.min(least, value), high);
  return { low: Math.max(low, high * 1e-9), high };
}

function gradientBar({ gradient, gradientMax: value, type }) {
  if (gradient === "nonfinite" || typeof value === "string") return { value: 0, words: "NaN or ∞", kind: "broken" };
  if (gradient === null || gradient === "none") return { value: 0, words: type === "buffer" ? "" : "none" };
  return { value, words: gradient === "zero" ? "0" : measured(value) };
}

/** The parameters' change. How far buffers moved is said where they should not have, and has no bar. */
function changeBar({ change, astray }) {
  if (!change && astray) return { value: 0, words: measured(astray), more: "buffers " };
  if (typeof change === "string") return { value: 0, words: change, kind: "broken" };
  return { value: change, words: measured(change) };
}

/** Cut the middle out of a name that has no room; its end tells it from others, so more of the end is kept. */
function fitted(text, most) {
  if (text.length <= most) return text;
  const head = Math.max(Math.floor((most - 1) / 3), 1);
  return `${text.slice(0, head)}…${text.slice(text.length - Math.max(most - 1 - head, 1))}`;
}

class Icicle {
  constructor(section, model, choice) {
    this.section = section;
    this.model = model;
    this.choice = choice;
    this.root = 0;
    this.current = 0;
    this.places = [];
    this.drawing = section.querySelector(".drawing");
    this.tree = section.querySelector(".icicle");
    this.beside = element("div", { className: "beside", "aria-hidden": "true" });
    this.tree.after(this.beside);
    this.tip = element("div", { className: "tip", role: "tooltip", hidden: "" });
    section.append(this.tip);
    this.bars = this.barKinds();
    this.listen();
    choice.followers.push(() => this.mark());
    this.draw();
  }

  barKinds() {
    const { boxes } = this.model;
    const tensors = boxes.filter((box) => box.fact >= 0);
    const kinds = [
      { head: "gradient", said: "largest element", known: (box) => box.gradient !== null, of: gradientBar },
      { head: "change", said: "largest, parameters", known: (box) => box.change !== null || box.drift !== null, of: changeBar },
    ].filter((kind) => tensors.some(kind.known));
    for (const kind of kinds) kind.scale = scaleOf(tensors.map((box) => kind.of(box).value));
    return kinds;
  }

  // ---- drawing

  draw() {
    const width = this.drawing.clientWidth;
    if (!width) return;
    const wide = width >= WIDE;
    const bar = wide ? 112 : 52;
    const room = width - this.bars.length * bar;
    const asked = this.model.depth === null || this.root ? Infinity : this.model.depth + 1;
    const forColumns = room - SPINE - (wide ? 176 : 96);
    const columns = Math.min(Math.max(Math.floor(forColumns / (wide ? 84 : 62)) + 1, 2), asked);
    this.places = place(this.model.boxes, this.root, columns, this.height(wide));
    const used = Math.max(...this.places.map((one) => one.depth)) + 1;
    this.geometry = { bar, room, column: Math.min(forColumns / Math.max(used - 1, 1), 106), wide };
    if (!this.places.some((one) => one.box === this.current)) this.current = this.root;
    const height = this.places[0].height;
    this.drawing.style.setProperty("--height", `${height}px`);
    this.tree.style.width = `${room}px`;
    this.tree.replaceChildren(...this.places.map((one) => this.boxElement(one)));
    this.beside.replaceChildren(...this.places.filter((one) => one.row).flatMap((one) => this.rowElements(one)));
    this.drawHeads();
    this.drawTools();
    this.mark();
  }

  height(wide) {
    const most = wide ? Math.min(Math.max(window.innerHeight - 290, 460), 760) : 520;
    return Math.min(most, Math.max(this.model.boxes[this.root].leaves * 34, 120));
  }

  /** The root is a narrow spine, as high as everything; the columns of the others are equal. */
  left(depth) {
    return depth && SPINE + (depth - 1) * this.geometry.column;
  }

  boxElement({ box: index, depth, top, height, row }) {
    const box = this.model.boxes[index];
    const siblings = this.model.boxes[box.parent]?.children ?? [index];
    const spine = !row && !depth;
    const width = (row && !depth ? this.geometry.column : this.left(depth + 1) - this.left(depth)) - 1;
    const badge = row && this.tailRoom(depth) > 60 && box.problems ? null : this.badgeOf(box, spine);
    const label = this.labelOf(box, { spine, width, height, badge });
    const made = element("div", {
      className: ["box", box.state, graveness(box), spine ? "spine" : "", badge && height >= 34 && !spine ? "stacked" : ""].join(" "),
      role: "treeitem",
      tabindex: index === this.current ? "0" : "-1",
      "data-box": index,
      "aria-label": spoken(this.model, box),
      "aria-level": depth + 1,
      "aria-posinset": siblings.indexOf(index) + 1,
      "aria-setsize": siblings.length,
    }, [element("span", { className: "name", text: label })]);
    if (box.children.length) made.setAttribute("aria-expanded", String(!row));
    if (badge) made.append(badge);
    Object.assign(made.style, {
      left: `${this.left(depth)}px`, top: `${top}px`, height: `${height - 1}px`,
      width: `${width}px`,
    });
    return made;
  }

  /** How many tensors in a box are wrong, where it is not drawn as wrong itself; or that there is a note. */
  badgeOf(box, spine) {
    if (!box.wrong && box.problems) return element("span", { className: `badge${box.worst === 3 ? " error" : ""}`, text: spine ? "!" : `! ${box.problems}` });
    return box.rank === 1 && !box.wrong ? element("span", { className: "badge note", text: "i" }) : null;
  }

  /** Width of what is said beside a row. */
  tailRoom(depth) {
    return this.geometry.room - (depth ? this.left(depth + 1) : this.geometry.column);
  }

  labelOf(box, { spine, width, height, badge }) {
    const label = box.path ? box.label : nameOf(box);
    const letter = this.geometry.wide ? 7.3 : 6.5;
    const beside = badge && height < 34 ? 16 + letter * badge.textContent.length : 0;
    const taken = box.wrong ? (this.geometry.wide ? 22 : 12) + 2 * letter : (this.geometry.wide ? 10 : 5) + beside;
    return fitted(label, Math.max(Math.floor((spine ? height - 40 : width - taken) / letter), 3));
  }

  rowElements({ box: index, depth, top, height }) {
    const box = this.model.boxes[index];
    const { column, room, bar } = this.geometry;
    const left = depth ? this.left(depth + 1) : column;
    const badge = box.problems ? this.badgeOf(box, false) : null;
    const number = box.size ? `${box.type ? "\u00a0· " : ""}${brief(box.size)}` : "";
    const said = box.wrong ? [element("span", { text: box.wrong })] : [element("span", { text: box.type }), element("b", { text: number })];
    const tail = element("div", { className: `tail ${graveness(box)}`, "data-box": index }, this.tailRoom(depth) > 60 ? [badge ?? "", ...said] : []);
    Object.assign(tail.style, { left: `${left}px`, top: `${top}px`, height: `${height - 1}px`, width: `${Math.max(room - left - 1, 0)}px` });
    const bars = this.bars.map((kind, n) => {
      const made = this.barElement(kind, box);
      Object.assign(made.style, { left: `${room + n * bar}px`, top: `${top}px`, height: `${height - 1}px`, width: `${bar}px` });
      made.dataset.box = index;
      return made;
    });
    return [tail, ...bars];
  }

  barElement({ of, scale }, box) {
    const { value, words, more = "", kind = "" } = of(box);
    const fill = element("i", { className: kind });
    const filled = kind === "broken" ? 1 : share(value, scale);
    fill.style.width = `${(this.geometry.bar - 60) * filled}px`;
    const said = element("span", { text: (this.geometry.wide ? more : "") + words });
    return element("div", { className: `value${more ? " words" : ""}` }, this.geometry.wide && filled ? [fill, said] : [said]);
  }

  drawHeads() {
    const { room, bar, wide } = this.geometry;
    const heads = this.bars.map((kind, n) => {
      const head = element("span", { text: kind.head });
      if (wide) head.append(element("small", { text: kind.said }));
      Object.assign(head.style, { left: `${room + n * bar}px`, width: `${bar - 6}px` });
      return head;
    });
    this.section.querySelector(".heads").replaceChildren(...heads);
  }

  /** The way from the model down to what is shown, each step a button. */
  drawTools() {
    const way = [];
    for (let box = this.model.boxes[this.root]; box; box = this.model.boxes[box.parent]) way.unshift(box);
    this.section.querySelector(".path").replaceChildren(...way.map((box) => {
      const step = element("button", { type: "button", text: box.path ? box.label : nameOf(box) });
      if (box.index === this.root) step.setAttribute("aria-current", "true");
      step.addEventListener("click", () => this.zoom(box.index));
      return step;
    }));
    this.section.querySelector(".out").hidden = this.root === 0;
  }

  // ---- what is chosen, shown and focused

  mark() {
    const { boxes, findings } = this.model;
    const finding = this.choice.finding === null ? null : findings[this.choice.finding];
    const chosen = this.choice.box;
    for (const made of this.drawing.querySelectorAll("[data-box]")) {
      const box = boxes[Number(made.dataset.box)];
      const hit = finding ? isAbout(finding, box) : chosen === null || isWithin(box, boxes[chosen]) || isWithin(boxes[chosen], box);
      made.classList.toggle("dim", Boolean(finding || chosen !== null) && !hit);
      made.classList.toggle("hit", Boolean(finding) && hit);
      if (made.role === "treeitem") made.setAttribute("aria-selected", String(box.index === chosen));
    }
    const button = this.section.querySelector(".in");
    button.hidden = chosen === null || chosen === this.root || !boxes[chosen].children.length;
    if (!button.hidden) button.textContent = `Zoom in on ${nameOf(boxes[chosen])}`;
  }

  zoom(index) {
    const { boxes } = this.model;
    this.root = boxes[index].children.length ? index : boxes[index].parent;
    this.current = index;
    this.hideTip();
    this.draw();
  }

  zoomOut() {
    const inner = this.root;
    this.zoom(Math.max(this.model.boxes[inner].parent, 0));
    this.focus(inner);
  }

  /** Show the whole model again when nothing of a finding or layer lies in what is shown. */
  reveal(indices) {
    const { index, end } = this.model.boxes[this.root];
    if (indices.length && !indices.some((one) => one >= index && one < end)) this.zoom(0);
    this.drawing.scrollIntoView({ block: "nearest" });
  }

  elementOf(index) {
    return this.tree.querySelector(`[data-box="${index}"]`);
  }

  /** Of all boxes the current one is reached by the Tab key. */
  makeCurrent(index) {
    this.elementOf(this.current)?.setAttribute("tabindex", "-1");
    this.elementOf(index).setAttribute("tabindex", "0");
    this.current = index;
  }

  focus(index) {
    (this.elementOf(index) ?? this.elementOf(this.root)).focus();
  }

  choose(index) {
    if (this.choice.box === index) this.choice.clear();
    else this.choice.set({ box: index });
  }

  // ---- the card that says what is expected and what is

  showTip(index, beside) {
    const box = this.model.boxes[index];
    const lines = facts(this.model, box).flatMap(([what, words]) => [
      element("dt", { text: what, className: what }), element("dd", { text: words, className: what }),
    ]);
    const kind = box.path && box.kind === "layer" ? box.type : box.kind === "tensor" ? box.type : "";
    this.tip.replaceChildren(element("b", { text: nameOf(box) }), element("span", { text: ` ${kind}` }), element("dl", {}, lines));
    this.tip.hidden = false;
    const { width, height } = this.tip.getBoundingClientRect();
    const left = Math.min(Math.max(beside.x + 14, 6), window.innerWidth - width - 6);
    const below = beside.y + 16 + height < window.innerHeight;
    this.tip.style.left = `${Math.max(left, 6)}px`;
    this.tip.style.top = `${Math.max(below ? beside.y + 16 : beside.y - height - 12, 6)}px`;
  }

  hideTip() {
    this.tip.hidden = true;
  }
}
