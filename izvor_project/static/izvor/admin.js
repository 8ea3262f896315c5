// Keeps a page true while something is going on: asks for its parts again and puts them in.
"use strict";

(() => {
  const busy = (part) =>
    part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea");

  // As the browser writes it, so that what did not change is left alone.
  const asWritten = (html) => {
    const holder = document.createElement("template");
    holder.innerHTML = html;
    return holder.innerHTML;
  };

  const show = (parts) => {
    for (const [name, html] of Object.entries(parts)) {
      for (const part of document.querySelectorAll(`[data-part="${name}"]`)) {
        if (!busy(part) && !part.querySelector(":popover-open") && part.innerHTML !== asWritten(html)) {
          part.innerHTML = html;
        }
      }
    }
  };

  const watch = (page) => {
    const later = (seconds) => seconds && setTimeout(look, seconds * 1000);
    const look = async () => {
      if (document.hidden) {
        document.addEventListener("visibilitychange", look, { once: true });
        return;
      }
      try {
        const answer = await fetch(new URL(page.dataset.live, location.href), {
          headers: { Accept: "application/json" },
          redirect: "error",
        });
        if (answer.status === 404 || answer.status === 403) return;
        if (!answer.ok) throw new Error(answer.status);
        const body = await answer.json();
        show(body.parts);
        later(body.again_in_s);
      } catch {
        // The server restarts, or the network is away: it comes back, or the person goes.
        later(10);
      }
    };
    later(Number(page.dataset.againInS));
  };

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("[data-live]").forEach(watch);
  });
})();
