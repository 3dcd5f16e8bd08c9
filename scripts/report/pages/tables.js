// Tables with a head can be sorted by a click on it, and kept as CSV.
(() => {
function number(text) {
  const found = text.replace(/[,\s]/g, "").match(/^[+\-\u2212]?\d+(\.\d+)?(e[+-]?\d+)?/i);
  return found ? Number(found[0].replace("\u2212", "-")) : NaN;
}
function said(cell) { return (cell.dataset.value ?? cell.innerText).trim(); }
function sorted(table, place, down) {
  const rows = [...table.tBodies[0].rows], texts = rows.map(row => row.cells[place] ? said(row.cells[place]) : "");
  const numbers = texts.map(number), numeric = texts.every((text, row) => !text || !Number.isNaN(numbers[row]));
  const order = rows.map((_, row) => row).sort((one, other) => {
    if (!texts[one] || !texts[other]) return !texts[one] - !texts[other];  // empty ones last, both ways
    const way = numeric ? numbers[one] - numbers[other] : texts[one].localeCompare(texts[other]);
    return down ? -way : way;
  });
  table.tBodies[0].append(...order.map(row => rows[row]));
}
function csv(table) {
  const quoted = text => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  return [...table.rows].map(row => [...row.cells].map(cell => quoted(said(cell))).join(",")).join("\n") + "\n";
}
for (const table of document.querySelectorAll("table[data-name]")) {
  for (const head of table.tHead.rows[0].cells) {
    head.tabIndex = 0;
    const sort = () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      sorted(table, head.cellIndex, down);
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
  }
  const link = document.createElement("a");
  link.className = "csv";
  link.textContent = "CSV";
  link.download = `${table.dataset.name}.csv`;
  link.href = "#";
  link.addEventListener("click", () => { link.href = "data:text/csv;charset=utf-8," + encodeURIComponent(csv(table)); });
  table.closest(".scroll").after(link);
}
})();
