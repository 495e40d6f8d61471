/* Reviewing by keys; none of them while one types. */
"use strict";

(() => {
  const $ = (selector) => document.querySelector(selector);
  const on = (type, act) => document.addEventListener(type, act, true);
  const buttons = { Enter: "#rev-done", s: "#rev-skip", ArrowLeft: "#rev-back", Escape: "#rev-stop" };

  on("keydown", (event) => {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || $("dialog[open], :popover-open")) return;
    if (target.matches(/Enter|Arrow/.test(key) ? "textarea, a, button, input, summary" : "textarea")) return;
    const star = /^[1-5]$/.test(key) && `[value="${key}"]`;
    const control = star ? $(`fieldset:not(:has(:checked)) ${star}`) || $(star) : $(buttons[key] || "#none");
    if (!control) return;
    control.click();
    event.preventDefault();
  });

  // The second click of two would meet the next item.
  on("click", (event) => event.detail > 1 && event.target.closest(".go") && event.preventDefault());
})();
