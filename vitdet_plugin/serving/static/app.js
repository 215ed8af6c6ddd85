// The page: choose an image, show its results, select them by score, save them.

import {draw} from '/static/drawing.js';
import {maskImage} from '/static/masks.js';
import {drawnImage, getInfo, loadBitmap, predict} from '/static/server.js';

const byId = (id) => document.getElementById(id);
const [canvas, slider, body] = [byId('canvas'), byId('threshold'), document.querySelector('#table tbody')];
let info, request, result;  // result: {file, name, bitmap, size, content, objects}, of which objects have a box, score, …

async function start() {
  info = await getInfo();
  document.title = `${info.name} · vitdet`;
  byId('name').textContent = info.name;
  const task = {classify: 'classifier', detect: 'boxes', segment: 'boxes and masks'}[info.task];
  const size = info.input_size ? `input ${info.input_size[1]} × ${info.input_size[0]}` : '';
  const tiles = info.tile ? `tiles of ${info.tile}` : '';
  byId('facts').textContent =
    [info.model, task, `${info.classes.length} class${info.classes.length === 1 ? '' : 'es'}`, size, tiles]
      .filter(Boolean).join(' · ');
  byId('facts').title = info.classes.join(', ');
  byId('limits').textContent = `up to ${info.max_bytes / 1e6} MB and ${info.max_pixels / 1e6} megapixels`;
  slider.min = info.lowest_threshold;
  slider.value = info.threshold;
  byId('slider').hidden = info.task === 'classify';
}

async function open(files) {
  const file = files[0];
  if (!file) return;
  request?.abort();
  request = new AbortController();
  const {signal} = request;
  report(files.length > 1 ? `Only ${file.name} is shown, the first of ${files.length} files.` : '');
  try {
    if (file.size > info.max_bytes) {
      throw new Error(`${file.name} has ${(file.size / 1e6).toFixed(1)} MB; the limit is ${info.max_bytes / 1e6} MB.`);
    }
    wait(true);
    const {content, isTurned} = await predict(file, info, signal);
    const {width, height} = content.images ? content.images[0] : content;
    const bitmap = await loadBitmap(file, [width, height], isTurned, signal);
    if (signal.aborted) return;
    result = {file, name: file.name || 'image', bitmap, size: [width, height], content, objects: objectsOf(content)};
    document.body.classList.add('has-result');
    for (const id of ['canvas', 'controls']) byId(id).hidden = false;
    byId('table').hidden = info.task === 'classify';
    byId('bars').hidden = info.task !== 'classify';
    show();
  } catch (error) {
    if (error.name !== 'AbortError') report(error.message);
  } finally {
    if (request.signal === signal) wait(false);
  }
}

function objectsOf(content) {
  return (content.annotations || []).map((annotation) => {
    const label = annotation.category_id - 1, color = info.colors[label] || '#888888';
    const name = info.classes[label] ?? `class ${label}`;
    const mask = annotation.segmentation && maskImage(annotation.segmentation, color);
    return {annotation, box: annotation.bbox, score: annotation.score, name, color, mask};
  });
}

const selected = () => result.objects.filter(({score}) => score >= Number(slider.value));

function show(chosen) {
  byId('shown-threshold').textContent = Number(slider.value).toFixed(2);
  if (!result) return;
  const objects = selected();
  draw(canvas, result.bitmap, result.size, objects, chosen);
  if (chosen) return;
  if (info.task === 'classify') return showBars();
  const counts = new Map();
  for (const {name} of objects) counts.set(name, (counts.get(name) || 0) + 1);
  const parts = [...counts].sort((one, other) => other[1] - one[1]).map(([name, count]) => `${name} ${count}`);
  byId('summary').textContent = objects.length ?
    `${objects.length} object${objects.length === 1 ? '' : 's'}: ${parts.join(', ')}` :
    result.objects.length ? 'No objects with this score. Move the slider to the left.' : 'No objects found.';
  body.replaceChildren(...objects.map(rowOf));
  byId('table').hidden = !objects.length;
}

function rowOf(object) {
  const row = document.createElement('tr');
  const [x, y, width, height] = object.box.map((value) => value.toFixed(0));
  for (const text of [object.name, object.score.toFixed(2), x, y, width, height]) row.insertCell().textContent = text;
  const chip = document.createElement('i');
  chip.style.background = object.color;
  row.cells[0].prepend(chip);
  row.addEventListener('pointerenter', () => show(object));
  row.addEventListener('pointerleave', () => show());
  return row;
}

function showBars() {
  const {names, scores, labels} = result.content;
  byId('summary').textContent = `${names[0]}, score ${scores[0].toFixed(2)}`;
  byId('bars').replaceChildren(...names.map((name, index) => {
    const item = document.createElement('li'), bar = document.createElement('i');
    bar.style.width = `${100 * scores[index]}%`;
    bar.style.background = info.colors[labels[index]] || '#888888';
    for (const text of [name, scores[index].toFixed(3)]) {
      item.append(Object.assign(document.createElement('span'), {textContent: text}));
    }
    item.append(Object.assign(document.createElement('b'), {}));
    item.lastChild.append(bar);
    return item;
  }));
}

function report(message) {
  byId('error').textContent = message;
  byId('error').hidden = !message;
}

let timer;
function wait(isBusy) {
  clearInterval(timer);
  byId('busy').hidden = !isBusy;
  if (!isBusy) return;
  const start = Date.now(), text = document.querySelector('#busy span');
  const tick = () => { text.textContent = `Predicting… ${Math.round((Date.now() - start) / 1000)} s`; };
  tick();
  timer = setInterval(tick, 1000);
}

function save(blob, suffix) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = result.name.replace(/\.[^.]*$/, '') + suffix;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

byId('file').addEventListener('change', (event) => {
  open([...event.target.files]);
  event.target.value = '';  // so that the same file can be chosen again
});
slider.addEventListener('input', () => requestAnimationFrame(() => show()));
addEventListener('resize', () => requestAnimationFrame(() => show()));
addEventListener('paste', (event) => open([...event.clipboardData.files]));
addEventListener('dragover', (event) => {
  event.preventDefault();
  document.body.classList.add('is-dragging');
});
addEventListener('dragleave', (event) => {
  if (!event.relatedTarget) document.body.classList.remove('is-dragging');
});
addEventListener('drop', (event) => {
  event.preventDefault();
  document.body.classList.remove('is-dragging');
  open([...event.dataTransfer.files]);
});
byId('save-json').addEventListener('click', () => {
  const {content} = result;
  const kept = content.annotations ? {...content, annotations: selected().map(({annotation}) => annotation)} : content;
  save(new Blob([JSON.stringify(kept, null, 1)], {type: 'application/json'}), '_result.json');
});
byId('save-image').addEventListener('click', () => {
  if (info.task !== 'classify') return canvas.toBlob((blob) => save(blob, '_result.png'));
  drawnImage(result.file).then((blob) => save(blob, '_result.jpg'), (error) => report(error.message));
});

start().catch(() => report('The server does not answer. Is it still running?'));
