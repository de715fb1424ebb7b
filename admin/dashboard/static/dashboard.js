// What pages do beyond links and forms: the switch of colours, charts, and manners of what is live.
"use strict";
(function () {
  const root = document.documentElement;
  const dark = () =>
    root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;

  for (const button of document.querySelectorAll("[data-theme-switch]")) {
    button.addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      try {
        localStorage.setItem("taskstream-theme", root.dataset.theme);
      } catch (error) {
        // It holds for this page.
      }
      drawAll();
    });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll());

  // The menu of a narrow page is one line that may be longer than the page.
  const menu = document.querySelector(".top nav");
  const current = menu?.querySelector("[aria-current]");
  if (current) menu.scrollLeft = current.offsetLeft - menu.offsetLeft - menu.clientWidth / 3;

  // --- times: told in UTC, and in the visitor's own zone where he wants them so

  let local = false;
  try {
    local = localStorage.getItem("taskstream-zone") === "local";
  } catch (error) {
    // It holds for this page.
  }
  const two = (number) => String(number).padStart(2, "0");

  function inZone(at, utc) {
    const part = (name) => at[utc ? `getUTC${name}` : `get${name}`]();
    const day = `${part("FullYear")}-${two(part("Month") + 1)}-${two(part("Date"))}`;
    const second = `${two(part("Hours"))}:${two(part("Minutes"))}:${two(part("Seconds"))}`;
    return `${day} ${second}.${String(part("Milliseconds")).padStart(3, "0")}`;
  }

  function tellTimes(within) {
    for (const time of within.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      if (Number.isNaN(at.getTime())) continue;
      const told = inZone(at, !local);
      time.textContent = "short" in time.dataset ? told.slice(0, 19) : told;
      time.title = `${inZone(at, local)} ${local ? "UTC" : "local time"}`;
    }
    for (const zone of within.querySelectorAll(".zone")) zone.textContent = local ? "local" : "UTC";
  }

  for (const button of document.querySelectorAll("[data-zone-switch]")) {
    button.addEventListener("click", () => {
      local = !local;
      try {
        localStorage.setItem("taskstream-zone", local ? "local" : "utc");
      } catch (error) {
        // It holds for this page.
      }
      tellTimes(document);
      drawAll();
    });
  }
  tellTimes(document);
  for (const name of ["htmx:afterSwap", "htmx:sseMessage", "htmx:load"]) {
    document.body.addEventListener(name, (event) => {
      if (event.target instanceof Element) tellTimes(event.target);
    });
  }

  // --- live parts

  let paused = false;
  for (const button of document.querySelectorAll("[data-pause]")) {
    button.addEventListener("click", () => {
      paused = !paused;
      button.setAttribute("aria-pressed", String(paused));
      for (const beat of document.querySelectorAll("[data-beat]")) beat.classList.toggle("held", paused);
    });
  }

  // What somebody stands in, has opened or has marked is not replaced under their hands.
  function inUse(element) {
    const selection = document.getSelection();
    return (
      (element.contains(document.activeElement) && document.activeElement !== document.body) ||
      element.querySelector("details[open]") !== null ||
      (selection !== null && !selection.isCollapsed && element.contains(selection.anchorNode))
    );
  }

  document.body.addEventListener("htmx:sseBeforeMessage", (event) => {
    const part = event.target;
    if (part.hasAttribute("data-series")) {
      event.preventDefault();
      if (!paused) take(JSON.parse(event.detail.data));
    } else if (paused || inUse(part)) {
      event.preventDefault();
    }
  });
  document.body.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.elt.id === "story" && inUse(event.detail.elt)) event.preventDefault();
  });

  // --- charts

  const WINDOW = 900;
  const charts = new Map();
  let latest = null;

  function colour(name) {
    return getComputedStyle(root).getPropertyValue(name).trim();
  }

  const tones = { good: "--good-line", warn: "--warn-line", bad: "--bad-line", info: "--info-line", plain: "--quiet" };
  const others = ["--line-1", "--line-2", "--line-3", "--line-4", "--line-5", "--line-6"];

  function amount(value, unit) {
    if (value === null || value === undefined) return "-";
    if (unit === "duration") {
      if (value < 1) return `${+(value * 1000).toPrecision(3)} ms`;
      if (value < 120) return `${+value.toPrecision(3)} s`;
      return value < 7200 ? `${+(value / 60).toPrecision(3)} min` : `${+(value / 3600).toPrecision(3)} h`;
    }
    if (value >= 1e6) return `${+(value / 1e6).toPrecision(3)} M`;
    if (value >= 1e4) return `${+(value / 1e3).toPrecision(3)} k`;
    return String(+value.toPrecision(3));
  }

  function take(series) {
    latest = series;
    for (const figure of document.querySelectorAll("[data-chart]")) draw(figure);
  }

  function drawAll() {
    for (const chart of charts.values()) chart.plot.destroy();
    charts.clear();
    if (latest !== null) take(latest);
  }

  function draw(figure) {
    const name = figure.dataset.chart;
    const told = latest[name];
    const data = [told.times, ...told.lines.map((line) => line.values)];
    const shape = told.lines.map((line) => line.name).join("\n");
    const known = charts.get(name);
    if (known !== undefined && known.shape === shape) {
      known.plot.setData(data);
      return;
    }
    if (known !== undefined) known.plot.destroy();
    const place = figure.querySelector(".plot");
    place.replaceChildren();
    charts.set(name, { shape, plot: new uPlot(options(figure, told, place), data, place) });
  }

  // A value without neighbours would be no line: it is a point.
  function lonely(plot, serie) {
    const values = plot.data[serie];
    const is = (index) => values[index] !== null && values[index] !== undefined;
    return [...values.keys()].filter((index) => is(index) && !is(index - 1) && !is(index + 1));
  }

  function options(figure, told, place) {
    const unit = figure.dataset.unit;
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--rule"), width: 1 }, ticks: { stroke: colour("--rule"), width: 1 }, font: "12px system-ui, sans-serif" };
    return {
      width: place.clientWidth,
      height: 180,
      tzDate: (at) => (local ? new Date(at * 1e3) : uPlot.tzDate(new Date(at * 1e3), "UTC")),
      // One moment is marked in all charts at once.
      cursor: { drag: { x: false, y: false }, sync: { key: "all" }, points: { size: 6 } },
      scales: {
        // All show the same quarter of an hour, also one that has few points yet.
        x: { range: (_plot, _first, last) => [(last ?? Date.now() / 1000) - WINDOW, last ?? Date.now() / 1000] },
        y: { range: (_plot, _low, high) => [0, high > 0 ? high * 1.1 : 1] },
      },
      axes: [
        { ...axis, values: [[60, "{HH}:{mm}", null, null, null, null, null, null, 0], [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 0]] },
        { ...axis, size: 62, values: (_plot, splits) => splits.map((value) => amount(value, unit)) },
      ],
      series: [
        { label: "at", value: (_plot, at) => (at === null || at === undefined ? "" : inZone(new Date(at * 1e3), !local).slice(11, 19)) },
        ...told.lines.map((line, number) => ({
          label: line.name,
          stroke: colour(tones[line.tone] || others[number % others.length]),
          width: 2,
          points: { show: true, size: 5, filter: lonely },
          fill: unit === "rate" ? `color-mix(in srgb, ${colour(tones[line.tone] || others[number % others.length])} 12%, transparent)` : undefined,
          spanGaps: false,
          dash: line.tone === "bad" ? [6, 3] : line.tone === "warn" ? [3, 2] : undefined,
          // Without a mark the newest value is told.
          value: (plot, value, serie, index) =>
            amount(index === null ? plot.data[serie]?.at(-1) : value, unit),
        })),
      ],
    };
  }

  let resizing = 0;
  addEventListener("resize", () => {
    clearTimeout(resizing);
    resizing = setTimeout(() => {
      for (const [name, chart] of charts) {
        const place = document.querySelector(`[data-chart="${name}"] .plot`);
        chart.plot.setSize({ width: place.clientWidth, height: 180 });
      }
    }, 150);
  });
})();
