"""The script of the page that `fold` writes: a 3D view on a plain canvas (mouse, touch and keys) and its switches.

Written for this page alone, so that it needs no library and a page stays as small as its models.
"""

from typing import Final

FOLD_SCRIPT: Final = r"""
"use strict";
(() => {
const page = document.documentElement, byId = (id) => document.getElementById(id);
let faults = 0;
window.addEventListener("error", (event) => {
  page.dataset.errors = ++faults;
  const box = byId("page-error");
  box.hidden = false;
  box.textContent = "This page met an error: " + event.message;
});
const DATA = JSON.parse(byId("fold-data").textContent);
const canvas = byId("view"), pen = canvas.getContext("2d");
const shown = DATA.models.map(() => true);
let chosen = 0, colorBy = "error", turn = [1, 0, 0, 0, 1, 0, 0, 0, 1], zoom = 1, shift = [0, 0];
const css = (name) => getComputedStyle(page).getPropertyValue(name).trim();
const ramp = DATA.ramp.map((text) => [1, 3, 5].map((k) => parseInt(text.slice(k, k + 2), 16)));

function errorColor(value) {  // tenths of an Å
  const at = Math.min(value / (10 * DATA.limit), 1) * (ramp.length - 1), k = Math.min(Math.floor(at), ramp.length - 2);
  return ramp[k].map((one, x) => Math.round(one + (ramp[k + 1][x] - one) * (at - k)));
}
const hex = (text) => [1, 3, 5].map((k) => parseInt(text.slice(k, k + 2), 16));
function colorOf(model, k) {
  if (colorBy === "error") return errorColor(model.errors[k]);
  if (colorBy === "grounds") return hex(DATA.groundColors[model.kinds[k]]);
  return hex(DATA.chainColors[DATA.chainOf[k] % DATA.chainColors.length]);
}

/* A Catmull-Rom curve through the residues of each chain, as short pieces with a colour each. */
function buildPieces(model, index) {
  const pieces = [], steps = DATA.chainOf.length > 600 ? 1 : DATA.chainOf.length > 250 ? 3 : 6;
  const at = (k) => [model.coords[3 * k] / 10, model.coords[3 * k + 1] / 10, model.coords[3 * k + 2] / 10];
  for (let k = 0; k + 1 < DATA.chainOf.length; k++) {
    if (DATA.chainOf[k] !== DATA.chainOf[k + 1]) continue;
    const before = k && DATA.chainOf[k - 1] === DATA.chainOf[k] ? k - 1 : k;
    const after = k + 2 < DATA.chainOf.length && DATA.chainOf[k + 2] === DATA.chainOf[k] ? k + 2 : k + 1;
    const [a, b, c, d] = [at(before), at(k), at(k + 1), at(after)];
    const point = (t) => [0, 1, 2].map((x) => 0.5 * (2 * b[x] + (c[x] - a[x]) * t
      + (2 * a[x] - 5 * b[x] + 4 * c[x] - d[x]) * t * t + (3 * b[x] - a[x] - 3 * c[x] + d[x]) * t * t * t));
    for (let s = 0; s < steps; s++) {
      pieces.push({from: point(s / steps), to: point((s + 1) / steps), residue: s / steps < 0.5 ? k : k + 1, index});
    }
  }
  model.partner.forEach((other, k) => {
    if (other > k) pieces.push({from: at(k), to: at(other), residue: k, index, rung: true});
  });
  return pieces;
}
const pieces = DATA.models.map(buildPieces);
const reach = Math.max(...DATA.models.flatMap((model) => model.coords.map((value) => Math.abs(value) / 10)), 10);

function project(p, scale, width, height) {
  const x = turn[0] * p[0] + turn[1] * p[1] + turn[2] * p[2], y = turn[3] * p[0] + turn[4] * p[1] + turn[5] * p[2];
  const z = turn[6] * p[0] + turn[7] * p[1] + turn[8] * p[2];
  return [width / 2 + shift[0] + scale * x, height / 2 + shift[1] - scale * y, z];
}

function draw() {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== width * ratio || canvas.height !== height * ratio) {
    canvas.width = width * ratio; canvas.height = height * ratio;
  }
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const scale = zoom * 0.46 * Math.min(width, 1.1 * height) / reach, list = [];
  const paper = hex(page.dataset.dark ? "#1c2024" : "#ffffff");
  DATA.models.forEach((model, m) => {
    if (!shown[m]) return;
    for (const piece of pieces[m]) {
      if (piece.rung && m !== chosen) continue;
      const a = project(piece.from, scale, width, height), b = project(piece.to, scale, width, height);
      list.push({a, b, depth: (a[2] + b[2]) / 2, piece, model, main: m === chosen});
    }
  });
  list.sort((one, two) => one.depth - two.depth);
  for (const {a, b, depth, piece, model, main} of list) {
    const fog = Math.max(0, Math.min(0.62, 0.31 - 0.31 * depth / reach)) + (main ? 0 : 0.4);
    const color = (piece.rung ? hex(page.dataset.dark ? "#7d8894" : "#9aa4ae") : colorOf(model, piece.residue))
      .map((value, x) => Math.round(value + (paper[x] - value) * fog));
    const thick = (piece.rung ? 0.5 : main ? 2 : 0.7) * Math.max(scale, 1.2);
    const size = Math.hypot(b[0] - a[0], b[1] - a[1]) || 1, [ux, uy] = [(b[0] - a[0]) / size, (b[1] - a[1]) / size];
    const stroke = (style, wide, cap) => { pen.strokeStyle = style; pen.lineWidth = wide; pen.lineCap = cap;
      const more = cap === "butt" ? 1.5 : 0;
      pen.beginPath(); pen.moveTo(a[0] - more * ux, a[1] - more * uy);
      pen.lineTo(b[0] + more * ux, b[1] + more * uy); pen.stroke(); };
    // the dark rim ends flat, so that the round end of the next piece covers no seam of it
    if (main && !piece.rung) stroke("rgb(" + color.map((value) => Math.round(value * 0.5)) + ")", thick + 2, "butt");
    stroke("rgb(" + color + ")", thick, "round");
  }
  const bar = [5, 10, 20, 50, 100].reduce((one, two) => (two * scale <= width / 4 ? two : one));
  pen.strokeStyle = pen.fillStyle = css("--soft"); pen.lineWidth = 2; pen.font = "12px system-ui, sans-serif";
  pen.beginPath(); pen.moveTo(14, height - 16); pen.lineTo(14 + bar * scale, height - 16); pen.stroke();
  pen.fillText(bar + " Å", 20 + bar * scale, height - 12);
  const main = DATA.models[chosen];
  for (const [residue, word] of DATA.ends) {
    const p = [0, 1, 2].map((x) => main.coords[3 * residue + x] / 10), at = project(p, scale, width, height);
    pen.fillStyle = css("--ink"); pen.font = "600 13px system-ui, sans-serif";
    if (shown[chosen]) pen.fillText(word, at[0] + 7, at[1] - 7);
  }
  page.dataset.drawn = list.length;
}

function rotate(dx, dy) {
  const [cx, sx, cy, sy] = [Math.cos(dy), Math.sin(dy), Math.cos(dx), Math.sin(dx)];
  const by = [cy, 0, sy, sx * sy, cx, -sx * cy, -cx * sy, sx, cx * cy], old = turn;
  turn = by.map((_, k) => [0, 1, 2].reduce((sum, x) => sum + by[3 * Math.floor(k / 3) + x] * old[3 * x + k % 3], 0));
  draw();
}

const touches = new Map();
canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId);
  touches.set(event.pointerId, [event.clientX, event.clientY]); });
canvas.addEventListener("pointerup", (event) => touches.delete(event.pointerId));
canvas.addEventListener("pointercancel", (event) => touches.delete(event.pointerId));
canvas.addEventListener("pointermove", (event) => {
  const last = touches.get(event.pointerId);
  if (!last) return;
  const [dx, dy] = [event.clientX - last[0], event.clientY - last[1]];
  touches.set(event.pointerId, [event.clientX, event.clientY]);
  if (event.shiftKey) { shift = [shift[0] + dx, shift[1] + dy]; draw(); } else rotate(0.01 * dx, 0.01 * dy);
});
canvas.addEventListener("wheel", (event) => { event.preventDefault();
  zoom = Math.min(Math.max(zoom * Math.exp(-0.001 * event.deltaY), 0.2), 12); draw(); }, {passive: false});
canvas.addEventListener("keydown", (event) => {
  const keys = {ArrowLeft: [-0.12, 0], ArrowRight: [0.12, 0], ArrowUp: [0, -0.12], ArrowDown: [0, 0.12]};
  if (keys[event.key]) rotate(...keys[event.key]);
  else if (event.key === "+" || event.key === "=") { zoom *= 1.15; draw(); }
  else if (event.key === "-") { zoom /= 1.15; draw(); }
  else if (event.key === "0") { turn = [1, 0, 0, 0, 1, 0, 0, 0, 1]; zoom = 1; shift = [0, 0]; draw(); }
  else return;
  event.preventDefault();
});

function choose(index) {
  chosen = index;
  shown[index] = true;
  document.querySelectorAll("[data-arcs]").forEach((item) => { item.hidden = Number(item.dataset.arcs) !== index; });
  document.querySelectorAll("tr[data-model]").forEach((row) => {
    row.classList.toggle("chosen", Number(row.dataset.model) === index); });
  update();
}
function update() {
  document.querySelectorAll("button[data-show]").forEach((item) => {
    item.setAttribute("aria-pressed", shown[Number(item.dataset.show)]); });
  document.querySelectorAll("button[data-pick]").forEach((item) => {
    item.setAttribute("aria-pressed", Number(item.dataset.pick) === chosen); });
  document.querySelectorAll("button[data-color]").forEach((item) => {
    item.setAttribute("aria-pressed", item.dataset.color === colorBy); });
  document.querySelectorAll("[data-key]").forEach((item) => { item.hidden = item.dataset.key !== colorBy; });
  page.dataset.shown = shown.map(Number).join("");
  draw();
}
document.querySelectorAll("button[data-show]").forEach((item) => item.addEventListener("click", () => {
  const index = Number(item.dataset.show);
  shown[index] = !shown[index];
  update();
}));
document.querySelectorAll("button[data-pick]").forEach((item) => item.addEventListener("click",
  () => choose(Number(item.dataset.pick))));
document.querySelectorAll("button[data-color]").forEach((item) => item.addEventListener("click", () => {
  colorBy = item.dataset.color; update(); }));
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const theme = () => { if (dark.matches) page.dataset.dark = "1"; else delete page.dataset.dark; };
dark.addEventListener("change", () => { theme(); draw(); });
window.addEventListener("resize", draw);
window.addEventListener("beforeprint", draw);
theme();
choose(0);
})();
"""
