(function () {
  "use strict";
  var plots = JSON.parse(document.getElementById("plots").textContent);
  var schemes = ["(prefers-color-scheme: dark)", "print"].map(function (q) { return matchMedia(q); });
  var chosen = {};

  // Names of the style's colours become the colours of the scheme in force.
  function coloured(value, style) {
    if (typeof value === "string") {
      return value.slice(0, 2) === "--" ? style.getPropertyValue(value).trim() : value;
    }
    if (Array.isArray(value)) {
      return value.map(function (v) { return coloured(v, style); });
    }
    if (value && typeof value === "object") {
      var copy = {};
      Object.keys(value).forEach(function (k) { copy[k] = coloured(value[k], style); });
      return copy;
    }
    return value;
  }

  function layoutOf(plot, view, isSmall) {
    var layout = JSON.parse(JSON.stringify(plot.layout));
    var axis = {
      gridcolor: "--rule", zerolinecolor: "--rule-strong", linecolor: "--rule-strong",
      tickcolor: "--rule-strong", automargin: true
    };
    Object.keys(layout).forEach(function (name) {
      if (/^[xy]axis/.test(name)) { layout[name] = Object.assign({}, axis, layout[name]); }
    });
    if (view) { layout.xaxis.title = { text: view.title }; }
    if (view && view.limit !== null) {
      layout.shapes = [{
        type: "line", x0: view.limit, x1: view.limit, yref: "paper", y0: 0, y1: 1,
        line: { color: "--bad", width: 1.5, dash: "dash" }
      }];
      layout.annotations = [{
        text: "limit", x: view.limit, y: 1, yref: "paper", xanchor: "left", yanchor: "bottom",
        showarrow: false, font: { color: "--bad" }
      }];
    }
    return Object.assign(layout, {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, color: "--ink", size: isSmall ? 11 : 13 },
      margin: { l: isSmall ? 44 : 64, r: 12, t: 28, b: 48 },
      legend: { orientation: "h", x: 0, xanchor: "left", y: isSmall ? -0.22 : -0.2, yanchor: "top" },
      hoverlabel: { bgcolor: "--paper", bordercolor: "--rule-strong", font: { color: "--ink" }, align: "left" },
      // A finger that scrolls the page shall not be caught by a plot.
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom"
    });
  }

  function draw(id) {
    var holder = document.getElementById("plot-" + id);
    var plot = plots[id];
    var view = plot.views ? plot.views[chosen[id] || 0] : null;
    var style = getComputedStyle(document.documentElement);
    var layout = coloured(layoutOf(plot, view, holder.clientWidth < 560), style);
    var data = coloured(view ? view.data : plot.data, style);
    Plotly.react(holder, data, layout, { responsive: true, displayModeBar: false });
  }

  function offer(id) {
    var views = plots[id].views;
    var holder = document.getElementById("switch-" + id);
    if (!views || views.length < 2 || !holder) { return; }
    views.forEach(function (view, number) {
      var button = document.createElement("button");
      button.type = "button";
      button.textContent = view.word;
      button.setAttribute("aria-pressed", String(number === 0));
      button.addEventListener("click", function () {
        chosen[id] = number;
        Array.prototype.forEach.call(holder.children, function (other) {
          other.setAttribute("aria-pressed", String(other === button));
        });
        draw(id);
      });
      holder.appendChild(button);
    });
  }

  function drawAll() { Object.keys(plots).forEach(draw); }
  Object.keys(plots).forEach(offer);
  drawAll();
  schemes.forEach(function (query) { query.addEventListener("change", drawAll); });
}());
