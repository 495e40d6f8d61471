/* A run: find, fold, copy, follow. */
"use strict";

(() => {
  const $ = (selector) => document.querySelector(selector);
  const on = (name, act) => document.addEventListener(name, act);

  on("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("dialog[open]")) return;
    if (event.target.closest("input:not([type=radio]), textarea, select")) return;
    const calls = [...document.querySelectorAll("#transcript .call")];
    if (event.key === "f" && $("#find")) {
      event.preventDefault();
      $("#find").select();
    } else if (event.key === "e") {
      const open = !calls.some((call) => call.open);
      for (const call of calls) call.open = open;
    }
  });

  on("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) navigator.clipboard?.writeText(button.dataset.copy).then(() => button.classList.add("copied"));
  });

  // Earlier events move nothing; new ones come to one who reads the end.
  let mark, top;
  on("htmx:beforeSwap", ({ detail }) => {
    mark = detail.requestConfig.elt.matches("[data-earlier]") && $(".turn");
    top = mark && mark.getBoundingClientRect().top;
  });
  on("htmx:afterSettle", () => {
    if (mark) scrollBy(0, mark.getBoundingClientRect().top - top);
    mark = null;
    const end = $("#end")?.getBoundingClientRect().top;
    if (end > 0 && end < innerHeight + 80) $("[data-news]")?.click();
  });
})();
