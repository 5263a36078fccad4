// What the pages cannot say in HTML: keep open menus open while a fragment is morphed, show
// confirmations as dialogs, copy commands, and tell whether the page is live. Every page works without it.
"use strict";

(() => {
  const dialog = () => document.getElementById("dialog");
  const liveState = () => document.getElementById("live-state");

  // The server knows nothing of what the reader has unfolded, ticked or chosen.
  Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) =>
    !(
      (name === "open" && node.matches("details, dialog")) ||
      (name === "checked" && node.matches(".tick input")) ||
      (name === "selected" && node.matches("#bulk option"))
    );

  const showLive = (live) => {
    const element = liveState();
    if (!element) return;
    element.dataset.live = live ? "on" : "off";
    element.textContent = live ? element.dataset.on : element.dataset.off;
  };
  document.addEventListener("htmx:sseOpen", () => showLive(true));
  document.addEventListener("htmx:sseError", () => showLive(false));

  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.target === dialog() && !dialog().open) dialog().showModal();
  });

  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target) || event.target.closest("a")) menu.open = false;
    }
    if (event.target === dialog() || event.target.closest("[data-close]")) {
      if (dialog().open) {
        event.preventDefault();
        dialog().close();
      }
    }
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      const source = document.getElementById(copy.dataset.copy);
      navigator.clipboard.writeText(source.textContent.trim()).then(() => {
        const label = copy.textContent;
        copy.textContent = copy.dataset.done;
        setTimeout(() => (copy.textContent = label), 1500);
      });
    }
  });

  document.addEventListener("change", (event) => {
    const all = event.target.closest("[data-tick-all]");
    if (!all) return;
    for (const box of all.closest("table").querySelectorAll("tbody .tick input")) box.checked = all.checked;
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const menu = document.querySelector("details.menu[open]");
    if (menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });

  const palette = () => document.getElementById("palette");
  const openPalette = () => {
    palette().showModal();
    document.getElementById("seek").select();
    htmx.trigger(palette().querySelector("form"), "open");
  };
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-palette]")) {
      event.preventDefault();
      openPalette();
    }
    for (const one of [palette(), document.getElementById("keyboard")]) {
      if (one && event.target === one) one.close();
    }
  });

  // Moves the focus among what can be opened, and says whether there was anything.
  const step = (links, by) => {
    const at = links.indexOf(document.activeElement);
    const next = links[at < 0 ? (by > 0 ? 0 : links.length - 1) : at + by];
    next?.focus();
    return Boolean(next);
  };

  document.addEventListener("keydown", (event) => {
    if (!palette()?.open) return;
    const hits = [...document.querySelectorAll("#found a")];
    const seek = document.getElementById("seek");
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!step(hits, event.key === "ArrowDown" ? 1 : -1)) seek.focus();
    } else if (event.key === "Enter" && event.target === seek && hits.length > 0) {
      event.preventDefault();
      hits[0].click();
    }
  });

  // What a single key does on whatever page; after `g` the letter of a page.
  let wentTo = false;
  const keys = {
    "/": openPalette,
    "?": () => document.getElementById("keyboard").showModal(),
    j: () => step([...document.querySelectorAll("#content tbody th a")], 1),
    k: () => step([...document.querySelectorAll("#content tbody th a")], -1),
    x: () => document.activeElement.closest("tr")?.querySelector(".tick input")?.click(),
    g: () => (wentTo = true),
  };
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "k" && palette()) {
      event.preventDefault();
      if (!document.querySelector("dialog[open]")) openPalette();
      return;
    }
    const isTyping = event.target.closest?.("input:not([type=checkbox]), select, textarea, [contenteditable]");
    const isPlain = !(event.ctrlKey || event.metaKey || event.altKey);
    if (!isPlain || isTyping || !("keys" in document.body.dataset)) return;
    if (document.querySelector("dialog[open]")) return;
    const page = wentTo && document.querySelector(`.nav [data-key="${CSS.escape(event.key)}"]`);
    wentTo = false;
    const act = page ? () => page.click() : keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  // A form in a dialog is sent once, however often it is clicked.
  document.addEventListener("submit", (event) => {
    for (const button of event.target.querySelectorAll("button[type=submit]")) button.disabled = true;
  });
})();
