(function () {
  "use strict";
  var figures = JSON.parse(document.getElementById("figures").textContent);
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
      var made = {};
      Object.keys(value).forEach(function (k) { made[k] = coloured(value[k], style); });
      return made;
    }
    return value;
  }

  function layoutOf(figure, view, isSmall) {
    var layout = JSON.parse(JSON.stringify(figure.layout));
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
    var figure = figures[id];
    var view = figure.views ? figure.views[chosen[id] || 0] : null;
    var style = getComputedStyle(document.documentElement);
    var layout = coloured(layoutOf(figure, view, holder.clientWidth < 560), style);
    var data = coloured(view ? view.data : figure.data, style);
    Plotly.react(holder, data, layout, { responsive: true, displaylogo: false });
  }

  function offer(id) {
    var views = figures[id].views;
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

  function drawAll() { Object.keys(figures).forEach(draw); }
  Object.keys(figures).forEach(offer);
  drawAll();
  schemes.forEach(function (query) { query.addEventListener("change", drawAll); });
}());
