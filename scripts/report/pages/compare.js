const data = JSON.parse(document.getElementById("data").textContent);
const held = new Map();  // run -> step -> measure -> [value, standard error]
for (const [run, step, measure, value, error] of data.values) {
  const steps = held.get(run) ?? held.set(run, new Map()).get(run);
  (steps.get(step) ?? steps.set(step, new Map()).get(step)).set(measure, [value, error]);
}
const part = (name, side) => document.getElementById(`${name}-${side}`);
function number(value, digits = 5) {
  if (value === undefined) return "";
  const usual = value === 0 || (Math.abs(value) >= 1e-4 && Math.abs(value) < 1e6);
  return usual ? String(+value.toPrecision(digits)) : value.toExponential(2);
}
const signed = value => (value > 0 ? "+" : "") + number(value);
let marked = 0;
function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value, false, value === chosen)));
}
function steps(side) {
  const all = [...held.get(+part("run", side).value).keys()].sort((one, other) => one - other);
  const before = part("step", side).value, kept = before !== "" && all.includes(+before) ? +before : all.at(-1);
  fill(part("step", side), all.map(step => [step, step]), kept);
}
function chosen(side) { return held.get(+part("run", side).value).get(+part("step", side).value); }
function compare() {
  const [one, other] = ["A", "B"].map(chosen), rows = [];
  data.measures.forEach(([what, name], measure) => {
    const [a, b] = [one.get(measure), other.get(measure)];
    if (!a && !b) return;
    const row = document.createElement("tr");
    const errors = [a, b].map(each => each?.[1] == null ? "" : number(each[1], 2)).filter(Boolean).join(", ");
    [what, name, number(a?.[0]), number(b?.[0]), a && b ? signed(b[0] - a[0]) : "", errors].forEach((text, place) => {
      const cell = row.insertCell();
      cell.textContent = text;
      if (place > 1) cell.className = "n";
    });
    row.addEventListener("click", () => { marked = measure; compare(); });
    row.classList.toggle("marked", measure === marked);
    rows.push(row);
  });
  document.getElementById("differences").tBodies[0].replaceChildren(...rows);
  draw();
}
function draw() {
  const place = document.getElementById("curve"), dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  const values = ["A", "B"].flatMap(side => [...held.get(+part("run", side).value)].filter(([, measures]) => measures.has(marked))
    .map(([step, measures]) => ({run: `${side}: ${data.runs[+part("run", side).value]}`, side, step, x: Math.max(step, 0.5), value: measures.get(marked)[0],
      chosen: step === +part("step", side).value})));
  const ink = dark ? "#b3bac5" : "#4a515b", narrow = place.clientWidth < 700;
  const x = {field: "x", type: "quantitative", title: "step (log)", scale: {type: "log", nice: false},
    axis: {grid: false, labelExpr: "datum.value < 1 ? '0' : format(datum.value, '~s')", values: [0.5, 1, 10, 100, 1e3, 1e4, 1e5, 1e6, Math.max(...values.map(each => each.step))], labelOverlap: true}};
  const y = {field: "value", type: "quantitative", title: data.measures[marked][0], scale: {zero: false}};
  const color = {field: "side", type: "nominal", legend: null, scale: {range: dark ? ["#e0a030", "#a08cff"] : ["#b36b00", "#5b3fc0"]}};
  const tooltip = ["run", "step", "value"].map(field => ({field}));
  vegaEmbed(place, {
    width: Math.min(760, place.clientWidth - 80), height: 220, background: "transparent", data: {values},
    title: {text: data.measures[marked][1], subtitle: narrow ? "" : "A solid, B dashed; large: the chosen steps", anchor: "start", color: ink, subtitleColor: ink},
    layer: [
      {mark: {type: "line"}, encoding: {x, y, color, strokeDash: {field: "side", type: "nominal", legend: null, scale: {range: [[1, 0], [5, 3]]}}}},
      {mark: {type: "point", filled: true, opacity: 1}, encoding: {x, y, color, tooltip, size: {condition: {test: "datum.chosen", value: 160}, value: 20}}},
    ],
    config: {view: {stroke: null}, axis: {labelColor: ink, titleColor: ink, gridColor: dark ? "#2d323a" : "#e7e9ee"}},
  }, {actions: false, renderer: "svg"});
}
for (const [place, side] of ["A", "B"].entries()) {
  fill(part("run", side), data.runs.map((name, run) => [run, name]), place ? data.runs.length - 1 : 0);
  steps(side);
  part("run", side).addEventListener("change", () => { steps(side); compare(); });
  part("step", side).addEventListener("change", compare);
}
compare();
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
