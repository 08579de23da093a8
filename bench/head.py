"""Memory of the output head while learning: all logits at once, or a chunk at a time.

    python bench/head.py [--tokens 2048] [--vocabulary 49152] [--width 576] [--chunk 256]

Each way runs in a process of its own, forward and backward with the entropy; what is told is the peak of resident
memory above what stood before (on a GPU: of allocated memory), seconds, and how far results and gradients are apart.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from trainer.head import chunk_size, score_tokens

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def peak_bytes() -> int:
    """The largest memory that this process has held."""
    if DEVICE == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(options: argparse.Namespace) -> None:
    """One way, in this process; tensors into `options.out`."""
    torch.manual_seed(0)
    head = torch.nn.Linear(options.width, options.vocabulary, bias=False, device=DEVICE)
    hidden_ND = torch.randn(options.tokens, options.width, device=DEVICE, requires_grad=True)
    target_N = torch.randint(options.vocabulary, (options.tokens,), device=DEVICE)
    head.weight.grad, hidden_ND.grad = torch.zeros_like(head.weight), torch.zeros_like(hidden_ND)
    before, started_s = peak_bytes(), time.perf_counter()
    logp_N, entropy_N = score_tokens(hidden_ND, head, target_N, 1.0, chunk_tokens=options.chunk, with_entropy=True)
    assert entropy_N is not None
    torch.autograd.backward(-(logp_N.mean() + 0.01 * entropy_N.mean()))
    seconds, peak = time.perf_counter() - started_s, peak_bytes() - before
    tensors = {"logp": logp_N, "entropy": entropy_N, "hidden.grad": hidden_ND.grad, "head.grad": head.weight.grad}
    save_file({name: tensor.detach().cpu() for name, tensor in tensors.items()}, options.out)
    print(f"chunk {options.chunk:>6}: peak +{peak / 2**20:7.0f} MiB, {seconds:5.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--vocabulary", type=int, default=49152)
    parser.add_argument("--width", type=int, default=576)
    parser.add_argument("--chunk", type=int, default=0)
    parser.add_argument("--out", default="")
    options = parser.parse_args()
    if options.out:
        measure(options)
        return
    print(f"{options.tokens} tokens x {options.vocabulary} words, width {options.width}, float32, {DEVICE}, "
          f"torch {torch.__version__}, {torch.get_num_threads()} threads", flush=True)  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        found: list[dict[str, torch.Tensor]] = []
        for chunk in (options.tokens, options.chunk or chunk_size(0, options.vocabulary), 256):
            out = str(Path(folder) / f"{len(found)}.safetensors")
            shape = [f"--{name}={getattr(options, name)}" for name in ("tokens", "vocabulary", "width")]
            subprocess.run([sys.executable, __file__, *shape, f"--chunk={chunk}", f"--out={out}"], check=True)
            found.append(load_file(out))
        for name, plain in found[0].items():
            print(f"{name:>12}: apart by {max((plain - other[name]).abs().max().item() for other in found[1:]):.1e}")


if __name__ == "__main__":
    main()
