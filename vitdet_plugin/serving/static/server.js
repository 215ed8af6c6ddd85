// Requests to the server.

// Sends an image and returns the answer; an error has one line for the user.
async function send(path, file, signal) {
  const form = new FormData();
  form.append('file', file, file.name || 'image.png');
  let answer;
  try {
    answer = await fetch(path, {method: 'POST', body: form, signal});
  } catch (error) {
    throw error.name === 'AbortError' ? error : new Error('The server does not answer. Is it still running?');
  }
  if (answer.ok) return answer;
  const content = await answer.json().catch(() => ({}));
  throw new Error(content.error || `The server answered with status ${answer.status}.`);
}

export async function getInfo() {
  return (await fetch('/info')).json();
}

// Predicts an image with all objects from a low threshold, of which the page shows a part. Returns {content, isTurned}.
export async function predict(file, info, signal) {
  const query = info.task === 'classify' ? 'top=10' : `format=coco&threshold=${info.lowest_threshold}`;
  const answer = await send(`/predict?${query}`, file, signal);
  return {content: await answer.json(), isTurned: answer.headers.has('X-Orientation-Declared')};
}

// Returns the image as the server reads it: what the browser displays, unless it cannot display the file or may turn it
// in another way, which depends on the format.
export async function loadBitmap(file, size, isTurned, signal) {
  const shown = isTurned ? null : await createImageBitmap(file).catch(() => null);
  if (shown && shown.width === size[0] && shown.height === size[1]) return shown;
  return createImageBitmap(await (await send('/preview', file, signal)).blob());
}

// Returns the image with its results as the server draws it.
export async function drawnImage(file) {
  return (await send('/predict?format=image', file)).blob();
}
