// The size of the page, and what a reader would see is wrong: marks that the card hides, figures and menus cut off.
(() => {
  const faults = [];
  const root = document.documentElement;
  const light = parts => {
    const [red, green, blue] = parts.map(part => part / 255)
      .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05;
  };
  const parts = colour => (colour.match(/[\d.]+/g) || []).map(Number);
  const ground = element => {  // what is behind: the nearest own background
    for (let at = element; at; at = at.parentElement) {
      const found = parts(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const contrast = (one, other) => Math.max(light(one), light(other)) / Math.min(light(one), light(other));
  for (const figure of document.querySelectorAll("[data-figure]")) {
    const name = figure.dataset.figure, svg = figure.querySelector("svg");
    if (!svg) { faults.push(`${name}: not drawn`); continue; }
    const box = svg.getBoundingClientRect();
    if (!(box.height > 40 && box.height < 8000)) faults.push(`${name}: ${box.height} px high`);
    if (/NaN|Infinity|undefined/.test(svg.outerHTML)) faults.push(`${name}: no number`);
    const card = ground(figure), seen = new Set();
    const text = svg.querySelector(".role-mark.mark-rect") ? "" : ", .mark-text text";  // else it stands on cells
    for (const mark of svg.querySelectorAll(`.mark-line path, .mark-symbol path${text}`)) {
      const style = getComputedStyle(mark), line = mark.closest(".mark-line");
      const colour = parts(line || style.fill === "none" ? style.stroke : style.fill);
      if (colour.length !== 3) continue;
      if (contrast(colour, card) < ENOUGH) seen.add(`${name}: ${colour} on ${card}`);
    }
    faults.push(...seen);
    // what is written must not run into what else is written
    const written = [...svg.querySelectorAll("text")].filter(each => each.textContent.trim() && getComputedStyle(each).opacity !== "0")
      .map(each => [each.textContent, each.getBoundingClientRect()]).filter(([, at]) => at.width && at.height);
    const close = new Set();
    written.forEach(([one, a], number) => written.slice(number + 1).forEach(([other, b]) => {
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left), down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 2 && down > Math.min(a.height, b.height) / 2) close.add(`${name}: "${one}" on "${other}"`);
    }));
    faults.push(...[...close].slice(0, 5));
    const menu = figure.querySelector("details");
    if (menu) {
      menu.open = true;
      const shown = menu.querySelector(".vega-actions").getBoundingClientRect();
      const frame = figure.getBoundingClientRect();
      if (shown.bottom > frame.bottom || shown.left < frame.left) faults.push(`${name}: its menu is cut`);
      menu.open = false;
    }
  }
  for (const table of document.querySelectorAll("table, pre")) {  // wide ones scroll in their frame
    const frame = table.closest(".scroll, pre, .piece");
    const way = frame ? getComputedStyle(frame).overflowX : "visible";
    if (table.getBoundingClientRect().right > root.clientWidth && !(frame && way === "auto"))
      faults.push(`a table is cut: ${table.textContent.trim().slice(0, 40)}`);
  }
  for (const text of document.querySelectorAll("p, li, td, th, h1, h2, h3, a, figcaption, b, span, code")) {
    const colour = parts(getComputedStyle(text).color);
    if (text.textContent.trim() && colour.length === 3 && contrast(colour, ground(text)) < ENOUGH)
      faults.push(`text: ${text.textContent.trim().slice(0, 40)} in ${colour} on ${ground(text)}`);
  }
  const first = document.querySelector("[data-figure]");
  return {width: root.scrollWidth, height: root.scrollHeight, faults, first: first ? [first.getBoundingClientRect().top, first.getBoundingClientRect().bottom] : null};
})()
