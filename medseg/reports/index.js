"use strict";
// Decisions on the cases of a run: kept in this browser, saved as CSV. The page's links work without it.
(() => {
  const by = (id) => document.getElementById(id);
  const items = [...document.querySelectorAll(".case")];
  const key = "medseg-review:" + location.pathname;
  let kept = {};
  let current = null;
  try {
    kept = JSON.parse(localStorage.getItem(key) || "{}") || {};
  } catch {
    trouble();
  }
  window.medseg = { csv, decisions: () => kept };

  function trouble() {
    by("trouble").textContent = "This browser does not keep the decisions when the page is closed: save them as CSV before.";
    by("trouble").hidden = false;
  }
  function keep() {
    try {
      localStorage.setItem(key, JSON.stringify(kept));
    } catch {
      trouble();
    }
    filter();
  }
  const of = (item) => (Object.hasOwn(kept, item.dataset.case) ? kept[item.dataset.case] : { decision: "", note: "" });
  function set(item, change) {
    kept[item.dataset.case] = { ...of(item), ...change };
    show(item);
    keep();
  }
  function show(item) {
    const { decision, note } = of(item);
    for (const button of item.querySelectorAll("[data-decision]"))
      button.setAttribute("aria-pressed", String(button.dataset.decision === decision));
    const field = item.querySelector(".note");
    if (field.value !== note) field.value = note;
  }
  function decide(item, decision) {
    set(item, { decision: of(item).decision === decision ? "" : decision });
  }
  function filter() {
    const wanted = by("filter").value.trim().toLowerCase();
    const only = by("only").value;
    let decided = 0, seen = 0;
    for (const item of items) {
      const { decision, note } = of(item);
      if (decision) decided += 1;
      const fits = !only || (only === "open" ? !decision : decision === only);
      // The case under the cursor stays until the reader moves on, or its place would be lost.
      item.hidden = !((fits || item === current) && (item.textContent + " " + note).toLowerCase().includes(wanted));
      if (!item.hidden) seen += 1;
    }
    by("count").textContent = decided + " of " + items.length + " decided, " + seen + " shown";
  }
  function go(item) {
    if (!item) return;
    if (current) current.removeAttribute("aria-current");
    current = item;
    item.setAttribute("aria-current", "true");
    item.focus({ preventScroll: true });
    item.scrollIntoView({ block: "nearest" });
  }
  function step(by) {
    const shown = items.filter((item) => !item.hidden);
    const at = shown.indexOf(current);
    go(shown[at < 0 ? 0 : Math.min(shown.length - 1, Math.max(0, at + by))]);
  }
  function csv() {
    const cell = (value) => (/[",\r\n]/.test(value) ? '"' + value.replaceAll('"', '""') + '"' : value);
    const rows = items.map((item) => [item.dataset.case, of(item).decision, of(item).note]);
    return [["case", "decision", "note"], ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
  }
  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.download = "decisions.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  for (const item of items) {
    show(item);
    for (const button of item.querySelectorAll("[data-decision]")) button.addEventListener("click", () => decide(item, button.dataset.decision));
    item.querySelector(".note").addEventListener("input", (event) => set(item, { note: event.target.value }));
    item.addEventListener("focusin", () => {
      if (current && current !== item) current.removeAttribute("aria-current");
      current = item;
      item.setAttribute("aria-current", "true");
    });
  }
  by("filter").addEventListener("input", filter);
  by("only").addEventListener("change", () => {
    current = null;
    filter();
  });
  by("save").addEventListener("click", save);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
      if (event.key === "Escape") current ? go(current) : event.target.blur();
      return;
    }
    if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (event.key === "/") by("filter").focus();
    else if (current && event.key === "a") decide(current, "accept");
    else if (current && event.key === "r") decide(current, "redo");
    else if (current && event.key === "n") current.querySelector(".note").focus();
    else if (current && event.key === "Enter" && event.target === current) {
      const link = current.querySelector("a.open");
      if (link) link.click();
    } else return;
    event.preventDefault();
  });
  filter();
})();
