/* Charts of few points, drawn as SVG: 24 bars or a line of at most 500 steps need no library, and each library would be
 * one to keep, to license and to let through the Content-Security-Policy (they write style attributes). */

import { compare } from "./amounts.js";
import { h, newID, s, table, time } from "./dom.js";

const HEIGHT = 220;
/* About the width of the handle of a slider. */
const HANDLE = 16;
const MARGIN = { top: 10, right: 12, bottom: 26, left: 56 };

/** Payments per hour, as bars. `hours` are those of the API. */
export function hoursChart(hours, currency) {
  const most = Math.max(1, ...hours.map((hour) => hour.Payments));
  const total = hours.reduce((sum, hour) => sum + hour.Payments, 0);
  const isEstimated = hours.some((hour) => hour.Exact === false);
  const about = (hour) => {
    const count = `${paymentsOf(hour)} ${hour.Payments === 1 ? "payment" : "payments"}`;
    return `${clock(hour.Hour)}: ${count}${hour.Amount === undefined ? "" : `, ${hour.Amount} ${currency}`}`;
  };
  return chart({
    summary:
      `Payments per hour in the last ${hours.length} hours: ${isEstimated ? "about " : ""}${total} in all, ` +
      `at most ${most} an hour.`,
    domain: [0, most],
    whole: true,
    count: hours.length,
    readout: (index) => about(hours[index]),
    legend: isEstimated
      ? h(
          "p",
          { class: "legend" },
          h("span", { class: "key estimated" }),
          " Dashed: estimated, the hour has very many payments.",
        )
      : null,
    at: (x, width) => Math.floor((x / width) * hours.length),
    draw: (area, y, width) => {
      const step = width / hours.length;
      hours.forEach((hour, index) => {
        const height = Math.max(y(0) - y(hour.Payments), hour.Payments ? 1 : 0);
        area.append(
          s("rect", {
            class: hour.Exact === false ? "column estimated" : "column",
            x: index * step + step * 0.12,
            width: step * 0.76,
            y: y(0) - height,
            height,
          }),
        );
      });
      return hours.map((hour, index) => ({
        x: (index + 0.5) * step,
        text: hour.Hour.slice(11, 16),
        mark: [index * step, step],
      }));
    },
    data: () =>
      table({
        label: "Payments per hour",
        columns: [
          { title: "Hour", cell: (hour) => time(hour.Hour) },
          {
            title: "Payments",
            numeric: true,
            cell: (hour) => paymentsOf(hour),
          },
          ...(currency ? [{ title: `Amount (${currency})`, amount: (hour) => hour.Amount }] : []),
        ],
        rows: hours,
      }),
  });
}

/** A balance over time, as steps. `points` are those of the API. */
export function curveChart(points, currency) {
  const times = points.map((point) => Date.parse(point.At));
  const values = points.map((point) => Number(point.Amount)); // only to place them
  const [begin, end] = [times[0], Math.max(times.at(-1), times[0] + 1)];
  const sorted = points.map((point) => point.Amount).sort(compare);
  const place = (moment, width) => ((moment - begin) / (end - begin)) * width;
  return chart({
    summary:
      `Balance from ${clock(points[0].At)} to ${clock(points.at(-1).At)}: ` +
      `it begins at ${points[0].Amount} ${currency} and ends ` +
      `at ${points.at(-1).Amount} ${currency}; lowest ${sorted[0]}, highest ${sorted.at(-1)}.`,
    domain: [Math.min(...values), Math.max(...values)],
    count: points.length,
    readout: (index) => `From ${clock(points[index].At)}: ${points[index].Amount} ${currency}`,
    at: (x, width) => times.findLastIndex((moment) => place(moment, width) <= x),
    draw: (area, y, width) => {
      const path = points.map((_, index) => {
        const [x, level] = [place(times[index], width).toFixed(1), y(values[index]).toFixed(1)];
        return index === 0 ? `M${x} ${level}` : `H${x}V${level}`;
      });
      area.append(s("path", { class: "line", d: path.join("") }));
      return points.map((_, index) => {
        const x = place(times[index], width);
        return {
          x,
          text: axisTime(times[index], end - begin),
          mark: [x, Math.max(1, place(times[index + 1] ?? end, width) - x)],
        };
      });
    },
    ticks: (width) =>
      evenly(Math.max(2, Math.floor(width / 130))).map((share) => ({
        x: share * width,
        text: axisTime(begin + share * (end - begin), end - begin),
      })),
    data: () =>
      table({
        label: "Balance over time",
        columns: [
          { title: "From", cell: (point) => time(point.At) },
          { title: `Balance (${currency})`, amount: (point) => point.Amount },
        ],
        rows: points,
      }),
  });
}

const paymentsOf = (hour) => `${hour.Exact === false ? "about " : ""}${hour.Payments}`;
const clock = (moment) => moment.slice(0, 16).replace("T", " ");
const evenly = (count) => Array.from({ length: count }, (_, index) => index / (count - 1));

function axisTime(milliseconds, span) {
  const text = new Date(milliseconds).toISOString();
  if (span < 600e3) return text.slice(11, 19);
  if (span > 20 * 86400e3) return text.slice(0, 10);
  return span > 86400e3 + 3600e3 ? text.slice(5, 16).replace("T", " ") : text.slice(11, 16);
}

/** The frame of a chart: axes, a readout for pointer and keyboard, and the same data as a table. */
function chart({ summary, domain, whole, count, readout, legend, at, draw, ticks, data }) {
  const levels = scale(...domain, whole);
  const output = h("output", { class: "readout" }, " ");
  const slider = h("input", {
    type: "range",
    min: "0",
    max: String(count - 1),
    value: String(count - 1),
    name: "place",
    id: newID("field"),
  });
  const holder = h("div", { class: "plot" });
  let marks = [];
  let marker = null;
  let area = [0, 1];

  const read = (index) => {
    slider.value = String(index);
    output.textContent = readout(index);
    slider.setAttribute("aria-valuetext", output.textContent);
    const [x, width] = marks[index]?.mark ?? [0, 0];
    marker?.setAttribute("x", x);
    marker?.setAttribute("width", width);
  };
  const drawAt = (width) => {
    const inner = Math.max(50, width - MARGIN.left - MARGIN.right);
    area = [MARGIN.left, inner];
    const height = HEIGHT - MARGIN.top - MARGIN.bottom;
    const y = (value) => height * (1 - (value - levels[0]) / (levels.at(-1) - levels[0]));
    const plot = s("g", { transform: `translate(${MARGIN.left} ${MARGIN.top})` });
    for (const level of levels) {
      plot.append(s("line", { class: level === 0 ? "axis" : "grid", x1: 0, x2: inner, y1: y(level), y2: y(level) }));
      plot.append(
        s(
          "text",
          { class: "tick", x: -8, y: y(level), "text-anchor": "end", "dominant-baseline": "middle" },
          short(level),
        ),
      );
    }
    marker = s("rect", { class: "marker", y: 0, height, width: 0 });
    plot.append(marker);
    marks = draw(plot, y, inner);
    const every = Math.ceil(marks.length / Math.max(1, Math.floor(inner / 56)));
    const labels = ticks?.(inner) ?? marks.filter((_, index) => index % every === 0);
    for (const { x, text } of labels.filter(({ text }, index) => text !== labels[index - 1]?.text)) {
      const anchor = x < 20 ? "start" : x > inner - 20 ? "end" : "middle";
      plot.append(s("text", { class: "tick", x, y: height + 18, "text-anchor": anchor }, text));
    }
    // The handle stands below the middle of the mark where the marks are of equal width.
    const edge = whole ? inner / count : 0;
    slider.style.marginLeft = `${MARGIN.left + edge / 2 - HANDLE / 2}px`;
    slider.style.width = `${inner - edge + HANDLE}px`;
    holder.replaceChildren(
      s("svg", { role: "img", "aria-label": summary, width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}` }, plot),
    );
    if (output.textContent.trim()) read(Number(slider.value));
  };

  slider.addEventListener("input", () => read(Number(slider.value)));
  slider.addEventListener("focus", () => read(Number(slider.value)));
  holder.addEventListener("pointermove", (event) => {
    const x = event.clientX - holder.getBoundingClientRect().left - area[0];
    read(Math.min(count - 1, Math.max(0, at(x, area[1]))));
  });
  let drawn = 0;
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width > 0 && width !== drawn) drawAt((drawn = width));
  }).observe(holder);
  return h(
    "figure",
    { class: "chart" },
    holder,
    slider,
    h("label", { class: "hint", for: slider.id }, "Move to read the chart"),
    h("p", { class: "read" }, output),
    legend,
    h("figcaption", { class: "hint" }, summary),
    asTable(data),
  );
}

/** The rows are made when they are asked for. */
function asTable(data) {
  const details = h("details", {}, h("summary", {}, "Show as table"));
  details.addEventListener("toggle", () => details.open && details.children.length === 1 && details.append(data()));
  return details;
}

/** Round levels that enclose a domain, lowest first. */
function scale(low, high, whole) {
  if (low === high) [low, high] = low === 0 ? [0, 1] : [Math.min(low, 0), Math.max(high, 0)];
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max([1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999) * power, whole ? 1 : 0);
  const [first, last] = [Math.floor(low / step + 1e-9), Math.ceil(high / step - 1e-9)];
  return Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step);
}

const short = (level) =>
  level !== 0 && Math.abs(level) < 1e-4
    ? level.toExponential()
    : level.toLocaleString("en", { notation: "compact", maximumSignificantDigits: 4 });
