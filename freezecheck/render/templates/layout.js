// Where the boxes lie. The same as `_picture_layout.py`, for the part of the model that is shown.

const LEAST = 17;
const LEAST_WRONG = 30;
const LEAST_SPARE = 0.12;
const MOST_MEAN = 48;

function urgency(boxes, index) {
  const box = boxes[index];
  const tensors = box.children.every((child) => boxes[child].kind === "tensor");
  const troubled = box.problems > 0 && !box.wrong;
  return [Number(tensors), Number(!troubled), Number(box.state !== "mixed"), -box.size, index];
}

function earlier(one, other) {
  const at = one.findIndex((value, n) => value !== other[n]);
  return at >= 0 && one[at] < other[at];
}

function openBoxes(boxes, root, columns, mostRows) {
  const opened = new Set();
  const waiting = new Map([[root, { depth: 0, urgency: urgency(boxes, root) }]]);
  let rows = 1;
  while (waiting.size) {
    let index = null;
    for (const [candidate, { urgency: its }] of waiting) {
      if (index === null || earlier(its, waiting.get(index).urgency)) index = candidate;
    }
    const { depth } = waiting.get(index);
    waiting.delete(index);
    const { children, wrong, problems, size } = boxes[index];
    const more = rows - 1 + children.length;
    const small = 2 * size < boxes[root].size;
    const most = problems ? 2 * mostRows : mostRows;
    const sound = boxes[root].problems > 0 && !problems;
    const dull = wrong || sound || children.length === 1 || (more > most && small);
    if (!children.length || depth + 1 >= columns || (dull && index !== root)) continue;
    opened.add(index);
    rows = more;
    for (const child of children) waiting.set(child, { depth: depth + 1, urgency: urgency(boxes, child) });
  }
  return opened;
}

/** Return [{box, depth, top, height, row}], parents first and from top to bottom. */
function place(boxes, root, columns, height) {
  const opened = openBoxes(boxes, root, columns, Math.trunc(height / 2 / LEAST));
  const places = [];
  const waiting = [{ box: root, depth: 0 }];
  while (waiting.length) {
    const one = waiting.pop();
    one.row = !opened.has(one.box);
    places.push(one);
    if (one.row) continue;
    for (const child of [...boxes[one.box].children].reverse()) waiting.push({ box: child, depth: one.depth + 1 });
  }
  measure(boxes, places, height);
  return places;
}

function measure(boxes, places, height) {
  const least = (one) => (boxes[one.box].wrong ? LEAST_WRONG : LEAST);
  const rows = places.filter((one) => one.row);
  const whole = rows.reduce((sum, one) => sum + boxes[one.box].size, 0) || 1;
  const used = Math.min(height, MOST_MEAN * rows.length);
  const needed = rows.reduce((sum, one) => sum + least(one), 0);
  const spare = Math.max(used - needed, needed * LEAST_SPARE);
  let top = 0;
  for (const one of places) {
    one.top = top;
    one.height = one.row ? least(one) + (spare * boxes[one.box].size) / whole : 0;
    top += one.height;
  }
  const of = new Map(places.map((one) => [one.box, one]));
  for (const one of [...places].reverse()) {
    if (!one.row) one.height = boxes[one.box].children.reduce((sum, child) => sum + of.get(child).height, 0);
  }
}
