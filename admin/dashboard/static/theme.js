// Before the page is drawn, so that it never flashes in the other colours.
"use strict";
(function () {
  document.documentElement.classList.add("scripts");
  try {
    const kept = localStorage.getItem("taskstream-theme");
    if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
  } catch (error) {
    // Storage may be forbidden: then the system's choice counts.
  }
})();
