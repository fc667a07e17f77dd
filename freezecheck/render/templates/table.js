// Every tensor, searchable and sortable. Only the rows in sight are in the document.

const ROW = 28;
const SPARE = 8;
const PRINTED = 400;

const inOrder = new Intl.Collator("en", { numeric: true }).compare;

const isBuffer = (tensor) => tensor.kind === "buffer";
const group = (tensor) => tensor.optimizer ?? (isBuffer(tensor) ? null : "none");

const COLUMNS = [
  { key: "name", head: "tensor" },
  { key: "codes", head: "findings", of: (tensor) => tensor.codes.join(" ") || null },
  { key: "expected", head: "expected" },
  { key: "actual", head: "actual", of: ({ actual }) => ({ trainable: "trains", none: null })[actual] ?? (actual === "none" ? null : actual) },
  { key: "requiresGrad", head: "requires_grad", of: (tensor) => (isBuffer(tensor) ? null : tensor.requiresGrad) },
  { key: "gradient", head: "gradient", title: "Its largest element", number: true, of: gradientNumber, show: (tensor) => gradientBar(tensor).words },
  { key: "change", head: "change", title: "Largest change of an element", number: true },
  { key: "optimizer", head: "optimizer", of: group, known: (tensor) => tensor.optimizer !== null },
  { key: "lr", head: "lr", number: true },
  { key: "weightDecay", head: "weight decay", number: true },
  { key: "shape", head: "shape", of: (tensor) => tensor.shape || "scalar" },
  { key: "dtype", head: "dtype" },
  { key: "numel", head: "elements", number: true, show: (tensor) => whole(tensor.numel) },
  { key: "kind", head: "kind" },
];

/** No gradient stands below one of zero; where none can be, nothing is known. */
function gradientNumber({ gradient, gradientMax }) {
  if (gradient === null || gradient === "none") return gradient && -1;
  return gradient === "nonfinite" ? "NaN" : gradientMax ?? 0;
}

const valueOf = (column, tensor) => (column.of ? column.of(tensor) : tensor[column.key]);

function shownIn(column, tensor) {
  const value = valueOf(column, tensor);
  if (value === null) return "–";
  if (column.show) return column.show(tensor);
  return column.number ? measured(value) : value;
}

/** Numbers by size, names and the rest as words; what is not known comes last. */
function compared(column, one, other) {
  const [a, b] = [one, other].map((tensor) => valueOf(column, tensor));
  const [lacks, alsoLacks] = [a, b].map((value) => value === null);
  if (lacks || alsoLacks) return { unknown: Number(lacks) - Number(alsoLacks) };
  const [x, y] = [a, b].map((value) => (column.number && typeof value === "string" ? Infinity : value));
  return { order: column.number ? x - y || 0 : inOrder(x, y) };
}

class Table {
  constructor(section, model, choice, icicle) {
    Object.assign(this, { section, model, choice, icicle });
    this.columns = COLUMNS.filter(({ known, ...column }) => model.tensors.some(known ?? ((tensor) => valueOf(column, tensor) !== null)));
    const rank = (tensor) => (tensor.codes.length ? model.boxes[tensor.box].rank : 0);
    this.gravest = [...model.tensors].sort((one, other) => rank(other) - rank(one));
    this.sorted = null;
    this.words = model.tensors.map((tensor) =>
      [...this.columns.map((column) => shownIn(column, tensor)), ...tensor.aliases].join(" ").toLowerCase());
    this.scroll = section.querySelector(".scroll");
    this.input = section.querySelector("input");
    this.body = element("tbody");
    this.heads = this.columns.map((column) => this.headOf(column));
    const head = element("thead", {}, [element("tr", {}, this.heads)]);
    this.table = element("table", {}, [head, this.body]);
    this.scroll.append(this.table);
    this.scroll.addEventListener("scroll", () => this.draw(), { passive: true });
    this.input.addEventListener("input", () => this.filter());
    this.body.addEventListener("click", (event) => this.pick(event));
    choice.followers.push(() => this.filter());
    this.filter();
  }

  headOf(column) {
    const button = element("button", { type: "button", text: column.head, title: column.title ?? "" });
    button.addEventListener("click", () => this.sort(column));
    return element("th", { scope: "col", "aria-sort": "none", className: column.number ? "number" : column.key }, [button]);
  }

  sort(column) {
    const down = this.sorted?.column === column && !this.sorted.down;
    this.sorted = { column, down };
    this.columns.forEach((one, n) => this.heads[n].setAttribute("aria-sort", one !== column ? "none" : down ? "descending" : "ascending"));
    this.filter();
  }

  filter() {
    const asked = this.input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const { boxes, findings, tensors } = this.model;
    const finding = this.choice.finding === null ? null : new Set(findings[this.choice.finding].boxes.map((box) => boxes[box].fact));
    const box = this.choice.box === null ? null : boxes[this.choice.box];
    const inside = box && new Set(boxes.slice(box.index, box.end).map((one) => one.fact));
    this.rows = this.gravest.filter((tensor) =>
      (!finding || !finding.size || finding.has(tensor.index)) && (!inside || inside.has(tensor.index))
      && asked.every((word) => this.words[tensor.index].includes(word)));
    if (this.sorted) {
      const { column, down } = this.sorted;
      this.rows.sort((one, other) => {
        const { unknown, order } = compared(column, one, other);
        return unknown ?? (down ? -order : order);
      });
    }
    const part = this.rows.length === tensors.length ? "" : `${whole(this.rows.length)} of `;
    const chosen = finding ? `, those of ${findings[this.choice.finding].code}` : box ? `, those in ${nameOf(box)}` : "";
    this.section.querySelector(".shown").textContent = part + count(tensors.length, "tensor") + chosen;
    this.scroll.scrollTop = 0;
    this.draw();
  }

  draw() {
    const first = Math.max(Math.floor(this.scroll.scrollTop / ROW) - SPARE, 0);
    const last = first + Math.ceil(this.scroll.clientHeight / ROW) + 2 * SPARE;
    this.fill(first, Math.min(last, this.rows.length));
  }

  fill(first, last) {
    this.table.setAttribute("aria-rowcount", this.rows.length + 1);
    const rows = this.rows.slice(first, last).map((tensor, n) => this.rowOf(tensor, first + n));
    this.body.replaceChildren(this.gap(first), ...rows, this.gap(this.rows.length - last));
  }

  gap(rows) {
    const cell = element("td", { colspan: this.columns.length });
    const made = element("tr", { className: "gap", "aria-hidden": "true" }, [cell]);
    made.style.height = `${rows * ROW}px`;
    return made;
  }

  rowOf(tensor, at) {
    const cells = this.columns.map((column) => {
      const text = shownIn(column, tensor);
      const state = column.key === "actual" || column.key === "expected" ? ` state ${tensor[column.key]}` : "";
      if (column.key !== "name") return element("td", { className: (column.number ? "number" : column.key) + state, text });
      const also = tensor.aliases.length ? ` (also ${tensor.aliases.join(", ")})` : "";
      return element("th", { scope: "row", className: "name", title: text + also }, [this.nameButton(text)]);
    });
    return element("tr", { className: graveness(this.model.boxes[tensor.box]), "aria-rowindex": at + 2, "data-box": tensor.box }, cells);
  }

  /** Where a name does not fit, its beginning is cut: its end tells it from the others. */
  nameButton(name) {
    const end = name.lastIndexOf(".", name.lastIndexOf(".") - 1) + 1;
    return element("button", { type: "button" }, [element("span", { text: name.slice(0, end) }), element("b", { text: name.slice(end) })]);
  }

  pick(event) {
    const row = event.target.closest("tr[data-box]");
    if (!row || !event.target.closest("th")) return;
    const index = Number(row.dataset.box);
    this.choice.set({ box: index });
    this.icicle.reveal([index]);
  }

  /** On paper nobody scrolls: the first rows are all there, and the rest is said. */
  forPaper() {
    this.fill(0, Math.min(this.rows.length, PRINTED));
    const left = this.rows.length - PRINTED;
    if (left > 0) this.body.lastChild.replaceChildren(element("td", { colspan: this.columns.length, text: `and ${count(left, "more tensor")}, in the page itself` }));
  }
}
