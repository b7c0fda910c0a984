"use strict";
// Comfort only: everything can be read without it. Reads out the values of charts, and sorts tables.

for (const svg of document.querySelectorAll(".chart svg[data-x]")) {
  const output = svg.closest("figure").querySelector("output");
  const cursor = svg.querySelector(".cursor");
  const lines = [...svg.querySelectorAll("g[data-values]")].map((line) => ({
    name: line.dataset.name,
    points: line.dataset.values.split(" ").filter(Boolean).map((point) => {
      const [x, y, left, top] = point.split(",");
      return { x, y, left: Number(left), top: Number(top) };
    }),
  }));
  const nearest = (points, left) =>
    points.reduce((best, point) => (Math.abs(point.left - left) < Math.abs(best.left - left) ? point : best));

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const [left, top] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    const found = lines.filter((line) => line.points.length).map((line) => ({ name: line.name, ...nearest(line.points, left) }));
    if (!found.length) return;
    const place = nearest(found, left);
    let here = found.filter((point) => point.x === place.x);
    if (here.length > 4) here = [here.reduce((best, point) => (Math.abs(point.top - top) < Math.abs(best.top - top) ? point : best))];
    output.value = `${svg.dataset.x} ${place.x}: ` + here.map((point) => (lines.length > 1 ? `${point.name} ${point.y}` : point.y)).join(", ");
    for (const end of ["x1", "x2"]) cursor.setAttribute(end, place.left);
    cursor.setAttribute("visibility", "visible");
  });
  svg.addEventListener("pointerleave", () => {
    output.value = "";
    cursor.setAttribute("visibility", "hidden");
  });
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent;
      const compare = (one, other) => {
        const [a, b] = [key(one), key(other)];
        if (a === "" || b === "") return (a === "") - (b === ""); // nothing comes last, in both directions
        const [x, y] = [Number(a), Number(b)];
        return direction * (Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, { numeric: true }) : x - y);
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
    });
  });
}

for (const named of document.querySelectorAll("[data-run]")) {
  const light = (on) => {
    for (const line of document.querySelectorAll("g.line, .parallel path")) {
      if (line.dataset.name === named.dataset.run) {
        line.classList.toggle("lit", on);
        if (on) line.parentNode.append(line);
      }
    }
  };
  named.addEventListener("pointerenter", () => light(true));
  named.addEventListener("pointerleave", () => light(false));
}
