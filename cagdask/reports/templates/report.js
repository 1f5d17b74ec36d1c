"use strict";
// The page's own script: draws the charts, and searches, sorts and pages the table of CAGs. It loads nothing.
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }
  const asBytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

  // -- charts ------------------------------------------------------------------------------------------------------

  const palette = () => dark.matches ? page.samples.dark : page.samples.categories;

  function looks() {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim();
    const text = { labelColor: color("--ink"), titleColor: color("--ink"), labelFontSize: 12, titleFontSize: 12 };
    return {
      background: "transparent", font: "system-ui, sans-serif", padding: { left: 2, top: 4, right: 14, bottom: 2 }, mark: { color: dark.matches ? "#56b4e9" : "#0072b2" },
      axis: { ...text, titleFontWeight: "normal", gridColor: color("--line"), domainColor: color("--soft"), tickColor: color("--soft"), labelOverlap: "greedy", labelSeparation: 4 },
      legend: { ...text, titleFontWeight: "normal", labelLimit: 180, titleLimit: 260, columns: window.innerWidth < 600 ? 2 : 0 },
      title: { color: color("--ink"), fontSize: 13, fontWeight: "normal", anchor: "start" },
      view: { stroke: null },
      range: { category: palette() },
    };
  }

  function draw(name, spec, renderer) {
    const place = byId("chart-" + name);
    if (!place) return Promise.resolve();
    const label = place.closest("figure")?.querySelector("figcaption")?.textContent.trim() ?? name;
    const described = { description: label, ...spec };
    return vegaEmbed(place, described, { actions: false, renderer: renderer ?? "svg", config: looks(), tooltip: { theme: dark.matches ? "dark" : "light" } });
  }

  function drawAll() {
    for (const [name, spec] of Object.entries(page.charts)) draw(name, structuredClone(spec));
    drawSamples();
  }

  // -- samples: heat map and plane, by the column that is picked ---------------------------------------------------

  const samples = page.samples;
  const share = asBytes(samples.share);
  const MOST = 160, MOST_BARS = 8;

  function picked() {
    const name = byId("column")?.value;
    return name ? { name, ...samples.columns[name] } : null;
  }

  function orderBy(column) {
    const order = [...samples.order];
    if (!column) return order;
    const rank = new Map(samples.order.map((sample, i) => [sample, i]));
    const key = (i) => column.values[i];
    return order.sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === y) return rank.get(a) - rank.get(b);
      if (x === null) return 1;
      if (y === null) return -1;
      return x < y ? -1 : 1;
    });
  }

  const kinds = (column) => [...new Set(column.values)].sort();

  function legendColumns(column) {
    if (column.kind === "number") return undefined;
    const longest = Math.min(180, 7 * Math.max(...kinds(column).map((kind) => kind.length)));
    return Math.max(1, Math.floor((byId("chart-composition").clientWidth - 60) / (longest + 40)));
  }

  const color = (column, legend) => ({
    field: "value", title: column.name,
    type: column.kind === "number" ? "quantitative" : "nominal",
    scale: column.kind === "number" ? { scheme: samples.scheme } : { domain: kinds(column), range: palette() },
    legend: legend ? { orient: "top", columns: legendColumns(column) } : null,
  });

  function barsShown() {
    const column = picked();
    if (!byId("bars")?.checked) return column ? [column] : [];
    const others = Object.entries(samples.columns).filter(([name]) => name !== column?.name).map(([name, held]) => ({ name, ...held }));
    return (column ? [column, ...others] : others).slice(0, MOST_BARS);
  }

  function legends(columns) {
    byId("legends").replaceChildren(...columns.map((column) => {
      const line = document.createElement("p"), title = document.createElement("b");
      title.textContent = column.name;
      line.append(title);
      const swatch = (background, text) => {
        const item = document.createElement("span"), box = document.createElement("i");
        box.style.background = background;
        item.append(box, text);
        line.append(item);
        return box;
      };
      if (column.kind === "number") {
        const known = column.values.filter((value) => value !== null);
        const low = known.reduce((a, b) => Math.min(a, b), Infinity), high = known.reduce((a, b) => Math.max(a, b), -Infinity);
        line.append(String(low));
        swatch("linear-gradient(to right, #440154, #3b528b, #21918c, #5ec962, #fde725)", String(high)).className = "scale";
      } else kinds(column).forEach((kind, i) => swatch(palette()[i % palette().length], kind));
      return line;
    }));
  }

  function drawSamples() {
    if (!samples.cags.length) return;
    const column = picked(), bars = barsShown();
    const order = orderBy(column);
    const n = order.length, place = byId("chart-heat-map").clientWidth;
    const name = (row) => "CAG " + samples.cags[row] + (samples.names[row] && place > 700 ? " " + samples.names[row] : "");
    const room = place > 700 && samples.names.some((word) => word) ? 210 : 76;
    const per = Math.max(1, Math.ceil(n / Math.min(MOST, Math.max(1, place - room))));
    const cells = [], values = bars.map(() => []);
    const labels = samples.cags.map((_, row) => name(row));
    for (let begin = 0; begin < n; begin += per) {
      const group = order.slice(begin, begin + per);
      const label = samples.samples[group[0]] + (group.length > 1 ? " … " + samples.samples[group.at(-1)] : "");
      samples.cags.forEach((cag, row) => {
        let sum = 0;
        for (const sample of group) sum += (share[row * n + sample] / 255) ** 2;
        cells.push({ x: begin / per, cag: labels[row], about: samples.names[row], v: Math.round(100 * Math.sqrt(sum / group.length)) / 100, sample: label });
      });
      bars.forEach((bar, i) => values[i].push({ x: begin / per, row: bar.name, value: bar.values[group[0]], sample: label }));
    }
    const columns = Math.ceil(n / per), most = cells.reduce((found, cell) => Math.max(found, cell.v), 0) || 1;
    const free = Math.max(120, place - room);
    const whole = Math.max(1, Math.floor(free / columns)) * columns;  // whole pixels per column: no gaps between them
    const width = whole > 0.8 * free ? whole : free;
    const x = { field: "x", type: "ordinal", axis: null, scale: { paddingInner: 0, paddingOuter: 0 } };
    const text = { title: null, labelOverlap: "greedy", labelSeparation: 0, labelFontSize: 11, labelLimit: room - 12, domain: false, ticks: false, minExtent: room - 24, maxExtent: room - 24 };
    const map = {
      width, height: Math.max(60, 16 * labels.length), data: { values: cells }, mark: "rect",
      encoding: {
        x, y: { field: "cag", type: "nominal", sort: labels, axis: text },
        color: { field: "v", type: "quantitative", title: samples.brightness, scale: { scheme: samples.scheme, domain: [0, most] }, legend: { orient: "bottom", gradientLength: 200 } },
        tooltip: [{ field: "cag", title: "CAG" }, ...(samples.names.some((word) => word) ? [{ field: "about", title: "most of its genes" }] : []), { field: "sample", title: "sample" }, { field: "v", title: samples.brightness }],
      },
    };
    const strips = bars.map((bar, i) => ({
      width, height: 14, data: { values: values[i] }, mark: "rect",
      encoding: {
        x, y: { field: "row", type: "nominal", axis: text }, color: color(bar, false),
        tooltip: [{ field: "sample" }, { field: "value", title: bar.name }],
      },
    }));
    draw("heat-map", { vconcat: [...strips, map], spacing: 3, resolve: { scale: { color: "independent" } } }, "canvas");
    legends(bars);
    byId("binned").textContent = per > 1 ? ` Each column is the mean of up to ${per} neighboring samples.` : "";
    drawPlane(column);
  }

  function drawPlane(column) {
    const values = samples.xy.map(([a, b], i) => ({ a, b, sample: samples.samples[i], value: column ? column.values[i] : null }));
    const title = (i) => `axis ${i + 1} (${Math.round(100 * samples.explained[i])} %)`;
    const encoding = {
      x: { field: "a", type: "quantitative", title: title(0), axis: { grid: false, tickCount: 6 } },
      y: { field: "b", type: "quantitative", title: title(1), axis: { grid: false, tickCount: 6 } },
      tooltip: [{ field: "sample" }, ...(column ? [{ field: "value", title: column.name }] : [])],
    };
    if (column) {
      encoding.color = color(column, true);
      if (column.kind === "word") encoding.shape = { field: "value", type: "nominal", title: column.name, scale: { domain: kinds(column) }, legend: { orient: "top", columns: legendColumns(column) } };  // the same domain: one legend for both
    }
    draw("composition", { width: "container", height: 360, data: { values }, mark: { type: "point", filled: true, size: 55, opacity: 0.8 }, encoding });
    byId("method").textContent = ` ${samples.method} on ${samples.n_compared.toLocaleString("en")} CAGs.`;
  }

  // -- the table of CAGs -------------------------------------------------------------------------------------------

  const ROWS = 25;
  const HEADS = { cag: "CAG", size: "genes", shape: "shape", prevalence: "prevalence", cohesion: "cohesion", status: "status", symbol: "symbol", taxonomy: "taxonomy", description: "description", gene: "gene", mean_abundance: "mean abundance", std_abundance: "standard deviation", entropy: "entropy" };
  const TEXT = new Set(["status", "gene", "symbol", "taxonomy", "description"]);
  let cags, columns, shapes, steps, shown = [], first = 0, sortBy = "cag", falling = false, open = -1, starts = null, names = null;

  const cell = (name, i) => {
    if (name === "cag") return i;
    if (name === "status") return cags.status_words[cags.status[i]];
    return cags[name][i];
  };
  const written = (name, value) => value === null || value === undefined ? "–" : name === "size" || name === "cag" ? value.toLocaleString("en") : typeof value === "number" ? digits(value) : value;
  const digits = (v) => v !== 0 && (Math.abs(v) < 0.01 || Math.abs(v) >= 1000) ? Number(v.toPrecision(3)).toString() : v.toFixed(Math.abs(v) < 10 ? 3 : 1);

  function filter() {
    const words = byId("search").value.trim().toLowerCase();
    const least = Number(byId("least").value) || 1;
    const status = byId("status").value;
    const number = /^cag (\d+)$/.exec(words);
    shown = [];
    for (let i = 0; i < cags.size.length; i++) {
      if (cags.size[i] < least) continue;
      if (status && cell("status", i) !== status) continue;
      if (number) { if (i !== Number(number[1])) continue; }
      else if (words && words !== String(i) && !columns.some((name) => TEXT.has(name) && String(cell(name, i)).toLowerCase().includes(words))) continue;
      shown.push(i);
    }
    sort();
  }

  function sort() {
    const sign = falling ? -1 : 1;
    if (sortBy !== "cag" || falling) {
      shown.sort((a, b) => {
        const x = cell(sortBy, a), y = cell(sortBy, b);
        if (x === y) return a - b;
        if (x === null) return 1;
        if (y === null) return -1;
        return x < y ? -sign : sign;
      });
    } else shown.sort((a, b) => a - b);
    first = 0; open = -1;
    table();
  }

  function spark(i) {
    if (i * steps >= shapes.length) return "";
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    svg.setAttribute("class", "spark"); svg.setAttribute("viewBox", "0 0 96 20"); svg.setAttribute("aria-hidden", "true");
    let d = "";
    for (let k = 0; k < steps; k++) d += `${k ? "L" : "M"}${(2 + 92 * k / Math.max(1, steps - 1)).toFixed(1)} ${(18 - 16 * shapes[i * steps + k] / 255).toFixed(1)}`;
    path.setAttribute("d", d); svg.append(path);
    return svg;
  }

  // the lowest ranks that are named: the first ones are alike in most rows
  const ranks = (text) => {
    const named = text.split(/;|\|/).map((rank) => rank.trim()).filter((rank) => rank && !/^[a-z]__$/.test(rank));
    return named.length > 2 ? `… ${named.slice(-2).join("; ")}` : text;
  };

  function table() {
    const body = byId("cags").tBodies[0];
    body.replaceChildren();
    for (const i of shown.slice(first, first + ROWS)) {
      const row = body.insertRow();
      for (const name of columns) {
        const td = row.insertCell();
        if (TEXT.has(name)) td.className = "text";
        if (name === "shape") td.append(spark(i));
        else if (name === "cag") {
          const button = document.createElement("button");
          button.type = "button"; button.textContent = i; button.setAttribute("aria-expanded", String(open === i));
          button.setAttribute("aria-label", `CAG ${i}: show its genes`);
          button.onclick = () => { open = open === i ? -1 : i; table(); };
          td.append(button);
        } else { const text = written(name, cell(name, i)); td.textContent = name === "taxonomy" ? ranks(text) : text; if (TEXT.has(name)) td.title = text; }
      }
      if (open === i) details(body.insertRow(), i);
    }
    const last = Math.min(shown.length, first + ROWS);
    byId("count").textContent = `${shown.length.toLocaleString("en")} of ${cags.size.length.toLocaleString("en")} CAGs`;
    byId("page").textContent = shown.length ? `${(first + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ${shown.length.toLocaleString("en")}` : "none";
    byId("before").disabled = first === 0;
    byId("after").disabled = last >= shown.length;
  }

  function details(row, i) {
    row.className = "open";
    const td = row.insertCell();
    td.colSpan = columns.length;
    const box = document.createElement("div");
    box.className = "members"; box.tabIndex = 0;
    box.textContent = page.genes ? "…" : "The names of all genes do not fit this page; see CAGs.csv.gz.";
    td.append(box);
    if (page.genes) genes().then(() => {
      const begin = starts[i], end = starts[i] + cags.size[i], most = Math.min(end, begin + 1000);
      box.textContent = names.slice(begin, most).join(", ") + (most < end ? `, … and ${(end - most).toLocaleString("en")} more` : "");
    });
  }

  async function genes() {
    if (names) return;
    names = await unpack(page.genes);
    starts = [0];
    for (const size of cags.size) starts.push(starts.at(-1) + size);
  }

  function head() {
    const row = byId("cags").tHead.insertRow();
    for (const name of columns) {
      const th = document.createElement("th");
      th.scope = "col";
      if (TEXT.has(name)) th.className = "text";
      if (name === "shape") th.textContent = HEADS[name];
      else {
        const button = document.createElement("button");
        button.type = "button"; button.textContent = HEADS[name];
        button.onclick = () => {
          falling = sortBy === name ? !falling : !TEXT.has(name) && name !== "cag";
          sortBy = name;
          for (const other of row.cells) other.removeAttribute("aria-sort");
          th.setAttribute("aria-sort", falling ? "descending" : "ascending");
          sort();
        };
        th.append(button);
      }
      row.append(th);
    }
  }

  function download() {
    const plain = columns.filter((name) => name !== "shape");
    const clean = (value) => value === null || value === undefined ? "" : String(value).replace(/[\t\r\n]/g, " ");
    const lines = [plain.join("\t"), ...shown.map((i) => plain.map((name) => clean(cell(name, i))).join("\t"))];
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/tab-separated-values" }));
    link.download = "cags.tsv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  function show(i) {
    byId("search").value = "CAG " + i; byId("least").value = 1; byId("status").value = "";
    filter();
    open = i;
    table();
    byId("table").scrollIntoView();
  }

  // -- from a gene to its CAG --------------------------------------------------------------------------------------

  async function find() {
    const words = byId("find").value.trim().toLowerCase();
    const place = byId("found");
    place.replaceChildren();
    if (!words) return;
    await genes();
    if (byId("find").value.trim().toLowerCase() !== words) return;
    const hits = [];
    for (let i = 0; i < names.length && hits.length < 20; i++) if (names[i].toLowerCase().startsWith(words)) hits.push(i);
    if (!hits.length) { place.textContent = "No gene in a CAG begins like this."; return; }
    const list = document.createElement("ul");
    for (const i of hits) {
      let low = 0, high = starts.length - 1;
      while (high - low > 1) { const middle = (low + high) >> 1; if (starts[middle] <= i) low = middle; else high = middle; }
      const item = document.createElement("li");
      const inside = low < cags.size.length && i < starts[cags.size.length];
      item.append(names[i] + ": ");
      if (inside) {
        const button = document.createElement("button");
        button.type = "button"; button.textContent = `CAG ${low} (${cags.size[low].toLocaleString("en")} genes)`;
        button.onclick = () => show(low);
        item.append(button);
      } else item.append("alone");
      list.append(item);
    }
    place.append(list);
  }

  async function start() {
    drawAll();
    cags = await unpack(page.cags);
    shapes = asBytes(cags.shapes);
    const drawnOnes = Math.min(cags.size.length, 20000);
    steps = drawnOnes ? shapes.length / drawnOnes : 1;
    columns = ["cag", ...Object.keys(HEADS).filter((name) => name !== "cag" && name !== "shape" && cags[name])];
    if (columns.includes("status") && new Set(cags.status).size < 2) columns.splice(columns.indexOf("status"), 1);
    columns.splice(2, 0, "shape");
    for (const word of cags.status_words) if (cags.status.includes(cags.status_words.indexOf(word))) byId("status").append(new Option(word));
    head();
    filter();
    for (const id of ["search", "least", "status"]) byId(id).addEventListener("input", filter);
    for (const button of document.querySelectorAll(".to-cag")) {
      button.setAttribute("aria-label", `CAG ${button.value}: show it in the table`);
      button.onclick = () => show(Number(button.value));
    }
    byId("download").onclick = download;
    byId("before").onclick = () => { first = Math.max(0, first - ROWS); table(); };
    byId("after").onclick = () => { first += ROWS; table(); };
    byId("find")?.addEventListener("input", find);
    for (const id of ["column", "bars"]) byId(id)?.addEventListener("input", drawSamples);
    dark.addEventListener("change", drawAll);
    let width = window.innerWidth, waiting;
    window.addEventListener("resize", () => {
      if (window.innerWidth === width) return;  // a phone's bars come and go
      width = window.innerWidth;
      clearTimeout(waiting);
      waiting = setTimeout(drawSamples, 200);
    });
    document.body.dataset.ready = "yes";
  }
  start();
})();
