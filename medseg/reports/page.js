"use strict";
// Sorting and filtering of the table of cases; the page is complete without it.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const value = (row, column) => {
    const text = row.cells[column].textContent.trim().replace("−", "-").replace(/^\+/, "");
    if (text === "inf") return Infinity;
    if (text === "-inf") return -Infinity;
    return text !== "" && !isNaN(text) ? Number(text) : text;
  };
  const order = (a, b) =>
    typeof a === typeof b
      ? typeof a === "number" ? (a < b ? -1 : a > b ? 1 : 0) : a.localeCompare(b, undefined, { numeric: true })
      : typeof a === "number" ? -1 : 1;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].map((row) => [value(row, column), row]);
      rows.sort(([a], [b]) => (up ? order(a, b) : order(b, a)));
      body.append(...rows.map(([, row]) => row));
    });
  });
  const frame = table.parentElement;
  const label = document.createElement("label");
  label.className = "filter";
  const field = document.createElement("input");
  field.type = "search";
  const count = document.createElement("output");
  const filter = () => {
    const wanted = field.value.trim().toLowerCase();
    let seen = 0;
    for (const row of body.rows) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
      seen += !row.hidden;
    }
    count.textContent = seen + " of " + body.rows.length + " rows";
  };
  field.addEventListener("input", filter);
  label.append("Filter by case, structure or status ", field, " ", count);
  frame.before(label);
  filter();
}
