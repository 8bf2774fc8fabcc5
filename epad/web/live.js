// Fetches the changing part of the page anew whenever something happens. Without it the page reads the same, once.
"use strict";
const main = document.querySelector("main[data-live]");
const pulse = document.getElementById("pulse");
const LEAST_MS = 500; // between two fetches: a storm of events must not become a storm of requests

let waiting = false;
let last = 0;

async function refresh() {
  waiting = false;
  last = Date.now();
  const scrolled = [...main.querySelectorAll(".scroll, .graph")].map((box) => box.scrollLeft);
  const answer = await fetch(main.dataset.live, { cache: "no-store" });
  if (!answer.ok) return;
  // What has the focus is left alone: a reader with a keyboard must not lose their place.
  const focused = document.activeElement;
  const path = focused && main.contains(focused) ? focused.getAttribute("href") : null;
  main.innerHTML = await answer.text();
  main.querySelectorAll(".scroll, .graph").forEach((box, i) => { box.scrollLeft = scrolled[i] || 0; });
  if (path) main.querySelector(`a[href="${CSS.escape(path)}"]`)?.focus();
  document.title = `${main.querySelector(".here .name")?.textContent ?? ""} · epad`;
}

function soon() {
  if (waiting || document.hidden) return;
  waiting = true;
  setTimeout(() => refresh().catch(() => {}), Math.max(0, LEAST_MS - (Date.now() - last)));
}

if (main) {
  const stream = new EventSource("/live");
  stream.onmessage = soon;
  stream.onopen = () => { pulse.hidden = false; pulse.textContent = "live"; soon(); };
  stream.onerror = () => { pulse.hidden = false; pulse.textContent = "epad does not answer"; };
  document.addEventListener("visibilitychange", soon);
}
