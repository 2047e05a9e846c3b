"use strict";
// Fills bokeh's figures from matrices that the page holds once, and fits them to the width and the light of the page.
const outcrop = (() => {
  const assets = JSON.parse(document.getElementById("assets").textContent);
  const decoded = new Map();
  const drawn = [];

  // Matrices: 16-bit codes, the upper half only where symmetric; the last code means "no value".
  function matrix(key) {
    if (decoded.has(key)) return decoded.get(key);
    const {rows, columns, symmetric, low, step, codes} = assets[key];
    const bytes = Uint8Array.from(atob(codes), (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    const values = new Float32Array(rows * columns);
    let at = 0;
    for (let i = 0; i < rows; i++) {
      for (let j = symmetric ? i : 0; j < columns; j++, at += 2) {
        const code = view.getUint16(at, true);
        const value = code === 65535 ? NaN : low + step * code;
        values[i * columns + j] = value;
        if (symmetric) values[j * columns + i] = value;
      }
    }
    decoded.set(key, {values, columns});
    return decoded.get(key);
  }

  function fill(source) {
    const {map, cells} = source.tags[0];
    const {values, columns} = matrix(map);
    const image = source.data.image.map((placeholder, k) => {
      const [top, bottom] = cells[k].rows, [left, right] = cells[k].columns;
      const part = new Float32Array((bottom - top) * (right - left));
      for (let i = top; i < bottom; i++) {
        part.set(values.subarray(i * columns + left, i * columns + right), (i - top) * (right - left));
      }
      return new placeholder.constructor(part, [bottom - top, right - left]);
    });
    source.data = {...source.data, image};
  }

  const number = (value) => (Number.isNaN(value) ? "no value" : value.toFixed(3));

  // Pictures of samples lie side by side in one sheet; what the pointer asks for is cut out of it.
  const sheets = new Map(), cut = new Map();
  function loadSheets() {
    return Promise.all(Object.entries(assets).filter(([, asset]) => "side" in asset).map(([key, {codes}]) => {
      const image = new Image();
      sheets.set(key, image);
      image.src = `data:image/jpeg;base64,${codes}`;
      return image.decode();
    }));
  }
  function picture(key, place) {
    const name = `${key}/${place}`;
    if (!cut.has(name)) {
      const {side, columns} = assets[key], canvas = document.createElement("canvas");
      canvas.width = canvas.height = side;
      const [x, y] = [(place % columns) * side, Math.floor(place / columns) * side];
      canvas.getContext("2d").drawImage(sheets.get(key), x, y, side, side, 0, 0, side, side);
      cut.set(name, canvas.toDataURL());
    }
    return cut.get(name);
  }

  // What a map says of the cell under the pointer; called by bokeh's hover tool.
  function hover(run, cells, wanted, {x, y}) {
    const cell = cells.find((c) => x >= c.x && x < c.x + c.width && y >= c.y && y < c.y + c.height);
    if (cell === undefined) return "";
    const place = (from, size, [start, stop], at) =>
      Math.min(stop - 1, start + Math.floor(((at - from) / size) * (stop - start)));
    const row = place(cell.y, cell.height, cell.rows, y), column = place(cell.x, cell.width, cell.columns, x);
    if (wanted === "row" || wanted === "column") {
      const at = wanted === "row" ? row : column;
      const {models, names, kinds} = assets[`${run}/${wanted}s`];
      const several = new Set(models).size > 1 && cells.length > 1;
      return (several ? `${models[at]}  ` : "") + names[at] + (kinds[at] ? `  (${kinds[at]})` : "");
    }
    const read = (key) => { const {values, columns} = matrix(key); return values[row * columns + column]; };
    const error = `${run}/standard_error`;
    const known = wanted === "similarity" && error in assets ? read(error) : NaN;
    const spread = Number.isNaN(known) ? "" : ` ± ${known.toFixed(3)} (standard error)`;
    const whole = assets[`${run}/${wanted}`].whole === true;
    return (whole ? String(Math.round(read(`${run}/${wanted}`))) : number(read(`${run}/${wanted}`))) + spread;
  }

  // Ticks: every layer where there is room, else modules, the largest first.
  function ticks(axis, range, groups, names, pixels, vertical, limit) {
    const [low, high] = [Math.min(range.start, range.end), Math.max(range.start, range.end)];
    const unit = pixels / (high - low);
    const clip = (text, room = limit) => (text.length > room ? "…" + text.slice(1 - room) : text);
    const labels = new Map();
    if (names !== null && unit >= 11) {
      for (let i = Math.ceil(low); i <= Math.floor(high); i++) if (i >= 0 && i < names.length) labels.set(i, clip(names[i]));
    } else {
      const taken = [];
      for (const [start, stop, text] of [...groups].sort((a, b) => b[1] - b[0] - (a[1] - a[0]))) {
        const from = Math.max(start, low), to = Math.min(stop, high);
        if (to <= from) continue;
        const shown = clip(text, vertical ? limit : Math.max(8, Math.floor(((to - from) * unit - 10) / 6.1)));
        const middle = (from + to) / 2, half = (vertical ? 13 : 6.1 * shown.length + 10) / unit / 2;
        if (middle - half < low - 8 / unit || middle + half > high + 8 / unit) { if (!vertical) continue; }
        if (taken.some(([a, b]) => middle - half < b && middle + half > a)) continue;
        taken.push([middle - half, middle + half]);
        labels.set(middle, shown);
      }
    }
    axis.ticker.ticks = [...labels.keys()];
    axis.major_label_overrides = labels;
    axis.major_label_orientation = !vertical && names !== null && unit >= 11 ? "vertical" : "horizontal";
  }

  function tagged(plot) { return plot.tags.find((tag) => typeof tag === "object" && "role" in tag) ?? {role: "plain"}; }

  function tick(plot, sizes) {
    const tag = tagged(plot);
    if (!("across" in tag)) return;
    const source = plot.renderers[0].data_source, {map, cells} = source.tags[0];
    const run = map.slice(0, map.lastIndexOf("/"));
    const names = (side) => (cells.length > 1 ? null : assets[`${run}/${side}`].names.slice(...cells[0][side]).map((n) => n.replaceAll("$$", "$\u200b$")));
    ticks(plot.below[0], plot.x_range, tag.across, names("columns"), sizes.width, false, 18);
    ticks(plot.left[0], plot.y_range, tag.down, names("rows"), sizes.height, true, sizes.limit);
  }

  function fit({plots}) {
    for (const {plot, element} of plots) {
      const {role} = tagged(plot);
      if (role === "plain" || role === "lines" || role === "titled") continue;
      // Only figures in one column share a left edge, so that a strip lies exactly below its map.
      const available = Math.floor(element.clientWidth);
      if (available === 0) continue;
      if (role === "series") {
        const {columns, rows} = tagged(plot), side = 126;
        const across = Math.max(80, Math.min(available - side - 52, 320 * columns)), height = (across * rows) / columns;
        plot.min_border_left = side;
        plot.min_border_right = 52;
        plot.width = across + side + 52;
        plot.frame_width = across;
        plot.frame_height = height;
        tick(plot, {width: across, height, limit: 18});
        continue;
      }
      const left = available < 320 ? 84 : available < 520 ? 78 : role === "grid" ? 166 : 108;
      const right = role === "side" ? 6 : 52;
      const width = Math.max(80, available - left - right);
      plot.min_border_left = left;
      plot.min_border_right = right;
      plot.width = available;
      plot.frame_width = width;
      if (role === "strip") { plot.frame_height = 110; plot.height = 128; continue; }
      plot.frame_height = width;
      tick(plot, {width, height: width, limit: Math.floor((left - 12) / 6.1)});
    }
  }

  // Bokeh paints on a canvas, which style sheets do not reach.
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  function paint({document: doc}, forPrint = false) {
    const ink = dark.matches && !forPrint ? "#b9aea3" : "#5f5750";
    for (const model of doc.all_models) {
      for (const name of ["major_label_text_color", "axis_label_text_color", "label_text_color", "axis_line_color", "grid_line_color"]) {
        if (name in model && model[name] !== null && typeof model[name] !== "undefined") {
          try { model[name] = ink; } catch (error) { console.debug("outcrop: no ink for", name, error); }
        }
      }
    }
  }

  async function draw(figure) {
    const {document: json, roots} = JSON.parse(figure.querySelector("script.document").textContent);
    const id = figure.id;
    await Bokeh.embed.embed_items({[id]: json}, [{docid: id, roots, root_ids: Object.keys(roots)}]);
    const doc = Bokeh.documents[Bokeh.documents.length - 1];
    const plots = doc.roots().map((plot) => ({plot, element: document.getElementById(roots[plot.id])}));
    const entry = {document: doc, plots};
    for (const model of doc.all_models) if (model.name === "outcrop-map") fill(model);
    for (const {plot, element} of plots) {
      element.classList.add("drawn");
      if (!("across" in tagged(plot))) continue;
      // A finger that scrolls the page must not draw zoom boxes.
      if (window.matchMedia("(pointer: coarse)").matches) plot.toolbar.active_drag = null;
      const again = () => fit(entry);
      for (const range of [plot.x_range, plot.y_range]) {
        range.properties.start.change.connect(again);
        range.properties.end.change.connect(again);
      }
    }
    fit(entry);
    paint(entry);
    drawn.push(entry);
  }

  async function drawAll(figures) {
    for (const figure of figures) {
      if (figure.dataset.state !== undefined) continue;
      figure.dataset.state = "drawing";
      await draw(figure);
      figure.dataset.state = "drawn";
    }
  }

  const within = (scope) => [...scope.querySelectorAll("figure.drawing")].filter((figure) => figure.querySelector("script.document"));
  async function start() {
    await loadSheets();
    for (const details of document.querySelectorAll("details.older")) {
      details.addEventListener("toggle", () => { if (details.open) drawAll(within(details)).then(() => drawn.forEach(fit)); });
    }
    await drawAll(within(document).filter((figure) => !figure.closest("details")));
    let width = window.innerWidth;
    window.addEventListener("resize", () => { if (window.innerWidth !== width) { width = window.innerWidth; drawn.forEach(fit); } });
    dark.addEventListener("change", () => drawn.forEach((entry) => paint(entry)));
    window.addEventListener("beforeprint", () => drawn.forEach((entry) => paint(entry, true)));
    window.addEventListener("afterprint", () => drawn.forEach((entry) => paint(entry)));
    document.documentElement.dataset.ready = "yes";
  }
  return {start, hover, picture, drawn};
})();
window.outcrop = outcrop;
outcrop.start();
