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

  // A form in a dialog is sent once, however often it is clicked.
  document.addEventListener("submit", (event) => {
    for (const button of event.target.querySelectorAll("button[type=submit]")) button.disabled = true;
  });
})();
