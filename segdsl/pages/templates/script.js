"use strict";
// The page is complete without this script. It adds: sorting tables, and opening sections for links and for printing.

function sorting() {
  const number = text => {
    const read = parseFloat(text.replace(/[,%<]/g, ""));
    return Number.isNaN(read) ? -1 : read;
  };
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const texts = Number(table.dataset.sortable), heads = [...table.tHead.rows[0].cells], original = [...table.tBodies[0].rows];
    heads.forEach((head, column) => {
      if (!head.textContent) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const text = row => row.cells[column].textContent;
        const order = column < texts
          ? (a, b) => text(a).localeCompare(text(b))
          : (a, b) => number(text(a)) - number(text(b));
        const rows = [...original].sort(order);
        table.tBodies[0].append(...(down ? rows.reverse() : rows));
      });
    });
  }
}

function opening() {
  const open = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.tagName === "DETAILS") {
      target.open = true;
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", open);
  for (const link of document.querySelectorAll("nav a")) link.addEventListener("click", () => setTimeout(open));
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("section > details")) details.open = true;
  });
  open();
}

sorting();
opening();
