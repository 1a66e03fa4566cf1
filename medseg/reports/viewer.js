"use strict";
// The viewer of one case: NiiVue draws the slices, this file gives it the data and the controls.
(() => {
  const by = (id) => document.getElementById(id);
  const page = JSON.parse(by("case").textContent);
  const state = { ready: false, failed: "", view: "planes", map: "", opacity: 0.6, threshold: 0, fill: 0, outlines: true };
  const hidden = new Set();
  const maps = new Map();
  let nv = null;
  let image = null;
  let redraw = 0;
  const api = { state, nv: null, mm, goTo, setView, setMap, reload };
  window.medseg = api;

  const OUTLINE_PX = 2;
  const PLANES = { axial: 0, coronal: 1, sagittal: 2 };

  start().then(
    () => {
      state.ready = true;
      document.documentElement.dataset.viewer = "ready";
    },
    (error) => fail(String((error && error.message) || error)),
  );

  function fail(why) {
    state.failed = why;
    document.documentElement.dataset.viewer = "failed";
    by("still").textContent =
      "A still picture: " + (why === "webgl" ? "this browser offers no WebGL 2, which the viewer needs" : "the viewer could not start") +
      ". The files beside this page open in 3D Slicer and ITK-SNAP.";
    if (why !== "webgl") console.error(why);
  }

  async function start() {
    const probe = document.createElement("canvas").getContext("webgl2");
    if (!probe || !window.niivue) throw new Error("webgl");
    const size = probe.getParameter(probe.MAX_3D_TEXTURE_SIZE);
    if (Math.max(...page.shape) > size) throw new Error("the image is larger than this graphics card takes");
    const { Niivue, DRAG_MODE } = window.niivue;
    const canvas = by("canvas");
    nv = new Niivue({
      isRadiologicalConvention: true, isSliceMM: true, sagittalNoseLeft: true, dragAndDropEnabled: false,
      backColor: [0, 0, 0, 1], crosshairColor: [0.45, 0.85, 1, 0.75], crosshairWidthUnit: "mm", crosshairWidth: page.extent / 400,
      crosshairGap: page.extent / 40, fontColor: [1, 0.87, 0.33, 1], fontMinPx: 16, fontSizeScaling: 0.4, showAllOrientationMarkers: true,
      logLevel: "error", loadingText: "", dragMode: DRAG_MODE.windowing, scrollRequiresFocus: true, viewModeHotKey: "", clipPlaneHotKey: "",
      cycleClipPlaneHotKey: "", isColorbar: false,
    });
    await nv.attachToCanvas(canvas, false);
    api.nv = nv;
    nv.onLocationChange = (place) => say(place);
    nv.onIntensityChange = () => showWindow();
    nv.setCustomSliceShader(by("slices").textContent); // slices.frag
    image = await load("image", { colormap: "gray", cal_min: page.window[0], cal_max: page.window[1] });
    nv.addVolume(image);
    for (const map of page.maps) {
      const volume = await load("map-" + map.key, { colormap: "inferno", cal_min: 0, cal_max: map.top, opacity: 0.6 });
      volume.colormapType = 2; // colours from zero to the top, nothing below the threshold
      maps.set(map.key, { ...map, volume });
    }
    nv.loadDrawing(await load("labels", {}));
    colours();
    controls(canvas);
    if (page.maps.length) setMap(page.maps[0].key);
    else reload();
    draw();
    setView("planes");
    goTo(page.start);
    by("stage").classList.add("live");
    for (const part of document.querySelectorAll(":disabled")) part.disabled = false;
  }

  async function load(id, options) {
    const holder = by("data-" + id);
    const base64 = holder.textContent;
    holder.remove();
    return window.niivue.NVImage.loadFromBase64({ base64, name: id + ".nii.gz", ...options });
  }

  // Colours, visibility and outlines need a new picture only; maps and grey values new textures, at most 50 a second.
  function colours() {
    const lut = new Uint8ClampedArray(256 * 4);
    for (const s of page.structures)
      for (const index of s.indices)
        if (!hidden.has(s.number)) lut.set([...s.colour, 255], index * 4);
    nv.drawLut = { lut, labels: Array.from({ length: 256 }, () => "") };
    nv.refreshColormaps();
  }
  function draw() {
    nv.drawOpacity = state.fill;
    nv.drawRimOpacity = state.outlines ? OUTLINE_PX * (nv.uiData.dpr || 1) : 0;
    nv.drawScene();
  }
  function reload() {
    const map = maps.get(state.map);
    const shown = map && state.opacity > 0 ? [map.volume] : [];
    if (shown.length) {
      map.volume.cal_min = state.threshold * map.top;
      map.volume.cal_max = map.top;
      map.volume.opacity = state.opacity;
    }
    nv.volumes = [image, ...shown];
    nv.overlays = shown;
    nv.overlayAlphaShader = state.opacity;
    nv.updateGLVolume();
  }
  function later() {
    if (redraw) return;
    redraw = setTimeout(() => {
      redraw = 0;
      reload();
    }, 20);
  }

  function mm() {
    return Array.from(nv.frac2mm(nv.scene.crosshairPos)).slice(0, 3);
  }
  function goTo(place) {
    if (!place) return;
    nv.scene.crosshairPos = nv.mm2frac(place);
    if (nv.scene.pan2Dxyzmm[3] !== 1) zoom(nv.scene.pan2Dxyzmm[3]);
    nv.createOnLocationChange();
    nv.drawScene();
  }
  function zoom(factor) {
    const z = Math.min(16, Math.max(1, factor));
    const [low, high] = nv.sceneExtentsMinMax();
    const here = mm();
    const pan = here.map((v, i) => (z === 1 ? 0 : (low[i] + high[i]) / 2 - z * v));
    nv.scene.pan2Dxyzmm = [...pan, z];
    nv.drawScene();
  }
  function setView(name) {
    state.view = name;
    for (const button of document.querySelectorAll("[data-view]")) button.setAttribute("aria-pressed", String(button.dataset.view === name));
    const { clientWidth: w, clientHeight: h } = by("stage");
    const [a, c, s] = [PLANES.axial, PLANES.coronal, PLANES.sagittal];
    const wide = w > 1.1 * h;
    const layouts = wide
      ? [[a, [0, 0, 0.6, 1]], [c, [0.6, 0, 0.4, 0.5]], [s, [0.6, 0.5, 0.4, 0.5]]]
      : [[a, [0, 0, 1, 0.6]], [c, [0, 0.6, 0.5, 0.4]], [s, [0.5, 0.6, 0.5, 0.4]]];
    const chosen = name === "planes" ? layouts : [[PLANES[name], [0, 0, 1, 1]]];
    nv.setCustomLayout(chosen.map(([sliceType, position]) => ({ sliceType, position })));
  }
  function setMap(key) {
    state.map = key;
    const map = maps.get(key);
    for (const radio of document.querySelectorAll("input[name=map]")) radio.checked = radio.value === key;
    by("bar").hidden = !map;
    if (map) by("top").textContent = digits(map.top);
    showThreshold();
    reload();
    nv.createOnLocationChange();
  }
  function digits(value) {
    return Number(value.toPrecision(2)).toString();
  }
  function showThreshold() {
    const map = maps.get(state.map);
    if (!map) return;
    by("threshold-value").textContent = digits(state.threshold * map.top);
    by("bar").style.setProperty("--from", state.threshold * 100 + "%");
  }
  function showWindow() {
    by("level").value = digits4((image.cal_min + image.cal_max) / 2);
    by("width").value = digits4(image.cal_max - image.cal_min);
  }
  function digits4(value) {
    return Number(value.toPrecision(4));
  }
  function setWindow(level, width) {
    if (!(width > 0) || !isFinite(level)) return;
    image.cal_min = level - width / 2;
    image.cal_max = level + width / 2;
    later();
  }
  function value(volume, place) {
    const v = volume.mm2vox(place);
    return volume.getValue(v[0], v[1], v[2], 0);
  }
  function say(place) {
    const at = Array.from(place.mm).slice(0, 3);
    const sides = [["L", "R"], ["P", "A"], ["I", "S"]];
    const where = at.map((v, i) => sides[i][v < 0 ? 0 : 1] + " " + Math.abs(v).toFixed(1)).join("  ");
    const parts = [where + " mm"];
    const grey = value(image, place.mm);
    parts.push((page.unit ? "" : "grey ") + digits4(grey) + (page.unit ? " " + page.unit : ""));
    const vox = place.vox, dims = nv.back.dimsRAS;
    const index = nv.drawBitmap[vox[0] + vox[1] * dims[1] + vox[2] * dims[1] * dims[2]];
    const names = page.structures.filter((s) => s.indices.includes(index)).map((s) => s.name);
    parts.push(names.length ? names.join(", ") : "no structure");
    for (const map of maps.values()) parts.push(map.title.toLowerCase() + " " + value(map.volume, place.mm).toFixed(3));
    by("where").textContent = parts.join("  ·  ");
  }

  function controls(canvas) {
    showWindow();
    for (const id of ["level", "width"]) by(id).addEventListener("input", () => setWindow(+by("level").value, +by("width").value));
    const preset = by("preset");
    if (preset)
      preset.addEventListener("change", () => {
        if (!preset.value) return;
        const [level, width] = preset.value.split(",").map(Number);
        setWindow(level, width);
        showWindow();
      });
    for (const button of document.querySelectorAll("[data-view]")) button.addEventListener("click", () => setView(button.dataset.view));
    for (const button of document.querySelectorAll("[data-zoom]"))
      button.addEventListener("click", () => zoomBy(+button.dataset.zoom));
    by("outlines").addEventListener("change", (event) => {
      state.outlines = event.target.checked;
      draw();
    });
    slider("fill", (v) => {
      state.fill = v / 100;
      draw();
    });
    slider("opacity", (v) => {
      state.opacity = v / 100;
      later();
    });
    slider("threshold", (v) => {
      state.threshold = v / 100;
      showThreshold();
      later();
    });
    for (const radio of document.querySelectorAll("input[name=map]")) radio.addEventListener("change", () => setMap(radio.value));
    for (const button of document.querySelectorAll("[data-jump]"))
      button.addEventListener("click", () => {
        for (const other of document.querySelectorAll("tr[aria-current]")) other.removeAttribute("aria-current");
        button.closest("tr").setAttribute("aria-current", "true");
        goTo(page.structures[+button.dataset.jump].place);
        const box = by("stage").getBoundingClientRect();
        if (box.bottom < 120 || box.top > innerHeight - 120) by("stage").scrollIntoView({ block: "nearest" });
      });
    for (const box of document.querySelectorAll("[data-show]"))
      box.addEventListener("change", () => {
        hidden[box.checked ? "delete" : "add"](+box.dataset.show);
        colours();
        draw();
      });
    const all = by("all");
    if (all)
      all.addEventListener("change", () => {
        for (const box of document.querySelectorAll("[data-show]")) {
          box.checked = all.checked;
          hidden[box.checked ? "delete" : "add"](+box.dataset.show);
        }
        colours();
        draw();
      });
    document.addEventListener("keydown", (event) => keys(event, canvas), true);
    addEventListener("resize", () => setView(state.view));
    new ResizeObserver(() => setView(state.view)).observe(by("stage"));
  }
  function slider(id, set) {
    const input = by(id);
    if (!input) return;
    set(+input.value);
    input.addEventListener("input", () => set(+input.value));
  }
  function zoomBy(step) {
    zoom(step === 0 ? 1 : nv.scene.pan2Dxyzmm[3] * (step > 0 ? 1.5 : 1 / 1.5));
  }
  function keys(event, canvas) {
    const inCanvas = event.target === canvas;
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox" && event.target.type !== "radio";
    if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
    const moves = { ArrowLeft: [1, 0, 0], ArrowRight: [-1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0], PageUp: [0, 0, 1], PageDown: [0, 0, -1] };
    const views = { 1: "planes", 2: "axial", 3: "coronal", 4: "sagittal" };
    const click = (id) => by(id) && by(id).click();
    let done = true;
    if (inCanvas && event.key in moves) {
      nv.moveCrosshairInVox(...moves[event.key].map((n) => n * (event.shiftKey ? 10 : 1)));
      nv.createOnLocationChange();
    } else if (event.key in views) setView(views[event.key]);
    else if (event.key === "o") click("outlines");
    else if (event.key === "u" && maps.size) setMap(state.map ? "" : page.maps[0].key);
    else if (event.key === "m" && maps.size > 1) setMap(page.maps[(page.maps.findIndex((m) => m.key === state.map) + 1) % maps.size].key);
    else if (event.key === "+" || event.key === "=") zoomBy(1);
    else if (event.key === "-") zoomBy(-1);
    else if (event.key === "0") zoomBy(0);
    else done = false;
    if (done) event.preventDefault();
    if (done || (inCanvas && event.key !== "Tab")) event.stopPropagation();
  }
})();
