"use strict";
// All texts become text nodes: those of a model and its users are never read as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.getElementById("explanation");
  const SVG = "http://www.w3.org/2000/svg";
  const MOST_SURPRISING = 6; // nats, where a token's color is strongest

  function make(tag, attributes = {}, ...children) {
    const drawing = ["svg", "polyline", "line", "title"].includes(tag);
    const element = drawing ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "style") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }
  const share = (p) => (p === 0 ? "cut" : p < 0.00005 ? "<.0001" : p.toFixed(4));
  const percent = (p) => `${(100 * p).toFixed(1)} %`;
  const colored = (way, tag, attributes, ...children) =>
    make(tag, { ...attributes, class: `way ${attributes.class || ""}`, style: { "--own": way.color,
      ...attributes.style } }, ...children);

  // A chain's name may end a line after a step.
  const named = (way) => make("bdi", {},
    ...way.name.split(/(?<=\+)/).flatMap((step, place) => (place ? [make("wbr"), step] : [step])));

  // The answer.
  const total = data.ways.length + data.others;
  const tokens = make("div", { class: "tokens", role: "listbox", "aria-label": "Tokens of the answer",
    "aria-orientation": "horizontal", dir: "ltr" });
  const chips = data.steps.map((step, place) => {
    const differing = step.draws.slice(1).reduce((sum, [, names]) => sum + names.length, 0);
    const chip = make("div", { class: "token", role: "option", id: `token-${place}`, "aria-selected": "false",
      tabindex: "-1", "aria-label": `${step.token}, surprise ${step.surprise.toFixed(2)} nats, ` +
      `${differing} of ${total} ways draw another token`,
      title: `surprise ${step.surprise.toFixed(2)} nats; ${differing} of ${total} ways draw another token`,
      style: { "--surprise": Math.min(1, step.surprise / MOST_SURPRISING), "--differ": differing / total } },
      make("bdi", {}, step.token));
    chip.addEventListener("click", () => select(place, true));
    tokens.append(chip);
    if (step.breaks) tokens.append(make("div", { class: "break" }));
    return chip;
  });
  const ends = data.finish === "length" ? "The answer was cut at its limit of tokens." : "";

  // Entropies along the answer.
  const highest = Math.max(0.1, ...data.steps.flatMap((step) => step.seen.map((seen) => seen.entropy)));
  const across = (place) => data.steps.length > 1 ? (1000 * place) / (data.steps.length - 1) : 500;
  const chart = make("svg", { class: "chart", viewBox: "0 0 1000 110", preserveAspectRatio: "none", role: "img",
    "aria-label": `Entropy along the answer, up to ${highest.toFixed(2)} nats` });
  chart.append(make("line", { class: "axis", x1: 0, x2: 1000, y1: 105, y2: 105 }));
  data.ways.forEach((way, number) => {
    const points = data.steps.map((step, place) =>
      `${across(place).toFixed(1)},${(105 - (100 * step.seen[number].entropy) / highest).toFixed(1)}`);
    if (points.length === 1) points.push(points[0].replace(/^[\d.]+/, "1000"));
    chart.append(colored(way, "polyline", { points: points.join(" ") }));
  });
  const here = make("line", { class: "here", y1: 0, y2: 110 });
  chart.append(here);
  chart.addEventListener("click", (event) => {
    const box = chart.getBoundingClientRect();
    select(Math.round(((event.clientX - box.left) / box.width) * (data.steps.length - 1)), true);
  });

  const legend = make("ul", { class: "legend" }, ...data.ways.map((way) => {
    return colored(way, "li", {}, make("span", { class: "swatch" }), named(way), `: ${way.is}`);
  }));
  const panel = make("section", { class: "panel", "aria-live": "polite", "aria-label": "The selected token" });
  root.append(
    make("h2", {}, "answer"), tokens,
    make("p", { class: "note" }, "Color: surprise under the raw probabilities. Line below: share of the ways that " +
      "would have drawn another token. Arrow keys, Home and End move from token to token. " + ends),
    make("h2", {}, "entropy, nats"),
    make("div", { class: "chart-frame" }, make("div", {}, make("span", {}, highest.toFixed(1)),
      make("span", {}, "0")), chart),
    legend, panel);

  // One token.
  function bars(step) {
    const scale = Math.max(...step.seen.flatMap((seen) => [...seen.p, seen.rest]));
    const head = make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "token"),
      ...data.ways.map((way) => colored(way, "th", { scope: "col" },
        make("div", { class: "head" }, make("span", { class: "swatch" }), named(way))))));
    const cell = (way, p, drawn) => colored(way, "td", { class: drawn ? "drawn" : "", "data-p": p },
      p === 0 ? make("span", { class: "cut" }, "cut") :
        make("div", { class: "cell" }, make("span", {}, share(p) + (drawn ? "*" : "")),
          make("div", {}, make("div", { class: "bar", style: { "--p": p / scale } }))));
    const body = make("tbody", {}, ...step.shown.map(([id, text], place) =>
      make("tr", { class: id === step.id ? "answer" : "" }, make("th", { scope: "row", class: "name" },
        make("bdi", {}, text)),
        ...data.ways.map((way, number) => cell(way, step.seen[number].p[place], step.seen[number].drawn[0] === id)))));
    body.append(make("tr", {}, make("th", { scope: "row" }, "all others"),
      ...data.ways.map((way, number) => {
        const drawn = !step.shown.some(([id]) => id === step.seen[number].drawn[0]);
        const one = cell(way, step.seen[number].rest, drawn);
        if (step.seen[number].rest === 0) one.replaceChildren("0");
        return one;
      })));
    const line = (name, text) => make("tr", {}, make("th", { scope: "row" }, name),
      ...step.seen.map((seen, number) => make("td", {}, text(seen, number))));
    const foot = make("tfoot", {},
      line("entropy", (seen) => `${seen.entropy.toFixed(2)} nats`),
      line("its exponential", (seen) => `${Math.exp(seen.entropy).toFixed(1)} tokens`),
      line("tokens kept", (seen) => seen.kept === data.vocabulary ? "all" : seen.kept.toLocaleString("en")),
      line("raw mass kept", (seen) => percent(seen.mass)));
    if (data.target !== null)
      foot.append(line("KL from the target", (seen, number) => number === data.target ? "" :
        seen.kl === null ? "\u221e" : `${seen.kl.toFixed(3)} nats`));
    return make("div", { class: "wide" }, make("table", { style: { "--ways": data.ways.length } }, head, body, foot));
  }

  // Of a strip as wide as on a desktop; what does not fit is cut off.
  const fits = (text, p) => p > 0.0105 * [...text].length + 0.012;
  function strip(step) {
    const label = make("div", { class: "needle-label", "aria-hidden": "true" },
      make("span", { style: { left: `${Math.min(97, Math.max(3, 100 * step.uniform))}%` } },
        step.uniform.toFixed(4)));
    // An answer's token far down the order stands within the rest.
    const ordered = step.rank >= step.shown.length ? step.shown.slice(0, -1) : step.shown;
    const rows = data.ways.flatMap((way, number) => {
      const seen = step.seen[number];
      const parts = [];
      let upto = 0;
      ordered.forEach(([id, text], place) => {
        const p = seen.p[place];
        if (p === 0) return;
        parts.push(make("div", { class: id === seen.drawn[0] ? "part drawn" : "part", style: { width: `${100 * p}%` },
          title: `${text} ${share(p)}` }, fits(text, p) ? make("bdi", {}, text) : ""));
        upto += p;
      });
      const [low, high] = seen.span;
      if (!ordered.some(([id]) => id === seen.drawn[0])) {
        parts.push(make("div", { class: "part rest", style: { width: `${100 * (low - upto)}%` } }));
        parts.push(make("div", { class: "part drawn", style: { width: `${Math.max(0.3, 100 * (high - low))}%` },
          title: `${seen.drawn[1]} ${share(high - low)}` }));
      }
      parts.push(make("div", { class: "part rest", style: { flex: "1 1 0" } }));
      const scale = colored(way, "div", { class: "scale", role: "img", dir: "ltr",
        "aria-label": `${way.name}: ${step.uniform} falls on ${seen.drawn[1]}, from ${low} to ${high}` },
        ...parts, make("div", { class: "needle", style: { left: `${100 * step.uniform}%` } }));
      return [make("div", { class: "label" }, named(way)), scale];
    });
    return make("div", { class: "strip" }, make("div", { class: "label" }, "uniform number"), label, ...rows);
  }

  function draws(step) {
    return make("ul", { class: "draws" }, ...step.draws.map(([text, names], place) =>
      make("li", { class: place ? "differs" : "same" }, make("code", {}, make("bdi", {}, text),
        ...(place ? [make("span", { class: "badge" }, "differs")] : [])), make("span", {}, names.join(", ")))));
  }

  let selected = -1;
  function select(place, focus) {
    place = Math.min(data.steps.length - 1, Math.max(0, place));
    if (place !== selected) {
      if (selected >= 0) {
        chips[selected].setAttribute("aria-selected", "false");
        chips[selected].tabIndex = -1;
      }
      selected = place;
      chips[place].setAttribute("aria-selected", "true");
      chips[place].tabIndex = 0;
      here.setAttribute("x1", across(place));
      here.setAttribute("x2", across(place));
      const step = data.steps[place];
      panel.replaceChildren(
        make("h3", {}, `Token ${place + 1} of ${data.steps.length}: `, make("code", {}, make("bdi", {}, step.token))),
        make("p", { class: "note" }, `Its raw probability is the ${ordinal(step.rank + 1)} highest; surprise ` +
          `${step.surprise.toFixed(2)} nats; token id ${step.id}.`),
        bars(step),
        make("p", { class: "note" }, "* and an outline: drawn by this way with the uniform number below. " +
          "cut: removed, with probability 0."),
        make("h4", {}, "Where the uniform number fell"), strip(step),
        make("h4", {}, "What would have been drawn with the same number"), draws(step));
    }
    if (focus) chips[place].focus();
  }
  function ordinal(number) {
    const end = number % 100 > 10 && number % 100 < 14 ? "th" : { 1: "st", 2: "nd", 3: "rd" }[number % 10] || "th";
    return number === 1 ? "very" : `${number.toLocaleString("en")}${end}`;
  }
  tokens.addEventListener("keydown", (event) => {
    const moves = { ArrowRight: selected + 1, ArrowDown: selected + 1, ArrowLeft: selected - 1,
      ArrowUp: selected - 1, Home: 0, End: data.steps.length - 1 };
    if (!(event.key in moves) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    select(moves[event.key], true);
  });
  select(0, false);
})();
