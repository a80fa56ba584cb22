"""PyTorch's side of against_torch.rs: reads requests on standard input and answers on standard output, a line of JSON each.

Tensors are files of little-endian f32 (i32 for documents) in row-major order, so that both sides compute on the same numbers.
An answer is {"error": "…"} where a request failed; where PyTorch has no way to compute something, the answer says why.
"""

import json
import math
import os
import sys
import time

# Kernels are compiled while this runs and print as they like: answers go to the real standard output, all else to stderr.
ANSWERS = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

import numpy
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.attention.flex_attention import create_block_mask, flex_attention


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(device, run, calls=1):
    """The seconds of a call, until the device is done."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        run()
    synchronize(device)
    return (time.perf_counter() - start) / calls


def open_device(request):
    device = request["device"]
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("no CUDA device")
    if device not in ("cpu", "cuda"):
        raise RuntimeError(f"PyTorch is compared on cpu and cuda, not on {device}")
    if device == "cpu":
        torch.set_num_threads(request["threads"])
    # What the first compilation of a process costs (imports, looking at the C++ compiler) is not a variant's own.
    torch.compile(lambda x: x * 2 + 1)(torch.ones(64, device=device))
    return {"torch": torch.__version__, "threads": torch.get_num_threads()}


def read(tensor, kind, device):
    data = numpy.fromfile(tensor["file"], dtype=kind).reshape(tensor["shape"])
    return torch.from_numpy(data).to(device)


class Case:
    """A case's tensors, and its attention in PyTorch's two ways."""

    def __init__(self, request):
        self.device = request["device"]
        self.query = read(request["query"], "<f4", self.device)
        key, value = (read(request[name], "<f4", self.device) for name in ("key", "value"))
        self.pairs = [(key, value)] + [(key.clone(), value.clone()) for _ in range(request["copies"] - 1)]
        self.turn = 0
        self.grouped = self.query.shape[1] != key.shape[1]
        self.queries, self.keys = self.query.shape[2], key.shape[2]
        # The last query is at the last key's position.
        self.offset = self.keys - self.queries
        self.mask_mod, self.score_mod = self.modifications(request)
        self.compiled_flex = self.compiled_mask = self.block_mask = None
        self.sdpa_arguments = self.sdpa_without = None
        self.plan_sdpa(request["variant"])

    def modifications(self, request):
        """FlexAttention's functions for the variant: which pairs are visible, and how a score is formed."""
        variant, offset = request["variant"], self.offset
        kind = variant["kind"]
        causal = (lambda b, h, i, j: j <= i) if offset == 0 else (lambda b, h, i, j: j <= i + offset)
        if kind == "full" or (kind == "causal" and self.queries == 1):
            return None, None  # a single query, the last, sees all keys
        if kind == "causal":
            return causal, None
        if kind == "sliding_window":
            window = variant["window"]
            return lambda b, h, i, j: (j <= i) & (i - j < window), None
        if kind == "chunked":
            chunk = variant["chunk"]
            return lambda b, h, i, j: (j <= i) & (i // chunk == j // chunk), None
        if kind == "documents":
            document = read(request["documents"], "<i4", self.device)
            return lambda b, h, i, j: (j <= i) & (document[i] == document[j]), None
        if kind == "alibi_causal":
            slopes = read(request["slopes"], "<f4", self.device)
            self.slopes = slopes
            return causal, lambda score, b, h, i, j: score - slopes[h] * (i - j)
        if kind == "softcap":
            cap = variant["cap"]
            return causal, lambda score, b, h, i, j: cap * torch.tanh(score / cap)
        if kind == "prefix_lm":
            prefix = variant["prefix"]
            return lambda b, h, i, j: (j < prefix) | (j <= i), None
        raise RuntimeError(f"no variant {kind}")

    def plan_sdpa(self, variant):
        """As a user would call it: `is_causal` where that says it, else a mask in memory, made once and not timed."""
        kind = variant["kind"]
        if kind == "softcap":
            self.sdpa_without = "scaled_dot_product_attention cannot change scores but by adding to them"
            return
        if self.mask_mod is None:
            self.sdpa_arguments = {}
        elif kind == "causal" and self.offset == 0:
            self.sdpa_arguments = {"is_causal": True}
        else:
            i = torch.arange(self.queries, device=self.device)[:, None]
            j = torch.arange(self.keys, device=self.device)[None, :]
            visible = self.mask_mod(0, 0, i, j)
            if kind == "alibi_causal":
                bias = -self.slopes[:, None, None] * (i - j)
                visible = torch.where(visible, bias, -math.inf)[None]
            self.sdpa_arguments = {"attn_mask": visible}
        if self.grouped:
            self.sdpa_arguments["enable_gqa"] = True

    def next_pair(self):
        self.turn = (self.turn + 1) % len(self.pairs)
        return self.pairs[self.turn]

    def sdpa(self):
        return scaled_dot_product_attention(self.query, *self.next_pair(), **self.sdpa_arguments)

    def flex_mask(self):
        return self.compiled_mask(self.mask_mod, None, None, self.queries, self.keys, device=self.device)

    def flex(self):
        return self.compiled_flex(
            self.query, *self.next_pair(), score_mod=self.score_mod, block_mask=self.block_mask, enable_gqa=self.grouped
        )

    def first_flex(self):
        """Compiles FlexAttention for these shapes alone, as in a process that runs nothing else."""
        torch._dynamo.reset()
        self.compiled_flex = torch.compile(flex_attention)
        self.compiled_mask = torch.compile(create_block_mask)
        first = {}
        if self.mask_mod is not None:
            def build():
                self.block_mask = self.flex_mask()
            first["mask_ms"] = 1e3 * seconds(self.device, build)
        first["flex_ms"] = 1e3 * seconds(self.device, self.flex)
        return first


CASE = None


def set_case(request):
    """Reads the tensors and computes both outputs, into files beside them; says how long first calls took."""
    global CASE
    CASE = None  # frees the last one's tensors
    CASE = Case(request)
    answer = {"sdpa": CASE.sdpa_without is None, "flex": True, "mask": CASE.mask_mod is not None}
    if CASE.sdpa_without is None:
        write(CASE.sdpa(), request["sdpa_file"])
    else:
        answer["sdpa_without"] = CASE.sdpa_without
    try:
        answer["first"] = CASE.first_flex()
        write(CASE.flex(), request["flex_file"])
    except Exception as error:  # whatever PyTorch raises where it has no kernel
        answer["flex"] = False
        answer["flex_without"] = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    return answer


def write(output, file):
    output.float().contiguous().cpu().numpy().astype("<f4").tofile(file)


def time_calls(request):
    run = {"sdpa": CASE.sdpa, "flex": CASE.flex, "flex_mask": CASE.flex_mask}[request["what"]]
    return {"ms": 1e3 * seconds(CASE.device, run, request["calls"])}


OPERATIONS = {"open": open_device, "case": set_case, "time": time_calls}


def main():
    with torch.no_grad():
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = OPERATIONS[request["operation"]](request)
            except Exception as error:
                answer = {"error": f"{error}"}
            print(json.dumps(answer), file=ANSWERS, flush=True)


if __name__ == "__main__":
    main()
