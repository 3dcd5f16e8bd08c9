const dark = window.matchMedia("(prefers-color-scheme: dark)");
const night = {
  axis: {labelColor: "#b3bac5", titleColor: "#d5d9e0", gridColor: "#2d323a", domainColor: "#5b636f", tickColor: "#5b636f"},
  header: {labelColor: "#d5d9e0", titleColor: "#d5d9e0"},
  legend: {labelColor: "#d5d9e0", titleColor: "#d5d9e0", symbolBaseFillColor: "#b3bac5", symbolBaseStrokeColor: "#b3bac5"},
  text: {color: "#b3bac5"}, rule: {color: "#b3bac5"},
  title: {color: "#e8eaee", subtitleColor: "#a0a8b4"},
};
const CARD = "#1a1d22", ENOUGH = 4.5;  // WCAG 2: of text on its ground
const NARROW = 700, BESIDE = 110, LETTER = 0.56;  // px of a room without columns, and of axes; widths of a letter in its height
function channels(colour) { return [1, 3, 5].map(place => parseInt(colour.slice(place, place + 2), 16)); }
function light(parts) {
  const [red, green, blue] = parts.map(part => part / 255).map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05;
}
// a colour made for white, mixed with white until it stands out on the dark card; what is named ("black") stays
function seen(colour) {
  const parts = channels(colour);
  for (let white = 0; ; white += 0.02) {
    const mixed = parts.map(part => Math.round(part + (255 - part) * white));
    if (light(mixed) >= ENOUGH * light(channels(CARD)) || white >= 1) {
      return "#" + mixed.map(part => part.toString(16).padStart(2, "0")).join("");
    }
  }
}
// lines of a title of that height which fit into the room
function wrapped(text, room, height) {
  const most = Math.max(12, Math.floor(room / (LETTER * height)));
  return [text].flat().flatMap(whole => {
    const lines = [];
    for (const word of whole.split(" ")) {
      if (lines.length && `${lines.at(-1)} ${word}`.length <= most) lines[lines.length - 1] += ` ${word}`;
      else lines.push(word);
    }
    return lines;
  });
}
function titled(part, room) {
  if (!part.title) return;
  const title = typeof part.title === "string" ? {text: part.title} : part.title;
  part.title = {...title, text: wrapped(title.text, room, title.fontSize ?? 15)};
  if (title.subtitle && title.subtitle.length) part.title.subtitle = wrapped(title.subtitle, room, title.subtitleFontSize ?? 12);
}
// panels below one another and no wider than the room, where it is that of a phone
function fitted(part, room) {
  const narrow = room < NARROW;
  if (narrow && part.hconcat) { part.vconcat = part.hconcat; delete part.hconcat; }
  if (narrow && part.concat) part.columns = 1;
  const width = narrow && part.width > room - BESIDE ? room - BESIDE : part.width, places = part.encoding?.x;
  if (narrow && places?.value > width) places.value = width + 5;
  if (part.width) part.width = width;
  for (const inner of [part.layer, part.concat, part.vconcat, part.hconcat].flat().filter(Boolean)) {
    if (part.layer) inner.width ??= width;
    fitted(inner, room);
    if (part.layer) delete inner.width;
    else titled(inner, narrow ? room - BESIDE / 2 : (inner.width ?? inner.layer?.[0]?.width ?? room) + BESIDE / 2);
  }
  for (const encoded of Object.values(part.encoding ?? {})) if (narrow && encoded.legend) Object.assign(encoded.legend, {columns: 3, gradientLength: 90});
}
// an axis says what it is along
function named(part) {
  for (const axis of part.axes ?? []) {
    if (axis.title === "step (log)") axis.title = {signal: "along + ' (log)'"};
  }
  (part.marks ?? []).forEach(named);
}
function draw() {
  for (const place of document.querySelectorAll("[data-figure]")) {
    const text = document.getElementById("specification-" + place.dataset.figure).textContent;
    const {config, ...chart} = JSON.parse(text);
    const shown = dark.matches ? JSON.parse(JSON.stringify(chart).replace(/#[0-9a-f]{6}(?=")/gi, seen)) : chart;
    const room = place.clientWidth, narrow = room < NARROW;
    fitted(shown, room);
    titled(shown, room - 44);  // the menu stands beside it
    shown.config = {...config, background: "transparent"};
    if (narrow) {
      shown.config.axis = {...config.axis, labelLimit: 84};
      shown.config.legend = {...config.legend, layout: {top: {anchor: "start", direction: "vertical", margin: 8}}};
    }
    if (dark.matches) {
      for (const [part, values] of Object.entries(night)) {
        shown.config[part] = {...shown.config[part], ...values};
      }
    }
    const actions = {export: true, source: false, compiled: false, editor: false};
    const patch = vega => { if (shown.params?.some(each => each.name === "along")) named(vega); return vega; };
    vegaEmbed(place, shown, {actions, patch, renderer: "svg", tooltip: {theme: dark.matches ? "dark" : "light"}});
  }
}
let drawnAt = 0;
function redraw() { drawnAt = window.innerWidth; draw(); }
redraw();
dark.addEventListener("change", redraw);
window.addEventListener("resize", () => { if ((window.innerWidth < NARROW) !== (drawnAt < NARROW)) redraw(); });
