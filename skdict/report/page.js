/*
 * The report's page: a sorted and filtered list of features, and a card for each.
 *
 * Everything that is shown comes from the <script> blocks of the page. Labels and
 * names were written by others: they reach the document as text nodes and properties,
 * never as HTML. This file is ASCII, and the page's policy knows it by its hash.
 */
"use strict";
{
  const SVG = "http://www.w3.org/2000/svg";
  const UNDEFINED = "\u2013";
  const FIGURES = new Set(["number", "fraction", "q", "count"]);
  const MAX_PRINTED = 500;

  /** Viridis at 18 points, red, green and blue; straight lines between them. */
  const VIRIDIS = [
    [68, 1, 84], [72, 23, 105], [71, 42, 122], [67, 61, 132], [61, 78, 138],
    [53, 94, 141], [46, 109, 142], [41, 123, 142], [35, 137, 142], [31, 151, 139],
    [33, 165, 133], [46, 179, 124], [70, 192, 111], [101, 203, 94], [137, 213, 72],
    [176, 221, 47], [216, 226, 25], [253, 231, 37],
  ];

  /** From a negative extreme over 0 to a positive one: blue, light grey, vermilion. */
  const DIVERGING = [[0, 68, 136], [86, 160, 211], [240, 240, 240], [233, 147, 75], [150, 52, 0]];

  // ------------------------------------------------------------------ document

  const byId = (id) => document.getElementById(id);

  /**
   * An element with properties and children; strings become text.
   * @param {string} tag
   * @param {Object<string, *>} [properties] `class`, `role` and names with a hyphen
   *   are attributes, all others properties of the element.
   * @param {...(Node|string)} children
   */
  function element(tag, properties = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name === "class" || name === "role" || name.includes("-")) node.setAttribute(name, value);
      else node[name] = value;
    }
    node.append(...children);
    return node;
  }

  /** An SVG element; all properties are attributes. */
  function shape(tag, attributes = {}, ...children) {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  const message = (text) => element("p", { class: "message", role: "alert" }, text);

  // ------------------------------------------------------------------- figures

  const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
  const isDefined = (value) => value !== null && value !== undefined;

  /** A number with three decimals, fewer where it is large; powers of ten if tiny. */
  function formatNumber(value) {
    const size = Math.abs(value);
    let text;
    if (size === 0) text = "0";
    else if (size >= 1e7 || size < 5e-4) text = value.toExponential(1);
    else if (size >= 1000) text = grouped.format(value);
    else text = value.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : 3);
    return text.replace(/-/g, "\u2212");
  }

  function formatFraction(value) {
    const percent = 100 * value;
    const size = Math.abs(percent);
    if (size === 0) return "0 %";
    if (size < 0.005) return `${formatNumber(percent)} %`;
    return `${percent.toFixed(size < 1 ? 2 : 1).replace("-", "\u2212")} %`;
  }

  const FORMATS = {
    number: formatNumber,
    fraction: formatFraction,
    q: (value) => (value === 0 || value >= 5e-4 ? value.toFixed(3) : formatNumber(value)),
    count: (value) => grouped.format(value).replace("-", "\u2212"),
    flag: (value) => (value ? "yes" : "no"),
    text: (value) => value,
  };

  /** What a cell shows: text, or a mark for a flag that is set. */
  function cellContent(value, kind) {
    if (!isDefined(value)) {
      return element("span", { class: "undefined", title: "undefined" }, UNDEFINED);
    }
    const text = FORMATS[kind](value);
    return kind === "flag" ? element("span", { class: value ? "flag" : "muted" }, text) : text;
  }

  /** The value in full, for a pointer that rests on a cell. */
  const fullValue = (value) => (isDefined(value) ? String(value) : "undefined");

  // -------------------------------------------------------- data within the page

  const reportBlock = byId("report");
  const report = JSON.parse(reportBlock.textContent);
  const CHUNK_SIZE = Number(reportBlock.dataset.chunk);
  const names = report.features.feature;
  const nFeatures = names.length;

  const parsed = new Promise((resolve) => {
    if (document.readyState !== "loading") resolve();
    else document.addEventListener("DOMContentLoaded", resolve, { once: true });
  });

  function bytesOf(base64) {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  }

  /** Chunks of the page, unpacked when asked for; the last few are kept. */
  class Chunks {
    constructor(name, unpack, nKept) {
      Object.assign(this, { name, unpack, nKept, kept: new Map() });
    }

    /** One item by its number, or undefined where the page holds no such item. */
    async get(number) {
      await parsed; // the blocks stand behind this script
      const first = number - (number % CHUNK_SIZE);
      let items = this.kept.get(first);
      if (items === undefined) {
        const block = document.querySelector(`script.${this.name}[data-first="${first}"]`);
        items = block === null ? [] : this.unpack(block.textContent);
      }
      this.kept.delete(first); // the latest stands last
      this.kept.set(first, items);
      if (this.kept.size > this.nKept) this.kept.delete(this.kept.keys().next().value);
      return (await items)[number - first];
    }
  }

  async function unpackCards(base64) {
    const packed = new Blob([bytesOf(base64)]).stream();
    return new Response(packed.pipeThrough(new DecompressionStream("gzip"))).json();
  }

  const cards = new Chunks("cards", unpackCards, 4);
  const thumbnails = new Chunks("thumbnails", (lines) => lines.split("\n"), 32);

  async function thumbnailUrl(image) {
    const data = await thumbnails.get(image);
    if (!data) return null;
    return `data:image/${data.startsWith("/9j/") ? "jpeg" : "png"};base64,${data}`;
  }

  // ------------------------------------------------------- order and selection

  const columns = report.columns;
  const textColumns = columns.filter((column) => column.kind === "text").slice(1);
  const flagColumns = columns.filter((column) => column.kind === "flag");
  const helpId = (column) => `help-${columns.indexOf(column)}`; // a key may hold spaces
  const allRanks = new Map();

  /** The rank of every text, feature2 before feature10; equal texts share one. */
  function textRanks(texts) {
    const { compare } = new Intl.Collator("en", { numeric: true });
    const distinct = [...new Set(texts.filter(isDefined))];
    distinct.sort((a, b) => compare(a, b) || (a < b ? -1 : 1));
    const ranks = new Map(distinct.map((text, rank) => [text, rank]));
    return texts.map((text) => ranks.get(text));
  }

  /** A number for each feature by which a column sorts; NaN where undefined. */
  function ranksOf(column) {
    if (!allRanks.has(column.key)) {
      const values = report.features[column.key];
      const ranks = column.kind === "text" ? textRanks(values) : values;
      const toNumber = (rank) => (isDefined(rank) ? Number(rank) : NaN);
      allRanks.set(column.key, Float64Array.from(ranks, toNumber));
    }
    return allRanks.get(column.key);
  }

  /** All features in the order of a column; undefined values last both ways. */
  function sortedBy(column, descending) {
    const features = Array.from(names, (_, feature) => feature);
    if (column === null) return features;
    const ranks = ranksOf(column);
    const sign = descending ? -1 : 1;
    const defined = features.filter((feature) => !Number.isNaN(ranks[feature]));
    defined.sort((a, b) => sign * (ranks[a] - ranks[b]) || a - b);
    return defined.concat(features.filter((feature) => Number.isNaN(ranks[feature])));
  }

  const searched = names.map((name, feature) => {
    const texts = [name];
    for (const { key } of textColumns) texts.push(report.features[key][feature] ?? "");
    for (const { key, label } of flagColumns) {
      if (report.features[key][feature]) texts.push(label);
    }
    return texts.join("\n").toLowerCase();
  });

  /** Whether a feature holds every word, has the chosen labels and, if asked, a flag. */
  function matcher({ search, choices, flagged }) {
    const words = search.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = [...choices];
    return (feature) =>
      words.every((word) => searched[feature].includes(word)) &&
      chosen.every(([key, value]) => report.features[key][feature] === value) &&
      (!flagged || flagColumns.some(({ key }) => report.features[key][feature]));
  }

  // ---------------------------------------------------------------------- list

  const OVERSCAN = 8; // rows drawn beyond what is seen, on either side

  /** The table; only the rows in sight, and a few around them, are in the document. */
  const list = {
    scroller: byId("list"),
    body: byId("list").querySelector("tbody"),
    choices: new Map(), // chosen value by the key of a text column
    column: null,
    descending: false,
    sorted: sortedBy(null, false),
    order: [], // features as listed
    active: 0, // the row in the tab order, as a place in `order`
    rowHeight: 34,
    drawn: [0, 0],
    printing: false,

    build() {
      let width = 0;
      const head = element("tr", { "aria-rowindex": 1 });
      for (const column of columns) {
        const characters = columnWidth(column);
        width += characters;
        const col = element("col");
        col.style.width = `${characters}ch`;
        this.scroller.querySelector("colgroup").append(col);
        head.append(this.headerCell(column));
      }
      this.scroller.querySelector("table").style.minWidth = `${width}ch`;
      this.scroller.querySelector("thead").append(head);
      this.scroller.addEventListener("scroll", () => this.draw(), { passive: true });
      this.scroller.addEventListener("keydown", (event) => this.onKey(event));
      this.body.addEventListener("click", (event) => {
        const row = event.target.closest("tr[data-feature]");
        // A link opens by itself, in a new tab where it is asked to.
        if (row !== null && !event.target.closest("a")) openCard(Number(row.dataset.feature));
      });
      this.update();
      // The list is lower where it is short, and a row higher where the text is larger.
      new ResizeObserver(() => {
        this.measure();
        this.draw(true);
      }).observe(this.scroller);
    },

    headerCell(column) {
      const kind = FIGURES.has(column.kind) ? "figure" : "word";
      const arrow = element("span", { class: "arrow", "aria-hidden": "true" });
      const button = element(
        "button",
        { type: "button", title: column.help, "aria-describedby": helpId(column) },
        ...(kind === "figure" ? [arrow, column.label] : [column.label, arrow]),
      );
      button.addEventListener("click", () => this.sort(column));
      return element("th", { scope: "col", class: kind, "data-key": column.key }, button);
    },

    /** The first click puts what is looked for on top: large figures, small q. */
    sort(column) {
      const again = this.column === column;
      this.descending = again ? !this.descending : !["text", "q"].includes(column.kind);
      this.column = column;
      this.sorted = sortedBy(column, this.descending);
      for (const cell of this.scroller.querySelectorAll("th[data-key]")) {
        const direction = this.descending ? "descending" : "ascending";
        const arrow = this.descending ? "\u25be" : "\u25b4";
        const here = cell.dataset.key === column.key;
        if (here) cell.setAttribute("aria-sort", direction);
        else cell.removeAttribute("aria-sort");
        cell.querySelector(".arrow").textContent = here ? arrow : "";
      }
      this.update();
    },

    /** Select anew from the sorted features and go to the top. */
    update() {
      const matches = matcher({
        search: byId("search").value,
        choices: this.choices,
        flagged: byId("flagged").checked,
      });
      this.order = this.sorted.filter(matches);
      this.active = 0;
      const n = this.order.length;
      byId("count").textContent =
        n === nFeatures
          ? `${grouped.format(n)} ${n === 1 ? "feature" : "features"}`
          : `${grouped.format(n)} of ${grouped.format(nFeatures)} features`;
      this.scroller.querySelector("table").setAttribute("aria-rowcount", n + 1);
      this.scroller.scrollTop = 0;
      this.draw(true);
    },

    measure() {
      const row = this.body.querySelector("tr[data-feature]");
      if (row !== null) this.rowHeight = row.getBoundingClientRect().height;
    },

    range() {
      const n = this.order.length;
      if (this.printing) return [0, Math.min(n, MAX_PRINTED)];
      const top = Math.floor(this.scroller.scrollTop / this.rowHeight);
      const seen = Math.ceil(this.scroller.clientHeight / this.rowHeight);
      const first = Math.max(0, Math.min(top, n - seen) - OVERSCAN);
      return [first, Math.min(n, first + seen + 2 * OVERSCAN)];
    },

    /** Put the rows in sight into the document. */
    draw(anew = false) {
      const [first, last] = this.range();
      if (!anew && first === this.drawn[0] && last === this.drawn[1]) return;
      this.drawn = [first, last];
      const focused = document.activeElement?.closest("#list tr[data-feature]");
      const tabStop = Math.min(Math.max(this.active, first), last - 1);
      const rows = this.order
        .slice(first, last)
        .map((feature, i) => this.row(feature, first + i, first + i === tabStop));
      if (this.order.length === 0) rows.push(emptyRow());
      this.body.replaceChildren(
        this.spacer(first),
        ...rows,
        this.spacer(this.printing ? 0 : this.order.length - last),
      );
      if (focused) {
        // Keys must go on working when the row with the focus has scrolled away.
        const link = this.link(Number(focused.dataset.feature)) ?? this.scroller;
        link.focus({ preventScroll: true });
      }
    },

    row(feature, place, isTabStop) {
      const cells = columns.map(({ key, kind }) => {
        const value = report.features[key][feature];
        const title = fullValue(value);
        if (key === "feature") {
          const link = element("a", { href: cardHash(feature), tabIndex: isTabStop ? 0 : -1 });
          link.append(value);
          return element("th", { scope: "row", title }, link);
        }
        const className = FIGURES.has(kind) ? "figure" : "word";
        return element("td", { class: className, title }, cellContent(value, kind));
      });
      return element("tr", { "data-feature": feature, "aria-rowindex": place + 2 }, ...cells);
    },

    spacer(nRows) {
      const cell = element("td", { colSpan: columns.length });
      cell.style.height = `${nRows * this.rowHeight}px`;
      return element("tr", { class: "spacer", "aria-hidden": "true" }, cell);
    },

    link: (feature) => list.body.querySelector(`tr[data-feature="${feature}"] a`),

    /** Move the focus to a place in the list, which is scrolled into sight. */
    focus(place) {
      this.active = Math.min(Math.max(place, 0), this.order.length - 1);
      const headHeight = this.scroller.querySelector("thead").offsetHeight;
      const top = this.active * this.rowHeight;
      const room = this.scroller.clientHeight - headHeight - this.rowHeight;
      if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
      else if (top > this.scroller.scrollTop + room) this.scroller.scrollTop = top - room;
      this.draw(true);
      this.link(this.order[this.active])?.focus({ preventScroll: true });
    },

    onKey(event) {
      if (event.altKey || event.ctrlKey || event.metaKey || !event.target.closest("tbody")) return;
      const page = Math.max(1, Math.floor(this.scroller.clientHeight / this.rowHeight) - 2);
      const row = event.target.closest("tr[data-feature]");
      const here = this.order.indexOf(Number(row?.dataset.feature));
      const places = {
        ArrowDown: here + 1,
        ArrowUp: here - 1,
        PageDown: here + page,
        PageUp: here - page,
        Home: 0,
        End: this.order.length - 1,
      };
      if (here < 0 || !(event.key in places)) return;
      event.preventDefault();
      this.focus(places[event.key]);
    },
  };

  function emptyRow() {
    const cell = element("td", { colSpan: columns.length }, "No feature matches.");
    return element("tr", { class: "empty" }, cell);
  }

  /** In characters: enough for the heading's longest word and for usual values. */
  function columnWidth({ key, kind, label }) {
    const word = Math.max(...label.split(/\s+/).map((part) => part.length));
    const longest = (values) => values.reduce((n, v) => Math.max(n, v?.length ?? 0), 0);
    const number = kind === "q" ? 9 : 7; // 1.2e-10
    const usual = kind === "text" ? Math.min(longest(report.features[key]), 24) : number;
    return Math.max(Math.min(word + 2, 24), usual) + 3;
  }

  function fillSelect({ key, label }) {
    const texts = report.features[key].filter(isDefined);
    const counts = new Map();
    for (const text of texts) counts.set(text, (counts.get(text) ?? 0) + 1);
    const ranks = textRanks(texts);
    const rankOf = new Map(texts.map((text, i) => [text, ranks[i]]));
    const options = [...counts.keys()].sort((a, b) => rankOf.get(a) - rankOf.get(b));
    // The value is a number, as an empty text is a label like any other.
    const select = element("select", {}, element("option", { value: "" }, "all"));
    options.forEach((text, i) => {
      const shown = text.length > 80 ? `${text.slice(0, 80)}\u2026` : text || "(empty)";
      const caption = `${shown} (${grouped.format(counts.get(text))})`;
      select.append(element("option", { value: String(i) }, caption));
    });
    select.addEventListener("change", () => {
      if (select.value === "") list.choices.delete(key);
      else list.choices.set(key, options[Number(select.value)]);
      list.update();
    });
    return element("label", { class: "field" }, label, select);
  }

  function buildPage() {
    for (const { name, value } of report.overview) {
      const head = element("th", { scope: "row" }, name);
      byId("overview").append(element("tr", {}, head, element("td", {}, value)));
    }
    byId("notes").append(...report.notes.map((note) => element("li", {}, note)));
    byId("selects").append(...textColumns.map(fillSelect));
    byId("flagged-field").hidden = flagColumns.length === 0;
    for (const column of columns) {
      const name = element("dt", {}, column.label);
      const help = element("dd", { id: helpId(column) }, column.help);
      byId("legend").append(element("div", {}, name, help));
    }
    byId("search").addEventListener("input", () => list.update());
    byId("flagged").addEventListener("change", () => list.update());
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    list.build();
  }

  // ------------------------------------------------------------------- drawing

  const LABEL_FIGURES = [
    ["Rate", "Fraction of the label's rows on which the feature fires"],
    ["Score", "Selectivity for the label"],
    ["Null", "95 % quantile of the best feature's score by chance"],
    ["q", "False discovery rate at which the feature counts as selective for the label"],
  ];

  /** Rates and scores of labels; each score as a bar, its null as a tick on it. */
  function labelTable(labels) {
    const figures = labels.flatMap(({ score, null: chance }) => [score, chance ?? 0]);
    const low = Math.min(0, ...figures);
    const high = Math.max(...figures, low + 1e-9);
    const legend = element("th", { scope: "col", class: "chart" });
    legend.append(element("span", { class: "key" }), " score, ");
    legend.append(element("span", { class: "key chance" }), " null");
    const head = LABEL_FIGURES.map(([name, title]) =>
      element("th", { scope: "col", class: "figure", title }, name),
    );
    const rows = labels.map((label) => {
      const figure = (value, kind) =>
        element("td", { class: "figure", title: fullValue(value) }, cellContent(value, kind));
      return element(
        "tr",
        {},
        element("th", { scope: "row" }, element("bdi", { class: "name" }, label.name)),
        figure(label.rate, "fraction"),
        figure(label.score, "number"),
        figure(label.null, "number"),
        figure(label.q, "q"),
        element("td", { class: "chart" }, scoreBar(label, low, high)),
      );
    });
    const header = element("tr", {}, element("th", { scope: "col" }, "Label"), ...head, legend);
    return element(
      "div",
      { class: "scroll" },
      element("table", { class: "rates" }, element("thead", {}, header), element("tbody", {}, ...rows)),
    );
  }

  function scoreBar({ score, null: chance }, low, high) {
    const at = (value) => 198 * ((value - low) / (high - low)) + 1;
    const [from, to] = score < 0 ? [at(score), at(0)] : [at(0), at(score)];
    const svg = shape("svg", { viewBox: "0 0 200 14", preserveAspectRatio: "none", "aria-hidden": "true" });
    svg.append(shape("rect", { class: "track", x: 0, y: 1, width: 200, height: 12 }));
    svg.append(shape("rect", { class: "value", x: from, y: 3, width: to - from, height: 8 }));
    const tick = (kind, x) =>
      shape("line", { class: kind, x1: x, x2: x, y1: 0, y2: 14, "vector-effect": "non-scaling-stroke" });
    if (low < 0) svg.append(tick("axis", at(0)));
    if (isDefined(chance)) svg.append(tick("null", at(chance)));
    return svg;
  }

  /** About n round numbers between two others. */
  function roundTicks(low, high, n) {
    const raw = (high - low) / n;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
    const ticks = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i += 1) {
      ticks.push(Number((i * step).toPrecision(12)));
    }
    return ticks;
  }

  const tickText = (value) => String(Number(value.toPrecision(6))).replace(/-/g, "\u2212");
  const DASHES = ["none", "6 3", "2 2", "8 3 2 3", "1 3", "4 2"];
  const seriesColour = (i) => `var(--series-${i % DASHES.length})`;

  /** A histogram: every series an outline of its own colour and dashes. */
  function histogram({ title, xlabel, edges, series }) {
    const [left, right, top, bottom, width, height] = [38, 8, 20, 20, 320, 172];
    const [low, high] = [edges[0], edges[edges.length - 1]];
    const tallest = Math.max(...series.flatMap(({ fractions }) => fractions), 1e-9);
    const x = (value) => left + ((value - low) / (high - low || 1)) * (width - left - right);
    const y = (fraction) => height - bottom - (fraction / tallest) * (height - top - bottom);
    const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}; ${xlabel}` });
    for (const tick of roundTicks(0, tallest, 4)) {
      svg.append(shape("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }));
      const text = `${tickText(100 * tick)} %`;
      svg.append(shape("text", { x: left - 4, y: y(tick) + 3, "text-anchor": "end" }, text));
    }
    svg.append(shape("text", { x: 0, y: 10 }, "fraction"));
    for (const tick of high > low ? roundTicks(low, high, 5) : [low]) {
      const at = x(tick);
      svg.append(shape("line", { class: "axis", x1: at, x2: at, y1: y(0), y2: y(0) + 3 }));
      const anchor = at > width - 24 ? "end" : "middle";
      const right = anchor === "end" ? Math.min(at + 8, width) : at;
      svg.append(shape("text", { x: right, y: y(0) + 14, "text-anchor": anchor }, tickText(tick)));
    }
    series.forEach(({ fractions }, i) => {
      const steps = fractions.map((fraction, j) => `V${y(fraction)}H${x(edges[j + 1])}`).join("");
      const path = `M${x(low)},${y(0)}${steps}V${y(0)}`;
      svg.append(shape("path", { class: "area", d: `${path}Z`, fill: seriesColour(i) }));
      svg.append(outline(path, i));
    });
    svg.append(shape("line", { class: "axis", x1: left, x2: width - right, y1: y(0), y2: y(0) }));
    const keys = series.map(({ name }, i) => {
      const sample = shape("svg", { viewBox: "0 0 24 8", "aria-hidden": "true" }, outline("M0,4H24", i));
      return element("li", {}, sample, element("bdi", {}, name));
    });
    return element(
      "figure",
      { class: "histogram" },
      element("figcaption", {}, title),
      svg,
      element("p", { class: "xlabel" }, xlabel),
      element("ul", { class: "series" }, ...keys),
    );
  }

  function outline(path, i) {
    const dashes = DASHES[i % DASHES.length];
    return shape("path", { class: "outline", d: path, stroke: seriesColour(i), "stroke-dasharray": dashes });
  }

  /** The colour at a place between 0 and 1: straight lines between a scale's points. */
  function colourAt(place, points) {
    const along = place * (points.length - 1);
    const i = Math.min(Math.floor(along), points.length - 2);
    return points[i].map((from, c) => Math.round(from + (along - i) * (points[i + 1][c] - from)));
  }

  /**
   * Red, green, blue and alpha for every byte. Where the range begins at 0, nothing
   * is drawn for 0; where it holds both signs, 0 has the colour in the middle.
   */
  function colourTable(range) {
    const [low, high] = range ?? [0, 1];
    const size = Math.max(-low, high);
    return Array.from({ length: 256 }, (_, byte) => {
      const value = low + (byte / 255) * (high - low);
      if (low < 0 && high > 0) return [...colourAt((value / size + 1) / 2, DIVERGING), 255];
      return [...colourAt(byte / 255, VIRIDIS), low === 0 && byte === 0 ? 0 : 255];
    });
  }

  /** A canvas with one pixel for each byte, row by row. */
  function heatmapCanvas(bytes, colours, height, width, properties) {
    const canvas = element("canvas", { width, height, ...properties });
    const pixels = new ImageData(width, height);
    bytes.forEach((byte, i) => pixels.data.set(colours[byte], 4 * i));
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas;
  }

  let opacity = 55; // of the heatmaps, in per cent; kept from card to card

  function overlayControls(range) {
    const slider = element("input", { type: "range", min: 0, max: 100, value: opacity, id: "opacity" });
    slider.addEventListener("input", () => {
      opacity = Number(slider.value);
      byId("card-body").style.setProperty("--overlay", opacity / 100);
    });
    const label = element("label", {}, "Heatmap", slider);
    if (!isDefined(range)) return element("div", { class: "overlay" }, label);
    const [low, high] = range.map(formatNumber);
    const bytes = Uint8Array.from({ length: 256 }, (_, byte) => byte);
    const bar = heatmapCanvas(bytes, colourTable(range), 1, 256, {
      role: "img",
      "aria-label": `Colour scale from ${low} to ${high}`,
    });
    const scale = element("span", { class: "scale" }, low, bar, high);
    return element("div", { class: "overlay" }, label, scale);
  }

  async function picture({ image, caption, value, heatmap }, colours) {
    const frame = element("div", { class: "picture" });
    if (report.image_shape !== null) {
      const [height, width] = report.image_shape;
      frame.style.aspectRatio = `${width} / ${height}`;
    }
    const src = await thumbnailUrl(image);
    const alt = caption || `Image ${image}`;
    if (src !== null) frame.append(element("img", { src, alt, decoding: "async" }));
    else frame.append(element("span", { class: "missing" }, `image ${image}`));
    if (isDefined(heatmap) && report.grid !== null) {
      const [height, width] = report.grid;
      frame.append(heatmapCanvas(bytesOf(heatmap), colours, height, width, { "aria-hidden": "true" }));
    }
    const figure = element("span", { class: "figure", title: fullValue(value) }, cellContent(value, "number"));
    return element("figure", {}, frame, element("figcaption", {}, figure, " ", element("bdi", {}, caption)));
  }

  function neighbourTable(neighbours) {
    const shown = columns.filter(({ kind }) => kind === "text").slice(1, 2);
    const titles = ["Feature", "Cosine", ...shown.map(({ label }) => label)];
    const head = titles.map((title, i) =>
      element("th", { scope: "col", class: i === 1 ? "figure" : "word" }, title),
    );
    const rows = neighbours.map(({ feature, cosine }) => {
      const link = element("a", { href: cardHash(feature) }, names[feature]);
      const figure = element("td", { class: "figure", title: fullValue(cosine) }, cellContent(cosine, "number"));
      const others = shown.map(({ key, kind }) =>
        element("td", {}, cellContent(report.features[key][feature], kind)),
      );
      return element("tr", {}, element("th", { scope: "row" }, link), figure, ...others);
    });
    const header = element("thead", {}, element("tr", {}, ...head));
    const table = element("table", { class: "neighbours" }, header, element("tbody", {}, ...rows));
    return element("div", { class: "scroll" }, table);
  }

  /** What stands in a card below its figures. */
  async function cardParts(card) {
    const parts = [];
    const section = (title, ...content) => parts.push(element("h3", {}, title), ...content);
    if (card.notes.length > 0) {
      parts.push(element("ul", { class: "notes" }, ...card.notes.map((note) => element("li", {}, note))));
    }
    if (card.labels.length > 0) section("Labels", labelTable(card.labels));
    if (card.histograms.length > 0) {
      section("Distributions", element("div", { class: "charts" }, ...card.histograms.map(histogram)));
    }
    const groups = card.images.filter(({ items }) => items.length > 0);
    const hasHeatmaps = groups.some(({ items }) => items.some(({ heatmap }) => isDefined(heatmap)));
    const colours = colourTable(card.heatmap_range);
    for (const [i, { title, items }] of groups.entries()) {
      const figures = await Promise.all(items.map((item) => picture(item, colours)));
      const controls = i === 0 && hasHeatmaps ? [overlayControls(card.heatmap_range)] : [];
      section(title, ...controls, element("div", { class: "pictures" }, ...figures));
    }
    if (card.neighbours.length > 0) section("Nearest atoms", neighbourTable(card.neighbours));
    return parts;
  }

  // ---------------------------------------------------------------------- card

  const dialog = byId("card");
  const cardHash = (feature) => `#feature-${feature}`;
  let shown = null; // the feature whose card is open

  /** The feature that the address asks for, or null. */
  function askedFor() {
    const match = /^#feature-(\d{1,9})$/.exec(location.hash);
    return match !== null && Number(match[1]) < nFeatures ? Number(match[1]) : null;
  }

  function openCard(feature) {
    location.hash = cardHash(feature); // showCard follows
  }

  async function showCard(feature) {
    shown = feature;
    byId("card-title").textContent = names[feature];
    const place = list.order.indexOf(feature);
    byId("position").textContent =
      place < 0 ? "not in the list" : `${grouped.format(place + 1)} of ${grouped.format(list.order.length)}`;
    byId("previous").disabled = place < 1;
    byId("next").disabled = place < 0 || place === list.order.length - 1;
    const facts = columns.slice(1).map(({ key, kind, label, help }) => {
      const value = report.features[key][feature];
      const content = element("dd", { title: fullValue(value) }, cellContent(value, kind));
      return element("div", {}, element("dt", { title: help }, label), content);
    });
    byId("facts").replaceChildren(...facts);
    const body = byId("card-body");
    body.setAttribute("aria-busy", "true");
    body.replaceChildren(element("p", { class: "muted" }, "Unpacking the card."));
    body.style.setProperty("--overlay", opacity / 100);
    if (!dialog.open) {
      dialog.showModal();
      byId("card-title").focus(); // its name is read out, and no button is pressed by Enter
    }
    dialog.scrollTop = 0;
    const content = await cardContent(feature);
    if (shown !== feature) return; // another card was asked for meanwhile
    body.replaceChildren(...content);
    body.setAttribute("aria-busy", "false");
    performance.mark("skdict-card-ready");
  }

  async function cardContent(feature) {
    if (typeof DecompressionStream === "undefined") {
      return [
        message(
          "This browser cannot unpack the cards: it has no DecompressionStream. " +
            "Chrome and Edge have it from version 80, Firefox from 113, Safari from 16.4.",
        ),
      ];
    }
    try {
      return await cardParts(await cards.get(feature));
    } catch (error) {
      return [message(`This card cannot be read; the file may be incomplete. (${error.message})`)];
    }
  }

  /** Show what the address says. */
  function route() {
    const feature = askedFor();
    if (feature !== null) showCard(feature);
    else if (dialog.open) dialog.close();
  }

  function onClose() {
    if (dialog.open || shown === null) return; // being printed, or closed already
    const place = list.order.indexOf(shown);
    shown = null;
    if (askedFor() !== null) history.pushState(null, "", location.href.split("#")[0]);
    if (place >= 0) list.focus(place);
  }

  /** Show a neighbour in the list in the place of this card, also in the history. */
  function step(by) {
    const feature = list.order[list.order.indexOf(shown) + by];
    if (feature !== undefined) location.replace(cardHash(feature));
  }

  function buildCard() {
    byId("previous").addEventListener("click", () => step(-1));
    byId("next").addEventListener("click", () => step(1));
    byId("close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", onClose);
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog && event.clientX < dialog.getBoundingClientRect().left) {
        dialog.close();
      }
    });
    dialog.addEventListener("keydown", (event) => {
      const plain = !event.altKey && !event.ctrlKey && !event.metaKey && !event.shiftKey;
      if (!plain || event.target.matches("input")) return;
      if (event.key === "ArrowLeft" && !byId("previous").disabled) step(-1);
      if (event.key === "ArrowRight" && !byId("next").disabled) step(1);
    });
    window.addEventListener("hashchange", route);
  }

  // --------------------------------------------------------------------- print

  /** On paper: the open card, or the head of the list. */
  function startPrinting() {
    if (dialog.open) {
      // What is shown as modal is cut off after one sheet.
      dialog.close();
      dialog.setAttribute("open", "");
      return;
    }
    const n = list.order.length;
    list.printing = true;
    list.draw(true);
    byId("cut").textContent =
      n > MAX_PRINTED ? `The first ${MAX_PRINTED} of ${grouped.format(n)} features.` : "";
  }

  function stopPrinting() {
    list.printing = false;
    list.draw(true);
    if (dialog.open) {
      dialog.removeAttribute("open");
      dialog.showModal();
    }
  }

  window.addEventListener("beforeprint", startPrinting);
  window.addEventListener("afterprint", stopPrinting);

  buildPage();
  buildCard();
  performance.mark("skdict-list-ready");
  route();
}
