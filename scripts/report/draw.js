const dark = window.matchMedia("(prefers-color-scheme: dark)");
const night = {
  axis: {labelColor: "#b3bac5", titleColor: "#d5d9e0", gridColor: "#2d323a", domainColor: "#5b636f", tickColor: "#5b636f"},
  legend: {labelColor: "#d5d9e0", titleColor: "#d5d9e0"},
  title: {color: "#e8eaee", subtitleColor: "#a0a8b4"},
  text: {color: "#b3bac5"},
};
function draw() {
  for (const place of document.querySelectorAll("[data-figure]")) {
    const text = document.getElementById("specification-" + place.dataset.figure).textContent;
    const specification = JSON.parse(text);
    specification.config = {...specification.config, background: "transparent"};
    if (dark.matches) {
      for (const [part, values] of Object.entries(night)) {
        specification.config[part] = {...specification.config[part], ...values};
      }
    }
    const actions = {export: true, source: false, compiled: false, editor: false};
    vegaEmbed(place, specification, {actions, renderer: "svg", tooltip: {theme: dark.matches ? "dark" : "light"}});
  }
}
draw();
dark.addEventListener("change", draw);
