const dark = window.matchMedia("(prefers-color-scheme: dark)");
const night = {
  axis: {labelColor: "#b3bac5", titleColor: "#d5d9e0", gridColor: "#2d323a", domainColor: "#5b636f", tickColor: "#5b636f"},
  header: {labelColor: "#d5d9e0", titleColor: "#d5d9e0"},
  legend: {labelColor: "#d5d9e0", titleColor: "#d5d9e0", symbolBaseFillColor: "#b3bac5", symbolBaseStrokeColor: "#b3bac5"},
  text: {color: "#b3bac5"}, rule: {color: "#b3bac5"},
  title: {color: "#e8eaee", subtitleColor: "#a0a8b4"},
};
const CARD = "#1a1d22", ENOUGH = 4.5;  // WCAG 2: of text on its ground
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
function draw() {
  for (const place of document.querySelectorAll("[data-figure]")) {
    const text = document.getElementById("specification-" + place.dataset.figure).textContent;
    const {config, ...chart} = JSON.parse(text);
    const shown = dark.matches ? JSON.parse(JSON.stringify(chart).replace(/#[0-9a-f]{6}(?=")/gi, seen)) : chart;
    shown.config = {...config, background: "transparent"};
    if (dark.matches) {
      for (const [part, values] of Object.entries(night)) {
        shown.config[part] = {...shown.config[part], ...values};
      }
    }
    const actions = {export: true, source: false, compiled: false, editor: false};
    vegaEmbed(place, shown, {actions, renderer: "svg", tooltip: {theme: dark.matches ? "dark" : "light"}});
  }
}
draw();
dark.addEventListener("change", draw);
