"use strict";

// The browser of items. Texts of the data only ever become text nodes.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const form = document.getElementById("filters");
  const list = document.getElementById("items");
  const count = document.getElementById("count");
  const dialog = document.getElementById("closer");
  const ALL = "all";
  const SMALL = 128; // pixels; pictures up to this side are enlarged without smoothing
  let page = 0;
  let shown = data.items;

  function make(name, properties = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
      if (key.startsWith("aria-")) element.setAttribute(key, value);
      else element[key] = value;
    }
    element.append(...children.filter((child) => child !== null));
    return element;
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
    const values = edit.values.slice(0, data.perspectives);
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
    const image = make("img", { alt, decoding: "async" });
    image.addEventListener("load", () => {
      if (Math.max(image.naturalWidth, image.naturalHeight) <= SMALL) image.classList.add("small");
    });
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
    open.setAttribute("aria-label", `Enlarge the edit by ${label}`);
    open.addEventListener("click", () => enlarge(item, place));
    return make("figure", {},
      make("figcaption", {}, label, letter(place, choice)), open, scores(edit), reasons(edit));
  }

  function card(item, choice) {
    const facts = [item.id, item.kind, data.suites.length > 1 ? item.suite : ""];
    const original = make("figure", {},
      make("figcaption", {}, "Original"),
      make("div", { className: "picture" }, picture(item.original, "Original")));
    const edits = item.edits.flatMap((edit, i) => (edit ? [figure(item, i, choice)] : []));
    return make("li", { className: "item" },
      make("h3", {}, item.text || item.id),
      make("p", { className: "facts" }, facts.filter(Boolean).join(" · ")),
      make("div", { className: "figures" }, original, ...edits));
  }

  function enlarge(item, place) {
    const edit = item.edits[place];
    const [title, body] = dialog.querySelectorAll("h2, .body");
    title.textContent = item.text || item.id;
    const pair = [["Original", item.original], [data.variants[place], edit.picture]].map(
      ([label, index]) =>
        make("figure", {}, make("figcaption", {}, label), picture(index, label)));
    const said = reasons(edit);
    if (said) said.open = true;
    body.replaceChildren(make("div", { className: "pair" }, ...pair), scores(edit), said ?? "");
    dialog.showModal();
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

  function show(event) {
    form.reset();
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
  suite.parentElement.hidden = data.suites.length < 2;
  kind.parentElement.hidden = !data.kinds.length;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    if (event.target.name === "reasons" || event.target.name === "size") draw();
    else update();
  });
  document.getElementById("widen").addEventListener("click", () => {
    form.reset();
    update();
  });
  document.querySelectorAll(".pager button").forEach((one) => one.addEventListener("click", turn));
  document.querySelectorAll("button.show").forEach((one) => one.addEventListener("click", show));
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  update();
})();
