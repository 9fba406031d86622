"use strict";
// Everything from the report enters the page as text, never as markup.
(() => {
  const details = JSON.parse(document.getElementById("details").textContent);
  const svg = document.getElementById("lineage");
  const panel = document.getElementById("panel");
  const boxes = [...svg.querySelectorAll(".box")];
  const edges = [...svg.querySelectorAll(".edge")];
  const marks = { PASS: "✔", FAIL: "✘", UNKNOWN: "?" };

  const element = (name, text, className) => {
    const made = document.createElement(name);
    made.textContent = text;
    if (className) made.className = className;
    return made;
  };

  // All that a box was made from, and all that was made from it.
  const reach = (name, from, to) => {
    const seen = new Set([name]);
    const waiting = [name];
    while (waiting.length) {
      const here = waiting.pop();
      for (const edge of edges) {
        if (edge.dataset[from] === here && !seen.has(edge.dataset[to])) {
          seen.add(edge.dataset[to]);
          waiting.push(edge.dataset[to]);
        }
      }
    }
    return seen;
  };

  const show = (name) => {
    const { facts, links } = details[name];
    const list = document.createElement("ul");
    for (const [verdict, check, detail, where] of links) {
      const item = document.createElement("li");
      item.append(element("span", `${marks[verdict]} ${verdict} `, `verdict ${verdict}`), `${check}: ${detail}`);
      if (verdict !== "PASS") item.append(element("div", where, "where"));
      list.append(item);
    }
    const facts_list = document.createElement("dl");
    for (const [key, value] of facts) facts_list.append(element("dt", key), element("dd", value));
    panel.replaceChildren(element("h3", name), list, facts_list);
    panel.scrollTop = 0;
  };

  const choose = (box) => {
    const name = box && box.dataset.name;
    const before = name ? reach(name, "target", "source") : new Set();
    const after = name ? reach(name, "source", "target") : new Set();
    svg.classList.toggle("chosen-one", Boolean(name));
    for (const other of boxes) {
      other.classList.toggle("chosen", other === box);
      other.classList.toggle("near", before.has(other.dataset.name) || after.has(other.dataset.name));
    }
    for (const edge of edges) {
      const { source, target } = edge.dataset;
      edge.classList.toggle("near", (before.has(source) && before.has(target)) || (after.has(source) && after.has(target)));
    }
    if (name) show(name);
    else panel.replaceChildren(element("p", "Nothing chosen.", "hint"));
  };

  const whole = svg.viewBox.baseVal;
  const full = { x: whole.x, y: whole.y, width: whole.width, height: whole.height };
  let view = { ...full };
  const apply = () => svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.width} ${view.height}`);
  const zoom = (factor, x = view.x + view.width / 2, y = view.y + view.height / 2) => {
    const width = Math.min(full.width * 2, Math.max(full.width / 8, view.width * factor));
    const scale = width / view.width;
    view = { x: x - (x - view.x) * scale, y: y - (y - view.y) * scale, width, height: view.height * scale };
    apply();
  };
  const point = (event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());

  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    const at = point(event);
    zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15, at.x, at.y);
  }, { passive: false });

  let held = null;
  svg.addEventListener("pointerdown", (event) => { held = { at: point(event), moved: false }; });
  svg.addEventListener("pointermove", (event) => {
    if (!held || !event.buttons) return;
    const at = point(event);
    if (Math.hypot(at.x - held.at.x, at.y - held.at.y) > 3) held.moved = true;
    view.x += held.at.x - at.x;
    view.y += held.at.y - at.y;
    svg.classList.add("dragging");
    apply();
  });
  window.addEventListener("pointerup", () => svg.classList.remove("dragging"));
  svg.addEventListener("click", (event) => {
    if (!held || !held.moved) choose(event.target.closest(".box"));
    held = null;
  });
  svg.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      choose(event.target.closest(".box"));
    } else if (event.key === "Escape") choose(null);
  });
  document.getElementById("zoom-in").addEventListener("click", () => zoom(1 / 1.3));
  document.getElementById("zoom-out").addEventListener("click", () => zoom(1.3));
  document.getElementById("fit").addEventListener("click", () => { view = { ...full }; apply(); });

  const search = document.getElementById("search");
  const shown = [...document.querySelectorAll(".show")];
  const filter = () => {
    const words = search.value.toLowerCase();
    const verdicts = new Set(shown.filter((box) => box.checked).map((box) => box.value));
    for (const subject of document.querySelectorAll(".subject")) {
      const named = subject.querySelector("summary").textContent.toLowerCase().includes(words);
      let any = false;
      for (const row of subject.querySelectorAll("tr")) {
        row.hidden = !verdicts.has(row.dataset.verdict) || !(named || row.textContent.toLowerCase().includes(words));
        any = any || !row.hidden;
      }
      subject.hidden = !any;
      if (words && any) subject.open = true;
    }
  };
  search.addEventListener("input", filter);
  for (const box of shown) box.addEventListener("change", filter);

  const worst = boxes.find((box) => box.classList.contains("FAIL")) || boxes.find((box) => box.classList.contains("UNKNOWN"));
  if (worst) choose(worst);
})();
