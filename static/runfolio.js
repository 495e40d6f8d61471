/* What links and forms cannot do: keys, dialogs, gentle polling, running clocks. Every page works without. */
"use strict";

(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

  // ── Polling: not while nobody looks (trigger filters would need eval) ──
  document.addEventListener("htmx:beforeRequest", (event) => {
    const place = event.target;
    if (document.hidden && place.matches("[data-poll]")) event.preventDefault();
    if (place.matches("[data-calm]") && place.contains(document.activeElement)) event.preventDefault();
  });

  // ── What a poll found is read aloud when it is news, not every few seconds ──
  document.addEventListener("htmx:afterSettle", () => {
    const [said, aloud] = [$("[data-say]"), $("#aloud")];
    if (said && aloud && aloud.textContent !== said.dataset.say) aloud.textContent = said.dataset.say;
  });

  // ── Dialogs ──
  document.addEventListener("htmx:afterSwap", (event) => {
    const dialog = $("#dialog");
    if (event.detail.target === dialog && dialog.firstElementChild && !dialog.open) dialog.showModal();
  });
  document.addEventListener("click", (event) => {
    const close = event.target.closest("[data-close]");
    const dialog = close?.closest("dialog");
    if (dialog) {
      event.preventDefault();
      dialog.close();
    }
  });

  // ── What went wrong on the way, said once and taken back by the next answer ──
  const trouble = (words) => {
    const line = $("#trouble");
    if (!line) return;
    line.textContent = words;
    line.hidden = !words;
  };
  document.addEventListener("htmx:sendError", () => trouble("Runfolio does not answer. What you did may not be saved."));
  document.addEventListener("htmx:responseError", (event) => {
    const id = event.detail.xhr.getResponseHeader("X-Request-Id");
    if (event.detail.xhr.status === 403) trouble("You may not do this, or this page was open for too long. Load it again.");
    else trouble(`Runfolio answered ${event.detail.xhr.status}. Request ${id || "without a name"}.`);
  });
  document.addEventListener("htmx:afterOnLoad", (event) => {
    if (event.detail.xhr.status < 400) trouble("");
  });

  // ── Running clocks: seconds since a moment, in the words of the server ──
  const two = (number) => String(number).padStart(2, "0");
  const words = (seconds) => {
    if (seconds < 60) return `${seconds}s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)}m ${two(seconds % 60)}s`;
    if (seconds < 86400) return `${Math.floor(seconds / 3600)}h ${two(Math.floor((seconds % 3600) / 60))}m`;
    return `${Math.floor(seconds / 86400)}d ${Math.floor((seconds % 86400) / 3600)}h`;
  };
  setInterval(() => {
    if (document.hidden) return;
    for (const place of $$("[data-since]")) {
      place.textContent = words(Math.max(0, Math.floor(Date.now() / 1000 - Number(place.dataset.since))));
    }
  }, 1000);

  // ── The browser's time zone, to be chosen ──
  const zone = $("[data-zone]");
  if (zone) {
    zone.value = Intl.DateTimeFormat().resolvedOptions().timeZone;
    zone.append(zone.value);
    zone.hidden = !zone.value;
  }

  // ── A link to a folded call opens it ──
  const unfold = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const folded = target && target.closest("details");
    if (folded) folded.open = true;
  };
  window.addEventListener("hashchange", unfold);
  unfold();

  // ── Keys ──
  const typing = (element) => element?.closest("input:not([type=radio], [type=checkbox]), textarea, select, [contenteditable]");
  let first = "";

  const step = (by) => {
    const places = $$("#rows > tr, .turn");
    if (!places.length) return;
    const now = places.findIndex((place) => place.classList.contains("at") || place.contains(document.activeElement));
    const next = places[Math.min(places.length - 1, Math.max(0, now < 0 ? 0 : now + by))];
    places.forEach((place) => place.classList.toggle("at", place === next && place.matches("tr")));
    ($(".t", next) || $("a", next))?.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
    next.dispatchEvent(new CustomEvent("at", { bubbles: true }));
  };

  const rate = (number) => {
    const row = document.activeElement?.closest("#rows > tr") || $("#rows > tr.at");
    const star = $(`.stars input[value="${number}"]`, row || $("#feedback") || document.createElement("p"));
    if (!star) return;
    star.checked = true;
    if (row) star.dispatchEvent(new Event("change", { bubbles: true }));
    else star.form.requestSubmit();
  };

  const error = (by) => {
    const wrong = $$(".call-bad, .turn > .err-box");
    const now = wrong.findIndex((one) => one.dataset.at);
    wrong.forEach((one) => delete one.dataset.at);
    const next = wrong[(now + by + wrong.length) % wrong.length] || wrong[0];
    if (!next) return;
    next.dataset.at = "1";
    next.scrollIntoView({ block: "center" });
    $("summary", next)?.focus({ preventScroll: true });
  };

  const toSearch = () => {
    const box = $(".q input[name=q]");
    if (!box) return false;
    box.focus();
    box.select();
    return true;
  };

  const keys = {
    j: () => step(1),
    k: () => step(-1),
    c: () => $("#comment")?.focus(),
    "[": () => error(-1),
    "]": () => error(1),
    "/": toSearch,
    "?": () => $("#keys")?.togglePopover(),
    Enter: () => {
      const link = $("#rows > tr.at .t, #rows > tr.at th a");
      if (document.activeElement === document.body && link) link.click();
      else return false;
    },
    Escape: () => {
      const menu = $(".menu[open]");
      if (menu) menu.open = false;
      return false;
    },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (typing(event.target)) {
      if (event.key === "Escape") {
        event.target.blur();
        keys.Escape();
      }
      return;
    }
    if ($("#dialog")?.open || ($("#keys")?.matches(":popover-open") && event.key !== "?")) return;
    const place = first === "g" && $$("[data-go]").find((link) => link.dataset.go === event.key);
    if (place) {
      first = "";
      event.preventDefault();
      place.click();
      return;
    }
    first = event.key === "g" ? "g" : "";
    const act = event.key >= "1" && event.key <= "5" && event.key.length === 1 ? () => rate(event.key) : keys[event.key];
    if (act && act() !== false) event.preventDefault();
  });
})();
