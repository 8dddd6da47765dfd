"use strict";

// The browser of items. Texts of the data only ever become text nodes.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const form = document.getElementById("filters");
  const list = document.getElementById("items");
  const count = document.getElementById("count");
  const dialog = document.getElementById("closer");
  const ALL = "all";
  const ORIGINAL = -1; // in place of a system, in the enlarged view
  const SMALL = 128; // pixels; pictures up to this side are enlarged without smoothing
  // What nobody sees, or turns the direction of writing; as `markup.visible`.
  const UNSEEN =
    /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{d800}-\u{dfff}\u{e0000}-\u{e007f}]/gu;
  let page = 0;
  let shown = data.items;

  function make(name, properties = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
      if (key.startsWith("aria-")) element.setAttribute(key, value);
      else element[key] = value;
    }
    element.append(...children.filter((child) => child !== null).map(visible));
    return element;
  }

  function visible(child) {
    if (typeof child !== "string") return child;
    return child.replace(UNSEEN, (found) => {
      const number = found.codePointAt(0).toString(16).toUpperCase();
      return `[U+${number.padStart(4, "0")}]`;
    });
  }

  function fill(select, labels, values = labels) {
    labels.forEach((label, i) => select.append(make("option", { value: values[i] }, label)));
  }

  // A score of one edit, higher for better; null without one.
  function worth(item, variant, metric) {
    const edit = item.edits[variant];
    if (!edit) return null;
    if (metric !== ALL) {
      const value = edit.values[metric];
      return value !== null && data.metrics[metric].lower ? -value : value;
    }
    const values = edit.values.filter((_, i) => i < data.perspectives && !data.metrics[i].people);
    if (!values.length || values.includes(null)) return null;
    return values.reduce((sum, value) => sum + value, 0) / values.length;
  }

  function gain(item, choice) {
    const first = worth(item, choice.first, choice.metric);
    const second = worth(item, choice.second, choice.metric);
    return first === null || second === null ? null : first - second;
  }

  function choices() {
    const fields = form.elements;
    return {
      words: fields.search.value.toLowerCase().split(/\s+/).filter(Boolean),
      suite: fields.suite.value,
      kind: fields.kind.value,
      metric: fields.metric.value === ALL ? ALL : Number(fields.metric.value),
      first: Number(fields.first.value),
      second: Number(fields.second.value),
      sort: fields.sort.value,
      wins: fields.wins.checked,
      gaps: fields.gaps.checked,
    };
  }

  function text(item) {
    if (item.searched === undefined) {
      const reasons = item.edits.flatMap((edit) => (edit ? edit.reasons : []));
      item.searched = [item.id, item.kind, item.text, ...reasons].join("\n").toLowerCase();
    }
    return item.searched;
  }

  function fits(item, choice) {
    return (
      (!choice.suite || item.suite === choice.suite) &&
      (!choice.kind || item.kind === choice.kind) &&
      choice.words.every((word) => text(item).includes(word)) &&
      (!choice.wins || gain(item, choice) > 0) &&
      (!choice.gaps || item.edits.some((edit) => edit && edit.status.some((s) => s && s !== "ok")))
    );
  }

  // Items without the value that is sorted by come last, whichever way it goes.
  function sorted(items, choice) {
    const by = {
      worst: (item) => worth(item, choice.first, choice.metric),
      best: (item) => negative(worth(item, choice.first, choice.metric)),
      gains: (item) => negative(gain(item, choice)),
      losses: (item) => gain(item, choice),
    }[choice.sort];
    if (!by) return items;
    const keyed = items.map((item) => [by(item) ?? Infinity, item]);
    keyed.sort((a, b) => (a[0] === b[0] ? 0 : a[0] - b[0]));
    return keyed.map((pair) => pair[1]);
  }

  function negative(value) {
    return value === null ? null : -value;
  }

  function picture(place, alt) {
    if (place < 0) return make("span", { className: "no-picture" }, "no picture");
    const image = make("img", { alt: visible(alt), decoding: "async" });
    image.addEventListener("load", () => {
      if (Math.max(image.naturalWidth, image.naturalHeight) <= SMALL) image.classList.add("small");
    });
    // What stands in the page is there already.
    if (!data.pictures[place].startsWith("data:")) image.loading = "lazy";
    image.src = data.pictures[place];
    return image;
  }

  function scores(edit) {
    const rows = edit.values.flatMap((value, i) => {
      const status = edit.status[i];
      if (!status) return [];
      const { name } = data.metrics[i];
      const judged = i < data.perspectives;
      const bar = make("span", { className: `bar s${i % 6}`, "aria-hidden": "true" });
      const number = value === null ? status : value.toFixed(judged ? 1 : 3);
      if (judged && value !== null) bar.style.setProperty("--share", `${(100 * value) / 5}%`);
      const answer = edit.passed[i];
      const mark =
        answer === null
          ? ""
          : make("span", { className: answer ? "yes" : "no", title: "the judge's answer" },
              answer ? "yes" : "no");
      return [
        make("div", { className: "score" },
          make("dt", {}, name),
          make("dd", { className: value === null ? "failed" : "" }, number, " ", mark),
          judged && value !== null ? bar : null),
      ];
    });
    return make("dl", { className: "scores" }, ...rows);
  }

  function reasons(edit) {
    const said = edit.reasons.flatMap((reason, i) =>
      reason ? [make("p", {}, make("b", {}, data.metrics[i].name), ` ${reason}`)] : []);
    if (!said.length) return null;
    const open = form.elements.reasons.checked;
    return make("details", { open }, make("summary", {}, "Reasons"), ...said);
  }

  function letter(place, choice) {
    if (choice.first === choice.second) return null;
    const name = { [choice.second]: "B", [choice.first]: "A" }[place];
    return name ? make("span", { className: "letter" }, name) : null;
  }

  function figure(item, place, choice) {
    const edit = item.edits[place];
    const label = data.variants[place];
    const open = make("button", { type: "button", className: "picture" },
      picture(edit.picture, `Edited by ${label}`));
    open.setAttribute("aria-label", `Enlarge the edit by ${visible(label)}`);
    open.addEventListener("click", () => enlarge(item, place));
    return make("figure", {},
      make("figcaption", {}, label, letter(place, choice)), open, scores(edit), reasons(edit));
  }

  function isShown(place) {
    return boxes[place].checked;
  }

  function card(item, choice) {
    const facts = [item.id, item.kind, data.suites.length > 1 ? item.suite : ""];
    const original = make("figure", { className: "original" },
      make("figcaption", {}, "Original"),
      make("div", { className: "picture" }, picture(item.original, "Original")));
    const edits = item.edits.flatMap((edit, i) =>
      edit && isShown(i) ? [figure(item, i, choice)] : []);
    const row = make("div", { className: "figures", tabIndex: 0, role: "group",
      "aria-label": `Edits of ${visible(item.id)}` }, original, ...edits);
    row.style.setProperty("--columns", 1 + edits.length);
    return make("li", { className: "item" },
      make("h3", { dir: "auto" }, item.text || item.id),
      make("p", { className: "facts" }, facts.filter(Boolean).join(" · "), versus(item, choice)),
      row);
  }

  function versus(item, choice) {
    const { first, second } = choice;
    if (first === second || !item.edits[first] || !item.edits[second]) return null;
    const open = make("button", { type: "button", className: "show" }, "A against B");
    open.setAttribute("aria-label", `A against B, item ${visible(item.id)}`);
    open.addEventListener("click", () => enlarge(item, second, first));
    return open;
  }

  // The enlarged view: two pictures of one item, one over the other or side by side.
  const [title, stage, said] = dialog.querySelectorAll("h2, .stage, .said");
  const controls = Object.fromEntries(
    [...dialog.querySelectorAll("select, input")].map((one) => [one.name, one]));
  let opened = null;

  function enlarge(item, right, left = ORIGINAL) {
    opened = item;
    title.replaceChildren(visible(item.text || item.id));
    const places = data.variants.map((_, i) => i).filter((i) => item.edits[i]);
    for (const [select, chosen] of [[controls.left, left], [controls.right, right]]) {
      select.replaceChildren();
      fill(select, ["Original", ...places.map((i) => data.variants[i])], [ORIGINAL, ...places]);
      select.value = chosen;
    }
    compare();
    dialog.showModal();
  }

  function compare() {
    const sides = [controls.left, controls.right].map((select) => Number(select.value));
    const figures = sides.map((place) => {
      const label = place === ORIGINAL ? "Original" : data.variants[place];
      const index = place === ORIGINAL ? opened.original : opened.edits[place].picture;
      return make("figure", {}, picture(index, label), make("figcaption", {}, label));
    });
    const apart = controls.apart.checked;
    stage.className = apart ? "stage pair" : "stage over";
    stage.replaceChildren(...figures);
    for (const image of stage.querySelectorAll("img")) image.addEventListener("load", fit);
    controls.cut.parentElement.hidden = apart;
    cut();
    said.replaceChildren(...sides.map((place) => {
      if (place === ORIGINAL) return make("div", { className: "side" });
      const edit = opened.edits[place];
      const why = reasons(edit);
      if (why) why.open = true;
      return make("div", { className: "side" },
        make("h3", {}, data.variants[place]), scores(edit), why);
    }));
  }

  // Both in one frame: as large as the larger, in the shape of the one on the right.
  function fit() {
    const images = [...stage.querySelectorAll("img")].filter((image) => image.naturalWidth);
    const width = Math.max(...images.map((image) => image.naturalWidth));
    const { naturalWidth, naturalHeight } = images.at(-1);
    stage.style.setProperty("--width", `${width <= SMALL ? 4 * SMALL : width}px`);
    stage.style.setProperty("--aspect", naturalWidth / naturalHeight);
  }

  function cut() {
    stage.style.setProperty("--cut", `${controls.cut.value}%`);
  }

  function draw() {
    const size = Number(form.elements.size.value);
    const pages = Math.max(1, Math.ceil(shown.length / size));
    page = Math.min(Math.max(page, 0), pages - 1);
    const choice = choices();
    const cards = shown.slice(page * size, (page + 1) * size).map((item) => card(item, choice));
    if (!cards.length) cards.push(make("li", { className: "empty" }, "No item fits these filters."));
    list.replaceChildren(...cards);
    for (const where of document.querySelectorAll(".pager .where")) {
      where.textContent = `Page ${page + 1} of ${pages}`;
    }
    for (const button of document.querySelectorAll(".pager button")) {
      const target = page + Number(button.value);
      button.disabled = target < 0 || target >= pages;
    }
  }

  function update() {
    const choice = choices();
    shown = sorted(data.items.filter((item) => fits(item, choice)), choice);
    page = 0;
    count.textContent = `${shown.length} of ${data.items.length} items`;
    draw();
  }

  function turn(event) {
    page += Number(event.currentTarget.value);
    draw();
    toItems();
  }

  function toItems() {
    const heading = document.getElementById("items-heading");
    heading.focus({ preventScroll: true });
    heading.scrollIntoView();
  }

  // All items, of the systems that were chosen to be seen.
  function widen() {
    const kept = boxes.map((box) => box.checked);
    form.reset();
    boxes.forEach((box, i) => { box.checked = kept[i]; });
  }

  function show(event) {
    widen();
    form.elements.search.value = event.currentTarget.value;
    update();
    toItems();
  }

  const { suite, kind, metric, first, second } = form.elements;
  fill(suite, data.suites);
  fill(kind, data.kinds);
  if (data.perspectives > 1) fill(metric, ["mean of all"], [ALL]);
  fill(metric, data.metrics.map((one) => one.name), data.metrics.map((_, i) => i));
  for (const [select, chosen] of [[first, data.first], [second, data.second]]) {
    fill(select, data.variants, data.variants.map((_, i) => i));
    select.options[chosen].defaultSelected = true;
  }
  const boxes = data.variants.map((label) => {
    const box = make("input", { type: "checkbox", name: "shown", defaultChecked: true });
    box.autocomplete = "off";
    document.getElementById("systems").append(make("label", {}, box, label));
    return box;
  });
  document.getElementById("systems").hidden = data.variants.length < 2;
  suite.parentElement.hidden = data.suites.length < 2;
  kind.parentElement.hidden = !data.kinds.length;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    if (["reasons", "size", "shown"].includes(event.target.name)) draw();
    else update();
  });
  document.getElementById("widen").addEventListener("click", () => {
    widen();
    update();
  });
  document.querySelectorAll(".pager button").forEach((one) => one.addEventListener("click", turn));
  document.querySelectorAll("button.show").forEach((one) => one.addEventListener("click", show));
  controls.cut.addEventListener("input", cut);
  for (const one of [controls.left, controls.right, controls.apart]) {
    one.addEventListener("input", compare);
  }
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  update();
})();
