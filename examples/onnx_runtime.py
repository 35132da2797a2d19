"""Names ten seconds of sound and pictures with ONNX Runtime and numpy alone.

First: streamav models export starter --onnx starter-onnx. Then: python onnx_runtime.py starter-onnx sound.npy pictures.npy
sound.npy: (10, 16000) float32, mono, 16 kHz, -1 to 1. pictures.npy: (10, frames, height, width, 3) uint8, RGB, of the model's size.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

folder, sound, pictures = Path(sys.argv[1]), np.load(sys.argv[2]), np.load(sys.argv[3])
networks = {file.stem: onnxruntime.InferenceSession(file) for file in folder.glob("*.onnx")}


def run(name: str, *inputs: np.ndarray) -> list[np.ndarray]:
    """Return the outputs of one network."""
    outputs: list[np.ndarray] = networks[name].run(None, dict(zip((one.name for one in networks[name].get_inputs()), inputs, strict=True)))
    return outputs


audio, *heard = run("audio", run("log_mel", sound)[0])
visual, *seen = (np.stack([part.mean(axis=0) for part in np.split(each, 10)]) for each in run("visual", np.concatenate(pictures)))
a, v, attention = run("encode_segment", audio, visual)
_, _, logits, agreement = run("localize_window", a[None], v[None])
scores = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
if "evidence" in networks:
    motion = run("motion", pictures)[0] if "motion" in networks else np.zeros(10, np.float32)
    (scores,) = run("evidence", heard[0][None], seen[0][None], visual[None], motion[None], logits)
names = [entry["name"] for entry in json.loads((folder / "model.json").read_text())["classes"]] + ["background"]
for second, row in enumerate(scores[0]):
    print(f"{second} s  {names[row.argmax()]:<24} {row.max():.2f}")
