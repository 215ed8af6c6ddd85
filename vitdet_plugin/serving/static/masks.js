// Masks in COCO's compressed run-length encoding, as images that can be drawn.

// Returns the lengths of runs of pixels outside and inside in turn, down the columns. Numbers are stored in characters of
// 6 bits above '0': 5 bits of value, lowest first, and one that says whether another follows; from the fourth number on,
// a number is the difference from the one two positions before.
function runsOf(text) {
  const runs = [];
  for (let at = 0; at < text.length;) {
    let value = 0, shift = 0, bits;
    do {
      bits = text.charCodeAt(at++) - 48;
      value |= (bits & 31) << shift;
      shift += 5;
    } while (bits & 32);
    if (bits & 16) value |= -1 << shift;
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  return runs;
}

// Returns the part of a mask that has pixels: {x, y, canvas}, in the color with a solid edge; null for an empty mask.
export function maskImage(rle, color) {
  const height = rle.size[0], spans = [];
  let at = 0, left = Infinity, right = -1, top = Infinity, bottom = -1;
  runsOf(rle.counts).forEach((length, index) => {
    for (let end = at + length; index % 2 && at < end;) {  // a run inside, cut into its columns
      const x = Math.floor(at / height), y = at % height, count = Math.min(end - at, height - y);
      spans.push([x, y, count]);
      left = Math.min(left, x); right = Math.max(right, x);
      top = Math.min(top, y); bottom = Math.max(bottom, y + count - 1);
      at += count;
    }
    if (index % 2 === 0) at += length;
  });
  if (right < 0) return null;
  const columns = right - left + 1, rows = bottom - top + 1;
  const inside = new Uint8Array((columns + 2) * (rows + 2)), stride = columns + 2;  // one pixel of border around
  for (const [x, y, count] of spans) {
    for (let row = 0; row < count; row++) inside[(y - top + row + 1) * stride + x - left + 1] = 1;
  }
  const canvas = new OffscreenCanvas(columns, rows), context = canvas.getContext('2d');
  const image = context.createImageData(columns, rows), pixels = new Uint32Array(image.data.buffer);
  const [red, green, blue] = [1, 3, 5].map((start) => parseInt(color.slice(start, start + 2), 16));
  const plain = (blue << 16) | (green << 8) | red;  // little-endian RGBA without alpha
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const index = (row + 1) * stride + column + 1;
      if (!inside[index]) continue;
      const isEdge = !(inside[index - 1] && inside[index + 1] && inside[index - stride] && inside[index + stride]);
      pixels[row * columns + column] = ((isEdge ? 230 : 110) << 24) | plain;
    }
  }
  context.putImageData(image, 0, 0);
  return {x: left, y: top, canvas};
}
