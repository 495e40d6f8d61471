/* The runs list: completion, the panel beside it, chosen rows. All of it works without. */
"use strict";

(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector) => [...document.querySelectorAll(selector)];
  const on = (type, act) => document.addEventListener(type, act, true);
  const get = (address, id, swap = "innerHTML") => htmx.ajax("GET", address, { source: `#${id}`, target: `#${id}`, swap });
  const room = matchMedia("(min-width: 1240px)");
  let later;
  const soon = (act) => {
    clearTimeout(later);
    later = setTimeout(act, 90);
  };

  // ── The panel: the address says what is in it ──
  const mark = () => $$("#rows > tr").forEach((row) => row.ariaCurrent = row.id.slice(4) === $("#peek").dataset.run);
  const show = (id) => {
    const address = new URL(location);
    address.searchParams.set("peek", id);
    if (!id) address.searchParams.delete("peek");
    history.replaceState({ htmx: true }, "", address);
    $("#main").classList.toggle("has-peek", id);
    $("#peek").dataset.run = id;
    mark();
    if (id) soon(() => get(`/runs/${id}/peek`, "peek"));
  };
  on("at", ({ target }) => room.matches && show(target.id.slice(4)));
  on("click", (event) => {
    const link = event.target.closest("a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (link.matches("[data-list]")) get(link.getAttribute("href"), "list", "outerHTML show:window:top");
    else if (link.matches("#rows .t") && event.detail && room.matches) show(link.closest("tr").id.slice(4));
    else if (link.id === "peek-close") show("");
    else return;
    event.preventDefault();
  });

  // ── Chosen rows ──
  const count = () => {
    const all = $("#all").checked;
    const boxes = $$("#rows [name=id]");
    for (const box of boxes) [box.checked, box.disabled] = [all || (box.checked && !box.disabled), all];
    const number = boxes.filter((box) => box.checked).length;
    $("#picked b").textContent = all ? "All runs of this filter, not only these." : `${number} run${number === 1 ? "" : "s"} chosen.`;
  };
  on("change", ({ target }) => target.matches("#all, #rows [name=id]") && count());

  // ── The query: coloured here, completed by the server ──
  const PART = /(\s+)|(-?)([a-z_]+(?:\.(?:"[^"]*"|[^\s":])*)?:)?((?:"(?:[^"\\]|\\.)*"?|[^\s"])*)/gi;
  const span = (name, ...inside) => {
    const one = document.createElement("span");
    one.className = name;
    one.append(...inside);
    return one;
  };
  const light = () => {
    const wrong = $("#q-said").dataset.wrong.split(" ").map((one) => one.split("-"));
    $(".q-ghost").replaceChildren(...[...$("#q").value.matchAll(PART)].map((found) => {
      const isWrong = !found[1] && wrong.some(([from, to]) => from < found.index + found[0].length && to > found.index);
      const names = ["", "q-not", "q-f", found[3] && "q-v"];
      return span(isWrong ? "q-err" : "", ...names.map((name, place) => span(name, found[place + 1] || "")));
    }));
    $(".q").classList.add("q-lit");
  };
  const options = () => $$("#q-options > li");
  const chosen = () => $("#q-options > [aria-selected=true]");
  const close = () => {
    clearTimeout(later);
    $("#q-list").replaceChildren();
    $("#q").ariaExpanded = false;
  };
  const ask = () => get(`${$("#q").dataset.complete}?${new URLSearchParams({ q: $("#q").value, at: $("#q").selectionStart })}`, "q-list");
  const take = (option) => {
    const { start, end } = option.parentElement.dataset;
    $("#q").setRangeText(option.dataset.text, +start, +end, "end");
    light();
    ask();
  };
  on("input", ({ target }) => {
    if (target.id !== "q") return;
    light();
    soon(ask);
  });
  on("scroll", ({ target }) => target.id === "q" && ($(".q-ghost").scrollLeft = target.scrollLeft));
  on("focusout", ({ target }) => target.id === "q" && close());
  on("mousedown", (event) => {
    const option = event.target.closest("#q-options > li");
    if (!option) return;
    event.preventDefault();
    take(option);
  });

  const keysOfBox = (key) => {
    const [all, now] = [options(), chosen()];
    const by = { ArrowDown: 1, ArrowUp: -1 }[key];
    if (by && all.length) {
      const next = all.at((all.indexOf(now) + (now || by > 0 ? by : 0)) % all.length);
      all.forEach((one) => one.ariaSelected = one === next);
      $("#q").setAttribute("aria-activedescendant", next.id);
      next.scrollIntoView({ block: "nearest" });
    } else if (by) ask();
    else if (key === "Escape" && all.length) close();
    else if (now ? key === "Enter" || key === "Tab" : key === "Tab" && $("mark:not(:empty)", all[0])) take(now || all[0]);
    else return key === "Enter" && close();
    return true;
  };
  on("keydown", (event) => {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (target.id === "q") return keysOfBox(key) && event.preventDefault();
    if ($("dialog[open], :popover-open, .menu[open]") || target.matches("[type=text], select")) return;
    if (key === "x") $("#rows > tr:is(.at, :focus-within) [name=id]")?.click();
    if (key === "Escape" && $(".has-peek")) show("");
  });

  // ── What came anew is as the rest ──
  const ready = () => {
    const box = $("#q");
    box.role = "combobox";
    box.ariaExpanded = options().length > 0;
    light();
    mark();
    if ($("#all")?.checked) count();
  };
  on("htmx:afterSettle", ready);
  ready();
})();
