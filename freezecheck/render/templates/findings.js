// The list of findings, linked to the picture both ways.

class Findings {
  constructor(section, model, choice, icicle) {
    Object.assign(this, { section, model, choice, icicle });
    this.items = [...section.querySelectorAll(".finding")];
    this.said = section.querySelector(".chosen");
    for (const item of this.items) {
      const index = Number(item.dataset.finding);
      item.querySelector(".head").addEventListener("click", () => this.toggle(index));
    }
    this.linkNames();
    choice.followers.push(() => this.follow());
  }

  toggle(index) {
    if (this.choice.finding === index) {
      this.choice.clear();
      return;
    }
    this.choice.set({ finding: index });
    this.icicle.reveal(this.model.findings[index].boxes);
  }

  /** Make a button of every layer's and tensor's name in the findings' text. */
  linkNames() {
    const of = new Map(this.model.boxes.filter((box) => box.path && box.kind !== "group").map((box) => [box.path, box.index]));
    for (const code of this.section.querySelectorAll(".finding code")) {
      const index = of.get(code.textContent);
      if (index === undefined) continue;
      const link = element("button", { type: "button", className: "link", text: code.textContent });
      link.addEventListener("click", () => {
        this.choice.set({ box: index });
        this.icicle.reveal([index]);
      });
      code.replaceChildren(link);
    }
  }

  follow() {
    const { box: chosen, finding } = this.choice;
    const box = chosen === null ? null : this.model.boxes[chosen];
    let shown = 0;
    this.items.forEach((item, index) => {
      item.hidden = box !== null && !isAbout(this.model.findings[index], box);
      shown += item.hidden ? 0 : 1;
      item.classList.toggle("picked", index === finding);
      item.querySelector(".head").setAttribute("aria-pressed", String(index === finding));
    });
    this.said.replaceChildren();
    if (box === null) return;
    const about = shown ? `${count(shown, "finding")} of ${this.items.length} about ` : "Nothing found about ";
    const all = element("button", { type: "button", text: "show all" });
    all.addEventListener("click", () => this.choice.clear());
    this.said.append(about, element("b", { text: nameOf(box) }), " ", all);
  }
}
