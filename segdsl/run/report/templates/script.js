// This adds: reading curves with the pointer or the slider, selecting classes for color, and reading cells of the
// confusion matrix.

function curves() {
  const charts = document.getElementById("charts"), slider = document.getElementById("epoch");
  if (!charts || !slider) return;
  const axis = JSON.parse(charts.dataset.axis), last = axis.epochs.length - 1;
  const values = [...charts.querySelectorAll("[data-values]")].map(span => [span, JSON.parse(span.dataset.values)]);
  const show = place => {
    const x = axis.start + (axis.end - axis.start) * (last ? place / last : 0.5);
    for (const cursor of charts.querySelectorAll(".cursor")) {
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
    }
    for (const [span, texts] of values) span.textContent = texts[place];
    document.getElementById("epoch-shown").textContent = axis.epochs[place];
    slider.setAttribute("aria-valuetext", "epoch " + axis.epochs[place]);
    slider.value = place;
  };
  slider.addEventListener("input", () => show(Number(slider.value)));
  for (const svg of charts.querySelectorAll("svg[viewBox][role=img]")) {
    svg.addEventListener("pointermove", event => {
      const box = svg.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
      const share = (x - axis.start) / (axis.end - axis.start);
      show(Math.min(last, Math.max(0, Math.round(share * last))));
    });
  }
  show(Number(slider.value));
  charts.classList.add("live");
  slider.parentElement.hidden = false;
}

// Select the classes in color. A new one gets a free style; if there is none, the oldest selection is dropped.
function choosing() {
  const figure = document.getElementById("by-class");
  if (!figure) return;
  const boxes = [...figure.querySelectorAll("input")], cursor = figure.querySelector(".cursor");
  const lines = [...cursor.parentElement.querySelectorAll("g")].reverse();
  const samples = boxes.map(box => box.parentElement.querySelector("svg"));
  const owners = Array.from({length: Number(figure.dataset.styles)}, (_, k) => boxes[k] && boxes[k].checked ? k : -1);
  const turns = owners.filter(k => k >= 0);
  const paint = (k, style) => {
    for (const element of [lines[k], samples[k]]) element.setAttribute("class", "line " + style);
  };
  const release = k => {
    owners[owners.indexOf(k)] = -1;
    turns.splice(turns.indexOf(k), 1);
    boxes[k].checked = false;
    paint(k, "faint");
  };
  boxes.forEach((box, k) => {
    box.hidden = false;
    box.addEventListener("change", () => {
      if (!box.checked) return release(k);
      if (!owners.includes(-1)) release(turns[0]);
      const style = owners.indexOf(-1);
      owners[style] = k;
      turns.push(k);
      paint(k, "c" + (style + 1));
      cursor.before(lines[k]);
    });
  });
  for (const note of figure.querySelectorAll(".choosing")) note.hidden = false;
}

function matrix() {
  const table = document.querySelector("table.matrix"), readout = document.getElementById("cell");
  if (!table || !readout) return;
  const columns = table.tHead.rows[0].cells;
  table.addEventListener("pointerover", event => {
    const cell = event.target.closest("tbody td");
    if (!cell) return;
    const name = cell.parentElement.cells[0].textContent, share = cell.textContent || "0";
    readout.textContent = `${name}, predicted as ${columns[cell.cellIndex].textContent}: ${share} %`;
  });
}

curves();
choosing();
matrix();
