"""The page's style sheet: system fonts, light and dark, two columns that become one on narrow screens."""

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark;
  --paper: #fbfbf9; --card: #ffffff; --ink: #1b1f24; --soft: #59636e; --faint: #b9c1ca; --line: #e4e7ea;
  --blue: #2f6fb5; --orange: #e08a00; --kept: #2f6fb5; --missed: #c3cad2; --correct: #00916a; --wrong: #d1495b;
  --tube: #8a939d; --font: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #14171a; --card: #1c2024; --ink: #e8eaed; --soft: #a3adb8; --faint: #56606b; --line: #2f353b;
  --missed: #4a535d; --tube: #aab3bd; --blue: #5b9bdc; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 var(--font);
  font-variant-numeric: tabular-nums; }
main { max-width: 1240px; margin: 0 auto; padding: 32px 28px 64px; }
h1 { font-size: 34px; line-height: 1.15; margin: 2px 0 4px; letter-spacing: -0.02em; overflow-wrap: anywhere; }
h2 { font-size: 21px; line-height: 1.3; margin: 0 0 14px; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h3 { font-size: 13px; margin: 0 0 6px; color: var(--soft); font-weight: 600; }
p { margin: 0 0 12px; }
section { margin-top: 44px; }
.eyebrow { color: var(--soft); font-size: 13px; margin: 0; letter-spacing: 0.02em; }
.subtitle, .lead { color: var(--soft); max-width: 100ch; }
.legend { padding: 0 4px 6px; }
.foot, .legend { color: var(--soft); font-size: 13px; margin: 10px 0 0; max-width: 100ch; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: 12px; margin-top: 20px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; }
.card p { margin: 0; }
.card .label, .card .detail { color: var(--soft); font-size: 12.5px; line-height: 1.35; }
.card .value { font-size: 27px; font-weight: 650; line-height: 1.3; letter-spacing: -0.02em; white-space: nowrap; }
a { color: var(--blue); }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px 12px 6px; min-width: 0; }
figcaption { padding: 0 4px 2px; line-height: 1.35; }
figcaption b { font-weight: 600; margin-right: 8px; }
figcaption span { color: var(--soft); font-size: 13px; }
.small figcaption span { display: block; }
.grid { display: grid; gap: 12px; }
.grid.wide { grid-template-columns: repeat(auto-fit, minmax(460px, 1fr)); }
.wide figcaption span { display: block; }
.grid.small { grid-template-columns: repeat(auto-fill, minmax(280px, 1fr)); }
.grid.full { margin-bottom: 14px; }
.grid.wide + .scroll { margin-top: 14px; }
.plot { width: 100%; }
.key { white-space: nowrap; }
.key::before { content: ""; display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin: 0 5px 0 2px;
  vertical-align: -1px; background: var(--faint); }
.key.blue::before { background: var(--kept); } .key.orange::before { background: var(--orange); }
.key.kept::before { background: var(--kept); } .key.missed::before { background: var(--missed); }
.key.correct::before { background: var(--correct); } .key.wrong::before { background: var(--wrong); }
.scroll { overflow: auto; max-height: 560px; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: 6px 9px; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
tbody tr:last-child td { border-bottom: 0; }
.num { text-align: right; }
thead th { position: sticky; top: 0; background: var(--card); z-index: 1; color: var(--soft); font-weight: 600;
  font-size: 12.5px; box-shadow: inset 0 -1px var(--line); }
th button, td button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; }
th button::after { content: " \\2195"; color: var(--faint); }
th[aria-sort="ascending"] button::after { content: " \\2191"; color: var(--ink); }
th[aria-sort="descending"] button::after { content: " \\2193"; color: var(--ink); }
td button.show { color: var(--blue); text-decoration: underline; text-underline-offset: 2px; }
tbody tr:hover td { background: color-mix(in srgb, var(--blue) 6%, transparent); }
.meter { display: inline-block; width: 48px; height: 7px; border-radius: 4px; background: var(--line);
  margin-right: 9px; overflow: hidden; vertical-align: 1px; }
.meter i { display: block; height: 100%; background: var(--blue); }
table.plain { overflow: hidden; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  border-collapse: separate;
  border-spacing: 0; width: auto; min-width: 320px; margin-bottom: 12px; }
table.plan { width: 100%; }
td.bars, th.bars { width: 34%; min-width: 140px; }
.bar { position: relative; height: 9px; margin: 3px 0; border-radius: 5px; }
.bar i { display: block; height: 100%; border-radius: 5px; }
.bar.planned i { background: var(--faint); } .bar.actual i { background: var(--blue); }
.bar i.band { position: absolute; top: 3px; height: 3px; background: var(--ink); opacity: 0.65; }
.tabs, .switches { display: flex; flex-wrap: wrap; gap: 7px; margin-bottom: 12px; }
.tab, .switch { font: inherit; font-size: 14px; color: var(--ink); background: var(--card);
  border: 1px solid var(--line); border-radius: 8px; padding: 5px 11px; cursor: pointer; }
.tab span { color: var(--soft); margin-left: 7px; font-size: 13px; }
.tab[aria-selected="true"] { border-color: var(--blue); box-shadow: inset 0 0 0 1px var(--blue); }
.switch { display: inline-flex; align-items: center; gap: 7px; }
.switch[aria-pressed="false"] { color: var(--soft); opacity: 0.6; }
.switch i { width: 11px; height: 11px; border-radius: 50%; display: inline-block; }
.switch[aria-pressed="false"] i { background: transparent !important; box-shadow: inset 0 0 0 1.5px var(--faint); }
a:focus-visible, button:focus-visible, summary:focus-visible, [tabindex]:focus-visible {
  outline: 2px solid var(--blue); outline-offset: 2px; }
.viewer { display: grid; grid-template-columns: minmax(0, 1.25fr) minmax(0, 1fr); gap: 12px; margin-bottom: 12px; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(255px, 1fr)); gap: 22px 30px; }
dl { display: grid; grid-template-columns: auto 1fr; gap: 3px 16px; margin: 0; font-size: 14px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
details { margin-top: 22px; } summary { cursor: pointer; color: var(--soft); }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px; overflow: auto;
  font-size: 12.5px; line-height: 1.45; max-height: 480px; }
#page-error { position: fixed; inset: auto 0 0 0; margin: 0; padding: 10px 24px; background: #b3261e; color: #fff; }
.arcs { width: 100%; height: auto; display: block; }
.arcs path { fill: none; stroke-width: 1.5; } .arcs path.kept { stroke: var(--kept); }
.arcs path.missed { stroke: var(--missed); } .arcs path.correct { stroke: var(--correct); }
.arcs path.wrong { stroke: var(--wrong); } .arcs text { text-anchor: middle; fill: var(--ink); font-family: monospace; }
.arcs .axis { stroke: var(--soft); } .arcs .break { stroke: var(--ink); stroke-dasharray: 3 2; }
@media print {
  :root { --paper: #ffffff; --card: #ffffff; --ink: #000000; --soft: #444444; --line: #bbbbbb; }
  main { max-width: none; padding: 0; } body { font-size: 11px; }
  .tabs, .switches, .modebar, th button::after { display: none !important; }
  .scroll, pre { max-height: none; overflow: visible; }
  .card, figure, tr, .fact { break-inside: avoid; } h2 { break-after: avoid; } section { margin-top: 22px; }
}
@media (max-width: 980px) {
  main { padding: 22px 18px 48px; }
  h1 { font-size: 28px; }
  .viewer { grid-template-columns: minmax(0, 1fr); }
  .grid.wide { grid-template-columns: minmax(0, 1fr); }
  .grid.small { grid-template-columns: repeat(auto-fill, minmax(235px, 1fr)); }
  .cards { grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
}
"""
