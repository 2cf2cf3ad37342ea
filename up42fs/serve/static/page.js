"use strict";
// The page for people: asks this server for JSON, and draws it. No framework, no network beside it.
// Names from UP42 are only ever set as text, never as markup.

const $ = (id) => document.getElementById(id);
const BASE = location.pathname.replace(/[^/]*$/, "").replace(/\/$/, ""); // begins with /~TOKEN if there is one
const PREVIEW = /(thumb|preview|quicklook|browse|overview)[^/]*\.(png|jpe?g|webp|gif)$/i;
const MOST_ROWS = 500, MOST_OUTLINES = 3000, MOST_ORDERS = 12;
const SVG = "http://www.w3.org/2000/svg";
const state = { about: {}, path: "", turn: 0, entries: [], features: [], box: null };

const url = (path) => BASE + path.split("/").map(encodeURIComponent).join("/");
const address = (path) => location.origin + url(path);
// What is shown stands behind the # of the address: a directory's path, or = and a file's.
const mark = (path, isFile = false) => (isFile ? "#=" : "#") + path.split("/").map(encodeURIComponent).join("/");

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value; else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

async function ask(path, query = "") {
  const answer = await fetch(path + query, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error((await answer.text()).trim() || `HTTP ${answer.status}`);
  return answer.json();
}

function size(bytes) {
  if (bytes === null || bytes === undefined) return "?";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let power = 0;
  while (bytes >= 1000 && power < 4) { bytes /= 1000; power += 1; }
  return `${bytes.toFixed(power && bytes < 100 ? 1 : 0)} ${units[power]}`;
}

const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;

function toast(text) {
  $("toast").textContent = text;
  $("toast").classList.add("shown");
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => $("toast").classList.remove("shown"), 2500);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // not allowed here: the way that works on plain http
    const area = element("textarea", { value: text, className: "hidden" });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  toast(`Copied: ${text}`);
}

// -- health and cost

async function showHealth() {
  let about;
  try {
    about = state.about = await ask(`${BASE}/-/about`);
  } catch (error) {
    $("light").className = "bad";
    $("said").textContent = "no answer";
    return;
  }
  const wrong = Object.values(about.catalogue).map((each) => each.error).filter(Boolean);
  const recent = about.errors.map((each) => each.message);
  $("light").className = wrong.length ? "bad" : recent.length ? "warn" : "good";
  $("said").textContent = wrong.length ? "out of date" : `${about.assets} assets, ${about.orders} orders`;
  const counters = about.counters, cache = about.cache;
  const rows = [
    ["Account", about.account ? `${about.account} at ${about.api}` : about.api],
    ["Storage", `${about.assets} assets in ${about.orders} orders, ${size(about.bytes)}`],
    ["Mounted at", about.mountpoint || "nowhere on this machine"],
    ["Files are sent", about.proxies ? "through the cache here" : "by redirects to fresh links"],
    ["Disk cache", cache ? `${size(cache.used_bytes)} of ${size(cache.limit_bytes)}` : "off"],
    ["Cost so far", `${counters["store.requests"]} requests and ${size(counters["store.bytes_fetched"])} from the object store, ${counters["store.signs"]} links`],
    ["Served", `${counters["serve.requests"]} requests, ${counters["serve.redirects"]} redirects, ${size(counters["serve.bytes"])}`],
    ...(about.egress ? [["Budget", `${size(about.egress.left_bytes)} left`]] : []),
    ...about.notes.map((note) => ["Note", note]),
    ...wrong.map((text) => ["Not fresh", text]),
    ...recent.slice(-5).map((text) => ["Recent", text]),
    ["up42fs", about.version],
  ];
  const list = element("dl");
  for (const [term, told] of rows) list.append(element("dt", {}, term), element("dd", {}, String(told)));
  $("facts").replaceChildren(list);
}

// -- lists and entries

async function showList(path) {
  for (const tab of document.querySelectorAll("#tabs a")) {
    if (tab.dataset.path === path) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  if (state.list === path) return;
  state.list = path;
  $("list").replaceChildren();
  try {
    const { entries } = await ask(url(path) + "/");
    if (state.list !== path) return;
    $("list").replaceChildren(...entries.filter((each) => each.type === "directory").slice(0, MOST_ROWS).map((each) => {
      const below = `${path}/${each.name}`;
      return element("li", {}, element("a", { href: mark(below), "data-path": below }, each.name));
    }));
    markCurrent();
    if (path === "/orders" && state.path === path) showManyOutlines(entries, path);
  } catch (error) {
    $("list").replaceChildren(element("li", {}, error.message));
  }
}

function markCurrent() {
  for (const link of document.querySelectorAll("#list a")) {
    const is = state.path === link.dataset.path || state.path.startsWith(`${link.dataset.path}/`);
    if (is) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
  }
}

function showCrumbs(path) {
  const names = path.split("/").filter(Boolean);
  const parts = names.map((name, at) => {
    const below = "/" + names.slice(0, at + 1).join("/");
    return element("a", { href: mark(below) }, name);
  });
  $("crumbs").replaceChildren(...parts.flatMap((part, at) => (at ? [" / ", part] : [part])));
}

async function show(path) {
  const turn = ++state.turn;
  state.path = path;
  showCrumbs(path);
  closeDetail();
  const top = "/" + path.split("/")[1];
  showList(top === "/search" ? state.list || "/orders" : top);
  markCurrent();
  $("message").textContent = "Loading…";
  try {
    const { entries } = await ask(url(path) + "/");
    if (turn !== state.turn) return;
    state.entries = entries;
    $("message").textContent = entries.length ? "" : "Nothing is in here.";
    showEntries(path, entries);
  } catch (error) {
    if (turn !== state.turn) return;
    state.entries = [];
    showEntries(path, []);
    setFeatures([], path);
    state.outlined = null;
    $("map-note").textContent = "";
    $("message").textContent = error.message;
    return;
  }
  showCached(path, turn);
  showOutlines(path, turn);
}

function showEntries(path, entries) {
  const rows = entries.slice(0, MOST_ROWS).map((each) => row(path, each));
  $("entries").tBodies[0].replaceChildren(...rows);
  if (entries.length > MOST_ROWS) $("message").textContent = `${entries.length - MOST_ROWS} more are not shown.`;
}

function row(path, each) {
  const below = `${path}/${each.name}`, isDirectory = each.type === "directory";
  const link = element("a", { href: mark(below, !isDirectory) }, each.name + (isDirectory ? "/" : ""));
  const cell = element("td", {}, link);
  if (!isDirectory && PREVIEW.test(each.name)) {
    cell.append(element("img", { src: `${url(below)}?proxy`, alt: "", loading: "lazy" }));
  }
  const made = element("tr", { "data-name": each.name }, cell,
    element("td", {}, isDirectory ? "" : size(each.size)), element("td", { className: "here" }),
    element("td", {}, each.modified.slice(0, 10)));
  return made;
}

async function showCached(path, turn) {
  try {
    const cached = await ask(`${BASE}/-/cached${url(path).slice(BASE.length)}`);
    if (turn !== state.turn) return;
    for (const each of $("entries").tBodies[0].rows) {
      const held = cached[each.dataset.name];
      if (held) each.querySelector(".here").textContent = size(held);
    }
  } catch { /* what is cached is an extra */ }
}

// -- one file

const quoted = (text) => JSON.stringify(text);

function python(path, href) {
  const name = path.toLowerCase();
  if (/\.tiff?$|\.jp2$|\.vrt$/.test(name)) return `import rasterio; image = rasterio.open(${quoted(href)})`;
  if (/(catalog)\.json$/.test(name)) return `import pystac; catalog = pystac.Catalog.from_file(${quoted(href)})`;
  if (/(collection)\.json$/.test(name)) return `import pystac; collection = pystac.Collection.from_file(${quoted(href)})`;
  if (/geojson$/.test(name)) return `import geopandas; outlines = geopandas.read_file(${quoted(href)})`;
  if (/\.json$/.test(name)) return `import pystac; item = pystac.Item.from_file(${quoted(href)})`;
  return `import fsspec; file = fsspec.open(${quoted(href)})`;
}

const vsicurl = (path, href) => (/\.zip$/i.test(path) ? "/vsizip" : /\.t(ar\.)?gz$|\.tar$/i.test(path) ? "/vsitar" : "") + `/vsicurl/${href}`;
const onMount = (path) => (state.about.mountpoint || "~/up42") + path;

async function showDetail(path) {
  const href = address(path), aside = $("detail");
  state.detail = path;
  for (const each of $("entries").tBodies[0].rows) {
    each.classList.toggle("selected", `${state.path}/${each.dataset.name}` === path);
  }
  selectOutline(path.split("/").pop());
  const copies = element("div", { className: "copies" });
  for (const [label, text] of [["Address", href], ["Path on the mount", onMount(path)], ["/vsicurl/ string", vsicurl(path, href)], ["Line of Python", python(path, href)]]) {
    const button = element("button", { type: "button", title: text, "data-copy": text }, `Copy ${label}`);
    if (label === "Address") button.className = "first";
    button.addEventListener("click", () => copy(text));
    copies.append(button);
  }
  const close = element("button", { type: "button" }, "Close");
  close.addEventListener("click", () => { location.hash = mark(state.path); });
  aside.replaceChildren(element("h2", {}, path.split("/").pop()), copies,
    element("p", {}, element("a", { href }, "Download")), element("dl"), close);
  if (PREVIEW.test(path)) aside.insertBefore(element("img", { src: `${url(path)}?proxy`, alt: "" }), copies);
  aside.hidden = false;
  $("main").classList.add("with-detail");
  try {
    const info = await ask(`${BASE}/-/info${url(path).slice(BASE.length)}`);
    if (aside.hidden || state.detail !== path) return;
    const rows = [["size", size(info.size)], ["here", info.cached ? size(info.cached) : "nothing"], ...Object.entries(info.attributes)];
    for (const [term, told] of rows) aside.querySelector("dl").append(element("dt", {}, term.replace(/^up42\./, "")), element("dd", {}, told));
  } catch (error) {
    aside.append(element("p", {}, error.message));
  }
}

function closeDetail() {
  $("detail").hidden = true;
  $("main").classList.remove("with-detail");
}

// -- the map: longitude to the right, latitude upward, on a plain graticule

function svg(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function rings(geometry) {
  if (!geometry) return [];
  if (geometry.type === "Polygon") return geometry.coordinates;
  if (geometry.type === "MultiPolygon") return geometry.coordinates.flat();
  if (geometry.type === "GeometryCollection") return geometry.geometries.flatMap(rings);
  return [];
}

function setFeatures(features, path) {
  state.features = features.slice(0, MOST_OUTLINES).map((each) => ({ ...each, place: each.place || path }));
  fit();
}

function fit() {
  let box = [180, 90, -180, -90];
  for (const each of state.features) {
    for (const [x, y] of rings(each.geometry).flat()) {
      box = [Math.min(box[0], x), Math.min(box[1], y), Math.max(box[2], x), Math.max(box[3], y)];
    }
  }
  if (box[0] > box[2]) box = [-180, -90, 180, 90];
  const margin = Math.max((box[2] - box[0]) * 0.15, (box[3] - box[1]) * 0.15, 0.005);
  const middle = (box[1] + box[3]) / 2, stretch = 1 / Math.max(0.2, Math.cos((middle * Math.PI) / 180));
  view([(box[0] + box[2]) / 2, middle], Math.max(box[2] - box[0] + 2 * margin, (box[3] - box[1] + 2 * margin) * stretch * ratio()), stretch);
}

function ratio() {
  const frame = $("map").getBoundingClientRect();
  return frame.height ? frame.width / frame.height : 2;
}

function view(middle, width, stretch = state.box?.stretch || 1) {
  width = Math.min(720, Math.max(0.0005, width));
  const x = Math.min(360, Math.max(-360, middle[0])), y = Math.min(90, Math.max(-90, middle[1]));
  state.box = { middle: [x, y], width, height: width / ratio(), stretch };
  requestAnimationFrame(draw);
}

// A degree of latitude is drawn `stretch` times as long as one of longitude.
const up = (y) => -y * state.box.stretch;

function draw() {
  const { middle, width, height, stretch } = state.box;
  const left = middle[0] - width / 2, top = up(middle[1]) - height / 2;
  const map = $("map");
  map.setAttribute("viewBox", `${left} ${top} ${width} ${height}`);
  const steps = [90, 45, 30, 15, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0001];
  const step = steps.find((each) => width / each >= 4) || 0.0001;
  const pixel = width / Math.max(1, map.getBoundingClientRect().width);
  const grid = svg("g", { "aria-hidden": "true" });
  const digits = Math.max(0, Math.ceil(-Math.log10(step)));
  for (let x = Math.ceil(left / step) * step; x <= left + width; x += step) {
    if (Math.abs(x) > 180 + 1e-9) continue;
    grid.append(svg("line", { class: Math.abs(x) < step / 2 ? "grid main" : "grid", x1: x, x2: x, y1: up(90), y2: up(-90) }));
    const label = svg("text", { class: "degrees", x: x + 3 * pixel, y: top + 13 * pixel, "font-size": 11 * pixel });
    label.textContent = `${Math.abs(x).toFixed(digits)}°${x < 0 ? "W" : "E"}`;
    grid.append(label);
  }
  const bottom = -(top + height) / stretch, ceiling = -top / stretch;
  for (let y = Math.ceil(bottom / step) * step; y <= ceiling; y += step) {
    if (Math.abs(y) > 90 + 1e-9) continue;
    grid.append(svg("line", { class: Math.abs(y) < step / 2 ? "grid main" : "grid", x1: -180, x2: 180, y1: up(y), y2: up(y) }));
    const label = svg("text", { class: "degrees", x: left + 4 * pixel, y: up(y) - 3 * pixel, "font-size": 11 * pixel });
    label.textContent = `${Math.abs(y).toFixed(digits)}°${y < 0 ? "S" : "N"}`;
    grid.append(label);
  }
  const outlines = svg("g", {});
  for (const each of state.features) {
    const data = rings(each.geometry).map((ring) => "M" + ring.map(([x, y]) => `${x} ${up(y)}`).join("L") + "Z").join("");
    if (!data) continue;
    const name = each.properties.path || each.properties.id;
    const path = svg("path", { class: "outline", d: data, "data-name": name, "fill-rule": "evenodd" });
    if (name === state.selected) path.classList.add("selected");
    const title = svg("title", {});
    title.textContent = [each.properties.title || name, each.properties.datetime?.slice(0, 10), each.properties.collection].filter(Boolean).join(", ");
    path.append(title);
    path.addEventListener("click", () => { if (!drag.moved) location.hash = mark(`${each.place}/${name}`, true); });
    outlines.append(path);
    const dot = dotOf(each, pixel); // an outline of a few pixels could be neither seen nor hit
    if (dot) {
      dot.append(title.cloneNode(true));
      dot.addEventListener("click", () => path.dispatchEvent(new Event("click")));
      if (name === state.selected) dot.classList.add("selected");
      outlines.append(dot);
    }
  }
  map.replaceChildren(grid, outlines);
}

function dotOf(feature, pixel) {
  const points = rings(feature.geometry).flat(), xs = points.map((each) => each[0]), ys = points.map((each) => up(each[1]));
  const least = (values) => values.reduce((a, b) => Math.min(a, b)), most = (values) => values.reduce((a, b) => Math.max(a, b));
  const box = [least(xs), least(ys), most(xs), most(ys)];
  if (Math.max(box[2] - box[0], box[3] - box[1]) > 10 * pixel) return null;
  return svg("circle", { class: "outline dot", cx: (box[0] + box[2]) / 2, cy: (box[1] + box[3]) / 2, r: 5 * pixel });
}

function selectOutline(name) {
  state.selected = name;
  if (state.box) requestAnimationFrame(draw);
}

const OUTLINED = /^\/(orders|tags|search)\/[^/]+$/;

async function showOutlines(path, turn) {
  const owner = path.split("/").slice(0, 3).join("/");
  if (!OUTLINED.test(owner)) {
    if (path !== "/orders") { setFeatures([], path); $("map-note").textContent = "Outlines are shown of orders, tags and searches."; }
    return;
  }
  if (state.outlined === owner) return;
  state.outlined = owner;
  $("map-note").textContent = "Asking for outlines…";
  try {
    const told = await ask(`${url(owner)}/footprints.geojson`);
    if (turn !== state.turn && state.outlined !== owner) return;
    const without = told["up42fs:without_outline"] || 0;
    $("map-note").textContent = count(told.features.length, "outline") + (without ? `, ${without} without` : "");
    setFeatures(told.features, owner);
  } catch (error) {
    state.outlined = null;
    $("map-note").textContent = error.message;
    setFeatures([], owner);
  }
}

// At the start: outlines of the first orders, one request after the other.
async function showManyOutlines(entries, path) {
  let features = [];
  const orders = entries.filter((each) => each.type === "directory").slice(0, MOST_ORDERS);
  for (const order of orders) {
    if (state.path !== path) return;
    try {
      const place = `${path}/${order.name}`;
      const told = await ask(`${url(place)}/footprints.geojson`);
      if (state.path !== path) return;
      features = features.concat(told.features.map((each) => ({ ...each, place })));
      setFeatures(features, path);
      const more = entries.length > orders.length ? ` of the first ${orders.length} orders` : "";
      $("map-note").textContent = count(features.length, "outline") + more;
    } catch (error) {
      $("map-note").textContent = error.message;
    }
  }
}

// -- moving the map

const drag = { points: new Map(), moved: false };

function moveBy(dx, dy) {
  const { middle, width, height, stretch } = state.box, frame = $("map").getBoundingClientRect();
  view([middle[0] - (dx / frame.width) * width, middle[1] + ((dy / frame.height) * height) / stretch], width);
}

function zoomAt(factor, clientX, clientY) {
  const { middle, width, height, stretch } = state.box, frame = $("map").getBoundingClientRect();
  const x = (clientX - frame.left) / frame.width - 0.5, y = (clientY - frame.top) / frame.height - 0.5;
  const next = Math.min(720, Math.max(0.0005, width * factor)), lost = 1 - next / width;
  view([middle[0] + x * width * lost, middle[1] - (y * height * lost) / stretch], next);
}

function zoom(factor) {
  const frame = $("map").getBoundingClientRect();
  if (factor) zoomAt(factor, frame.left + frame.width / 2, frame.top + frame.height / 2); else fit();
}

function listenToMap() {
  const map = $("map");
  map.addEventListener("pointerdown", (event) => {
    drag.points.set(event.pointerId, [event.clientX, event.clientY]);
    drag.moved = false;
  });
  map.addEventListener("pointermove", (event) => {
    const from = drag.points.get(event.pointerId);
    if (!from) return;
    const to = [event.clientX, event.clientY], others = [...drag.points].filter(([id]) => id !== event.pointerId);
    if (Math.hypot(to[0] - from[0], to[1] - from[1]) < 3 && !drag.moved) return;
    if (!drag.moved) map.setPointerCapture(event.pointerId);
    drag.moved = true;
    if (others.length) {
      const other = others[0][1], distance = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]) || 1;
      zoomAt(distance(from) / distance(to), other[0], other[1]);
    } else {
      moveBy(to[0] - from[0], to[1] - from[1]);
    }
    drag.points.set(event.pointerId, to);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    map.addEventListener(name, (event) => drag.points.delete(event.pointerId));
  }
  map.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomAt(event.deltaY > 0 ? 1.25 : 0.8, event.clientX, event.clientY);
  }, { passive: false });
  map.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    const zooms = { "+": 0.5, "=": 0.5, "-": 2, 0: 0 };
    if (event.key in moves) moveBy(...moves[event.key]);
    else if (event.key in zooms) zoom(zooms[event.key]);
    else return;
    event.preventDefault();
  });
  for (const button of document.querySelectorAll("#map-buttons button")) {
    button.addEventListener("click", () => zoom(Number(button.dataset.zoom)));
  }
  new ResizeObserver(() => state.box && view(state.box.middle, state.box.width)).observe(map);
}

// -- the rest

function follow() {
  const isFile = location.hash.startsWith("#="), shown = location.hash.slice(isFile ? 2 : 1);
  let path;
  try { path = shown.split("/").map(decodeURIComponent).join("/"); } catch { path = shown; } // typed by hand
  path = path.replace(/\/+$/, "") || "/orders";
  if (!isFile) {
    if (state.path === path && !$("detail").hidden) { closeDetail(); selectOutline(null); } else show(path);
    return;
  }
  const folder = path.slice(0, path.lastIndexOf("/"));
  if (state.path === folder) showDetail(path);
  else show(folder).then(() => showDetail(path));
}

function filter() {
  const wanted = $("filter").value.toLowerCase();
  for (const item of $("list").children) item.hidden = !item.textContent.toLowerCase().includes(wanted);
}

function start() {
  for (const tab of document.querySelectorAll("#tabs a")) {
    tab.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      $("filter").value = "";
      state.list = state.outlined = null;
      if (location.hash === mark(tab.dataset.path)) show(tab.dataset.path); else location.hash = mark(tab.dataset.path);
    });
  }
  $("filter").addEventListener("input", filter);
  $("search").addEventListener("submit", (event) => {
    event.preventDefault();
    const words = $("query").value.trim();
    const query = /[<>=]/.test(words) ? words : `text=${words.replaceAll("%", "%25").replaceAll(",", "%2C")}`;
    if (words) location.hash = mark(`/search/${query.replaceAll("/", "%2F")}`);
  });
  $("health").addEventListener("click", () => {
    $("facts").hidden = !$("facts").hidden;
    $("health").setAttribute("aria-expanded", String(!$("facts").hidden));
  });
  document.addEventListener("keydown", (event) => {
    const isTyping = /^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName);
    if (event.key === "/" && !isTyping) { $("query").focus(); event.preventDefault(); }
    if (event.key === "Escape" && !$("detail").hidden) location.hash = mark(state.path);
    const rows = [...$("entries").tBodies[0].querySelectorAll("a")], at = rows.indexOf(document.activeElement);
    if (at >= 0 && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      rows[at + (event.key === "ArrowDown" ? 1 : -1)]?.focus();
      event.preventDefault();
    }
  });
  addEventListener("hashchange", follow);
  listenToMap();
  setFeatures([], "");
  showHealth();
  setInterval(showHealth, 15000);
  follow();
}

start();
