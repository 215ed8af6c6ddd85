'use strict';
function sortTable(heading) {
  const body = heading.closest('table').tBodies[0];
  const column = heading.cellIndex;
  const down = heading.getAttribute('aria-sort') !== 'descending';
  const value = row => {
    const text = row.cells[column].textContent.trim();
    return text === '–' ? -Infinity : text !== '' && isFinite(text) ? Number(text) : text;
  };
  const compare = (a, b) => typeof a === 'number' && typeof b === 'number' ? a - b : String(a).localeCompare(String(b));
  const rows = Array.from(body.rows, row => [value(row), row]);
  rows.sort((a, b) => down ? compare(b[0], a[0]) : compare(a[0], b[0]));
  for (const other of heading.parentNode.cells) other.removeAttribute('aria-sort');
  heading.setAttribute('aria-sort', down ? 'descending' : 'ascending');
  body.append(...rows.map(pair => pair[1]));
}
for (const heading of document.querySelectorAll('.sortable thead th')) {
  heading.addEventListener('click', () => sortTable(heading));
  heading.addEventListener('keydown', event => { if (event.key === 'Enter') sortTable(heading); });
}
window.addEventListener('beforeprint', () => {
  for (const part of document.querySelectorAll('details')) part.open = true;
});
