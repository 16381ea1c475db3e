"use strict";
(() => {
  const given = JSON.parse(document.getElementById("data").textContent);
  let figures = given.figures;
  const shown = new Set(given.strategies);
  const chosen = { x: "steps", scale: "log", view: "near" };
  const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axesOf = layout => Object.keys(layout).filter(key => /^[xy]axis\d*$/.test(key));

  function themed(layout) {
    const ink = style("--ink"), line = style("--line");
    for (const axis of axesOf(layout)) {
      Object.assign(layout[axis], { gridcolor: line, linecolor: line, zerolinecolor: line });
    }
    return Object.assign(layout, {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, family: "system-ui, sans-serif" },
      margin: { l: 60, r: 16, t: 12, b: 48 }, showlegend: Boolean(layout.showlegend), dragmode: false,
    });
  }

  const adjust = {
    curves(data, layout) {
      if (chosen.x === "seconds") {
        for (const trace of data) trace.x = trace.x.map(step => step * trace.meta.seconds);
        layout.xaxis2.title.text = "seconds of training, run alone";
      }
      for (const axis of ["xaxis", "xaxis2", "yaxis"]) layout[axis].type = chosen.scale;
    },
    ranking(data, layout, views) {
      if (chosen.view in views) layout.xaxis.range = views[chosen.view];
    },
  };

  function draw() {
    for (const [id, figure] of Object.entries(figures)) {
      const data = figure.data.map(trace => ({ ...trace, visible: !trace.meta || shown.has(trace.meta.strategy) }));
      const layout = structuredClone(figure.layout);
      adjust[id]?.(data, layout, figure.views);
      Plotly.react(id, data, themed(layout), { responsive: true, displayModeBar: false });
    }
    for (const button of document.querySelectorAll("button[aria-pressed]")) {
      const { strategy, x, scale, view } = button.dataset;
      const on = strategy !== undefined ? shown.has(strategy) : [chosen.x, chosen.scale, chosen.view].includes(x ?? scale ?? view);
      button.setAttribute("aria-pressed", String(on));
    }
  }

  document.addEventListener("click", event => {
    const button = event.target.closest("button[aria-pressed]");
    if (!button) return;
    const { strategy, ...choice } = button.dataset;
    if (strategy !== undefined && !shown.delete(strategy)) shown.add(strategy);
    Object.assign(chosen, choice);
    draw();
  });
  document.addEventListener("figures", event => { figures = event.detail; draw(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
})();
