// What the page knows of the model: boxes (layers, tensors, groups of them), tensors and findings.

/** A column comes as its values, or as distinct words and each row's index into them. */
function unpacked(column) {
  return Array.isArray(column) ? column : column.index.map((word) => column.words[word]);
}

function rowsOf(columns) {
  const names = Object.keys(columns);
  const values = names.map((name) => unpacked(columns[name]));
  return values[0].map((_, row) => Object.fromEntries(names.map((name, n) => [name, values[n][row]])));
}

/** Read one report's data. A box's subtree is the boxes from its own index up to, not including, its `end`. */
function readModel(text) {
  const data = JSON.parse(text);
  const boxes = rowsOf(data.boxes);
  boxes.forEach((box, index) => {
    const parent = boxes[box.parent];
    Object.assign(box, { index, end: index + 1, children: [], leaves: 0 });
    if (parent) parent.children.push(index);
    const above = parent ? parent.below : "";
    box.path = !parent ? "" : above ? `${above}.${box.label}` : box.label;
    box.below = box.kind === "group" ? above : box.path;
  });
  for (const box of [...boxes].reverse()) {
    box.leaves ||= 1;
    const parent = boxes[box.parent];
    if (parent) {
      parent.end = Math.max(parent.end, box.end);
      parent.leaves += box.leaves;
    }
  }
  const { aliases, ...columns } = data.tensors;
  const tensors = rowsOf(columns);
  tensors.forEach((tensor, index) => {
    tensor.index = index;
    tensor.name = boxes[tensor.box].path;
    tensor.aliases = aliases[index] ?? [];
    tensor.codes = [];
  });
  const model = { ...data, boxes, tensors };
  linkFindings(model);
  return model;
}

function linkFindings({ boxes, tensors, findings }) {
  for (const finding of findings) {
    for (const index of finding.boxes) {
      const tensor = tensors[boxes[index].fact];
      if (tensor && !tensor.codes.includes(finding.code)) tensor.codes.push(finding.code);
    }
  }
}

const isWithin = (box, other) => box.index >= other.index && box.index < other.end;

/** Whether a finding names something in a box. */
function isAbout(finding, box) {
  return finding.boxes.some((index) => index >= box.index && index < box.end);
}

/** A report's choice: one layer, or one finding, or neither; everything on the page follows it. */
class Choice {
  constructor() {
    this.box = null;
    this.finding = null;
    this.followers = [];
  }

  set({ box = null, finding = null }) {
    this.box = box;
    this.finding = finding;
    for (const follow of this.followers) follow();
  }

  clear() {
    this.set({});
  }

  get empty() {
    return this.box === null && this.finding === null;
  }
}
