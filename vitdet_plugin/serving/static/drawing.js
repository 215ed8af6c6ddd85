// Draws an image with its objects on a canvas.

const SHORTEST = 1600, LONGEST = 2400;  // limits of the longer side of the canvas in pixels

// Returns black or white, whichever is readable on a color.
export function textColor(color) {
  const [red, green, blue] = [1, 3, 5].map((start) => parseInt(color.slice(start, start + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue > 150 ? '#141414' : '#ffffff';
}

// Draws the image, then masks, boxes and names, large objects first.
//   bitmap: the image in any size; size: [width, height] in pixels of the boxes; objects: [{box, name, score, color, mask}]
//   chosen: the object to emphasize, if any
export function draw(canvas, bitmap, size, objects, chosen) {
  const longest = Math.max(...size), scale = Math.min(Math.max(longest, SHORTEST), LONGEST) / longest;
  canvas.width = Math.round(size[0] * scale);
  canvas.height = Math.round(size[1] * scale);
  const context = canvas.getContext('2d');
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const unit = Math.min(Math.max(canvas.width / Math.max(canvas.clientWidth, 1), 0.8), 5);  // pixels of one on the screen
  const sorted = [...objects].sort((one, other) => other.box[2] * other.box[3] - one.box[2] * one.box[3]);
  for (const {mask} of sorted) {
    if (mask) {
      context.drawImage(mask.canvas, mask.x * scale, mask.y * scale, mask.canvas.width * scale,
                        mask.canvas.height * scale);
    }
  }
  for (const object of sorted) {
    const [x, y, width, height] = object.box.map((value) => value * scale);
    context.globalAlpha = chosen && object !== chosen ? 0.35 : 1;
    context.lineWidth = (object === chosen ? 3.5 : 2) * unit;
    context.strokeStyle = object.color;
    context.strokeRect(x, y, width, height);
  }
  context.globalAlpha = 1;
  drawNames(context, sorted, scale, unit, chosen);
}

// Writes names at a corner of each box that is free; without a free corner the name is left out.
function drawNames(context, objects, scale, unit, chosen) {
  const size = 13 * unit, pad = 4 * unit, height = size + 1.2 * pad, taken = [];
  const {width: right, height: bottom} = context.canvas;
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = 'middle';
  const first = chosen ? [chosen, ...objects.filter((object) => object !== chosen)] : objects;
  for (const {box, name, score, color} of first) {
    const [x, y, w, h] = box.map((value) => value * scale), text = `${name} ${score.toFixed(2)}`;
    const width = context.measureText(text).width + 2 * pad;
    const corners = [[x, y - height], [x, y], [x + w - width, y + h - height], [x, y + h], [x + w - width, y - height]];
    const tag = corners.map(([a, b]) => [Math.min(Math.max(a, 0), Math.max(right - width, 0)),
                                         Math.min(Math.max(b, 0), Math.max(bottom - height, 0))])
      .find(([a, b]) => !taken.some((other) => a < other[0] + other[2] && other[0] < a + width &&
                                               b < other[1] + height && other[1] < b + height));
    if (!tag) continue;
    taken.push([...tag, width]);
    context.fillStyle = color;
    context.fillRect(tag[0], tag[1], width, height);
    context.fillStyle = textColor(color);
    context.fillText(text, tag[0] + pad, tag[1] + height / 2);
  }
}
