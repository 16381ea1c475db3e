"use strict";
(() => {
  const own = document.currentScript.dataset;
  const parts = own.parts.split(" ");
  const link = document.getElementById("link");
  const textOf = page => Object.fromEntries(parts.map(id => [id, page.getElementById(id).innerHTML]));
  let version = own.version, held = textOf(document), ahead = 0, source = null, taking = Promise.resolve();

  function span(seconds) {
    const [size, unit] = seconds < 90 ? [1, "s"] : seconds < 5400 ? [60, "min"] : seconds < 172800 ? [3600, "h"] : [86400, "days"];
    return `${Math.max(1, Math.round(seconds / size))} ${unit}`;
  }

  function tick() {
    const now = Date.now() / 1000 - ahead;
    const words = {
      since: at => (now - at < 2 ? "just now" : `${span(now - at)} ago`),
      until: at => (at - now < 1 ? "longer than was thought" : `about ${span(at - now)} left`),
      takes: seconds => `about ${span(seconds)} left`,
    };
    for (const [name, say] of Object.entries(words)) {
      for (const element of document.querySelectorAll(`[data-${name}]`)) {
        const text = say(Number(element.dataset[name]));
        if (element.textContent !== text) element.textContent = text;
      }
    }
  }

  // Replaces a part that is different, and gives the focus back to what had it.
  function replace(part, html) {
    const active = part.contains(document.activeElement) ? document.activeElement : null;
    for (const plot of part.querySelectorAll(".js-plotly-plot")) Plotly.purge(plot);
    part.innerHTML = html;
    if (!active) return;
    const nameOf = element => element.getAttribute("aria-label") ?? element.textContent;
    const alike = [...part.querySelectorAll(active.tagName)].find(other => nameOf(other) === nameOf(active));
    alike?.focus({ preventScroll: true });
  }

  async function take() {
    const answer = await fetch(location.pathname);
    if (!answer.ok) return location.reload();
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const text = textOf(fresh);
    for (const id of parts) if (text[id] !== held[id]) replace(document.getElementById(id), text[id]);
    held = text;
    version = fresh.querySelector("script[data-version]").dataset.version;
    document.title = fresh.title;
    const { figures } = JSON.parse(fresh.getElementById("data").textContent);
    document.dispatchEvent(new CustomEvent("figures", { detail: figures }));
    tick();
  }

  async function follow(told) {
    while (told !== version) {
      try {
        return await take();
      } catch {
        await new Promise(wake => setTimeout(wake, 1000));
      }
    }
  }

  function listen() {
    source = new EventSource(own.events);
    source.onopen = () => { link.textContent = "live"; };
    source.onmessage = event => {
      const told = JSON.parse(event.data);
      ahead = Date.now() / 1000 - told.now;
      taking = taking.then(() => follow(told.version));
    };
    source.onerror = () => {
      link.textContent = "connection lost: trying again";
      if (source.readyState === EventSource.CLOSED) setTimeout(() => { if (!document.hidden) listen(); }, 2000);
    };
  }

  // A browser keeps few connections to one address: a page that nobody sees gives its own back.
  document.addEventListener("visibilitychange", () => {
    source?.close();
    if (!document.hidden) listen();
  });
  setInterval(tick, 1000);
  tick();
  if (!document.hidden) listen();
})();
