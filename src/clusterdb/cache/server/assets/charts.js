// Small SVG charts. Everything that is not a number goes through textContent.

const SVG = "http://www.w3.org/2000/svg";

function draw(parent, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

export function line(svg, points, top, label) {
  svg.replaceChildren();
  svg.setAttribute("viewBox", "0 0 100 30");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  const known = points.filter((each) => each !== null);
  const most = top ?? Math.max(1e-9, ...known) * 1.1;
  const step = 100 / Math.max(1, points.length - 1);
  const at = [];
  points.forEach((value, index) => {
    if (value !== null) at.push([index * step, 29 - (value / most) * 27]);
  });
  draw(svg, "line", { x1: 0, x2: 100, y1: 29.5, y2: 29.5, class: "axis" });
  if (at.length < 2) return;
  const path = at.map(([x, y]) => `${x.toFixed(2)},${y.toFixed(2)}`).join(" ");
  draw(svg, "polygon", { points: `${at[0][0]},29.5 ${path} ${at.at(-1)[0]},29.5`, class: "under" });
  draw(svg, "polyline", { points: path, class: "stroke" });
}

// The shape of a histogram: a bar for each bucket, the last one of what was above all bounds.
export function bars(counts, bounds, label) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${counts.length * 8} 24`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "bars");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  const most = Math.max(1, ...counts);
  counts.forEach((count, index) => {
    const height = count ? Math.max(1.5, (count / most) * 22) : 0.5;
    const bar = draw(svg, "rect", { x: index * 8 + 1, y: 23 - height, width: 6, height, class: count ? "bar" : "none" });
    const range = index < bounds.length ? `up to ${bounds[index]}` : `over ${bounds.at(-1)}`;
    draw(bar, "title", {}, `${range}: ${count.toLocaleString("en")}`);
  });
  return svg;
}

export function missCurve(svg, advice, count) {
  svg.replaceChildren();
  const box = { width: svg.clientWidth || 400, height: svg.clientHeight || 190 };
  const [left, right, top, bottom] = [40, box.width - 12, 10, box.height - 26];
  svg.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
  svg.setAttribute("role", "img");
  if (!advice || advice.curve.length < 2) {
    svg.setAttribute("aria-label", "Not enough requests yet for a curve of misses by size");
    draw(svg, "text", { x: left, y: box.height / 2 }, "not enough requests yet");
    return;
  }
  const sizes = advice.curve.map(([size]) => size).filter((size) => size > 0);
  const [low, high] = [Math.log(Math.min(...sizes)), Math.log(Math.max(...sizes, advice.size))];
  const x = (size) => left + ((Math.log(size) - low) / Math.max(1e-9, high - low)) * (right - left);
  const y = (ratio) => top + (1 - ratio) * (bottom - top);
  for (const share of [0, 0.5, 1]) {
    draw(svg, "line", { x1: left, x2: right, y1: y(share), y2: y(share), class: "axis" });
    draw(svg, "text", { x: left - 6, y: y(share) + 4, "text-anchor": "end" }, `${share * 100}%`);
  }
  const path = advice.curve.filter(([size]) => size > 0)
    .map(([size, hits]) => `${x(size).toFixed(1)},${y(1 - hits).toFixed(1)}`).join(" ");
  draw(svg, "polyline", { points: path, class: "stroke" });
  if (advice.size > 0 && Math.log(advice.size) >= low) {
    draw(svg, "line", { x1: x(advice.size), x2: x(advice.size), y1: top, y2: bottom, class: "mark" });
  }
  draw(svg, "text", { x: left, y: box.height - 8 }, `${count(Math.exp(low))} entries`);
  draw(svg, "text", { x: right, y: box.height - 8, "text-anchor": "end" }, count(Math.exp(high)));
  const now = advice.at.same === undefined ? "" : `, at the present size ${((1 - advice.at.same) * 100).toFixed(1)}%`;
  svg.setAttribute("aria-label", `Share of misses by size in entries${now}`);
}
