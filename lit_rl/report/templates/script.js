"use strict";
const WIDTH = 560, HEIGHT = 300, LEFT = 76, RIGHT = 14, TOP = 8, BOTTOM = 42;
const COLORS = 7, DASHES = ["", "7 3", "2 3", "9 3 2 3"];

addEventListener("error", event => { document.documentElement.dataset.error = event.message; });

function add(parent, name, attributes = {}, text = null) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  parent.append(element);
  return element;
}

function addHtml(parent, name, className, text = "") {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.textContent = text;
  parent.append(element);
  return element;
}

const color = line => `var(--c${line.color % COLORS})`;
const dash = line => DASHES[(line.color + Math.floor(line.color / COLORS)) % DASHES.length];

const tiny = value => value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");

/* For axes, with SI letters: 12.5k, 0.0123, 1.2e-7. */
function brief(value) {
  const size = Math.abs(value);
  if (size >= 1e12 || (size > 0 && size < 1e-3)) return tiny(value);
  for (const [unit, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (size >= unit) return `${+(value / unit).toPrecision(4)}${letter}`;
  }
  return String(+value.toPrecision(4));
}

/* For values under the pointer: all five digits that the page holds. */
function exact(value) {
  if (value === null) return "not finite";
  return value !== 0 && Math.abs(value) < 1e-3 ? tiny(value) : value.toLocaleString("en", {maximumSignificantDigits: 5});
}

function finite(values) { return values.filter(value => value !== null); }

/* Steps of 1, 2 or 5 times a power of ten that fall into [low, high]. */
function ticks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find(factor => factor * power >= raw);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(+(k * step).toPrecision(12));
  return found;
}

function decades(low, high) {
  const first = Math.ceil(low - 1e-9), last = Math.floor(high + 1e-9), every = Math.max(1, Math.ceil((last - first) / 6));
  const found = [];
  for (let k = first; k <= last; k += every) found.push(10 ** k);
  return found;
}

const least = values => values.reduce((a, b) => Math.min(a, b), Infinity);
const most = values => values.reduce((a, b) => Math.max(a, b), -Infinity);

/* Range of the curves, widened for bands by at most a third on each side; null without a finite value. */
function range(chart, scale) {
  const values = chart.lines.flatMap(line => finite(line.y)).map(scale);
  if (!values.length) return null;
  let low = least(values), high = most(values);
  if (high === low) { const by = Math.abs(high) * .1 || 1; return [low - by, high + by]; }
  const ends = chart.lines.flatMap(line => finite([...line.low || [], ...line.high || []]));
  const scaled = ends.filter(end => !chart.log || end > 0).map(scale), third = (high - low) / 3;
  low = Math.max(low - third, Math.min(low, least(scaled)));
  high = Math.min(high + third, Math.max(high, most(scaled)));
  const margin = (high - low) * .04;
  return [low - margin, high + margin];
}

/* A line with gaps where values are missing. */
function path(xs, ys, x, y) {
  let text = "", isDown = false;
  xs.forEach((step, k) => {
    if (ys[k] === null) { isDown = false; return; }
    text += `${isDown ? "L" : "M"}${x(step).toFixed(1)} ${y(ys[k]).toFixed(1)}`;
    isDown = true;
  });
  return text;
}

function band(line, x, y) {
  const kept = line.x.map((_, k) => k).filter(k => line.low[k] !== null && line.high[k] !== null);
  const at = (k, ends) => `${x(line.x[k]).toFixed(1)} ${y(ends[k]).toFixed(1)}`;
  const there = kept.map(k => at(k, line.high)), back = kept.reverse().map(k => at(k, line.low));
  return kept.length > 1 ? `M${[...there, ...back].join("L")}Z` : "";
}

function drawAxes(svg, chart, x, y, xRange, yRange) {
  const right = WIDTH - RIGHT, bottom = HEIGHT - BOTTOM;
  const found = chart.log ? decades(...yRange) : ticks(...yRange, 6);
  for (const value of found) {
    add(svg, "line", {x1: LEFT, x2: right, y1: y(value), y2: y(value), stroke: "var(--grid)"});
    add(svg, "text", {x: LEFT - 7, y: y(value) + 4, "text-anchor": "end"}, brief(value));
  }
  for (const value of ticks(...xRange, 6)) {
    add(svg, "line", {x1: x(value), x2: x(value), y1: bottom, y2: bottom + 4, stroke: "var(--muted)"});
    add(svg, "text", {x: x(value), y: bottom + 17, "text-anchor": "middle"}, brief(value));
  }
  add(svg, "line", {x1: LEFT, x2: right, y1: bottom, y2: bottom, stroke: "var(--muted)"});
  add(svg, "text", {x: (LEFT + right) / 2, y: HEIGHT - 6, "text-anchor": "middle"}, "env steps");
  const label = chart.log ? `${chart.label}, logarithmic` : chart.label;
  add(svg, "text", {transform: `translate(13 ${(TOP + bottom) / 2}) rotate(-90)`, "text-anchor": "middle"}, label);
}

function drawLines(svg, chart, x, y) {
  for (const line of chart.lines.filter(line => line.low)) {
    add(svg, "path", {d: band(line, x, y), fill: color(line), "fill-opacity": .16, stroke: "none"});
  }
  for (const line of chart.lines) {
    const style = {fill: "none", stroke: color(line), "stroke-linejoin": "round"};
    const width = line.thin ? {"stroke-width": 1, "stroke-opacity": .5} : {"stroke-width": 2, "stroke-dasharray": dash(line)};
    add(svg, "path", {class: "curve", d: path(line.x, line.y, x, y), ...style, ...width});
    if (finite(line.y).length > 12) continue;
    line.x.forEach((step, k) => line.y[k] !== null &&
      add(svg, "circle", {cx: x(step), cy: y(line.y[k]), r: line.thin ? 1.6 : 2.6, fill: color(line), "fill-opacity": line.thin ? .5 : 1}));
  }
}

function drawLegend(figure, chart) {
  if (chart.lines.length < 2) return;
  const list = addHtml(figure, "ul", "legend");
  for (const line of chart.lines.filter(line => !line.thin)) {
    const item = addHtml(list, "li", "");
    const swatch = add(item, "svg", {viewBox: "0 0 26 8", "aria-hidden": "true"});
    if (line.low) add(swatch, "rect", {width: 26, height: 8, fill: color(line), "fill-opacity": .16});
    add(swatch, "line", {x2: 26, y1: 4, y2: 4, stroke: color(line), "stroke-width": 2, "stroke-dasharray": dash(line)});
    item.append(line.name);
  }
  if (chart.lines.some(line => line.thin)) {
    const item = addHtml(list, "li", "");
    const swatch = add(item, "svg", {viewBox: "0 0 26 8", "aria-hidden": "true"});
    add(swatch, "line", {x2: 26, y1: 4, y2: 4, stroke: "currentColor", "stroke-width": 1, "stroke-opacity": .5});
    item.append("single runs");
  }
}

function nearest(steps, step) {
  let low = 0, high = steps.length - 1;
  while (high - low > 1) { const middle = (low + high) >> 1; if (steps[middle] <= step) low = middle; else high = middle; }
  return step - steps[low] <= steps[high] - step ? low : high;
}

/* The values nearest to the pointer. */
function addHover(figure, svg, chart, x, y, xRange) {
  const tip = addHtml(figure, "div", "tip");
  const mark = add(svg, "line", {y1: TOP, y2: HEIGHT - BOTTOM, stroke: "var(--muted)", "stroke-dasharray": "2 2", visibility: "hidden"});
  const hide = () => { tip.style.display = "none"; mark.setAttribute("visibility", "hidden"); };
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect(), zoom = box.width / WIDTH;
    const px = (event.clientX - box.left) / zoom, py = (event.clientY - box.top) / zoom;
    const step = xRange[0] + (px - LEFT) / (WIDTH - LEFT - RIGHT) * (xRange[1] - xRange[0]);
    const slack = (xRange[1] - xRange[0]) * .02;
    const covers = line => line.x[0] - slack <= step && step <= line.x.at(-1) + slack;
    const near = chart.lines.filter(covers).map(line => ({line, k: nearest(line.x, step)}));
    const away = ({line, k}) => line.y[k] === null ? Infinity : Math.abs(y(line.y[k]) - py);
    const rows = near.sort((a, b) => away(a) - away(b)).slice(0, 6);
    if (!rows.length || px < LEFT) { hide(); return; }
    tip.replaceChildren();
    addHtml(tip, "div", "muted", `${rows[0].line.x[rows[0].k].toLocaleString("en")} env steps`);
    for (const {line, k} of rows) {
      const row = addHtml(tip, "div", "");
      addHtml(row, "i", "").style.background = color(line);
      const interval = line.low && line.low[k] !== null ? ` (${exact(line.low[k])} to ${exact(line.high[k])})` : "";
      row.append(`${exact(line.y[k])}${interval}  ${line.name}`);
    }
    const at = x(rows[0].line.x[rows[0].k]);
    mark.setAttribute("x1", at); mark.setAttribute("x2", at); mark.setAttribute("visibility", "visible");
    tip.style.display = "block";
    const isLeft = px < WIDTH / 2;
    tip.style.left = isLeft ? `${at * zoom + 12}px` : "auto";
    tip.style.right = isLeft ? "auto" : `${box.width - at * zoom + 12}px`;
  });
}

function draw(figure, chart, number, xRange) {
  const caption = figure.querySelector("figcaption");
  const scale = chart.log ? Math.log10 : value => value;
  const yRange = range(chart, scale);
  if (!yRange) { addHtml(figure, "p", "muted", "No finite values."); figure.append(caption); return; }
  const x = step => LEFT + (step - xRange[0]) / (xRange[1] - xRange[0]) * (WIDTH - LEFT - RIGHT);
  const y = value => {
    const at = chart.log && value <= 0 ? yRange[0] - 1 : scale(value);
    return HEIGHT - BOTTOM - (at - yRange[0]) / (yRange[1] - yRange[0]) * (HEIGHT - TOP - BOTTOM);
  };
  drawLegend(figure, chart);
  const holder = addHtml(figure, "div", "plot");
  const title = figure.querySelector("h3").textContent;
  const svg = add(holder, "svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title} over env steps`, "font-size": 12, fill: "currentColor"});
  drawAxes(svg, chart, x, y, xRange, yRange);
  const frame = add(svg, "clipPath", {id: `frame-${number}`});
  add(frame, "rect", {x: LEFT, y: TOP - 3, width: WIDTH - LEFT - RIGHT + 3, height: HEIGHT - TOP - BOTTOM + 3});
  drawLines(add(svg, "g", {"clip-path": `url(#frame-${number})`}), chart, x, y);
  addHover(holder, svg, chart, x, y, xRange);
  figure.append(caption);
}

/* The drawing shows the last frame already; this moves it. An attribute named "" is the text of its element. */
function addPlayer(figure) {
  const {frames, ms, tracks} = JSON.parse(figure.querySelector("script").textContent);
  const controls = figure.querySelector(".controls"), button = controls.querySelector("button");
  const slider = controls.querySelector("input"), title = figure.querySelector(".now");
  const moves = tracks.map(([element, name, values]) => {
    for (let k = 1; k < frames; k++) values[k] ??= values[k - 1];
    return {element: figure.querySelector(`[data-moves="${element}"]`), name, values};
  });
  let timer = null;
  function show(frame) {
    for (const {element, name, values} of moves) {
      if (name) element.setAttribute(name, values[frame]); else element.textContent = values[frame];
    }
    slider.value = frame;
    if (title) slider.setAttribute("aria-valuetext", title.textContent);
  }
  function stop() { clearInterval(timer); timer = null; button.textContent = "Play"; }
  function next() { if (+slider.value + 1 < frames) show(+slider.value + 1); else stop(); }
  button.addEventListener("click", () => {
    if (timer) { stop(); return; }
    if (+slider.value + 1 >= frames) show(0);
    button.textContent = "Pause";
    timer = setInterval(next, ms);
  });
  slider.addEventListener("input", () => { stop(); show(+slider.value); });
  controls.hidden = false;
  show(frames - 1);
}

const charts = JSON.parse(document.getElementById("charts").textContent);
const steps = charts.flatMap(chart => chart.lines.flatMap(line => [line.x[0], line.x.at(-1)]));
const xRange = [least(steps) > most(steps) / 2 && least(steps) < most(steps) ? least(steps) : 0, most(steps) || 1];
document.querySelectorAll("figure.chart").forEach((figure, number) => draw(figure, charts[number], number, xRange));
document.querySelectorAll("figure.playback").forEach(addPlayer);
document.documentElement.dataset.ready = charts.length;
