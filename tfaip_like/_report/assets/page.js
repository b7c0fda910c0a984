"use strict";
// Draws the charts with ECharts, and sorts and filters tables. All numbers of tables can be read without it.

const root = document.documentElement;
const color = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
const DASHES = ["solid", [7, 4], [2, 4], [9, 3, 2, 3], [4, 3], [12, 4], [2, 2.5], [9, 3, 2, 3, 2, 3]];
const VIRIDIS = ["#5c2a8a", "#4f4a9c", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#c4b51c"];
const SIGNS = { 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹", 0: "⁰", 1: "¹", 2: "²", 3: "³", "-": "⁻" };

const short = (number) => {
  if (number === null || number === undefined || Number.isNaN(number)) return "–";
  const size = Math.abs(number);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) return number.toExponential(3).replace(/\.?0+e/, "e").replace("e+", "e");
  return String(Number(number.toPrecision(size >= 1e4 ? 7 : 4)));
};
const power = (number) => {
  const exponent = Math.round(Math.log10(number));
  if (Math.abs(exponent) <= 3) return short(number);
  return "10" + [...String(exponent)].map((digit) => SIGNS[digit]).join("");
};

// The library.

async function loadLibrary() {
  const packed = Uint8Array.from(atob(document.getElementById("library").textContent), (letter) => letter.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(unpacked).text();
  document.head.append(script);
}

// Options of charts.

const axis = (values) => ({
  axisLine: { lineStyle: { color: color("quiet") } },
  axisTick: { lineStyle: { color: color("quiet") } },
  axisLabel: { color: color("quiet"), hideOverlap: true },
  splitLine: { show: false, lineStyle: { color: color("rule") } },
  ...values,
});

const tooltip = (values) => ({
  confine: true,
  renderMode: "richText", // names are the user's: they must not become markup
  backgroundColor: color("raised"),
  borderColor: color("rule"),
  textStyle: { color: color("ink"), fontSize: 12 },
  ...values,
});

function lines(chart) {
  const isCrowded = chart.lines.length > 8;
  const share = { min: 0, max: 1 };
  const hasDots = (line) => line.points.length <= 25 && !isCrowded;
  const places = chart.lines.flatMap((line) => line.points.map(([x]) => x));
  const middle = (places.reduce((a, b) => Math.min(a, b), Infinity) + places.reduce((a, b) => Math.max(a, b), -Infinity)) / 2;
  return {
    animation: false,
    grid: { left: 12, right: 18, top: chart.marks.length ? 46 : 28, bottom: 4, containLabel: true },
    tooltip: tooltip({
      trigger: isCrowded ? "item" : "axis",
      formatter: (found) => {
        const points = [found].flat().filter((point) => point.value[1] !== null);
        if (!points.length) return "";
        const place = `${chart.x} ${short(points[0].value[0])}`;
        return [place, ...points.map((point) => `${chart.lines.length > 1 ? `${point.seriesName}: ` : ""}${short(point.value[1])}`)].join("\n");
      },
    }),
    toolbox: {
      top: -2,
      right: 12,
      itemSize: 13,
      iconStyle: { borderColor: color("quiet") },
      feature: { dataZoom: { title: { zoom: "zoom in", back: "zoom out" }, brushStyle: { color: color("accent"), opacity: 0.15 } } },
    },
    xAxis: axis({
      type: "value",
      minInterval: chart.x === "epoch" ? 1 : 0,
      ...(chart.shares ? share : { min: "dataMin", max: "dataMax" }),
      axisLabel: { color: color("quiet"), hideOverlap: true, formatter: short, showMinLabel: true },
    }),
    yAxis: axis({
      type: chart.log ? "log" : "value",
      scale: true,
      ...(chart.shares ? share : {}),
      axisLine: { show: false },
      axisTick: { show: false },
      splitLine: { lineStyle: { color: color("rule") } },
      axisLabel: { color: color("quiet"), formatter: chart.log ? power : short },
    }),
    series: chart.lines.map((line, index) => {
      const own = line.look === null ? color("quiet") : color(`c${line.look % 8}`);
      return {
        type: "line",
        id: line.run === undefined ? `line ${index}` : `run ${line.run}`,
        name: line.name,
        data: line.points,
        symbol: "circle",
        symbolSize: hasDots(line) ? 5 : isCrowded ? 3 : 4,
        showSymbol: hasDots(line) || line.points.length === 1,
        triggerLineEvent: true,
        color: own,
        lineStyle: {
          color: own,
          width: line.look === null ? 1 : 2,
          opacity: line.look === null ? Math.max(0.08, Math.min(0.28, 25 / chart.lines.length)) : 1,
          type: line.look === null ? "solid" : DASHES[line.look % 8],
        },
        emphasis: { lineStyle: { width: 3.5, opacity: 1 } },
        z: line.look === null ? 2 : 3,
        markLine:
          index || !chart.marks.length
            ? undefined
            : {
                symbol: "none",
                silent: true,
                lineStyle: { color: color("quiet"), type: [2, 3] },
                data: chart.marks.map((mark) => ({
                  name: mark.name,
                  xAxis: mark.x,
                  label: { color: color("ink"), formatter: () => mark.name, align: mark.x > middle ? "right" : "left" },
                })),
              },
      };
    }),
  };
}

function bars(chart) {
  const data = chart.counts.map((count, index) => [chart.edges[index], chart.edges[index + 1], count]);
  return {
    animation: false,
    grid: { left: 12, right: 18, top: 12, bottom: 4, containLabel: true },
    tooltip: tooltip({ formatter: ({ dataIndex: index }) => `${short(data[index][0])} to ${short(data[index][1])}\n${short(data[index][2])}` }),
    // The bars have equal widths, as edges have equal distances; a category each keeps them side by side.
    xAxis: [
      { type: "category", data: data.map(([low]) => short(low)), show: false },
      axis({ type: "value", position: "bottom", min: chart.edges[0], max: chart.edges[chart.edges.length - 1], axisLabel: { color: color("quiet"), formatter: short, hideOverlap: true } }),
    ],
    yAxis: axis({ type: "value", axisLine: { show: false, onZero: false }, axisTick: { show: false }, splitLine: { show: true, lineStyle: { color: color("rule") } }, axisLabel: { color: color("quiet"), formatter: short } }),
    series: [{ type: "bar", barCategoryGap: 1, data: chart.counts, itemStyle: { color: color("c0") } }],
  };
}

function parallel(chart) {
  const told = (value, index) => {
    const { choices } = chart.axes[index];
    return value === null ? "–" : choices ? choices[value] : short(value);
  };
  return {
    animation: false,
    tooltip: tooltip({
      trigger: "item",
      formatter: ({ dataIndex, name }) => [name, ...chart.axes.map((one, index) => `${one.whole_name}: ${told(chart.runs[dataIndex].values[index], index)}`).slice(0, 16)].join("\n"),
    }),
    parallel: {
      left: 56,
      right: 72,
      top: 46,
      bottom: 14,
      parallelAxisDefault: {
        nameLocation: "end",
        nameGap: 12,
        nameTextStyle: { color: color("ink"), fontWeight: 600, fontSize: 11.5, lineHeight: 14 },
        axisLine: { lineStyle: { color: color("quiet") } },
        axisTick: { show: false },
        splitLine: { show: false },
        areaSelectStyle: { width: 18, borderColor: color("accent"), color: color("accent"), opacity: 0.25 },
        realtime: false,
      },
    },
    parallelAxis: chart.axes.map((one, dim) => ({
      dim,
      name: one.name,
      type: one.choices ? "category" : one.log ? "log" : "value",
      data: one.choices,
      scale: true,
      minInterval: one.whole ? 1 : 0,
      axisLabel: {
        color: color("ink"),
        textBorderColor: color("paper"),
        textBorderWidth: 3,
        fontSize: 11,
        width: 84,
        overflow: "truncate",
        ...(one.choices ? { interval: 0 } : { formatter: one.log ? power : short }),
      },
    })),
    series: [
      {
        type: "parallel",
          lineStyle: { width: 1.8, opacity: chart.runs.length > 60 ? 0.5 : 0.85 },
        inactiveOpacity: 0.04,
        activeOpacity: 0.9,
        emphasis: { lineStyle: { width: 4, opacity: 1 } },
        data: chart.runs.map((run) => ({
          name: run.name,
          value: run.values.map((value) => value ?? "-"),
          lineStyle: { color: VIRIDIS[Math.round(run.rank * (VIRIDIS.length - 1))] },
        })),
      },
    ],
  };
}

const OPTIONS = { lines, bars, parallel };

// Drawing: a chart when it comes into view, since a page may have hundreds.

const charts = new Map();

function draw(figure) {
  const plot = figure.querySelector(".plot");
  const values = JSON.parse(figure.querySelector("script").textContent);
  const drawn = echarts.init(plot, null, { renderer: values.kind === "lines" && values.lines.length > 40 ? "canvas" : "svg" });
  drawn.setOption(OPTIONS[values.kind](values));
  charts.set(figure, { drawn, values });
  if (values.kind === "parallel") drawn.on("axisareaselected", () => selectRuns(drawn, values));
}

function redraw() {
  for (const { drawn, values } of charts.values()) drawn.setOption(OPTIONS[values.kind](values), true);
}

async function drawAll() {
  const figures = [...document.querySelectorAll("figure.chart")];
  try {
    if (figures.length) await loadLibrary();
  } catch {
    for (const figure of figures) figure.querySelector(".plot").textContent = "Charts need a browser of 2023 or later.";
    return;
  }
  const seen = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (isIntersecting && !charts.has(target)) draw(target);
      }
    },
    { rootMargin: "300px" },
  );
  for (const figure of figures) seen.observe(figure);
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) charts.get(target.closest("figure"))?.drawn.resize();
  });
  for (const figure of figures) sizes.observe(figure.querySelector(".plot"));
  addEventListener("beforeprint", () => {
    for (const figure of figures) if (!charts.has(figure)) draw(figure);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  root.dataset.charts = "ready";
}

// Runs: a row of the table, a line in each chart.

function selectRuns(drawn, values) {
  const series = drawn.getModel().getSeriesByIndex(0);
  const active = series.getRawIndicesByActiveState("active").map((index) => String(values.runs[index].run));
  const isAll = series.getRawIndicesByActiveState("normal").length > 0;
  for (const row of document.querySelectorAll("tr[data-run]")) row.classList.toggle("unselected", !isAll && !active.includes(row.dataset.run));
}

function light(run, type) {
  for (const { drawn, values } of charts.values()) {
    if (values.kind === "lines") drawn.dispatchAction({ type, seriesId: `run ${run}` });
    if (values.kind === "parallel") drawn.dispatchAction({ type, seriesIndex: 0, dataIndex: values.runs.findIndex((one) => String(one.run) === run) });
  }
}

for (const row of document.querySelectorAll("tr[data-run]")) {
  row.addEventListener("pointerenter", () => light(row.dataset.run, "highlight"));
  row.addEventListener("pointerleave", () => light(row.dataset.run, "downplay"));
}

// Tables.

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent;
      const compare = (one, other) => {
        const [a, b] = [key(one), key(other)];
        if (a === "" || b === "") return (a === "") - (b === ""); // empty cells come last, in both directions
        const [x, y] = [Number(a), Number(b)];
        return direction * (Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, { numeric: true }) : x - y);
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
    });
  });
  if (table.tBodies[0].rows.length > 12) {
    const filter = document.createElement("input");
    Object.assign(filter, { type: "search", placeholder: "Filter runs", className: "filter" });
    filter.setAttribute("aria-label", "Filter runs");
    filter.addEventListener("input", () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of table.tBodies[0].rows) {
        const text = row.textContent.toLowerCase();
        row.classList.toggle("filtered", !words.every((word) => text.includes(word)));
      }
    });
    table.closest(".wide").before(filter);
  }
}

drawAll();
