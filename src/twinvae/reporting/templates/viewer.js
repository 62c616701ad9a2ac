// The viewer of a scan's page: three planes through one voxel, a map laid over, links to places.
// Volumes come from the page itself (reporting/view.py says how); nothing is fetched.
"use strict";
(() => {
  const source = document.getElementById("view-data");
  if (!source) return;
  const view = JSON.parse(source.textContent);
  const byId = (id) => document.getElementById(id);
  // Which axis of the volume (0 right, 1 anterior, 2 superior) runs along the screen.
  const PLANES = {
    axial: { across: 0, up: 1, through: 2, ends: ["L", "R", "P", "A"] },
    coronal: { across: 0, up: 2, through: 1, ends: ["L", "R", "I", "S"] },
    sagittal: { across: 1, up: 2, through: 0, ends: ["P", "A", "I", "S"] },
  };
  const NEXT = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  const layers = new Map(); // key → layer with its bytes
  const at = [...view.start];
  const overlay = byId("overlay"), opacity = byId("opacity"), brightness = byId("brightness");
  const radiological = byId("radiological"), outlines = byId("outlines");
  const panes = [...document.querySelectorAll("canvas[data-plane]")].map((canvas) => ({
    canvas, ...PLANES[canvas.dataset.plane],
    slider: canvas.parentElement.querySelector("input"),
    says: canvas.parentElement.querySelector("output"),
  }));

  // ---- reading layers

  async function unpacked(layer) {
    const packed = Uint8Array.from(atob(layer.data), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  async function load() {
    for (const layer of view.layers) {
      layer.bytes = await unpacked(layer);
      delete layer.data;
      layers.set(layer.key, layer);
      if (layers.size === 1) {
        byId("viewer").classList.add("ready");
        byId("loading").hidden = true;
        draw();
        document.documentElement.dataset.firstPicture = Math.round(performance.now());
      }
    }
    draw();
    document.documentElement.dataset.loaded = Math.round(performance.now());
  }

  // ---- values and colours

  const decoded = (layer, byte) => layer.low + (byte / view.levels) * (layer.high - layer.low);

  function valueAt(layer) {
    const [x, y, z] = at.map((v, a) => nearest(layer, a, v));
    return decoded(layer, layer.bytes[x + layer.shape[0] * (y + layer.shape[1] * z)]);
  }

  const nearest = (layer, axis, voxel) =>
    Math.min(layer.shape[axis] - 1, Math.round(voxel / layer.step[axis]));

  function heat(value) {
    const stops = view.heat;
    if (value <= stops[0][0]) return [0, 0, 0, 0];
    const i = Math.max(1, stops.findIndex((s) => s[0] >= value));
    const [a, b] = value > stops.at(-1)[0] ? [stops.at(-1), stops.at(-1)] : [stops[i - 1], stops[i]];
    const t = b[0] > a[0] ? (value - a[0]) / (b[0] - a[0]) : 0;
    return [1, 2, 3, 4].map((c) => a[c] + t * (b[c] - a[c]));
  }

  function signed(value, limit) { // red: brighter than healthy; blue: darker
    const share = Math.min(1, Math.abs(value) / limit), shown = Math.max(0, share - 0.12) / 0.88;
    return value > 0 ? [230, 60, 30, shown] : [40, 110, 255, shown];
  }

  const table = new Map(); // colours of a layer's bytes, made once

  function colours(layer) {
    const bright = layer.look === "grey" ? Number(brightness.value) : 1;
    const name = `${layer.key} ${bright}`;
    if (table.has(name)) return table.get(name);
    const found = new Uint8ClampedArray(4 * 256);
    for (let byte = 0; byte <= view.levels; byte++) {
      const value = decoded(layer, byte), grey = (255 * bright * byte) / view.levels;
      const [r, g, b, a] = {
        grey: () => [grey, grey, grey, 1],
        heat: () => heat(value),
        signed: () => signed(value, layer.high),
        mask: () => [0, 170, 200, value >= 0.5 ? 0.6 : 0],
      }[layer.look]();
      found.set([r, g, b, 255 * a], 4 * byte);
    }
    table.set(name, new Uint32Array(found.buffer));
    return table.get(name);
  }

  // ---- drawing

  const flipped = (pane) => pane.across === 0 && radiological.checked;

  // One slice of a layer: its bytes in screen order, rows from the top.
  function cut(layer, pane) {
    const stride = [1, layer.shape[0], layer.shape[0] * layer.shape[1]];
    const width = layer.shape[pane.across], height = layer.shape[pane.up];
    const start = nearest(layer, pane.through, at[pane.through]) * stride[pane.through];
    const bytes = new Uint8Array(width * height), flip = flipped(pane);
    for (let row = 0, out = 0; row < height; row++) {
      const line = start + (height - 1 - row) * stride[pane.up];
      for (let column = 0; column < width; column++, out++)
        bytes[out] = layer.bytes[line + (flip ? width - 1 - column : column) * stride[pane.across]];
    }
    return { bytes, width, height, frame: frame(layer, pane) };
  }

  // Where a thinned-out slice lies on the canvas: its voxels are centred on those that were kept.
  function frame(layer, pane) {
    const side = (axis, turned, pixels) => {
      const whole = view.shape[axis], step = layer.step[axis], count = layer.shape[axis];
      const first = 0.5 - step / 2, scale = pixels / whole;
      const start = turned ? whole - (first + step * count) : first;
      return [start * scale, step * count * scale];
    };
    const [x, w] = side(pane.across, flipped(pane), pane.canvas.width);
    const [y, h] = side(pane.up, true, pane.canvas.height);
    return { x, y, w, h };
  }

  const sheet = document.createElement("canvas");

  function paint(context, layer, pane, alpha) {
    const slice = cut(layer, pane), lookup = colours(layer);
    const image = new ImageData(slice.width, slice.height);
    const pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < pixels.length; i++) pixels[i] = lookup[slice.bytes[i]];
    sheet.width = slice.width;
    sheet.height = slice.height;
    sheet.getContext("2d").putImageData(image, 0, 0);
    context.globalAlpha = alpha;
    context.imageSmoothingQuality = "high";
    const { x, y, w, h } = slice.frame;
    context.drawImage(sheet, x, y, w, h);
    context.globalAlpha = 1;
  }

  // A line round what reaches the threshold: seen without colours.
  function outline(context, layer, pane) {
    const { bytes, width, height, frame: f } = cut(layer, pane);
    const inside = (c, r) => c >= 0 && r >= 0 && c < width && r < height &&
      decoded(layer, bytes[c + width * r]) >= 1;
    const x = (c) => f.x + (c * f.w) / width, y = (r) => f.y + (r * f.h) / height;
    context.beginPath();
    for (let r = 0; r <= height; r++)
      for (let c = 0; c <= width; c++) {
        if (inside(c, r) !== inside(c - 1, r)) { context.moveTo(x(c), y(r)); context.lineTo(x(c), y(r + 1)); }
        if (inside(c, r) !== inside(c, r - 1)) { context.moveTo(x(c), y(r)); context.lineTo(x(c + 1), y(r)); }
      }
    context.strokeStyle = "#fff";
    context.lineWidth = 1.5 * devicePixelRatio;
    context.stroke();
  }

  function place(pane) { // of the crosshair, in pixels
    const { canvas, across, up } = pane;
    const share = (at[across] + 0.5) / view.shape[across];
    return [
      canvas.width * (flipped(pane) ? 1 - share : share),
      canvas.height * (1 - (at[up] + 0.5) / view.shape[up]),
    ];
  }

  function marks(context, pane) {
    const { width, height } = pane.canvas, [x, y] = place(pane), gap = 8 * devicePixelRatio;
    context.lineWidth = devicePixelRatio;
    context.strokeStyle = "#56b4e9";
    context.beginPath();
    for (const [a, b, c, d] of [[0, y, x - gap, y], [x + gap, y, width, y], [x, 0, x, y - gap], [x, y + gap, x, height]]) {
      context.moveTo(a, b);
      context.lineTo(c, d);
    }
    context.stroke();
    context.font = `600 ${13 * devicePixelRatio}px system-ui, sans-serif`;
    context.fillStyle = "#fff";
    context.textBaseline = "middle";
    const [low, high, bottom, top] = pane.ends, edge = 6 * devicePixelRatio;
    const [left, right] = flipped(pane) ? [high, low] : [low, high];
    for (const [letter, align, lx, ly] of [[left, "left", edge, height / 2], [right, "right", width - edge, height / 2],
      [top, "center", width / 2, 2 * edge], [bottom, "center", width / 2, height - 2 * edge]]) {
      context.textAlign = align;
      context.fillText(letter, lx, ly);
    }
  }

  function drawPane(pane) {
    const { canvas } = pane, context = canvas.getContext("2d");
    const width = Math.round(canvas.clientWidth * devicePixelRatio);
    const height = Math.round(canvas.clientHeight * devicePixelRatio);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    const [scan] = layers.values(), chosen = layers.get(overlay.value), map = layers.get("map");
    paint(context, scan, pane, 1);
    if (chosen) paint(context, chosen, pane, Number(opacity.value));
    if (map && outlines.checked) outline(context, map, pane);
    marks(context, pane);
  }

  function draw() {
    if (!layers.size) return;
    panes.forEach(drawPane);
    describe();
  }

  // ---- words

  const signedNumber = (v, digits) => (v < 0 ? "\u2212" : "") + Math.abs(v).toFixed(digits);

  function describe() {
    const mm = view.affine.map((row) => row[0] * at[0] + row[1] * at[1] + row[2] * at[2] + row[3]);
    const parts = [`x ${signedNumber(mm[0], 1)}, y ${signedNumber(mm[1], 1)}, z ${signedNumber(mm[2], 1)} mm`];
    for (const layer of layers.values()) {
      const value = valueAt(layer);
      if (layer.look === "mask") parts.push(value >= 0.5 ? "in the brain" : "outside the brain");
      else parts.push(`${layer.label.toLowerCase()} ${signedNumber(value, layer.high > 20 ? 0 : 2)}${layer.unit}`);
    }
    byId("readout").textContent = parts.join(" · ");
    for (const pane of panes) {
      pane.slider.value = at[pane.through];
      pane.says.textContent = at[pane.through] + view.corner[pane.through];
    }
    markCurve();
  }

  function markCurve() {
    const curve = byId("curve"), cursor = byId("cursor");
    if (!curve) return;
    const number = sliceHere(), share = (number - curve.dataset.first) / (curve.dataset.last - curve.dataset.first || 1);
    cursor.style.left = `${100 * share}%`;
    curve.setAttribute("aria-valuenow", number);
    curve.setAttribute("aria-valuetext", `slice ${number}`);
  }

  // ---- moving

  function goTo(voxel) {
    voxel.forEach((v, axis) => { at[axis] = Math.max(0, Math.min(view.shape[axis] - 1, Math.round(v))); });
    draw();
  }

  const sliceHere = () =>
    view.slices.reduce((best, s) => (Math.abs(s[1] - at[2]) < Math.abs(best[1] - at[2]) ? s : best))[0];

  function goToSlice(number) {
    const found = view.slices.reduce((best, s) => (Math.abs(s[0] - number) < Math.abs(best[0] - number) ? s : best));
    goTo([at[0], at[1], found[1]]);
  }

  function point(pane, event) {
    const box = pane.canvas.getBoundingClientRect(), to = [...at];
    let share = (event.clientX - box.left) / box.width;
    if (flipped(pane)) share = 1 - share;
    to[pane.across] = share * view.shape[pane.across] - 0.5;
    to[pane.up] = (1 - (event.clientY - box.top) / box.height) * view.shape[pane.up] - 0.5;
    goTo(to);
  }

  function pressed(pane, event) {
    const to = [...at], far = event.shiftKey ? 10 : 1;
    if (event.key in NEXT) {
      const [across, up] = NEXT[event.key];
      to[pane.across] += far * across * (flipped(pane) ? -1 : 1);
      to[pane.up] += far * up;
    } else if (event.key === "PageUp") to[pane.through] += far;
    else if (event.key === "PageDown") to[pane.through] -= far;
    else return;
    event.preventDefault();
    goTo(to);
  }

  for (const pane of panes) {
    const { canvas, slider, across, up, through } = pane;
    const size = (axis) => view.shape[axis] * view.spacing[axis];
    canvas.style.aspectRatio = `${size(across)} / ${size(up)}`;
    canvas.parentElement.style.flexGrow = size(across); // so that all planes have one scale
    slider.max = view.shape[through] - 1;
    slider.addEventListener("input", () => { const to = [...at]; to[through] = Number(slider.value); goTo(to); });
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); point(pane, event); });
    canvas.addEventListener("pointermove", (event) => { if (event.buttons & 1) point(pane, event); });
    canvas.addEventListener("keydown", (event) => pressed(pane, event));
    canvas.addEventListener("wheel", (event) => { // only where the reader has clicked: the page scrolls elsewhere
      if (document.activeElement !== canvas) return;
      event.preventDefault();
      const to = [...at];
      to[through] += event.deltaY > 0 ? -1 : 1;
      goTo(to);
    }, { passive: false });
  }
  for (const control of [overlay, opacity, brightness, radiological, outlines])
    control.addEventListener("input", draw);
  new ResizeObserver(draw).observe(byId("viewer"));

  const curve = byId("curve");
  if (curve) {
    const chosen = (event) => {
      const box = curve.getBoundingClientRect(), share = (event.clientX - box.left) / box.width;
      goToSlice(Number(curve.dataset.first) + share * (curve.dataset.last - curve.dataset.first));
    };
    curve.addEventListener("pointerdown", chosen);
    curve.addEventListener("pointermove", (event) => { if (event.buttons & 1) chosen(event); });
    curve.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 5, PageDown: -5 }[event.key];
      if (!by) return;
      event.preventDefault();
      const place = view.slices.findIndex((s) => s[0] === sliceHere()) + by;
      goToSlice(view.slices[Math.max(0, Math.min(view.slices.length - 1, place))][0]);
    });
  }
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-go], [data-slice]");
    if (!link) return;
    if (link.dataset.go) goTo(link.dataset.go.split(",").map(Number));
    else goToSlice(Number(link.dataset.slice));
    byId("viewer").scrollIntoView({ block: "nearest" });
  });

  load().catch((error) => {
    byId("loading").textContent = "The images could not be unpacked (" + error +
      "). A browser of 2023 or later is needed; everything else on this page works without them.";
  });
})();
