"use strict";
// Makes the tables of class `sortable` sortable by their heads. Numbers sort as numbers, missing cells last; the page is whole without it.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const text = head.classList.contains("text");
    const value = (row) => {
      const cell = row.cells[column];
      const raw = (cell.dataset.v ?? cell.textContent).trim();
      return text ? raw : raw === "" ? NaN : Number(raw);
    };
    const missing = (found) => Number(text ? found === "" || found === "–" : Number.isNaN(found));
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      const body = table.tBodies[0];
      const compare = (a, b) => {
        const x = value(a), y = value(b);
        if (missing(x) || missing(y)) return missing(x) - missing(y);
        return sign * (text ? x.localeCompare(y, "en", { numeric: true }) : x - y);
      };
      body.append(...[...body.rows].sort(compare));
    });
  });
}
