"""The page's script: draws the plots in the page's colours, the 3D view with its switches, and sorts tables."""

from typing import Final

SCRIPT: Final = r"""
"use strict";
(() => {
const page = document.documentElement, byId = (id) => document.getElementById(id);
const errors = [];
window.addEventListener("error", (event) => {
  errors.push(event.message);
  page.dataset.errors = errors.length;
  const box = byId("page-error");
  box.hidden = false;
  box.textContent = "This page met an error: " + event.message;
});
const DATA = JSON.parse(byId("report-data").textContent);
const CONFIG = {responsive: true, displayModeBar: false};
const withButtons = (...names) => ({...CONFIG, displayModeBar: true, displaylogo: false, modeBarButtons: [names]});
const ERROR_COLORS = [[0, "#1f4ea3"], [0.25, "#5fb3d9"], [0.5, "#f3e28b"], [0.75, "#ee8b3c"], [1, "#b3202c"]];
const css = (name) => getComputedStyle(page).getPropertyValue(name).trim();

function colored(value) {  // "var(--x)" becomes the page's colour, at any depth
  if (typeof value === "string") return value.startsWith("var(--") ? css(value.slice(4, -1)) : value;
  if (Array.isArray(value)) return typeof value[0] === "number" ? value : value.map(colored);
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, colored(item)]));
  }
  return value;
}

function themed(layout) {
  const out = {
    margin: {l: 8, r: 14, t: 10, b: 8}, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: {family: css("--font"), size: 12, color: css("--soft")},
    hoverlabel: {bgcolor: css("--card"), bordercolor: css("--line"), font: {color: css("--ink")}},
    modebar: {bgcolor: "rgba(0,0,0,0)", color: css("--faint"), activecolor: css("--blue")},
    ...colored(layout),
  };
  for (const key of Object.keys(out)) {
    if (/^[xy]axis/.test(key)) {
      out[key] = {gridcolor: css("--line"), linecolor: css("--faint"), zeroline: false, automargin: true,
        nticks: 6, ...out[key]};
      if (out[key].title) out[key].title = {standoff: 8, font: {size: 12}, ...out[key].title};
    }
  }
  return out;
}

function drawFigures() {
  return DATA.figures.map((figure) => Plotly.react(figure.id, colored(figure.data), themed(figure.layout), CONFIG));
}

/* ---- the 3D view ---------------------------------------------------------------------------------------------- */

let current = null, shown = [];
const describe = (view, residue) => {
  const chain = view.chains.find(([, start, stop]) => residue >= start && residue < stop) || ["", 0, 0];
  return (view.chains.length > 1 ? chain[0] + " " : "") + (residue - chain[1] + 1);
};

/* Stretches of consecutive drawn residues that have coordinates and lie in one chain. */
function stretches(view, points) {
  const list = [];
  let run = [], last = null, step = view.step;
  view.residues.forEach((residue, k) => {
    const known = points[3 * k] !== null;
    const begins = view.chains.some(([, start]) => start === residue);
    if (run.length && (!known || begins || residue - last > step)) { list.push(run); run = []; }
    if (known) run.push(k);
    last = residue;
  });
  if (run.length) list.push(run);
  return list;
}

const sub = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = (a) => { const n = Math.hypot(...a) || 1; return [a[0] / n, a[1] / n, a[2] / n]; };

/* A Catmull-Rom curve through the residues: points, the nearest residue of each, and errors in between. */
function curve(run, points, errors, pieces) {
  const at = (k) => { const i = run[Math.min(Math.max(k, 0), run.length - 1)];
    return [points[3 * i] / 10, points[3 * i + 1] / 10, points[3 * i + 2] / 10]; };
  const out = [];
  for (let k = 0; k < run.length; k++) {
    const [a, b, c, d] = [at(k - 1), at(k), at(k + 1), at(k + 2)];
    for (let s = 0; s < (k + 1 < run.length ? pieces : 1); s++) {
      const t = s / pieces, p = [0, 1, 2].map((x) => 0.5 * (2 * b[x] + (c[x] - a[x]) * t
        + (2 * a[x] - 5 * b[x] + 4 * c[x] - d[x]) * t * t + (3 * b[x] - a[x] - 3 * c[x] + d[x]) * t * t * t));
      const one = errors && errors[run[k]], two = errors && errors[run[Math.min(k + 1, run.length - 1)]];
      const error = errors ? (one === null || two === null ? one ?? two : one + (two - one) * t) : 0;
      out.push({p, index: run[t < 0.5 ? k : Math.min(k + 1, run.length - 1)], error});
    }
  }
  return out;
}

/* A tube around the curves as one mesh; rings follow the curve without twisting. */
function tube(view, points, errors, radius) {
  const pieces = view.residues.length > 500 ? 1 : view.residues.length > 200 ? 3 : 5;
  const sides = view.residues.length > 500 ? 5 : 8;
  const mesh = {x: [], y: [], z: [], i: [], j: [], k: [], intensity: [], index: []};
  const add = (p, node) => { mesh.x.push(p[0]); mesh.y.push(p[1]); mesh.z.push(p[2]);
    mesh.intensity.push(node.error === null ? null : node.error / 10); mesh.index.push(node.index);
    return mesh.x.length - 1; };
  for (const run of stretches(view, points)) {
    const nodes = curve(run, points, errors, pieces);
    if (nodes.length < 2) continue;
    let side = null, before = null;
    nodes.forEach((node, n) => {
      const along = unit(sub(nodes[Math.min(n + 1, nodes.length - 1)].p, nodes[Math.max(n - 1, 0)].p));
      if (!side) side = Math.abs(along[0]) < 0.8 ? [1, 0, 0] : [0, 1, 0];
      const lift = dot(side, along);
      side = unit([side[0] - lift * along[0], side[1] - lift * along[1], side[2] - lift * along[2]]);
      const other = cross(along, side), ring = [];
      for (let s = 0; s < sides; s++) {
        const angle = 2 * Math.PI * s / sides, u = radius * Math.cos(angle), v = radius * Math.sin(angle);
        ring.push(add([0, 1, 2].map((x) => node.p[x] + u * side[x] + v * other[x]), node));
      }
      if (before) {
        for (let s = 0; s < sides; s++) {
          const t = (s + 1) % sides;
          mesh.i.push(before[s], before[t]); mesh.j.push(before[t], ring[t]); mesh.k.push(ring[s], ring[s]);
        }
      }
      if (n === 0 || n === nodes.length - 1) {
        const cap = add(node.p, node);
        for (let s = 0; s < sides; s++) { mesh.i.push(cap); mesh.j.push(ring[s]); mesh.k.push(ring[(s + 1) % sides]); }
      }
      before = ring;
    });
  }
  return mesh;
}

function meshTrace(view, points, errors, radius, name) {
  const mesh = tube(view, points, errors, radius);
  const words = view.residues.map((residue, k) => view.sequence[k] + describe(view, residue)
    + (!errors ? "" : errors[k] === null ? ", reference not resolved" : `, ${(errors[k] / 10).toFixed(1)} Å off`));
  const trace = {type: "mesh3d", x: mesh.x, y: mesh.y, z: mesh.z, i: mesh.i, j: mesh.j, k: mesh.k, name,
    text: mesh.index.map((index) => name + "<br>" + words[index]), hoverinfo: "text", flatshading: false,
    lighting: {ambient: 0.88, diffuse: 0.32, specular: 0.08, roughness: 0.6, fresnel: 0.1},
    lightposition: {x: 300, y: -800, z: 600}};
  if (errors) { trace.intensity = mesh.intensity.map((value) => value ?? view.limit); trace.coloraxis = "coloraxis"; }
  else trace.color = css("--tube");
  return trace;
}

const coordinates = (points, x) => points.filter((value, k) => k % 3 === x && value !== null)
  .map((value) => value / 10);
const extent = (points, x) => Math.max(...coordinates(points, x)) - Math.min(...coordinates(points, x));

function scaleBar(view) {  // a bar of a round length below the reference
  const [xs, ys, zs] = [0, 1, 2].map((x) => coordinates(view.reference, x)), width = extent(view.reference, 0);
  const size = [5, 10, 20, 50, 100].reduce((a, b) => (b <= width / 3 ? b : a));
  const z = Math.min(...zs) - 0.06 * width - 3, x = Math.min(...xs), y = (Math.max(...ys) + Math.min(...ys)) / 2;
  return {type: "scatter3d", mode: "lines+text", x: [x, x + size], y: [y, y], z: [z, z], text: ["", size + " Å"],
    textposition: "middle right", textfont: {size: 12, color: css("--soft")}, hoverinfo: "skip",
    line: {color: css("--soft"), width: 5}};
}

function chainEnds(view) {  // 5' and 3' where there is room to write them
  const points = view.reference, out = {x: [], y: [], z: [], text: []};
  if (view.chains.length <= 4) {
    for (const [, start, stop] of view.chains) {
      for (const [residue, word] of [[start, "5′"], [stop - 1, "3′"]]) {
        const k = view.residues.indexOf(residue);
        if (k >= 0 && points[3 * k] !== null) {
          const p = [0, 1, 2].map((x) => points[3 * k + x] / 10), away = unit(p);  // the centre lies at 0
          ["x", "y", "z"].forEach((name, x) => out[name].push(p[x] + (3 + 0.03 * extent(points, 0)) * away[x]));
          out.text.push(word);
        }
      }
    }
  }
  return {type: "scatter3d", mode: "text", ...out, textposition: "middle center", hoverinfo: "skip",
    textfont: {size: 14, color: css("--ink")}};
}

function bounds(traces) {  // what all traces fill, with a margin
  return ["x", "y", "z"].map((name) => {
    let low = Infinity, high = -Infinity;
    for (const trace of traces) for (const value of trace[name]) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    const margin = 0.04 * (high - low) + 3;
    return [low - margin, high + margin];
  });
}

function draw3d(view) {
  const thick = Math.max(1, extent(view.reference, 0) / 150);  // large structures need thicker tubes to be seen
  const traces = [meshTrace(view, view.reference, null, 0.6 * thick, "reference")];
  view.predictions.forEach((points, p) => traces.push(
    meshTrace(view, points, view.errors[p], thick * (p === view.best ? 0.9 : 0.35), "prediction " + (p + 1))));
  traces.push(scaleBar(view), chainEnds(view));
  traces.forEach((trace, k) => { if (k < shown.length) trace.visible = shown[k]; });
  const box = bounds(traces), width = Math.max(box[0][1] - box[0][0], box[2][1] - box[2][0]);
  const axis = (x) => ({visible: false, showspikes: false, range: box[x]});
  const ratio = (x) => 1.85 * (box[x][1] - box[x][0]) / width;
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => share * view.limit);
  return Plotly.react("view-3d", traces, themed({
    margin: {l: 0, r: 0, t: 0, b: 0}, showlegend: false, uirevision: view.id,
    scene: {xaxis: axis(0), yaxis: axis(1), zaxis: axis(2), dragmode: "orbit",
      aspectmode: "manual", aspectratio: {x: ratio(0), y: ratio(1), z: ratio(2)},
      camera: {eye: {x: 0.08, y: -1.05, z: 0.2}, up: {x: 0, y: 0, z: 1}, projection: {type: "orthographic"}}},
    coloraxis: {cmin: 0, cmax: view.limit, colorscale: ERROR_COLORS, colorbar: {thickness: 12, len: 0.62, x: 0.985,
      xanchor: "right", outlinewidth: 0, tickvals: ticks,
      ticktext: ticks.map((t) => (t === view.limit ? "≥ " : "") + t),
      title: {text: "error (Å)", side: "right", font: {size: 12}}}},
  }), withButtons("toImage", "orbitRotation", "pan3d", "zoom3d", "resetCameraDefault3d"));
}

function drawMap(view) {
  const map = view.map, n = map.cells, z = Array.from({length: n}, () => new Array(n).fill(null));
  const words = ["reference, kept", "reference, missed", "prediction, true", "prediction, false"];
  ["kept", "missed", "correct", "wrong"].forEach((name, value) => {
    for (const cell of map[name]) z[Math.floor(cell / n)][cell % n] = value;
  });
  const at = Array.from({length: n}, (_, k) => k * map.size + (map.size + 1) / 2);
  const colors = ["--kept", "--missed", "--correct", "--wrong"].map(css);
  const scale = colors.flatMap((color, k) => [[k / 4, color], [(k + 1) / 4, color]]);
  const frame = css("--faint"), end = view.length + 0.5;
  const line = (x0, y0, x1, y1) => ({type: "line", x0, y0, x1, y1, line: {color: frame, width: 1}});
  const shapes = [line(0.5, 0.5, end, end)];
  if (view.chains.length > 1 && view.chains.length <= 40) {
    for (const [, start] of view.chains.slice(1)) {
      shapes.push(line(start + 0.5, 0.5, start + 0.5, end), line(0.5, start + 0.5, end, start + 0.5));
    }
  }
  const text = z.map((row) => row.map((value) => (value === null ? "" : words[value])));
  return Plotly.react("view-map", [{type: "heatmap", x: at, y: at, z, text, zmin: -0.5, zmax: 3.5, colorscale: scale,
    showscale: false, hoverongaps: false, hovertemplate: "%{y} and %{x}<br>%{text}<extra></extra>"}], themed({
    uirevision: view.id, shapes, hovermode: "closest", margin: {l: 8, r: 14, t: 34, b: 8},
    xaxis: {title: {text: "residue"}, range: [0.5, end], constrain: "domain", showgrid: false, mirror: true,
      showline: true},
    yaxis: {title: {text: "residue"}, range: [end, 0.5], constrain: "domain", showgrid: false, scaleanchor: "x",
      mirror: true, showline: true},
  }), withButtons("toImage", "zoom2d", "resetScale2d"));
}

function drawErrors(view) {
  const traces = view.errors.map((row, p) => {
    const x = [], y = [];
    view.residues.forEach((residue, k) => {
      if (k && view.chains.some(([, start]) => start === residue)) { x.push(null); y.push(null); }
      x.push(residue + 1); y.push(row[k] === null ? null : row[k] / 10);
    });
    return {type: "scatter", mode: "lines", x, y, name: "prediction " + (p + 1), visible: shown[p + 1],
      line: {color: DATA.colors[p % 5], width: p === view.best ? 2.6 : 1.2}, opacity: p === view.best ? 1 : 0.75};
  });
  return Plotly.react("view-errors", traces, themed({showlegend: false, hovermode: "x unified", uirevision: view.id,
    xaxis: {title: {text: "residue"}, range: [0.5, view.length + 0.5]},
    yaxis: {title: {text: "error (Å)"}, rangemode: "tozero"}}), CONFIG);
}

function drawSwitches(view) {
  const box = byId("view-switches");
  const button = (label, color, pressed, act) => {
    const item = document.createElement("button");
    item.type = "button"; item.className = "switch"; item.setAttribute("aria-pressed", pressed);
    item.innerHTML = "<i></i><span></span>";
    if (color) item.firstChild.style.background = color; else item.firstChild.remove();
    item.lastChild.textContent = label;
    item.addEventListener("click", act);
    return item;
  };
  const redraw = () => { drawSwitches(view); apply(view); };
  const names = ["reference", ...view.tm.map((tm, p) => (p + 1) + " · TM " + tm.toFixed(3)
    + (p === view.best ? " ★" : ""))];
  box.replaceChildren(...names.map((name, k) => button(name, k ? DATA.colors[(k - 1) % 5] : css("--tube"), shown[k],
    () => { shown[k] = !shown[k]; redraw(); })));
  const five = shown.slice(1).every(Boolean);
  box.append(button(five ? "best only" : "all predictions", null, true, () => {
    shown = shown.map((_, k) => k === 0 || k - 1 === view.best || !five); redraw(); }));
}

function apply(view) {
  Plotly.restyle("view-3d", {visible: shown}, shown.map((_, k) => k));
  Plotly.restyle("view-errors", {visible: shown.slice(1)}, view.tm.map((_, k) => k));
}

function summarise(view) {
  const map = view.map, share = (a, b) => (b ? Math.round(100 * a / b) + " %" : "none");
  byId("view-summary").textContent = view.id + ", " + view.length.toLocaleString("en") + " nt"
    + (view.chains.length > 1 ? " in " + view.chains.length + " chains" : "") + ": prediction " + (view.best + 1)
    + " reaches TM-score " + view.tm[view.best].toFixed(3)
    + (view.lddt === null ? "" : ", lDDT " + view.lddt.toFixed(2)) + (view.rmsd === null ? "" : ", RMSD "
    + view.rmsd.toFixed(1) + " Å") + ". It keeps " + share(map.num_both, map.num_true) + " of the reference's "
    + map.num_true.toLocaleString("en") + " contacts, and " + share(map.num_both, map.num_found)
    + " of its own contacts are true.";
  byId("view-note").textContent = "grey: reference" + (view.num_references > 1 ? " " + view.reference_number + " of "
    + view.num_references : "") + "; thick: the best prediction"
    + (view.residues.length < view.length ? "; every " + view.step + "th residue, averaged over " + (2 * view.step + 1)
    : "");
  byId("map-note").textContent = "C1′ atoms within 12 Å" + (map.size > 1 ? ", " + map.size + " residues a cell" : "");
}

function show(id, scroll) {
  const view = DATA.views.find((item) => item.id === id);
  if (!view) return [];
  if (view !== current) shown = [true, ...view.tm.map(() => true)];
  current = view;
  document.querySelectorAll(".tab").forEach((tab) => tab.setAttribute("aria-selected", tab.dataset.target === id));
  summarise(view);
  drawSwitches(view);
  document.querySelectorAll("[data-pairs]").forEach((item) => { item.hidden = item.dataset.pairs !== id; });
  if (scroll) byId("structures").scrollIntoView({behavior: "smooth"});
  return [draw3d(view), drawMap(view), drawErrors(view)];
}

/* ---- tables --------------------------------------------------------------------------------------------------- */

function sortable(table) {
  table.querySelectorAll("th button").forEach((button) => button.addEventListener("click", () => {
    const head = button.closest("th"), column = Number(button.dataset.column), body = table.tBodies[0];
    const numeric = head.classList.contains("num");
    const down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : numeric;
    table.querySelectorAll("th").forEach((cell) => cell.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.cells[column].dataset.value;
    const compare = (a, b) => (numeric ? value(a) - value(b) : value(a).localeCompare(value(b), "en", {numeric: true}));
    body.append(...[...body.rows].sort((a, b) => (down ? compare(b, a) : compare(a, b))));
  }));
}

async function draw() {
  await Promise.all([...drawFigures(), ...(DATA.views.length ? show((current || DATA.views[0]).id, false) : [])]);
  page.dataset.drawn = document.querySelectorAll(".plot").length;
}

document.querySelectorAll("table.sortable").forEach(sortable);
document.querySelectorAll(".tab").forEach((tab) => tab.addEventListener("click",
  () => show(tab.dataset.target, false)));
/* Arrow keys go from tab to tab, and turn the 3D view where that has the focus. */
document.querySelectorAll(".tab").forEach((tab, k, tabs) => tab.addEventListener("keydown", (event) => {
  const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (!step) return;
  const next = tabs[(k + step + tabs.length) % tabs.length];
  next.focus(); next.click(); event.preventDefault();
}));
const scene = byId("view-3d");
if (scene) scene.addEventListener("keydown", (event) => {
  const camera = scene.layout && scene._fullLayout.scene.camera;
  const turn = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]}[event.key];
  const zoom = {"+": 0.87, "=": 0.87, "-": 1.15}[event.key];
  if (!camera || !(turn || zoom)) return;
  const {x, y, z} = camera.eye, size = Math.hypot(x, y, z) * (zoom || 1);
  let around = Math.atan2(y, x), up = Math.asin(z / Math.hypot(x, y, z));
  if (turn) { around += 0.12 * turn[0]; up = Math.min(Math.max(up + 0.12 * turn[1], -1.5), 1.5); }
  Plotly.relayout(scene, {"scene.camera.eye": {x: size * Math.cos(up) * Math.cos(around),
    y: size * Math.cos(up) * Math.sin(around), z: size * Math.sin(up)}});
  event.preventDefault();
});
document.querySelectorAll("button.show").forEach((item) => item.addEventListener("click",
  () => show(item.dataset.target, true)));
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
draw();
})();
"""
