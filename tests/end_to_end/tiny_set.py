"""A small COCO dataset of colored rectangles, and functions that run the tools."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path(__file__).with_name('tiny_vitdet.py')
CLASSES = ('apple', 'lime', 'plum')
COLORS = {'apple': (40, 40, 220), 'lime': (40, 200, 40), 'plum': (220, 60, 40)}  # BGR


def write_tiny_set(folder: Path, images: int = 8, size: int = 64, seed: int = 0) -> Path:
    """Write ``folder/images/*.jpg`` and ``folder/coco.json``, one to three rectangles per image with polygon masks."""
    random = np.random.default_rng(seed)
    (folder / 'images').mkdir(parents=True)
    records, annotations = [], []
    for number in range(1, images + 1):
        image = random.integers(90, 130, (size, size, 3), dtype=np.uint8)
        for _ in range(random.integers(1, 4)):
            label = int(random.integers(len(CLASSES)))
            x, y = (int(value) for value in random.integers(0, size - 24, 2))
            w, h = (int(value) for value in random.integers(14, 24, 2))
            image[y:y + h, x:x + w] = COLORS[CLASSES[label]]
            polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append(dict(id=len(annotations) + 1, image_id=number, category_id=label + 1, iscrowd=0,
                                    bbox=[x, y, w, h], area=w * h, segmentation=[[float(v) for v in polygon]]))
        cv2.imwrite(str(folder / 'images' / f'{number:03}.jpg'), image)
        records.append(dict(id=number, file_name=f'{number:03}.jpg', width=size, height=size))
    categories = [dict(id=index + 1, name=name) for index, name in enumerate(CLASSES)]
    (folder / 'coco.json').write_text(json.dumps(dict(images=records, annotations=annotations, categories=categories)))
    return folder


def environment(**extra: str) -> dict:
    """Return environment variables for a tool: one thread, no GPU, no variables of a launcher."""
    dropped = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '-1', 'VITDET_DIST_TIMEOUT': '60', **extra}


def run_tool(*words: object, launcher: tuple = (), **kwargs) -> subprocess.CompletedProcess:
    """Run ``python [launcher…] tools/<words…>`` and return it with its output as text."""
    command = [sys.executable, *map(str, launcher), str(ROOT / 'tools' / str(words[0])), *map(str, words[1:])]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          **kwargs) as process:
        try:
            output, errors = process.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            process.terminate()  # unlike on SIGKILL, torchrun ends its ranks
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def run_ranks(*words: object, ranks: int = 2, launcher: str = 'torch.distributed.run') -> subprocess.CompletedProcess:
    """Run a tool on ``ranks`` processes of one node, on a free port."""
    return run_tool(*words, launcher=('-m', launcher, '--nproc-per-node', ranks, '--master-port', free_port()))


def free_port() -> int:
    """Return a TCP port that is not in use."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def load_tool(name: str):
    """Import ``tools/<name>.py`` as a module, to call its ``main`` within the test's process."""
    path = list(sys.path)
    sys.path.insert(0, str(ROOT / 'tools'))
    spec = importlib.util.spec_from_file_location(f'tool_{name}', ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module
