"use strict";
(() => {
  const { figures, strategies } = JSON.parse(document.getElementById("data").textContent);
  const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axesOf = layout => Object.keys(layout).filter(key => /^[xy]axis\d*$/.test(key));
  const shown = new Set(strategies);

  function themed(layout) {
    const ink = style("--ink"), line = style("--line");
    const whole = structuredClone(layout);
    for (const axis of axesOf(whole)) {
      Object.assign(whole[axis], { gridcolor: line, linecolor: line, zerolinecolor: line });
    }
    return Object.assign(whole, {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, family: "system-ui, sans-serif" },
      margin: { l: 60, r: 16, t: 12, b: 48 }, showlegend: Boolean(layout.showlegend), dragmode: false,
    });
  }

  function draw() {
    for (const [id, figure] of Object.entries(figures)) {
      const data = figure.data.map(trace => ({ ...trace, visible: !trace.meta || shown.has(trace.meta.strategy) }));
      Plotly.react(id, data, themed(figure.layout), { responsive: true, displayModeBar: false });
    }
  }

  for (const button of document.querySelectorAll("[data-strategy]")) {
    button.addEventListener("click", () => {
      const name = button.dataset.strategy;
      if (!shown.delete(name)) shown.add(name);
      button.setAttribute("aria-pressed", String(shown.has(name)));
      draw();
    });
  }

  function choose(button, attribute) {
    for (const other of document.querySelectorAll(`[${attribute}]`)) {
      other.setAttribute("aria-pressed", String(other === button));
    }
  }

  const curves = figures.curves;
  const inSteps = curves ? curves.data.map(trace => trace.x) : [];
  for (const button of document.querySelectorAll("[data-x]")) {
    button.addEventListener("click", () => {
      choose(button, "data-x");
      const seconds = button.dataset.x === "seconds";
      curves.data.forEach((trace, i) => {
        trace.x = inSteps[i].map(step => (seconds ? step * trace.meta.seconds : step));
      });
      curves.layout.xaxis2.title.text = seconds ? "seconds of training, run alone" : "gradient evaluations";
      draw();
    });
  }
  for (const button of document.querySelectorAll("[data-scale]")) {
    button.addEventListener("click", () => {
      choose(button, "data-scale");
      for (const axis of ["xaxis", "xaxis2", "yaxis"]) curves.layout[axis].type = button.dataset.scale;
      draw();
    });
  }

  for (const button of document.querySelectorAll("[data-view]")) {
    button.addEventListener("click", () => {
      choose(button, "data-view");
      figures.ranking.layout.xaxis.range = figures.ranking.views[button.dataset.view];
      draw();
    });
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
})();
