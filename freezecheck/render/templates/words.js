// Words and numbers as they are shown, and small helpers that make elements. Names only ever become text.

const STATES = { trainable: "trains", frozen: "frozen", mixed: "some of it trains", none: "no parameters" };
const EXPECTED = { trainable: "trainable", frozen: "frozen", mixed: "some trainable, some frozen", unchecked: "nothing", none: "nothing" };

function element(tag, { className = "", text = "", ...attributes } = {}, children = []) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const whole = (number) => number.toLocaleString("en-US");

function count(number, noun) {
  return `${whole(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** A measured number in three digits; NaN and ∞ come as words. */
function measured(value) {
  if (value === null || typeof value === "string") return value ?? "";
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 0.01 && size < 10000 ? String(Number(value.toPrecision(3))) : value.toExponential(1);
}

function brief(number) {
  for (const [size, letter] of [[1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
    if (number >= size) return `${Number((number / size).toPrecision(3))}${letter}`;
  }
  return String(number);
}

/** A box's class by how grave what is wrong with it is. */
function graveness(box) {
  return box.wrong ? (box.rank === 3 ? "wrong error" : "wrong") : "";
}

function nameOf(box) {
  return box.path || box.type || "model";
}

function gradientWords(box) {
  if (box.gradient === null) return "";
  if (box.gradient === "none") return "none reached it";
  if (box.gradient === "zero") return "exactly zero";
  const most = measured(box.gradientMax);
  return box.gradient === "nonfinite" ? "NaN or infinite" : most ? `largest element ${most}` : "yes";
}

function changeWords(change) {
  if (change === null) return "";
  return change === 0 ? "none" : `by up to ${measured(change)}`;
}

/** What is known of a box, as [what, words]; the parts that are not known are left out. */
function facts(model, box) {
  const tensor = model.tensors[box.fact];
  const buffer = box.type === "buffer";
  const codes = [...new Set(model.findings.filter((finding) => isAbout(finding, box)).map((finding) => finding.code))];
  const moved = { yes: "moved", no: "stayed as it was" }[tensor?.moved] ?? "";
  const source = model.fromSpec ? "" : " (its requires_grad flags)";
  const known = [
    ["expected", EXPECTED[box.expected] + source],
    ["actual", buffer ? moved : STATES[box.state]],
    ["wrong", box.wrong],
    ["inside", !box.wrong && box.problems ? `${count(box.problems, "tensor")} not as expected` : ""],
    ["parameters", buffer ? "" : box.size === box.trained ? whole(box.size) : `${whole(box.size)}, ${whole(box.trained)} of them train`],
    ["shape", tensor ? `${tensor.shape || "scalar"} ${tensor.dtype}` : ""],
    ["tied to", tensor?.aliases.join(", ")],
    ["requires_grad", buffer ? "" : tensor?.requiresGrad],
    ["gradient", gradientWords(box)],
    ["change", changeWords(box.change)],
    ["buffers", changeWords(box.drift) && (box.drift === 0 ? "no change" : `changed ${changeWords(box.drift)}`)],
    ["optimizer", tensor?.optimizer ? `${tensor.optimizer}, lr ${measured(tensor.lr)}` : ""],
    ["mode", box.mode],
    ["held by", box.heldBy],
    ["kept for backward", box.saved],
    ["findings", codes.join(", ")],
  ];
  return known.filter(([, words]) => words);
}

/** What a screen reader says of a box. */
function spoken(model, box) {
  const said = facts(model, box).map(([what, words]) => `${what} ${words}`);
  return [nameOf(box), box.path ? box.type : "", ...said].filter(Boolean).join(", ");
}
